//! Writes what became of each route into its status.
//!
//! By server-side apply, only while this process leads, only where something differs from what is
//! stored. What to write is decided by pure functions; this file's loop only sends it.
//!
//! Each class applies under a name of its own ([`field_manager`]), so that the API server keeps account of which fields are
//! whose. When a route goes to another class, the old one applies nothing: that gives up what is its own alone and leaves
//! what the new class, or anyone else, has written, whoever of them is first.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use serde_json::json;
use tidegate_api::{Condition, ConditionType, WebSocketRoute, WebSocketRouteStatus};
use tidegate_table::ObjectRef;
use tidegate_telemetry::ControlMetrics;
use tokio::{sync::watch, time::Instant};

use super::{
    events::{EventSender, news},
    run::{Statuses, until},
    stopped,
};
use crate::{
    source::{Backoff, ObservedRoute, explain},
    translate::RouteStatus,
};

/// Whose fields they are, for server-side apply: one name for each class.
fn field_manager(class: &str) -> String {
    format!("tidegate/{class}")
}

/// Requests under way at once.
const MAX_IN_FLIGHT: usize = 8;
/// For one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The first and the longest pause after a request that failed.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What to do about a status.
#[derive(Clone, Debug, PartialEq)]
enum Wanted {
    /// Apply this.
    Write(WebSocketRouteStatus),
    /// Apply nothing, so that what is ours goes: the route is of another class now.
    Release,
}

/// The status to write, or `None` if the stored one says the same, or speaks of a newer spec.
///
/// A condition that keeps its status keeps its `lastTransitionTime`; one that changes gets `now`.
fn to_write(
    desired: &RouteStatus,
    stored: &WebSocketRouteStatus,
    now: Timestamp,
) -> Option<WebSocketRouteStatus> {
    // Stored by one who has seen more than we have.
    if stored.observed_generation > desired.observed_generation {
        return None;
    }
    let conditions: Vec<_> = desired
        .conditions
        .iter()
        .map(|condition| {
            let status = if condition.status { "True" } else { "False" };
            let kind = condition.kind.as_str();
            let before = stored.conditions.iter().find(|stored| stored.type_ == kind);
            let since = before.filter(|before| before.status == status);
            Condition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: condition.reason.as_str().to_owned(),
                message: condition.message.clone(),
                observed_generation: desired.observed_generation,
                last_transition_time: since
                    .map_or(Time(now), |since| since.last_transition_time.clone()),
            }
        })
        .collect();
    let hostnames = desired.hostnames.clone();
    let addresses = desired.addresses.clone().unwrap_or_else(|| stored.addresses.clone());
    // Conditions of other types are others': they are not looked at, and applying leaves them alone.
    let ours = |condition: &&Condition| {
        ConditionType::ALL.iter().any(|kind| kind.as_str() == condition.type_)
    };
    let same = stored.observed_generation == desired.observed_generation
        && (&stored.hostnames, &stored.addresses) == (&hostnames, &addresses)
        && stored.conditions.iter().filter(ours).count() == conditions.len()
        && conditions.iter().all(|condition| stored.conditions.contains(condition));
    (!same).then_some(WebSocketRouteStatus {
        observed_generation: desired.observed_generation,
        hostnames,
        addresses,
        conditions,
    })
}

/// What is known of a route beyond what the source has seen of it.
#[derive(Debug)]
struct RouteState {
    /// What the route was when we last wrote.
    uid: Option<String>,
    /// The version that was known when we wrote, and what we did: until the source shows a newer one.
    written: Option<(Option<String>, Wanted)>,
    /// Not before then.
    retry: Option<Instant>,
    backoff: Backoff,
}

impl RouteState {
    fn new(uid: Option<String>) -> Self {
        let backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        Self { uid, written: None, retry: None, backoff }
    }

    /// The status that is stored, as far as is known.
    fn stored<'a>(&'a self, observed: &'a ObservedRoute) -> &'a WebSocketRouteStatus {
        match &self.written {
            Some((version, Wanted::Write(written))) if *version == observed.resource_version => {
                written
            }
            _ => &observed.status,
        }
    }

    fn withdrawn(&self, observed: &ObservedRoute) -> bool {
        let done = (observed.resource_version.clone(), Wanted::Release);
        self.written.as_ref() == Some(&done)
    }
}

