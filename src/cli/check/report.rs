//! How `tidegate check` says what it found: for people, and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tidegate_core::escape::value;

use crate::{
    source::files::{FileProblem, Place},
    table::ObjectRef,
    translate::ConditionOutput,
};

/// All that was found.
pub(super) struct Report {
    routes: Vec<RouteReport>,
    /// What the API server would refuse, or could not make out.
    problems: Vec<FileProblem>,
    /// What could not be read.
    pub(super) unreadable: Vec<FileProblem>,
    /// What may be well, but is not known to be.
    notes: Vec<Note>,
    /// Whether a note is a failure.
    strict: bool,
}

/// A route with what its status would say.
pub(super) struct RouteReport {
    pub(super) reference: ObjectRef,
    pub(super) class_name: String,
    pub(super) place: Place,
    pub(super) conditions: Vec<ConditionOutput>,
    /// What was taken for granted about it.
    pub(super) notes: Vec<String>,
}

/// Something of less weight than a problem.
pub(super) struct Note {
    pub(super) place: Option<Place>,
    pub(super) message: String,
}

impl RouteReport {
    /// Whether it would be accepted and served as written.
    fn is_ok(&self) -> bool {
        // Of the conditions PartiallyInvalid alone is better absent; with it Programmed is False.
        self.conditions.iter().all(|condition| condition.status)
    }
}

impl Report {
    /// Puts everything in the order of files and documents.
    pub(super) fn new(
        mut routes: Vec<RouteReport>,
        mut problems: Vec<FileProblem>,
        unreadable: Vec<FileProblem>,
        unknown: Vec<FileProblem>,
        mut notes: Vec<Note>,
        strict: bool,
    ) -> Self {
        notes.extend(unknown.into_iter().map(|FileProblem { file, document, line, message }| {
            Note {
                place: document.zip(line).map(|(document, line)| Place { file, document, line }),
                message,
            }
        }));
        routes.sort_by(|a, b| a.place.cmp(&b.place));
        problems.sort_by(|a, b| (&a.file, a.document).cmp(&(&b.file, b.document)));
        notes.sort_by(|a, b| a.place.cmp(&b.place));
        Self { routes, problems, unreadable, notes, strict }
    }

    /// Whether all was read, and all of it would be accepted and served as written.
    pub(super) fn is_ok(&self) -> bool {
        self.problems.is_empty()
            && self.unreadable.is_empty()
            && self.routes.iter().all(RouteReport::is_ok)
            && !(self.strict && self.count_notes() > 0)
    }

    fn count_notes(&self) -> usize {
        self.notes.len() + self.routes.iter().map(|route| route.notes.len()).sum::<usize>()
    }

    /// For people: `FILE:LINE: …` as compilers write it, conditions as `kubectl describe` does.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for RouteReport { reference, place, conditions, notes, .. } in &self.routes {
            let _ = writeln!(
                text,
                "{}: WebSocketRoute {}",
                line_of(place),
                value(&reference.to_string())
            );
            for ConditionOutput { kind, status, reason, message } in conditions {
                let (kind, status, reason) = (kind.as_str(), spelled(*status), reason.as_str());
                let _ =
                    writeln!(text, "  {kind:<16}  {status:<5}  {reason:<21}  {}", value(message));
            }
            for note in notes {
                let _ = writeln!(text, "  note: {}", value(note));
            }
        }
        for FileProblem { file, line, message, .. } in self.problems.iter().chain(&self.unreadable)
        {
            let line = line.map(|line| format!(":{line}")).unwrap_or_default();
            let _ = writeln!(text, "{}{line}: error: {}", value(file), value(message));
        }
        for Note { place, message } in &self.notes {
            let place = place.as_ref().map(|place| format!("{}: ", line_of(place)));
            let _ = writeln!(text, "{}note: {}", place.unwrap_or_default(), value(message));
        }
        let failed = self.routes.iter().filter(|route| !route.is_ok()).count();
        let _ = writeln!(
            text,
            "{}: {}, {failed} not as written; {}; {}",
            if self.is_ok() { "ok" } else { "failed" },
            several(self.routes.len(), "route"),
            several(self.problems.len() + self.unreadable.len(), "error"),
            several(self.count_notes(), "note"),
        );
        text
    }

    /// For programs. docs/check.md explains the fields.
    pub(super) fn json(&self) -> String {
        let routes: Vec<_> = self.routes.iter().map(RouteReport::json).collect();
        let problems = self.problems.iter().chain(&self.unreadable);
        let problems: Vec<_> = problems
            .map(|problem| {
                let FileProblem { file, document, line, message } = problem;
                json!({"file": file, "document": document, "line": line, "message": message})
            })
            .collect();
        let notes: Vec<_> = self
            .notes
            .iter()
            .map(|Note { place, message }| {
                let mut note = place.as_ref().map_or_else(|| json!({}), placed);
                note["message"] = json!(message);
                note
            })
            .collect();
        let whole =
            json!({"ok": self.is_ok(), "routes": routes, "errors": problems, "notes": notes});
        format!("{whole:#}\n")
    }
}

impl RouteReport {
    fn json(&self) -> Value {
        let condition = |condition: &ConditionOutput| {
            json!({
                "type": condition.kind.as_str(),
                "status": spelled(condition.status),
                "reason": condition.reason.as_str(),
                "message": condition.message,
            })
        };
        let mut route = placed(&self.place);
        route["namespace"] = json!(self.reference.namespace);
        route["name"] = json!(self.reference.name);
        route["className"] = json!(self.class_name);
        route["ok"] = json!(self.is_ok());
        route["conditions"] = self.conditions.iter().map(condition).collect();
        route["notes"] = json!(self.notes);
        route
    }
}

fn placed(place: &Place) -> Value {
    let Place { file, document, line } = place;
    json!({"file": file, "document": document, "line": line})
}

fn line_of(place: &Place) -> String {
    format!("{}:{}", value(&place.file), place.line)
}

fn spelled(status: bool) -> &'static str {
    if status { "True" } else { "False" }
}

fn several(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
