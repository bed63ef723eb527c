//! One form for each path (RFC 3986 §6.2.2), and what may be read in more than one way. Pure.
//!
//! A request's path is normalised once; what is matched is what is forwarded. That alone does not make a backend see the path
//! that was matched: servers decode once more, merge slashes, resolve dot segments, strip path parameters, each
//! in an order of its own. So a path that has any of that is *ambiguous*. A rule takes none of it unless it says so, and even
//! then only where every [reading](RequestPath::all_readings) of the path leads to the same rule.

use std::borrow::Cow;

use thiserror::Error;

// Named, because fuzz/ takes this file in by its path too.
#[path = "path/readings.rs"]
mod readings;

/// What makes servers read one path in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathAmbiguity {
    /// `%2F`: a character of its element to some, the end of it to others.
    EncodedSlash,
    /// `\` or `%5C`, which some take for a slash.
    Backslash,
    /// `%00` to `%1F`, `%7F`: the end of the path to some.
    EncodedControl,
    /// A `%` without two hexadecimal digits behind it.
    BadPercent,
    /// `%25` before two hexadecimal digits: an escape to whoever decodes twice.
    DoubleEncoding,
    /// An element without a name, `//`.
    DoubleSlash,
    /// `.` or `..` as an element's name, also in front of parameters.
    DotSegments,
    /// `;` or `%3B`: the begin of parameters, which some strip.
    PathParameters,
}

impl PathAmbiguity {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::EncodedSlash,
        Self::Backslash,
        Self::EncodedControl,
        Self::BadPercent,
        Self::DoubleEncoding,
        Self::DoubleSlash,
        Self::DotSegments,
        Self::PathParameters,
    ];

    /// Its name, as in `path.allow` of a rule.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EncodedSlash => "EncodedSlash",
            Self::Backslash => "Backslash",
            Self::EncodedControl => "EncodedControl",
            Self::BadPercent => "BadPercent",
            Self::DoubleEncoding => "DoubleEncoding",
            Self::DoubleSlash => "DoubleSlash",
            Self::DotSegments => "DotSegments",
            Self::PathParameters => "PathParameters",
        }
    }

    /// What it is, for sentences: "the path has …".
    pub const fn describe(self) -> &'static str {
        match self {
            Self::EncodedSlash => "an encoded slash (%2F)",
            Self::Backslash => "a backslash (or %5C)",
            Self::EncodedControl => "an encoded control character (%00 to %1F, or %7F)",
            Self::BadPercent => "a '%' without two hexadecimal digits behind it",
            Self::DoubleEncoding => {
                "a doubly encoded character (%25 before two hexadecimal digits)"
            }
            Self::DoubleSlash => "an empty element (//)",
            Self::DotSegments => "a \".\" or \"..\" element",
            Self::PathParameters => "a path parameter (; or %3B)",
        }
    }
}

/// A set of [`PathAmbiguity`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PathAmbiguities(u8);

impl PathAmbiguities {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Puts one in.
    pub const fn insert(&mut self, ambiguity: PathAmbiguity) {
        self.0 |= 1 << ambiguity as u8;
    }

    /// Whether one is in it.
    pub const fn contains(self, ambiguity: PathAmbiguity) -> bool {
        self.0 & (1 << ambiguity as u8) != 0
    }

    /// Whether none is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether each of these is in `other` too.
    pub const fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
}

impl FromIterator<PathAmbiguity> for PathAmbiguities {
    fn from_iter<I: IntoIterator<Item = PathAmbiguity>>(all: I) -> Self {
        let mut set = Self::NONE;
        all.into_iter().for_each(|one| set.insert(one));
        set
    }
}

/// Why a path is not taken. Positions count bytes from 1, in the path as it came.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PathFault {
    /// It does not begin with a slash, as in `OPTIONS *`.
    #[error("The request's target is not a path: one begins with '/'.")]
    NotAbsolute,
    /// It can be read in more than one way, which its rule does not allow.
    #[error("The path has {} at position {at}, which servers read in different ways: send it without.", .what.describe())]
    Ambiguous {
        /// What is wrong.
        what: PathAmbiguity,
        /// Where it begins.
        at: usize,
    },
    /// It can be read in more than one way, which its rule does allow, and has more bytes than all readings are looked up for.
    #[error("The path has {} and {length} bytes: one that servers read in different ways may have {MAX_AMBIGUOUS}.", .what.describe())]
    TooLong {
        /// What makes it ambiguous.
        what: PathAmbiguity,
        /// Its length.
        length: usize,
    },
    /// A server may read it as a path that this rule is not for.
    #[error(
        "A server may read this path as one of another rule, or of none: send it decoded, with single slashes, and without dot segments and parameters."
    )]
    OtherRule,
}

