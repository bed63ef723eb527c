//! Kubernetes Events: what has changed in the state of a route, for `kubectl describe` and `kubectl events`.
//!
//! They tell of changes, so that none is made of a status that was stored before; and they are news, not a record: whoever
//! writes statuses never waits for them. What the queue has no room for, and what the API server does not take, is
//! dropped, with a line in the log.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tidegate_api::{Condition, ConditionType, WebSocketRouteStatus};
use tidegate_table::ObjectRef;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::stopped;
use crate::source::explain;

/// Who tells it, in the form of a qualified name.
const CONTROLLER: &str = "tidegate.io/controller";
/// What was done when it came out, as the API wants it said.
const ACTION: &str = "Translate";
/// Events that wait.
const QUEUE: usize = 256;
/// For one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// For what waits at the end.
const FAREWELL: Duration = Duration::from_secs(1);
/// The same news within so long of the last are a series: one Event that counts.
const SERIES: Duration = Duration::from_secs(6 * 60);
/// Bytes of a note that the API server takes.
const NOTE_LIMIT: usize = 1024;

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct StateChange {
    /// `Warning`, else `Normal`.
    warning: bool,
    reason: String,
    note: String,
}

/// What is worth telling of a status that took the place of another.
///
/// What turned bad is told as it is. What turned good is told once: Programmed says it for all others.
pub(super) fn news(
    before: &WebSocketRouteStatus,
    after: &WebSocketRouteStatus,
) -> Vec<StateChange> {
    let stored = |condition: &Condition| {
        before.conditions.iter().find(|before| before.type_ == condition.type_)
    };
    let changed = after.conditions.iter().filter(|condition| {
        stored(condition).is_none_or(|before| {
            (&before.status, &before.reason) != (&condition.status, &condition.reason)
        })
    });
    let (bad, good): (Vec<_>, Vec<_>) = changed.partition(|condition| is_bad(condition));
    let is_programmed =
        |condition: &&Condition| condition.type_ == ConditionType::Programmed.as_str();
    let tell = |condition: &Condition| StateChange {
        warning: is_bad(condition),
        reason: condition.reason.clone(),
        note: shortened(&condition.message),
    };
    // Programmed: False points to another condition, where there is one that tells more.
    let told = bad.iter().filter(|condition| bad.len() == 1 || !is_programmed(condition));
    let mut news: Vec<_> = told.map(|condition| tell(condition)).collect();
    // An invalid spec is the reason of two conditions, of which the first says more.
    news.dedup_by(|second, first| second.reason == first.reason);
    match good.iter().find(|condition| is_programmed(condition)) {
        Some(programmed) => news.push(tell(programmed)),
        None => {
            let recovered = good.iter().filter(|condition| stored(condition).is_some_and(is_bad));
            news.extend(recovered.map(|condition| tell(condition)));
        }
    }
    news
}

/// PartiallyInvalid is bad where it is true, the others where they are not.
fn is_bad(condition: &Condition) -> bool {
    let partial = condition.type_ == ConditionType::PartiallyInvalid.as_str();
    (condition.status == "True") == partial
}

fn shortened(message: &str) -> String {
    if message.len() <= NOTE_LIMIT {
        return message.to_owned();
    }
    let mut end = NOTE_LIMIT - '…'.len_utf8();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &message[..end])
}

/// News of one route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct QueuedEvent {
    route: ObjectRef,
    uid: Option<String>,
    news: StateChange,
}

/// Where news are handed in.
#[derive(Debug)]
pub(super) struct EventSender {
    queue: mpsc::Sender<QueuedEvent>,
    /// How many have found no room since the last that has.
    dropped: u64,
}

impl EventSender {
    /// Hands the news of a route on. Never waits.
    pub(super) fn tell(&mut self, route: &ObjectRef, uid: Option<&String>, news: Vec<StateChange>) {
        for news in news {
            let told = QueuedEvent { route: route.clone(), uid: uid.cloned(), news };
            match self.queue.try_send(told) {
                Ok(()) => self.dropped = 0,
                Err(_) => {
                    self.dropped += 1;
                    // A line for the first, and then for each power of two.
                    if self.dropped.is_power_of_two() {
                        tracing::warn!(
                            "{} Events were dropped, of WebSocketRoute {route} last: more come than the API server takes",
                            self.dropped
                        );
                    }
                }
            }
        }
    }
}

