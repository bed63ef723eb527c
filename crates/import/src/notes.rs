//! What is said about a line that has no counterpart, or not quite the same one.

use std::fmt;

use super::nginx::parse::Place;

/// How much a note weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoteKind {
    /// What the source refused is let in: an allowlist, a login or client certificates are gone.
    Open,
    /// The line does nothing any more.
    NoCounterpart,
    /// The counterpart does not do the very same.
    Differs,
    /// Something has to be made by hand.
    ToDo,
}

impl NoteKind {
    /// All of them, the gravest first.
    pub const ALL: [Self; 4] = [Self::Open, Self::NoCounterpart, Self::Differs, Self::ToDo];

    /// As it stands in the output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::NoCounterpart => "no counterpart",
            Self::Differs => "differs",
            Self::ToDo => "to do",
        }
    }

    /// Whether something of the source is lost, which `--strict` takes as a failure.
    pub const fn is_loss(self) -> bool {
        matches!(self, Self::Open | Self::NoCounterpart)
    }
}

/// One line of the source, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it weighs.
    pub kind: NoteKind,
    /// Where the line is.
    pub place: Place,
    /// Its own words.
    pub text: String,
    /// What Tidegate does instead, or does not do, and what to do about it.
    pub reason: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, place, text, reason } = self;
        write!(f, "{place}: {}: {text}: {reason}", kind.as_str())
    }
}