/// The longest ambiguous path of which all readings are looked up, bytes.
pub const MAX_AMBIGUOUS: usize = 512;

/// A path in its one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath<'a> {
    raw: &'a str,
    normal: Cow<'a, str>,
    found: PathAmbiguities,
    /// Whether a character stands escaped that could stand plain.
    escaped: bool,
}

impl<'a> RequestPath<'a> {
    /// Normalises a path: escapes of unreserved characters are decoded, the others in upper case; what may not stand plain is
    /// escaped, a '%' without digits too. Nothing is taken away.
    pub fn of(raw: &'a str) -> Result<Self, PathFault> {
        if !raw.starts_with('/') {
            return Err(PathFault::NotAbsolute);
        }
        if is_simple(raw.as_bytes()) {
            let normal = Cow::Borrowed(raw);
            return Ok(Self { raw, normal, found: PathAmbiguities::NONE, escaped: false });
        }
        let mut normal = String::with_capacity(raw.len());
        let (mut found, mut escaped) = (PathAmbiguities::NONE, false);
        scan(raw.as_bytes(), |event| match event {
            Event::Plain(byte) => normal.push(char::from(byte)),
            Event::Escape(byte) => {
                escaped |= may_stand_plain(byte);
                push_escape(&mut normal, byte);
            }
            Event::Ambiguous(what, _) => found.insert(what),
        });
        let normal = if normal == raw { Cow::Borrowed(raw) } else { Cow::Owned(normal) };
        Ok(Self { raw, normal, found, escaped })
    }

    /// What is matched and forwarded.
    pub fn as_str(&self) -> &str {
        &self.normal
    }

    /// Whether it came in this form.
    pub const fn is_as_sent(&self) -> bool {
        matches!(self.normal, Cow::Borrowed(_))
    }

    /// What makes it ambiguous.
    pub const fn ambiguities(&self) -> PathAmbiguities {
        self.found
    }

    /// Refuses what a rule does not allow, and what is too long to be looked up in all its readings.
    pub fn check(&self, allowed: PathAmbiguities) -> Result<(), PathFault> {
        if self.found.is_empty() {
            return Ok(());
        }
        let mut first = None;
        scan(self.raw.as_bytes(), |event| {
            if let Event::Ambiguous(what, at) = event
                && !allowed.contains(what)
                && first.is_none_or(|(_, earliest)| at < earliest)
            {
                first = Some((what, at));
            }
        });
        if let Some((what, at)) = first {
            return Err(PathFault::Ambiguous { what, at: at + 1 });
        }
        let length = self.normal.len();
        let what = PathAmbiguity::ALL.into_iter().find(|what| self.found.contains(*what));
        match what {
            Some(what) if length > MAX_AMBIGUOUS => Err(PathFault::TooLong { what, length }),
            _ => Ok(()),
        }
    }

    /// Whether the other paths that servers may see in this one, none for nearly every path, are all as wanted. They are told in the form
    /// of [`RequestPath`]s of their own, up to the first that is not. Ask after [`RequestPath::check`], which bounds the work.
    pub fn all_readings(&self, mut is_wanted: impl FnMut(&str) -> bool) -> bool {
        if !self.found.is_empty() {
            readings::all(&self.normal, is_wanted)
        } else if self.escaped {
            is_wanted(&readings::decoded(&self.normal))
        } else {
            true
        }
    }
}

/// The one form of a path that a rule is for: what can stand plain does. Two that servers take for the same are equal.
pub fn of_rule(path: &str) -> Result<String, PathFault> {
    let path = RequestPath::of(path)?;
    path.check(PathAmbiguities::NONE)?;
    Ok(if path.escaped { readings::decoded(&path.normal) } else { path.normal.into_owned() })
}

/// What there is in a path, in its order.
enum Event {
    /// Stands plain.
    Plain(u8),
    /// Stands escaped.
    Escape(u8),
    /// Begins at this byte.
    Ambiguous(PathAmbiguity, usize),
}

