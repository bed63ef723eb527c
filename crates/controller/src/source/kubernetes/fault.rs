//! What went wrong with a watch, in a sentence that says what to do, said once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::{core::Status, runtime::watcher};

use crate::source::{chain, explain};

/// The longest pause that the API server is granted when it asks for one.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(60);

/// A kind that is watched.
#[derive(Debug)]
pub(super) struct Kind {
    /// As in URLs, RBAC rules and our metric.
    pub(super) plural: &'static str,
    /// API group; empty for the core group.
    pub(super) group: &'static str,
    /// As in sentences.
    pub(super) title: &'static str,
}

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The API server does not know the kind.
    Missing,
    /// RBAC forbids it.
    Forbidden,
    /// There is no answer from the API server.
    Unreachable,
    /// The watch was too old to be continued: normal, and cured by listing anew.
    Expired,
    /// Another answer that is an error.
    Refused,
}

/// Which it is.
pub(super) fn cause(error: &watcher::Error) -> Cause {
    match answer(error) {
        None => Cause::Unreachable,
        Some(status) => match status.code {
            403 => Cause::Forbidden,
            404 => Cause::Missing,
            410 => Cause::Expired,
            _ => Cause::Refused,
        },
    }
}

/// The API server's answer, if there is one.
fn answer(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::WatchError(status) => Some(status),
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            kube::Error::Api(status) => Some(status),
            _ => None,
        },
        watcher::Error::NoResourceVersion => None,
    }
}

/// The user as whom we were refused, if the API server's answer names one.
pub(super) fn user(error: &watcher::Error) -> Option<String> {
    let (_, rest) = answer(error)?.message.split_once("User \"")?;
    let (user, _) = rest.split_once('"')?;
    Some(user.to_owned())
}

/// How long the API server asks to be left alone: what its answer says, and a second where it has too many requests and does
/// not say (its header Retry-After, which the client keeps to itself, is 1 then).
pub(super) fn asked_pause(error: &watcher::Error) -> Duration {
    let Some(status) = answer(error) else { return Duration::ZERO };
    let asked = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    let least = u32::from(status.code == 429);
    Duration::from_secs(u64::from(asked.max(least))).min(LONGEST_ASKED_PAUSE)
}

/// Why there is no answer.
fn reason(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => explain(error),
        error => chain(error),
    }
}

/// A kind, where it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) kind: &'static Kind,
    /// `None` for the whole cluster.
    pub(super) namespace: Option<&'a str>,
    /// Whether routes can be served without it: it has never been read, and none of its objects is known.
    pub(super) dispensable: bool,
}

impl Place<'_> {
    /// As in sentences.
    fn title(&self) -> String {
        match self.namespace {
            Some(namespace) => format!("{} of namespace {namespace}", self.kind.title),
            None => self.kind.title.to_owned(),
        }
    }
}

/// The sentence about it.
fn sentence(place: Place<'_>, error: &watcher::Error) -> String {
    let Kind { plural, group, .. } = place.kind;
    let title = place.title();
    let role = match place.namespace {
        Some(namespace) => format!("a Role in namespace {namespace}"),
        None => "a ClusterRole".to_owned(),
    };
    let said = answer(error).map(|status| match status.message.as_str() {
        "" => format!("status {}", status.code),
        message => message.trim_end().to_owned(),
    });
    match (cause(error), said) {
        (Cause::Missing, _) if place.dispensable => format!(
            "{title} are not installed in this cluster ({plural}.{group}): routes cannot use Secrets of other \
             namespaces; all else works"
        ),
        (Cause::Missing, _) => format!(
            "cannot read {title}: the API server does not know {plural}.{group}; install the \
             CustomResourceDefinition with `helm upgrade` (crds.install) or `kubectl apply -f crds/`"
        ),
        (Cause::Forbidden, said) => format!(
            "cannot read {title}: {}; give the ServiceAccount {role} with the verbs get, list and watch on {plural} in \
             the API group {group:?}{}",
            said.unwrap_or_default(),
            match place.dispensable {
                true => "; until then routes cannot use Secrets of other namespaces",
                false => "",
            }
        ),
        (_, Some(said)) => format!("cannot read {title}: the API server answers: {said}"),
        (_, None) => format!("no answer from the Kubernetes API: {}", reason(error)),
    }
}

/// Says what is wrong when that changes, and when it is over.
#[derive(Debug, Default)]
pub(super) struct FaultReporter {
    /// By title and namespace, what was said last, and whether it is a fault.
    said: BTreeMap<String, (String, bool)>,
    /// What has no answer, by the same. Its fault is one, and is said once for all of them.
    unanswered: BTreeMap<String, String>,
}

impl FaultReporter {
    /// Another try has failed.
    pub(super) fn failed(&mut self, place: Place<'_>, error: &watcher::Error) -> Cause {
        let cause = cause(error);
        let sentence = sentence(place, error);
        let title = place.title();
        if cause == Cause::Unreachable {
            if self.unanswered.is_empty() {
                tracing::warn!(
                    "{sentence}; trying again, meanwhile the last table stays in service (none before the first)"
                );
            } else {
                tracing::debug!("{title}: {sentence}");
            }
            self.unanswered.insert(title, sentence);
            return cause;
        }
        self.answered(&title);
        if self.said.get(&title).is_none_or(|(said, _)| *said != sentence) {
            // A cluster need not have every kind.
            let wrong = cause != Cause::Missing || !place.dispensable;
            if !wrong {
                tracing::info!("{sentence}");
            } else {
                tracing::warn!(
                    "{sentence}; trying again, meanwhile what was read last stays in service"
                );
            }
            self.said.insert(title, (sentence, wrong));
        }
        cause
    }

