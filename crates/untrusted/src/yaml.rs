//! YAML streams: cut into documents, each read by itself, all of a stream within one budget.
//!
//! The cut needs no parser, so that a document that is broken hides no other one. The budget grows with the text and not with what
//! its aliases make of it: a few hundred bytes of anchors can stand for gigabytes.

use std::{cell::Cell, rc::Rc};

use serde::de::DeserializeOwned;

/// What the aliases of a stream may add to it, in bytes of scalars.
const SPARE_BYTES: usize = 1 << 20;
/// What they may add in nodes and their ends.
const SPARE_EVENTS: usize = 100_000;
/// What the shortest document may have of either.
const OWN: usize = 64;
/// Events of one document, whatever is left of the stream's.
const MOST_EVENTS: usize = 1_000_000;
/// How deep lists and maps stand in each other. Kubernetes' own schemas get nowhere near.
pub const DEEPEST: usize = 64;

/// A document of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// Its first line in the stream, counted from 1.
    pub line: usize,
    /// With its directives and markers.
    pub text: &'a str,
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line in the stream: of the fault if the parser knows it, else of the document.
    pub line: usize,
    /// What it is, without a place. It may quote the text.
    pub message: String,
}

/// The documents of a stream that hold something. A line that begins with `---` begins one wherever it stands, and one that begins with
/// `...` ends one (YAML 1.2, section 9.1.2): no scalar can hold such a line.
pub fn documents(stream: &str) -> Vec<Document<'_>> {
    let mut found = Vec::new();
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let mut open = Open { start: 0, line: 1, state: State::Nothing };
    let (mut at, mut line) = (0, 1);
    for text in physical_lines(stream) {
        match LineKind::of(text) {
            LineKind::Start { empty } => {
                let headed = matches!(open.state, State::Directives);
                if !headed {
                    open.close(stream, at, &mut found);
                    open = Open { start: at, line, state: State::Nothing };
                }
                // With directives it is the parser's to judge, whatever follows.
                open.state = if empty && !headed { State::Started } else { State::Content };
            }
            LineKind::End => {
                let end = at + text.len();
                open.close(stream, end, &mut found);
                open = Open { start: end, line: line + 1, state: State::Nothing };
            }
            LineKind::Blank => {}
            LineKind::Directive if matches!(open.state, State::Nothing) => {
                (open.start, open.line) = (at, line);
                open.state = State::Directives;
            }
            LineKind::Directive if matches!(open.state, State::Directives) => {}
            LineKind::Directive | LineKind::Content => open.state = State::Content,
        }
        at += text.len();
        line += 1;
    }
    open.close(stream, stream.len(), &mut found);
    found
}

/// A document that has begun.
struct Open {
    start: usize,
    line: usize,
    state: State,
}

/// What there is of a document so far.
enum State {
    /// Blank lines and comments.
    Nothing,
    /// Directives, for which `---` is still to come.
    Directives,
    /// `---` alone.
    Started,
    Content,
}

impl Open {
    fn close<'a>(&self, stream: &'a str, end: usize, found: &mut Vec<Document<'a>>) {
        // Directives without a document say nothing.
        if matches!(self.state, State::Content) {
            found.push(Document { line: self.line, text: &stream[self.start..end] });
        }
    }
}

/// What a line is to the cut.
enum LineKind {
    /// `---`
    Start {
        /// Nothing but a comment follows.
        empty: bool,
    },
    /// `...`
    End,
    /// White space, a comment, or nothing.
    Blank,
    /// `%YAML` and its like, if nothing else came before.
    Directive,
    Content,
}

impl LineKind {
    fn of(line: &str) -> Self {
        let marker = |marker: &str| {
            line.strip_prefix(marker)
                .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        let blank = |text: &str| {
            let text = text.trim_matches([' ', '\t', '\r', '\n']);
            text.is_empty() || text.starts_with('#')
        };
        match () {
            () if marker("---").is_some_and(blank) => Self::Start { empty: true },
            () if marker("---").is_some() => Self::Start { empty: false },
            () if marker("...").is_some_and(blank) => Self::End,
            () if blank(line) => Self::Blank,
            () if line.starts_with('%') => Self::Directive,
            () => Self::Content,
        }
    }
}

/// Lines with their breaks, as YAML has them (section 5.4): a carriage return alone is one, too.
fn physical_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = match rest.find(['\n', '\r']) {
            Some(at) if rest[at..].starts_with("\r\n") => at + 2,
            Some(at) => at + 1,
            None => rest.len(),
        };
        let (line, after) = rest.split_at(end);
        rest = after;
        (!line.is_empty()).then_some(line)
    })
}

/// Reads the documents of one stream. Each has a budget by its own length; what aliases need beyond that is shared.
#[derive(Debug)]
pub struct Reader {
    spare_bytes: Rc<Cell<usize>>,
    spare_events: Rc<Cell<usize>>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            spare_bytes: Rc::new(Cell::new(SPARE_BYTES)),
            spare_events: Rc::new(Cell::new(SPARE_EVENTS)),
        }
    }
}

impl Reader {
    /// Reads a document as a `T`.
    pub fn read<T: DeserializeOwned>(&mut self, document: Document<'_>) -> Result<T, Fault> {
        // An escape makes at most three bytes of two, and hardly a node is written in less than two bytes with what ends it.
        let own = document.text.len().saturating_mul(2).saturating_add(OWN);
        let bytes = own.saturating_add(self.spare_bytes.get());
        let events = own.saturating_add(self.spare_events.get()).min(MOST_EVENTS);
        // `y` and `on` are words, as in YAML 1.2; kubectl takes them for that in most places, too.
        let options = serde_saphyr::options! {
            strict_booleans: true,
            with_snippet: false,
            emit_comments: false,
            budget: serde_saphyr::budget! {
                max_depth: DEEPEST,
                max_documents: 1,
                max_events: events,
                max_nodes: events,
                max_recorded_anchor_events: events,
                max_recorded_anchor_bytes: bytes,
                max_total_scalar_bytes: bytes,
            },
            alias_limits: serde_saphyr::alias_limits! {
                max_total_replayed_events: events,
            },
        };
        // Told also where the document is broken.
        let (spare_bytes, spare_events) =
            (Rc::clone(&self.spare_bytes), Rc::clone(&self.spare_events));
        let options = options.with_budget_report(move |report| {
            let spend = |spare: &Cell<usize>, used: usize| {
                spare.set(spare.get().saturating_sub(used.saturating_sub(own)));
            };
            spend(&spare_bytes, report.total_scalar_bytes);
            spend(&spare_events, report.events.max(report.recorded_anchor_events));
        });
        serde_saphyr::from_str_with_options(document.text, options).map_err(|error| {
            let at = error.location().map(|location| location.line() as usize);
            // The position in the message counts from the document's start: the line says it better.
            let message = error.to_string();
            let message = message.lines().next().unwrap_or_default();
            let message = match message.rfind(" at line ") {
                Some(end) if at.is_some() => &message[..end],
                _ => message,
            };
            Fault {
                line: document.line + at.map_or(0, |line| line.saturating_sub(1)),
                message: message.to_owned(),
            }
        })
    }
}

#[cfg(test)]
mod tests;