/// A request that has ended.
struct Done {
    name: ObjectRef,
    version: Option<String>,
    /// What was stored before, as far as is known.
    before: WebSocketRouteStatus,
    sent: Wanted,
    result: Result<(), String>,
    gone: bool,
}

/// Writes statuses.
pub(super) struct StatusWriter {
    client: Client,
    class: String,
    field_manager: String,
    statuses: watch::Receiver<Statuses>,
    leader: watch::Receiver<bool>,
    metrics: ControlMetrics,
    herald: EventSender,
    memory: BTreeMap<ObjectRef, RouteState>,
    /// Routes to write, as of the last look.
    queue: VecDeque<ObjectRef>,
    under_way: BTreeSet<ObjectRef>,
    requests: FuturesUnordered<LocalBoxFuture<'static, Done>>,
    /// What was said last to have gone wrong.
    said: Option<String>,
}

impl StatusWriter {
    pub(super) fn new(
        client: Client,
        class: String,
        statuses: watch::Receiver<Statuses>,
        leader: watch::Receiver<bool>,
        metrics: ControlMetrics,
        herald: EventSender,
    ) -> Self {
        Self {
            client,
            field_manager: field_manager(&class),
            class,
            statuses,
            leader,
            metrics,
            herald,
            memory: BTreeMap::new(),
            queue: VecDeque::new(),
            under_way: BTreeSet::new(),
            requests: FuturesUnordered::new(),
            said: None,
        }
    }

    /// Runs until `shutdown` is true.
    pub(super) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut retry = None;
        loop {
            self.send();
            tokio::select! {
                () = stopped(&mut shutdown) => break,
                Ok(()) = self.statuses.changed() => {
                    self.forget();
                    retry = self.look();
                }
                Ok(()) = self.leader.changed() => retry = self.look(),
                () = until(retry) => retry = self.look(),
                Some(done) = self.requests.next(), if !self.requests.is_empty() => {
                    let again = self.done(done);
                    retry = [retry, again].into_iter().flatten().min();
                }
            }
        }
        // What is under way is waited for, so that no other leader begins before it is stored.
        let rest = async {
            while let Some(done) = self.requests.next().await {
                self.done(done);
            }
        };
        let _ = tokio::time::timeout(REQUEST_TIMEOUT, rest).await;
    }

    /// Drops what is remembered of routes that are gone.
    fn forget(&mut self) {
        let statuses = self.statuses.borrow_and_update();
        self.memory.retain(|name, memory| {
            statuses.observed.get(name).is_some_and(|observed| observed.uid == memory.uid)
        });
    }

    /// Looks through all routes for statuses to write. When to look again for those that must wait.
    fn look(&mut self) -> Option<Instant> {
        self.queue.clear();
        if !*self.leader.borrow_and_update() {
            return None;
        }
        let now = Instant::now();
        let statuses = self.statuses.borrow().clone();
        let mut next = None::<Instant>;
        for name in statuses.observed.keys() {
            if self.wanted(&statuses, name).is_none() {
                continue;
            }
            match self.memory.get(name).and_then(|memory| memory.retry) {
                Some(retry) if retry > now => {
                    next = Some(next.map_or(retry, |next| next.min(retry)));
                }
                _ => self.queue.push_back(name.clone()),
            }
        }
        next
    }

    /// What is to be done about a route's status, if anything is.
    fn wanted(&self, statuses: &Statuses, name: &ObjectRef) -> Option<Wanted> {
        let observed = statuses.observed.get(name)?;
        if self.under_way.contains(name) {
            return None;
        }
        let memory = self.memory.get(name);
        if observed.class_name.as_ref().is_some_and(|class| *class != self.class) {
            let ours = observed.status_managers.contains(&self.field_manager);
            let done = memory.is_some_and(|memory| memory.withdrawn(observed));
            return (ours && !done).then_some(Wanted::Release);
        }
        let stored = memory.map_or(&observed.status, |memory| memory.stored(observed));
        let now = whole_seconds(Timestamp::now());
        to_write(statuses.desired.get(name)?, stored, now).map(Wanted::Write)
    }

    /// Sends requests while there are some to send and room for them.
    fn send(&mut self) {
        if self.queue.is_empty() || !*self.leader.borrow() {
            return;
        }
        let statuses = self.statuses.borrow().clone();
        while self.requests.len() < MAX_IN_FLIGHT {
            let Some(name) = self.queue.pop_front() else {
                return;
            };
            let wanted = self.wanted(&statuses, &name);
            let (Some(wanted), Some(observed)) = (wanted, statuses.observed.get(&name)) else {
                continue;
            };
            let memory = self.memory.entry(name.clone());
            let memory = memory.or_insert_with(|| RouteState::new(observed.uid.clone()));
            let before = memory.stored(observed).clone();
            self.under_way.insert(name.clone());
            self.requests.push(request(
                self.client.clone(),
                &self.field_manager,
                name,
                observed,
                before,
                wanted,
            ));
        }
    }

    /// Takes in how a request ended. When to try again.
    fn done(&mut self, done: Done) -> Option<Instant> {
        let Done { name, version, before, sent, result, gone } = done;
        self.under_way.remove(&name);
        if !gone {
            let label = if result.is_ok() { "success" } else { "error" };
            self.metrics.status_writes_total.with_label_values(&[label]).inc();
        }
        let memory = self.memory.get_mut(&name)?;
        match result {
            Ok(()) => {
                match &sent {
                    Wanted::Write(status) => {
                        self.herald.tell(&name, memory.uid.as_ref(), news(&before, status));
                    }
                    Wanted::Release => tracing::info!(
                        "WebSocketRoute {name} is of another class now: its status is cleaned"
                    ),
                }
                memory.written = Some((version, sent));
                memory.retry = None;
                if self.said.take().is_some() {
                    tracing::info!("statuses are written again");
                }
                // What is wanted may have changed since the request was sent.
                self.queue.push_back(name);
                None
            }
            // Deleted meanwhile: the source will say so.
            Err(_) if gone => {
                memory.retry = Some(Instant::now() + FIRST_PAUSE);
                memory.retry
            }
            Err(fault) => {
                let pause = memory.backoff.failed(std::time::Instant::now());
                let retry = Some(Instant::now() + pause);
                memory.retry = retry;
                if self.said.as_ref() != Some(&fault) {
                    tracing::warn!(
                        "cannot write the status of WebSocketRoute {name}: {fault}; trying again"
                    );
                    self.said = Some(fault);
                } else {
                    tracing::debug!("WebSocketRoute {name}: {fault}");
                }
                retry
            }
        }
    }
}

