//! Where [`Inputs`] come from: the Kubernetes API, or a folder of YAML.
//!
//! A source reads and watches; it does not judge. Whether a route makes sense is `translate`'s to
//! say, and what becomes of the answer is `control`'s. A source never ends and never panics over what
//! it reads: while the outside is away or broken it keeps what it read last.

mod backoff;
pub mod files;
pub mod hostname_policy;
pub mod kubernetes;
mod prune;
pub mod snapshot;

use std::{collections::BTreeMap, error::Error, fmt, fmt::Write as _, future::Future, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(crate) use backoff::{Backoff, jittered};

use tidegate_api::WebSocketRouteStatus;
use tidegate_table::ObjectRef;

use crate::translate::Inputs;

/// Something that yields [`Inputs`] and says when they change.
pub trait Source {
    /// Waits until something has changed. May be dropped at any time without losing a change.
    fn changed(&mut self) -> impl Future<Output = Change>;

    /// What the world looks like now; `None` until all of it has been read once.
    fn snapshot(&self) -> Option<SourceState>;

    /// Which kinds are up to date, as `tidegate_source_synced{kind}` shows it.
    fn synced(&self) -> Vec<(&'static str, bool)>;

    /// Why it is not up to date, or not all of it: a sentence for each fault, stable while it lasts.
    fn faults(&self) -> Vec<String>;

    /// The routes as they are stored, for who writes their status.
    fn observed(&self) -> Observed;

    /// From now on the labels of namespaces are asked for.
    fn ask_for_labels(&mut self) {}

    /// Puts what is never kept, as it is there at every start, into inputs that were kept.
    fn complete(&self, _kept: &mut Inputs) {}
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Nothing that matters to a table or a status: [`Source::synced`] at most.
    Sync,
    /// The status of a route: [`Source::observed`].
    Status,
    /// The inputs or the problems: [`Source::snapshot`].
    Inputs,
}

/// Inputs, and what could not be made inputs of.
#[derive(Clone, Debug, Default)]
pub struct SourceState {
    /// All objects.
    pub inputs: Inputs,
    /// What is wrong with the source, for the log; stable while nothing changes.
    pub problems: Vec<SourceProblem>,
}

/// Something wrong with the source, as one sentence that names it and says what happens meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceProblem(pub String);

impl fmt::Display for SourceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Routes of every class, as they are stored.
pub type Observed = BTreeMap<ObjectRef, Arc<ObservedRoute>>;

/// What the status writer needs to know of a stored route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedRoute {
    /// Tells the route from a later one of the same name.
    pub uid: Option<String>,
    /// The stored version.
    pub resource_version: Option<String>,
    /// The class that serves it; `None` where it cannot be read, so that every class tells of it.
    pub class_name: Option<String>,
    /// Who has applied fields of its status (server-side apply).
    pub status_managers: Vec<String>,
    /// Its status; empty where it has none that can be read.
    pub status: WebSocketRouteStatus,
}

/// The name of the object that this metadata is of.
pub(crate) fn reference(metadata: &ObjectMeta) -> ObjectRef {
    ObjectRef {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

/// What the API server answered, or why there is no answer, in one line.
pub(crate) fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.message.is_empty() => format!("status {}", status.code),
        kube::Error::Api(status) => status.message.trim_end().to_owned(),
        // The layers of the client say nothing; what is below them does.
        kube::Error::Service(error) => chain(error.as_ref()),
        error => chain(error),
    }
}

/// An error with all its causes in one line; causes that only repeat are left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            let _ = write!(text, ": {part}");
        }
        cause = error.source();
    }
    text
}