    /// All objects of a kind have been read.
    pub(super) fn recovered(&mut self, place: Place<'_>) {
        let title = place.title();
        self.answered(&title);
        match self.said.remove(&title) {
            Some(_) => tracing::info!("{title} are read now"),
            None => tracing::debug!("all {title} have been read"),
        }
    }

    /// What is wrong now, a sentence each, without repeats.
    pub(super) fn faults(&self) -> BTreeSet<String> {
        let said = self.said.values().filter(|(_, wrong)| *wrong).map(|(sentence, _)| sentence);
        self.unanswered.values().chain(said).cloned().collect()
    }

    fn answered(&mut self, title: &str) {
        if self.unanswered.remove(title).is_some() && self.unanswered.is_empty() {
            tracing::info!("the Kubernetes API answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::response::StatusDetails;

    use super::*;

    const KIND: Kind =
        Kind { plural: "websocketroutes", group: "tidegate.io", title: "WebSocketRoutes" };
    const ROUTES: Place<'_> = Place { kind: &KIND, namespace: None, dispensable: false };

    fn answered(code: u16, message: &str) -> watcher::Error {
        let status = Status::failure(message, "Reason").with_code(code);
        watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
    }

    #[test]
    fn what_is_forbidden_names_the_verbs_and_the_resource() {
        let error =
            answered(403, "websocketroutes.tidegate.io is forbidden: User \"u\" cannot list");
        assert_eq!(cause(&error), Cause::Forbidden);
        assert_eq!(
            sentence(ROUTES, &error),
            "cannot read WebSocketRoutes: websocketroutes.tidegate.io is forbidden: User \"u\" cannot list; give the \
             ServiceAccount a ClusterRole with the verbs get, list and watch on websocketroutes in the API group \
             \"tidegate.io\""
        );
    }

    #[test]
    fn in_a_namespace_a_role_is_enough() {
        let error = answered(403, "it is forbidden");
        let said = sentence(Place { namespace: Some("chat"), ..ROUTES }, &error);
        assert!(said.starts_with("cannot read WebSocketRoutes of namespace chat: "), "{said}");
        assert!(said.contains("give the ServiceAccount a Role in namespace chat with"), "{said}");
        let said = sentence(Place { dispensable: true, ..ROUTES }, &error);
        assert!(
            said.ends_with("until then routes cannot use Secrets of other namespaces"),
            "{said}"
        );
    }

    #[test]
    fn a_fault_lasts_until_the_kind_has_been_read_where_it_was() {
        let mut speaker = FaultReporter::default();
        let away = watcher::Error::WatchFailed(kube::Error::LinesCodecMaxLineLengthExceeded);
        let there = Place { namespace: Some("chat"), ..ROUTES };
        speaker.failed(ROUTES, &away);
        speaker.failed(there, &away);
        assert_eq!(speaker.faults().len(), 1, "no answer is one fault");
        speaker.failed(there, &answered(500, "oh"));
        assert_eq!(speaker.faults().len(), 2);
        speaker.recovered(ROUTES);
        let left: Vec<_> = speaker.faults().into_iter().collect();
        assert_eq!(
            left,
            ["cannot read WebSocketRoutes of namespace chat: the API server answers: oh"]
        );
        speaker.recovered(there);
        assert!(speaker.faults().is_empty());
    }

    #[test]
    fn a_missing_definition_says_how_to_install_it() {
        let error = answered(404, "page not found");
        assert_eq!(cause(&error), Cause::Missing);
        assert!(
            sentence(ROUTES, &error).contains("kubectl apply -f crds/"),
            "{}",
            sentence(ROUTES, &error)
        );
    }

    #[test]
    fn no_answer_tells_the_cause_once() {
        let refused =
            std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let error = watcher::Error::WatchStartFailed(kube::Error::Service(refused.into()));
        assert_eq!(cause(&error), Cause::Unreachable);
        assert_eq!(
            sentence(ROUTES, &error),
            "no answer from the Kubernetes API: connection refused"
        );
    }

    #[test]
    fn the_pause_that_is_asked_for_is_kept_within_reason() {
        let pause = |code, seconds| {
            let status = Status::failure("later", "Reason").with_code(code);
            let details: StatusDetails =
                serde_json::from_value(serde_json::json!({ "retryAfterSeconds": seconds }))
                    .unwrap();
            let error = kube::Error::Api(status.with_details(details).boxed());
            asked_pause(&watcher::Error::WatchStartFailed(error)).as_secs()
        };
        assert_eq!([pause(429, 0), pause(429, 7), pause(429, 3600)], [1, 7, 60]);
        assert_eq!([pause(500, 0), pause(503, 7)], [0, 7]);
        assert_eq!(asked_pause(&watcher::Error::NoResourceVersion), Duration::ZERO);
    }

    #[test]
    fn an_expired_watch_is_normal() {
        let status = Status::failure("too old resource version", "Expired").with_code(410);
        assert_eq!(cause(&watcher::Error::WatchError(status.boxed())), Cause::Expired);
    }
}
