//! What went wrong with a watch, in a sentence that says what to do, said once.

use std::collections::{BTreeMap, BTreeSet};

use kube::{core::Status, runtime::watcher};

use crate::source::{chain, explain};

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

/// Why there is no answer.
fn reason(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => explain(error),
        error => chain(error),
    }
}

/// The sentence about it.
fn sentence(kind: &Kind, error: &watcher::Error) -> String {
    let Kind { plural, group, title } = kind;
    let said = answer(error).map(|status| match status.message.as_str() {
        "" => format!("status {}", status.code),
        message => message.trim_end().to_owned(),
    });
    match (cause(error), said) {
        (Cause::Missing, _) if *plural == "referencegrants" => format!(
            "{title} are not installed in this cluster ({plural}.{group}): routes cannot use Secrets of other \
             namespaces; all else works"
        ),
        (Cause::Missing, _) => format!(
            "cannot read {title}: the API server does not know {plural}.{group}; install the \
             CustomResourceDefinition with `helm upgrade` (crds.install) or `kubectl apply -f crds/`"
        ),
        (Cause::Forbidden, said) => format!(
            "cannot read {title}: {}; give the ServiceAccount a ClusterRole with the verbs get, list and watch on \
             {plural} in the API group {group:?}",
            said.unwrap_or_default()
        ),
        (_, Some(said)) => format!("cannot read {title}: the API server answers: {said}"),
        (_, None) => format!("no answer from the Kubernetes API: {}", reason(error)),
    }
}

/// Says what is wrong when that changes, and when it is over.
#[derive(Debug, Default)]
pub(super) struct Speaker {
    /// By the title of the kind, what was said last.
    said: BTreeMap<&'static str, String>,
    /// Kinds without an answer. Their fault is one, and is said once for all of them.
    unanswered: BTreeSet<&'static str>,
}

impl Speaker {
    /// Another try for `kind` has failed.
    pub(super) fn failed(&mut self, kind: &'static Kind, error: &watcher::Error) -> Cause {
        let cause = cause(error);
        let sentence = sentence(kind, error);
        if cause == Cause::Unreachable {
            if self.unanswered.is_empty() {
                tracing::warn!(
                    "{sentence}; trying again, meanwhile the last table stays in service (none before the first)"
                );
            } else {
                tracing::debug!("{}: {sentence}", kind.title);
            }
            self.unanswered.insert(kind.title);
            return cause;
        }
        self.answered(kind);
        if self.said.get(kind.title) != Some(&sentence) {
            if cause == Cause::Missing && kind.plural == "referencegrants" {
                tracing::info!("{sentence}");
            } else {
                tracing::warn!(
                    "{sentence}; trying again, meanwhile what was read last stays in service"
                );
            }
            self.said.insert(kind.title, sentence);
        }
        cause
    }

    /// All objects of `kind` have been read.
    pub(super) fn recovered(&mut self, kind: &'static Kind) {
        self.answered(kind);
        match self.said.remove(kind.title) {
            Some(_) => tracing::info!("{} are read now", kind.title),
            None => tracing::debug!("all {} have been read", kind.title),
        }
    }

    fn answered(&mut self, kind: &'static Kind) {
        if self.unanswered.remove(kind.title) && self.unanswered.is_empty() {
            tracing::info!("the Kubernetes API answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind =
        Kind { plural: "websocketroutes", group: "tidegate.io", title: "WebSocketRoutes" };

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
            sentence(&KIND, &error),
            "cannot read WebSocketRoutes: websocketroutes.tidegate.io is forbidden: User \"u\" cannot list; give the \
             ServiceAccount a ClusterRole with the verbs get, list and watch on websocketroutes in the API group \
             \"tidegate.io\""
        );
    }

    #[test]
    fn a_missing_definition_says_how_to_install_it() {
        let error = answered(404, "page not found");
        assert_eq!(cause(&error), Cause::Missing);
        assert!(
            sentence(&KIND, &error).contains("kubectl apply -f crds/"),
            "{}",
            sentence(&KIND, &error)
        );
    }

    #[test]
    fn no_answer_tells_the_cause_once() {
        let refused =
            std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let error = watcher::Error::WatchStartFailed(kube::Error::Service(refused.into()));
        assert_eq!(cause(&error), Cause::Unreachable);
        assert_eq!(
            sentence(&KIND, &error),
            "no answer from the Kubernetes API: connection refused"
        );
    }

    #[test]
    fn an_expired_watch_is_normal() {
        let status = Status::failure("too old resource version", "Expired").with_code(410);
        assert_eq!(cause(&watcher::Error::WatchError(status.boxed())), Cause::Expired);
    }
}