/// An Event that was made, to be counted on.
struct Made {
    name: String,
    count: i32,
    last: Instant,
}

/// Makes Events of the news.
pub(super) struct Recorder {
    client: Client,
    instance: String,
    queue: mpsc::Receiver<QueuedEvent>,
    made: HashMap<QueuedEvent, Made>,
    /// What was said last to have gone wrong.
    said: Option<String>,
}

/// The two ends of a queue. `instance` is who this process is among the replicas.
pub(super) fn channel(client: Client, instance: String) -> (EventSender, Recorder) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let recorder = Recorder { client, instance, queue, made: HashMap::new(), said: None };
    (EventSender { queue: sender, dropped: 0 }, recorder)
}

impl Recorder {
    /// Runs until the [`EventSender`] is gone, and a moment after `shutdown` at the longest.
    pub(super) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let end = async {
            stopped(&mut shutdown).await;
            tokio::time::sleep(FAREWELL).await;
        };
        let record = async {
            while let Some(told) = self.queue.recv().await {
                self.record(told).await;
            }
        };
        tokio::select! {
            () = end => {}
            () = record => {}
        }
    }

    async fn record(&mut self, told: QueuedEvent) {
        let now = Instant::now();
        self.made.retain(|_, made| now < made.last + SERIES);
        let result = tokio::time::timeout(REQUEST_TIMEOUT, self.send(&told)).await;
        let fault = match result {
            Ok(Ok((name, count))) => {
                self.made.insert(told, Made { name, count, last: now });
                if self.said.take().is_some() {
                    tracing::info!("Events are recorded again");
                }
                return;
            }
            Ok(Err(error)) if namespace_ends(&error) => return,
            Ok(Err(error)) => fault(&error),
            Err(_) => "no answer from the Kubernetes API in time".to_owned(),
        };
        if self.said.as_ref() != Some(&fault) {
            let route = &told.route;
            tracing::warn!(
                "an Event of WebSocketRoute {route} is dropped, as others will be until this is over: {fault}"
            );
            self.said = Some(fault);
        }
    }

    /// Makes an Event, or counts on in one. Its name and its count.
    async fn send(&self, told: &QueuedEvent) -> Result<(String, i32), kube::Error> {
        let now = Timestamp::now();
        let api = Api::<Event>::namespaced(self.client.clone(), &told.route.namespace);
        if let Some(Made { name, count, .. }) = self.made.get(told) {
            let count = count.saturating_add(1);
            let series = EventSeries { count, last_observed_time: MicroTime(now) };
            let patch = Patch::Merge(json!({ "series": series }));
            match api.patch(name, &PatchParams::default(), &patch).await {
                Ok(_) => return Ok((name.clone(), count)),
                // Events do not live long: then there is a new one.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let event = self.event(told, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        api.create(&PostParams::default(), &event).await?;
        Ok((name, 1))
    }

    fn event(&self, told: &QueuedEvent, now: Timestamp) -> Event {
        let QueuedEvent { route, uid, news } = told;
        Event {
            metadata: ObjectMeta {
                // As other controllers name theirs.
                name: Some(format!("{}.{:x}", route.name, now.as_nanosecond())),
                namespace: Some(route.namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(if news.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(news.reason.clone()),
            note: Some(news.note.clone()),
            action: Some(ACTION.to_owned()),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            regarding: Some(ObjectReference {
                api_version: Some(format!("{}/{}", tidegate_api::GROUP, tidegate_api::VERSION)),
                kind: Some("WebSocketRoute".to_owned()),
                namespace: Some(route.namespace.clone()),
                name: Some(route.name.clone()),
                uid: uid.clone(),
                ..ObjectReference::default()
            }),
            ..Event::default()
        }
    }
}

/// Whether it is refused because the namespace is going away, and the route with it: nobody is left to be told.
fn namespace_ends(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "NamespaceTerminating")
}

/// What went wrong, and what to do.
fn fault(error: &kube::Error) -> String {
    let said = explain(error);
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "{said}; give the ServiceAccount a ClusterRole with the verbs create and patch on events in the API group \
             \"events.k8s.io\""
        ),
        _ => said,
    }
}

#[cfg(test)]
mod tests;