/// Applies the status of one route.
fn request(
    client: Client,
    field_manager: &str,
    name: ObjectRef,
    observed: &Arc<ObservedRoute>,
    before: WebSocketRouteStatus,
    wanted: Wanted,
) -> LocalBoxFuture<'static, Done> {
    // Answers are read as plain objects: the route's spec may be one that our types cannot hold.
    let kind = ApiResource::erase::<WebSocketRoute>(&());
    let api = Api::<DynamicObject>::namespaced_with(client, &name.namespace, &kind);
    let version = observed.resource_version.clone();
    // The uid makes the API server refuse it if the route was deleted and made anew.
    let mut patch = json!({
        "apiVersion": format!("{}/{}", tidegate_api::GROUP, tidegate_api::VERSION),
        "kind": "WebSocketRoute",
        "metadata": { "name": name.name, "namespace": name.namespace, "uid": observed.uid },
    });
    if let Wanted::Write(status) = &wanted {
        patch["status"] = json!(status);
    }
    let params = PatchParams::apply(field_manager).force();
    async move {
        let patch = Patch::Apply(patch);
        let answer = api.patch_status(&name.name, &params, &patch);
        let (result, gone) = match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
            Ok(Ok(_)) => (Ok(()), false),
            Ok(Err(error)) => {
                let code = match &error {
                    kube::Error::Api(status) => status.code,
                    _ => 0,
                };
                (Err(fault(&error)), matches!(code, 404 | 409))
            }
            Err(_) => (Err("no answer from the Kubernetes API in time".to_owned()), false),
        };
        Done { name, version, before, sent: wanted, result, gone }
    }
    .boxed_local()
}

/// What went wrong, and what to do.
fn fault(error: &kube::Error) -> String {
    let said = explain(error);
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "{said}; give the ServiceAccount a ClusterRole with the verbs get, patch and update on \
             websocketroutes/status in the API group \"{}\"",
            tidegate_api::GROUP
        ),
        _ => said,
    }
}

/// Times in conditions have no fractions.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests;
