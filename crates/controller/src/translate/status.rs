//! From what was found out about each route to its conditions and to the lines of the log.

use std::{collections::BTreeMap, fmt::Display};

use tidegate_api::{ConditionType, Reason, RouteAddress};
use tidegate_table::ObjectRef;

use super::{ConditionOutput, Fault, Problem, RouteStatus};

/// Sentences in one condition; the API server takes no endless message.
pub(super) const MAX_SENTENCES: usize = 8;
/// Bytes of one sentence: some quote what a route or a Secret says. With the eight of them a condition stays far below what the
/// API server takes (32 KiB).
const MAX_SENTENCE: usize = 1024;

/// What there is to say about one route.
#[derive(Debug)]
pub(super) struct Findings {
    generation: Option<i64>,
    /// Hostnames under which at least one match is the route's.
    pub(super) served: Vec<String>,
    /// Why the route has no place in the table.
    pub(super) rejected: Option<Fault>,
    /// What of it is not served: Invalid, HostnameNotPermitted or Conflicted.
    pub(super) partial: Vec<Fault>,
    /// References that lead nowhere.
    pub(super) unresolved: Vec<Fault>,
    /// How many more there are of these.
    more_unresolved: usize,
    /// References that lead to something doubtful.
    pub(super) warnings: Vec<String>,
    /// What is served otherwise than written.
    pub(super) unserved: Vec<String>,
    /// What is served as written, but not to the user's joy.
    pub(super) notes: Vec<String>,
}

