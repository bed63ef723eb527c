//! Moving connections to endpoints that have fewer, where a rule asks for it: one worker says how many go from where, each
//! worker picks them among its own.
//!
//! Nothing here is on the way of a message or an upgrade, and where no rule asks for it nothing runs.

mod counts;
mod policy;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    sync::{
        mpsc::{Receiver, Sender},
        watch,
    },
    time::{Instant, sleep_until},
};

pub(super) use self::counts::{ConnectionCounts, PlaceKey, RuleEndpoint};
use tidegate_table::{Backend, ObjectRef, RoutingTable, Rule, TableCell};

use self::policy::{Load, Moves, RebalancePolicy};
use super::registry::Registry;

/// Between two looks at the counts. [`RebalancePolicy`] counts in it.
const TICK: Duration = Duration::from_secs(1);

/// Orders that may wait for a worker: more than a second's, up to some 200,000 connections that are all to move in a minute.
pub(super) const ORDERS: usize = 4096;

/// One connection of a place that a worker is to tell to go elsewhere.
#[derive(Debug)]
pub(super) struct Order {
    place: Arc<RuleEndpoint>,
    /// When: spread over the tick.
    at: Instant,
}

/// Carries orders out, for as long as it is polled.
pub(super) async fn carry_out(sessions: &Registry, orders: &mut Receiver<Order>) -> Infallible {
    let mut random = Rng::new();
    let mut waiting = Waiting::default();
    loop {
        tokio::select! {
            biased;
            Some(order) = orders.recv() => waiting.add(order),
            place = waiting.next(), if !waiting.is_empty() => {
                if !sessions.move_one(&place, &mut random) {
                    place.end_leaving();
                }
            }
            // The one who gives orders is gone, and all are carried out.
            else => std::future::pending::<()>().await,
        }
    }
}

/// Orders that are not due yet.
#[derive(Default)]
struct Waiting {
    order: BinaryHeap<Reverse<(Instant, usize)>>,
    places: HashMap<usize, Arc<RuleEndpoint>>,
    count: usize,
}

