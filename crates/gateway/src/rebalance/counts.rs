//! How many connections each rule has at each endpoint, over all workers.
//!
//! Each worker counts its own in a cell of its own; the sum is made by who asks.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tidegate_table::Rule;

/// A rule, whatever became of its content, at an endpoint.
#[derive(Clone, Debug)]
pub struct PlaceKey {
    /// The rule, as it was at some time.
    pub rule: Arc<Rule>,
    /// The endpoint.
    pub endpoint: SocketAddr,
}

impl PlaceKey {
    fn identity(&self) -> impl Hash + Eq + '_ {
        (self.endpoint, &self.rule.name, &self.rule.route)
    }
}

impl PartialEq for PlaceKey {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for PlaceKey {}

impl Hash for PlaceKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// The connections of a rule at an endpoint.
#[derive(Debug)]
pub struct RuleEndpoint {
    key: PlaceKey,
    /// By worker; only that one writes.
    live: Box<[AtomicUsize]>,
    /// Those among them that have been told to go elsewhere, or are going to be.
    leaving: AtomicUsize,
    ledger: ConnectionCounts,
}

/// All places that have a connection. Clones are one ledger.
#[derive(Clone, Debug)]
pub struct ConnectionCounts {
    workers: usize,
    places: Arc<Mutex<HashMap<PlaceKey, Weak<RuleEndpoint>>>>,
}

impl RuleEndpoint {
    /// Whose connections these are, and where.
    pub fn key(&self) -> &PlaceKey {
        &self.key
    }

    /// Those of one worker.
    pub fn of_worker(&self, worker: usize) -> usize {
        self.live[worker].load(Relaxed)
    }

    /// All of them, but those that have been told to go.
    pub fn staying(&self) -> usize {
        let live: usize = self.live.iter().map(|live| live.load(Relaxed)).sum();
        live.saturating_sub(self.leaving.load(Relaxed))
    }

    /// Says how many a worker has; for that worker alone.
    pub fn set(&self, worker: usize, live: usize) {
        self.live[worker].store(live, Relaxed);
    }

    /// One more is going to be told to go.
    pub fn begin_leaving(&self) {
        self.leaving.fetch_add(1, Relaxed);
    }

    /// That one has gone, or there was none to tell.
    pub fn end_leaving(&self) {
        self.leaving.fetch_sub(1, Relaxed);
    }
}

impl Drop for RuleEndpoint {
    fn drop(&mut self) {
        let mut places = self.ledger.places();
        // Somebody may have made it anew since.
        if places.get(&self.key).is_some_and(|place| place.strong_count() == 0) {
            places.remove(&self.key);
        }
    }
}

impl ConnectionCounts {
    /// One without connections, for so many workers.
    pub fn new(workers: usize) -> Self {
        Self { workers, places: Arc::default() }
    }

    /// The place of a rule at an endpoint; it is forgotten when nobody holds it.
    pub fn place(&self, key: PlaceKey) -> Arc<RuleEndpoint> {
        let mut places = self.places();
        if let Some(place) = places.get(&key).and_then(Weak::upgrade) {
            return place;
        }
        let live = (0..self.workers).map(|_| AtomicUsize::new(0)).collect();
        let (ledger, leaving) = (self.clone(), AtomicUsize::new(0));
        let place = Arc::new(RuleEndpoint { key: key.clone(), live, leaving, ledger });
        places.insert(key, Arc::downgrade(&place));
        place
    }

    /// All places now.
    pub fn all(&self) -> Vec<Arc<RuleEndpoint>> {
        self.places().values().filter_map(Weak::upgrade).collect()
    }

    fn places(&self) -> MutexGuard<'_, HashMap<PlaceKey, Weak<RuleEndpoint>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_table::ObjectRef;

    use super::*;

    fn key(name: &str, port: u16) -> PlaceKey {
        PlaceKey {
            rule: Arc::new(Rule::with_defaults(ObjectRef::new("n", "r"), name)),
            endpoint: ([10, 0, 0, 1], port).into(),
        }
    }

    #[test]
    fn a_place_is_one_for_all_workers_until_nobody_holds_it() {
        let ledger = ConnectionCounts::new(2);
        let (first, second) = (ledger.place(key("a", 1)), ledger.place(key("a", 1)));
        assert!(Arc::ptr_eq(&first, &second));
        let others = [ledger.place(key("a", 2)), ledger.place(key("b", 1))];
        assert_eq!(ledger.all().len(), 3);
        drop(others);
        drop(first);
        assert_eq!(ledger.all().len(), 1);
        drop(second);
        assert!(ledger.all().is_empty() && ledger.places().is_empty());
    }

    #[test]
    fn those_who_leave_are_not_counted_as_staying() {
        let place = ConnectionCounts::new(3).place(key("a", 1));
        place.set(0, 5);
        place.set(2, 4);
        assert_eq!((place.staying(), place.of_worker(2)), (9, 4));
        place.begin_leaving();
        assert_eq!(place.staying(), 8);
        place.set(0, 4);
        place.end_leaving();
        assert_eq!(place.staying(), 8);
    }
}