impl Findings {
    pub(super) fn new(generation: Option<i64>) -> Self {
        Self {
            generation,
            served: Vec::new(),
            rejected: None,
            partial: Vec::new(),
            unresolved: Vec::new(),
            more_unresolved: 0,
            warnings: Vec::new(),
            unserved: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// No hostname, or no match of the route is left to it. What else was wrong with the spec is said too.
    pub(super) fn reject_as(&mut self, reason: Reason, lost: Vec<String>) {
        let partial = std::mem::take(&mut self.partial).into_iter().map(|fault| fault.message);
        let message = join(lost.into_iter().chain(partial));
        self.rejected = Some(Fault { reason, message });
    }

    /// Keeps no more faults of references than a condition tells.
    pub(super) fn shorten(&mut self) {
        self.unresolved.sort_by_key(|fault| fault.reason);
        self.more_unresolved += self.unresolved.len().saturating_sub(MAX_SENTENCES);
        self.unresolved.truncate(MAX_SENTENCES);
        self.unresolved.shrink_to_fit();
    }

    fn status(&self, addresses: Option<&[RouteAddress]>) -> RouteStatus {
        let mut conditions = vec![self.accepted(), self.resolved_refs(), self.programmed()];
        conditions.extend(self.partially_invalid());
        RouteStatus {
            observed_generation: self.generation,
            hostnames: self.served.clone(),
            // What is not served has no address, known or not.
            addresses: match self.served.is_empty() {
                true => Some(Vec::new()),
                false => addresses.map(<[_]>::to_vec),
            },
            conditions,
        }
    }

    fn accepted(&self) -> ConditionOutput {
        let kind = ConditionType::Accepted;
        match &self.rejected {
            Some(fault) => condition(kind, false, fault.reason, fault.message.clone()),
            None if self.partial.is_empty() => {
                condition(kind, true, Reason::Accepted, "The route is accepted.".into())
            }
            None => condition(
                kind,
                true,
                Reason::Accepted,
                "The route is accepted in part: see PartiallyInvalid.".into(),
            ),
        }
    }

    fn resolved_refs(&self) -> ConditionOutput {
        let kind = ConditionType::ResolvedRefs;
        if self.rejected.as_ref().is_some_and(|fault| fault.reason == Reason::Invalid) {
            let message = "Nothing was looked up, as the spec is invalid: see Accepted.".into();
            return condition(kind, false, Reason::Invalid, message);
        }
        if self.rejected.as_ref().is_some_and(|fault| fault.reason == Reason::BudgetExceeded) {
            let message =
                "What the route refers to counts once there is room for the route: see Accepted.";
            return condition(kind, false, Reason::BudgetExceeded, message.into());
        }
        if self.rejected.as_ref().is_some_and(|it| it.reason == Reason::HostnameNotPermitted) {
            let message =
                "What the route refers to is looked up once it has a hostname: see Accepted.";
            return condition(kind, false, Reason::HostnameNotPermitted, message.into());
        }
        let mut faults: Vec<_> = self.unresolved.iter().collect();
        // Stable: among faults of one reason the order of the spec stays.
        faults.sort_by_key(|fault| fault.reason);
        let warnings = self.warnings.iter().cloned();
        match faults.first() {
            Some(first) => {
                let reason = first.reason;
                let messages = faults.into_iter().map(|fault| fault.message.clone());
                let message = join_of(messages.chain(warnings), self.more_unresolved);
                condition(kind, false, reason, message)
            }
            None => {
                let all_well = "All references are resolved.".to_owned();
                let message = join(std::iter::once(all_well).chain(warnings));
                condition(kind, true, Reason::ResolvedRefs, message)
            }
        }
    }

    fn programmed(&self) -> ConditionOutput {
        let kind = ConditionType::Programmed;
        if self.rejected.is_some() {
            let message = "The route is not served: see Accepted.".into();
            return condition(kind, false, Reason::NotProgrammed, message);
        }
        let notes = self.notes.iter().cloned();
        let partly = (!self.partial.is_empty())
            .then(|| "The route is served in part: see PartiallyInvalid.".to_owned());
        let unserved: Vec<_> = partly.into_iter().chain(self.unserved.iter().cloned()).collect();
        if unserved.is_empty() {
            let all_well = "The route is served as written.".to_owned();
            let message = join(std::iter::once(all_well).chain(notes));
            condition(kind, true, Reason::Programmed, message)
        } else {
            condition(kind, false, Reason::NotProgrammed, join(unserved.into_iter().chain(notes)))
        }
    }

    fn partially_invalid(&self) -> Option<ConditionOutput> {
        let reason = self.partial.iter().map(|fault| fault.reason).min()?;
        let message = join(self.partial.iter().map(|fault| fault.message.clone()));
        Some(condition(ConditionType::PartiallyInvalid, true, reason, message))
    }

    /// What the log tells: all that is wrong, also where the route is served nevertheless. That endpoints come
    /// and go is the day's work, and not in it.
    fn problems(&self) -> impl Iterator<Item = (Reason, String)> {
        // No more of each kind than the conditions say: a route is one of many.
        let some = |faults: &'_ [Fault]| -> Vec<_> {
            let some = faults.iter().take(MAX_SENTENCES);
            some.map(|fault| (fault.reason, clip(fault.message.clone()))).collect()
        };
        // What a route is rejected for is joined, and so bounded already.
        let rejected = self.rejected.iter().map(|fault| (fault.reason, fault.message.clone()));
        let warnings = self.warnings.iter().take(MAX_SENTENCES);
        let warnings =
            warnings.map(|message| (Reason::InvalidCertificateRef, clip(message.clone())));
        rejected.chain(some(&self.partial)).chain(some(&self.unresolved)).chain(warnings)
    }
}

/// The statuses and the lines of the log, both in the order of the routes' names.
pub(super) fn report(
    findings: BTreeMap<ObjectRef, Findings>,
    addresses: Option<&[RouteAddress]>,
) -> (BTreeMap<ObjectRef, RouteStatus>, Vec<Problem>) {
    let problems = findings
        .iter()
        .flat_map(|(route, findings)| {
            findings.problems().map(|(reason, message)| Problem {
                kind: "WebSocketRoute",
                object: route.clone(),
                reason,
                message,
            })
        })
        .collect();
    let status = |(route, found): (ObjectRef, Findings)| (route, found.status(addresses));
    let statuses = findings.into_iter().map(status).collect();
    (statuses, problems)
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list<T: Display>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.to_string(),
        [rest @ .., last] => {
            let rest: Vec<_> = rest.iter().map(ToString::to_string).collect();
            format!("{} and {last}", rest.join(", "))
        }
    }
}

/// The first sentences, and how many more there are.
pub(super) fn join(sentences: impl IntoIterator<Item = String>) -> String {
    join_of(sentences, 0)
}

/// The same where there are `unsaid` more that nobody has kept.
fn join_of(sentences: impl IntoIterator<Item = String>, unsaid: usize) -> String {
    let mut sentences = sentences.into_iter();
    let first = sentences.by_ref().take(MAX_SENTENCES).map(clip);
    let mut text = first.collect::<Vec<_>>().join(" ");
    let more = sentences.count() + unsaid;
    if more > 0 {
        text.push_str(&format!(" And {more} more like these."));
    }
    text
}

/// The sentence, cut where it is too long.
fn clip(mut sentence: String) -> String {
    if sentence.len() > MAX_SENTENCE {
        let mut end = MAX_SENTENCE - '…'.len_utf8();
        while !sentence.is_char_boundary(end) {
            end -= 1;
        }
        sentence.truncate(end);
        sentence.push('…');
    }
    sentence
}

fn condition(
    kind: ConditionType,
    status: bool,
    reason: Reason,
    message: String,
) -> ConditionOutput {
    ConditionOutput { kind, status, reason, message }
}
