//! Bytes and messages: counted per worker without contention, added up when scraped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus::{
    IntCounterVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::names::{self, DIRECTION, NAMESPACE, ROUTE};

const UP: &str = "client_to_backend";
const DOWN: &str = "backend_to_client";

/// The traffic of all routes.
#[derive(Clone, Debug)]
pub struct Traffic {
    shards: Arc<Mutex<Shards>>,
    bytes: Desc,
    messages: Desc,
}

type Shards = BTreeMap<(String, String), Vec<Arc<TrafficShard>>>;

/// The traffic of one route as one worker sees it. Only that worker adds to it.
#[derive(Debug, Default)]
pub struct TrafficShard {
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    messages_up: AtomicU64,
    messages_down: AtomicU64,
}

impl TrafficShard {
    /// Adds what went from client to backend. To be called by one thread only.
    pub fn add_up(&self, bytes: u64, messages: u64) {
        add(&self.bytes_up, bytes);
        add(&self.messages_up, messages);
    }

    /// Adds what went from backend to client. To be called by one thread only.
    pub fn add_down(&self, bytes: u64, messages: u64) {
        add(&self.bytes_down, bytes);
        add(&self.messages_down, messages);
    }
}

/// There is one writer, so a load and a store do what a locked addition would, for less.
fn add(cell: &AtomicU64, amount: u64) {
    if amount > 0 {
        cell.store(cell.load(Relaxed) + amount, Relaxed);
    }
}

impl Traffic {
    /// A new shard of the route's counters, for one worker.
    pub fn shard(&self, namespace: &str, route: &str) -> Arc<TrafficShard> {
        let shard = Arc::new(TrafficShard::default());
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), route.to_owned());
        shards.entry(key).or_default().push(Arc::clone(&shard));
        shard
    }

    /// Removes the counters of routes that nobody adds to.
    pub(super) fn forget(&self, gone: &BTreeSet<(String, String)>) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.retain(|route, _| !gone.contains(route));
    }
}

const LABELS: [&str; 3] = [NAMESPACE, ROUTE, DIRECTION];
const BYTES_HELP: &str = "Bytes of WebSocket frames relayed, headers included.";
const MESSAGES_HELP: &str = "Whole data messages relayed.";

impl Default for Traffic {
    fn default() -> Self {
        let describe = |name: &str, help: &str| {
            let labels = LABELS.map(str::to_owned).to_vec();
            Desc::new(name.into(), help.into(), labels, Default::default())
                .expect("constant names are valid")
        };
        Self {
            shards: Arc::default(),
            bytes: describe(names::BYTES_TOTAL, BYTES_HELP),
            messages: describe(names::MESSAGES_TOTAL, MESSAGES_HELP),
        }
    }
}

impl Collector for Traffic {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.bytes, &self.messages]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let family = |name, help| {
            IntCounterVec::new(Opts::new(name, help), &LABELS).expect("constant names are valid")
        };
        let bytes = family(names::BYTES_TOTAL, BYTES_HELP);
        let messages = family(names::MESSAGES_TOTAL, MESSAGES_HELP);
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        for ((namespace, route), shards) in shards.iter() {
            for shard in shards {
                for (family, direction, cell) in [
                    (&bytes, UP, &shard.bytes_up),
                    (&bytes, DOWN, &shard.bytes_down),
                    (&messages, UP, &shard.messages_up),
                    (&messages, DOWN, &shard.messages_down),
                ] {
                    family
                        .with_label_values(&[namespace, route, direction])
                        .inc_by(cell.load(Relaxed));
                }
            }
        }
        let mut families = bytes.collect();
        families.extend(messages.collect());
        families
    }
}