impl Waiting {
    fn add(&mut self, Order { place, at }: Order) {
        self.count += 1;
        self.order.push(Reverse((at, self.count)));
        self.places.insert(self.count, place);
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Waits for the next one that is due. Cancelling it loses none.
    async fn next(&mut self) -> Arc<RuleEndpoint> {
        loop {
            match self.order.peek() {
                Some(&Reverse((at, number))) => {
                    sleep_until(at).await;
                    self.order.pop();
                    if let Some(place) = self.places.remove(&number) {
                        return place;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }
}

/// Gives orders to the workers, for as long as it is polled.
pub(super) async fn plan(
    table: &TableCell,
    ledger: &ConnectionCounts,
    workers: &[Sender<Order>],
) -> Infallible {
    let mut published = table.subscribe();
    let mut planner = Planner { random: Rng::new(), movers: HashMap::new() };
    let begin = Instant::now();
    let mut tick = 0;
    let current = || table.load().map(|table| rules(&table.table)).unwrap_or_default();
    let mut wanted = current();
    loop {
        tokio::select! {
            () = changed(&mut published) => {
                wanted = current();
                if wanted.is_empty() {
                    planner.movers.clear();
                }
            }
            () = sleep_until(begin + TICK * (tick + 1)), if !wanted.is_empty() => {
                let now = Instant::now();
                // Ticks that were missed are left out.
                tick = u32::try_from((now - begin).as_secs()).unwrap_or(u32::MAX - 1);
                for (place, delay) in planner.tick(u64::from(tick), &wanted, &ledger.all()) {
                    planner.order(&place, now + delay, workers);
                }
            }
        }
    }
}

/// Waits for the next table. The cell holds the sender: there is no error to come.
async fn changed(published: &mut watch::Receiver<u64>) {
    if published.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The rules that ask for it, each once.
fn rules(table: &RoutingTable) -> Vec<Arc<Rule>> {
    let mut seen = HashSet::new();
    let mut rules = Vec::new();
    for rule in table.rules() {
        if rule.load_balancing.rebalance_percent > 0 && seen.insert((&rule.route, &rule.name)) {
            rules.push(Arc::clone(rule));
        }
    }
    rules
}

/// A backend of a rule, from table to table.
type MoverKey = (ObjectRef, String, ObjectRef, u16);

struct Planner {
    random: Rng,
    movers: HashMap<MoverKey, RebalancePolicy>,
}

impl Planner {
    /// The places of which one connection each is to go, and how long after now.
    fn tick(
        &mut self,
        tick: u64,
        rules: &[Arc<Rule>],
        places: &[Arc<RuleEndpoint>],
    ) -> Vec<(Arc<RuleEndpoint>, Duration)> {
        let mut all: HashMap<SocketAddr, usize> = HashMap::new();
        let mut own: HashMap<(&ObjectRef, &str, SocketAddr), &Arc<RuleEndpoint>> = HashMap::new();
        for place in places {
            let PlaceKey { rule, endpoint } = place.key();
            *all.entry(*endpoint).or_default() += place.staying();
            own.insert((&rule.route, &rule.name, *endpoint), place);
        }
        let mut before = std::mem::take(&mut self.movers);
        let mut moved = Vec::new();
        for rule in rules {
            for backend in rule.backends.iter().filter(|backend| takes(backend)) {
                let endpoints = backend.endpoints.in_service();
                let place = |endpoint| own.get(&(&rule.route, rule.name.as_str(), endpoint));
                let loads: Vec<_> = endpoints
                    .iter()
                    .map(|endpoint| Load {
                        all: all.get(&endpoint.address).copied().unwrap_or(0),
                        own: place(endpoint.address).map_or(0, |place| place.staying()),
                    })
                    .collect();
                let (route, service) = (rule.route.clone(), backend.service.clone());
                let key = (route, rule.name.clone(), service, backend.port);
                let mut mover = before
                    .remove(&key)
                    .unwrap_or_else(|| RebalancePolicy::new(tick, self.random.f64()));
                let percent = rule.load_balancing.rebalance_percent;
                let Moves { from, pausing } = mover.tick(tick, percent, &loads, &mut self.random);
                self.movers.insert(key, mover);
                if pausing {
                    tracing::warn!(
                        namespace = rule.route.namespace,
                        route = rule.route.name,
                        rule = rule.name,
                        service = %backend.service,
                        "connections that were told to go to other endpoints do not come back: no more are for ten minutes",
                    );
                }
                for index in from {
                    let endpoint = endpoints[index].address;
                    if let (Some(place), Some(all)) = (place(endpoint), all.get_mut(&endpoint)) {
                        *all -= 1;
                        place.begin_leaving();
                        moved.push((Arc::clone(place), TICK.mul_f64(self.random.f64())));
                    }
                }
            }
        }
        moved
    }

    /// Has a worker tell one, each of them as often as it has of the place's connections.
    fn order(&mut self, place: &Arc<RuleEndpoint>, at: Instant, workers: &[Sender<Order>]) {
        let counts: Vec<_> = (0..workers.len()).map(|worker| place.of_worker(worker)).collect();
        let total = counts.iter().sum::<usize>();
        let mut ticket = self.random.usize(..total.max(1));
        let worker = counts.iter().position(|&count| {
            let hit = ticket < count;
            ticket = ticket.saturating_sub(count);
            hit
        });
        // A worker that is far behind, or has ended, is spared.
        let sent = worker.is_some_and(|worker| {
            workers[worker].try_send(Order { place: Arc::clone(place), at }).is_ok()
        });
        if !sent {
            place.end_leaving();
        }
    }
}

/// Whether a backend takes new connections at endpoints that stay.
fn takes(backend: &Backend) -> bool {
    backend.weight > 0 && backend.endpoints.any_ready()
}

#[cfg(test)]
mod tests;