/// What an element's name is, so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Empty,
    Dot,
    DotDot,
    Other,
}

fn scan(path: &[u8], mut tell: impl FnMut(Event)) {
    let mut name = Name::Empty;
    // Behind the name, in the parameters.
    let mut in_parameters = false;
    // Where the element begins, and whether the slash before it is a plain one.
    let (mut start, mut after_slash) = (0, false);
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        let escape = if byte == b'%' { escape_at(path, at) } else { None };
        let (value, length) = escape.map_or((byte, 1), |value| (value, 3));
        let mut ambiguous = |what| tell(Event::Ambiguous(what, at));
        match value {
            b'/' if escape.is_some() => ambiguous(PathAmbiguity::EncodedSlash),
            b'/' if after_slash && start == at => ambiguous(PathAmbiguity::DoubleSlash),
            b'\\' => ambiguous(PathAmbiguity::Backslash),
            b';' => ambiguous(PathAmbiguity::PathParameters),
            0..0x20 | 0x7f => ambiguous(PathAmbiguity::EncodedControl),
            b'%' => {
                if escape.is_none() {
                    ambiguous(PathAmbiguity::BadPercent);
                }
                if is_escape_behind(path, at + length) {
                    ambiguous(PathAmbiguity::DoubleEncoding);
                }
            }
            _ => {}
        }
        match value {
            b'/' | b'\\' => {
                if matches!(name, Name::Dot | Name::DotDot) {
                    tell(Event::Ambiguous(PathAmbiguity::DotSegments, start));
                }
                (name, in_parameters) = (Name::Empty, false);
                (start, after_slash) = (at + length, value == b'/' && escape.is_none());
            }
            b';' => in_parameters = true,
            _ if in_parameters => {}
            b'.' => {
                name = match name {
                    Name::Empty => Name::Dot,
                    Name::Dot => Name::DotDot,
                    Name::DotDot | Name::Other => Name::Other,
                }
            }
            _ => name = Name::Other,
        }
        let plain = match escape {
            Some(value) => is_unreserved(value),
            None => may_stand_plain(value) || matches!(value, b'/' | b';' | b'\\'),
        };
        tell(if plain { Event::Plain(value) } else { Event::Escape(value) });
        at += length;
    }
    if matches!(name, Name::Dot | Name::DotDot) {
        tell(Event::Ambiguous(PathAmbiguity::DotSegments, start));
    }
}

/// The byte that an escape at `at` stands for.
fn escape_at(path: &[u8], at: usize) -> Option<u8> {
    let digit = |at| char::from(*path.get(at)?).to_digit(16);
    let value = digit(at + 1)? * 16 + digit(at + 2)?;
    u8::try_from(value).ok()
}

/// Whether two hexadecimal digits follow, plain or, to whoever decodes before it looks, as escapes of their own.
fn is_escape_behind(path: &[u8], at: usize) -> bool {
    let mut at = at;
    for _ in 0..2 {
        let Some(&byte) = path.get(at) else { return false };
        let (value, length) = match escape_at(path, at) {
            Some(value) if byte == b'%' => (value, 3),
            _ => (byte, 1),
        };
        if !value.is_ascii_hexdigit() {
            return false;
        }
        at += length;
    }
    true
}

fn push_escape(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
}

/// Whether nothing is to be done: no escapes, nothing ambiguous. One look at each byte, since nearly every path is such.
fn is_simple(path: &[u8]) -> bool {
    let mut last = 0;
    path.iter().all(|&byte| {
        let element_begins = last == b'/';
        last = byte;
        match byte {
            b'/' | b'.' => !element_begins,
            _ => may_stand_plain(byte),
        }
    })
}

/// Unreserved characters (RFC 3986 §2.3), whose escapes mean nothing else than themselves.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Characters that may stand plain in an element (RFC 3986 §3.3), but for the one that begins parameters.
const fn may_stand_plain(byte: u8) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            plain[byte] = is_unreserved(byte as u8)
                || matches!(
                    byte as u8,
                    b'!' | b'$'
                        | b'&'
                        | b'\''
                        | b'('
                        | b')'
                        | b'*'
                        | b'+'
                        | b','
                        | b'='
                        | b':'
                        | b'@'
                );
            byte += 1;
        }
        plain
    };
    PLAIN[byte as usize]
}

#[cfg(test)]
mod tests;
