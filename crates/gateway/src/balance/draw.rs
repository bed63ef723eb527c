//! One choice: eligible endpoints in their order, the backend by weight, the endpoint by policy.

use std::time::Instant;

use fastrand::Rng;
use tidegate_table::{Backend, Endpoint, Policy, Rank};

use super::{Known, PickRequest, Readiness, State, key};

/// Most endpoints of which every one is looked at for the fewest connections. Beyond, two are drawn at random and the one
/// with fewer taken, which keeps them almost as even and costs the same for any number (Mitzenmacher, "The Power of Two
/// Choices in Randomized Load Balancing", 2001).
const FULL_SCAN: usize = 16;

/// How often one of many is drawn before all are looked at.
const DRAWS: usize = 8;

/// The ranks in their order, those that are ejected at last.
const ROUNDS: [(Ejected, &[Rank]); 4] = [
    (Ejected::PassedOver, &[Rank::Local, Rank::Remote]),
    (Ejected::PassedOver, &[Rank::Leaving]),
    (Ejected::Taken, &[Rank::Local, Rank::Remote]),
    (Ejected::Taken, &[Rank::Leaving]),
];

/// What is done about ejected endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ejected {
    PassedOver,
    Taken,
}

/// A choice under way.
pub(super) struct Picker<'s, 'a> {
    view: View<'s, 'a>,
    random: Rng,
}

/// What a choice is made by, all but chance.
#[derive(Clone, Copy)]
struct View<'s, 'a> {
    state: &'s State,
    wanted: &'s PickRequest<'a, 's>,
    now: Instant,
    ejected: Ejected,
}

impl<'s, 'a> Picker<'s, 'a> {
    pub(super) fn new(
        state: &'s State,
        wanted: &'s PickRequest<'a, 's>,
        random: u64,
        now: Instant,
    ) -> Self {
        let view = View { state, wanted, now, ejected: Ejected::PassedOver };
        Self { view, random: Rng::with_seed(random) }
    }

    pub(super) fn run(mut self) -> Option<(&'a Backend, &'a Endpoint)> {
        ROUNDS.into_iter().find_map(|(ejected, ranks)| {
            self.view.ejected = ejected;
            self.among(ranks)
        })
    }

    /// A choice among endpoints of these ranks. A backend that has one of any of them keeps its share.
    fn among(&mut self, ranks: &[Rank]) -> Option<(&'a Backend, &'a Endpoint)> {
        let backend = self.backend(ranks)?;
        let mut groups = ranks.iter().map(|rank| backend.endpoints.of_rank(*rank));
        let endpoint = match self.view.key() {
            // Its place is the same in every zone.
            Some(key) => groups
                .flatten()
                .filter(|endpoint| self.view.is_eligible(backend, endpoint))
                .max_by_key(|endpoint| key::score(key, endpoint.address)),
            None => groups.find_map(|endpoints| self.endpoint(backend, endpoints)),
        };
        Some((backend, endpoint?))
    }

    /// By weight, among the backends that have an eligible endpoint.
    fn backend(&mut self, ranks: &[Rank]) -> Option<&'a Backend> {
        let view = self.view;
        let weight = |backend: &Backend| {
            let mut endpoints = ranks.iter().flat_map(|rank| backend.endpoints.of_rank(*rank));
            let takes = endpoints.any(|endpoint| view.is_eligible(backend, endpoint));
            if takes { backend.weight } else { 0 }
        };
        let backends = view.wanted.backends;
        if let Some(key) = view.key() {
            return key::heaviest(key, backends, weight);
        }
        let total: u64 = backends.iter().map(|backend| u64::from(weight(backend))).sum();
        if total == 0 {
            return None;
        }
        let mut ticket = self.random.u64(..total);
        backends.iter().find(|backend| match ticket.checked_sub(u64::from(weight(backend))) {
            Some(rest) => {
                ticket = rest;
                false
            }
            None => true,
        })
    }

    /// Without a key, by policy, among these, which are sorted by address.
    fn endpoint(&mut self, backend: &Backend, endpoints: &'a [Endpoint]) -> Option<&'a Endpoint> {
        match self.view.wanted.how.policy {
            Policy::RoundRobin => self.next_in_turn(backend, endpoints),
            // A request without a key has no place of its own.
            Policy::ConsistentHash(_) | Policy::LeastConnections => self
                .better_of_two(backend, endpoints)
                .or_else(|| self.least_connections(backend, endpoints)),
        }
    }

    /// The endpoint after the one that had the last turn.
    fn next_in_turn(
        &mut self,
        backend: &Backend,
        endpoints: &'a [Endpoint],
    ) -> Option<&'a Endpoint> {
        let last = self.view.state.turns.get(&key::of_backend(backend));
        let start = last.map_or(0, |last| endpoints.partition_point(|it| it.address <= *last));
        let (before, after) = endpoints.split_at(start);
        let mut passed_over = None;
        for endpoint in after.iter().chain(before) {
            if self.view.is_eligible(backend, endpoint) {
                if self.is_considered(self.view.known(endpoint)) {
                    return Some(endpoint);
                }
                passed_over = passed_over.or(Some(endpoint));
            }
        }
        passed_over
    }

    /// Of two drawn at random the one with fewer connections; `None` where there are few, or few that are eligible.
    fn better_of_two(
        &mut self,
        backend: &Backend,
        endpoints: &'a [Endpoint],
    ) -> Option<&'a Endpoint> {
        if endpoints.len() <= FULL_SCAN {
            return None;
        }
        let mut first: Option<(usize, &Endpoint)> = None;
        for _ in 0..DRAWS {
            let drawn = &endpoints[self.random.usize(..endpoints.len())];
            let is_first = first.is_some_and(|(_, first)| first.address == drawn.address);
            if is_first || !self.view.is_eligible(backend, drawn) {
                continue;
            }
            let known = self.view.known(drawn);
            if !self.is_considered(known) {
                continue;
            }
            match first {
                None => first = Some((known.live, drawn)),
                Some((live, first)) => return Some(if known.live < live { drawn } else { first }),
            }
        }
        None
    }

    /// The one with the fewest connections, any of several.
    fn least_connections(
        &mut self,
        backend: &Backend,
        endpoints: &'a [Endpoint],
    ) -> Option<&'a Endpoint> {
        let mut best: Option<(bool, usize, &Endpoint)> = None;
        let mut equals = 0;
        for endpoint in endpoints {
            if !self.view.is_eligible(backend, endpoint) {
                continue;
            }
            let known = self.view.known(endpoint);
            // Those that are passed over for being new come after all others.
            let here = (!self.is_considered(known), known.live);
            let so_far = best.map(|(new, live, _)| (new, live));
            if so_far.is_none_or(|so_far| here < so_far) {
                (best, equals) = (Some((here.0, here.1, endpoint)), 1);
            } else if so_far == Some(here) {
                // Each of them is the one with the same chance.
                equals += 1;
                if self.random.usize(..equals) == 0 {
                    best = Some((here.0, here.1, endpoint));
                }
            }
        }
        best.map(|(_, _, endpoint)| endpoint)
    }

    /// Whether an endpoint that may be new takes part in this choice. Its chance grows from 0 to 1 over the slow start, so that
    /// also where it has the fewest connections it is not sent all at once.
    fn is_considered(&mut self, known: Known) -> bool {
        let Some(slow_start) = self.view.wanted.how.slow_start else { return true };
        if self.view.state.survey == 0 {
            return true;
        }
        match known.ready {
            Readiness::FromTheBeginning => true,
            // It is so new that it was not surveyed yet.
            Readiness::Not => false,
            Readiness::Since(since) => {
                let age = self.view.now.saturating_duration_since(since);
                age >= slow_start || self.random.f64() < age.div_duration_f64(slow_start)
            }
        }
    }
}

impl View<'_, '_> {
    /// The request's key, where it counts.
    fn key(&self) -> Option<u64> {
        match self.wanted.how.policy {
            Policy::ConsistentHash(_) => self.wanted.key,
            Policy::LeastConnections | Policy::RoundRobin => None,
        }
    }

    fn is_eligible(&self, backend: &Backend, endpoint: &Endpoint) -> bool {
        let address = endpoint.address;
        !self.wanted.tried.contains(&address)
            && (self.ejected == Ejected::Taken
                || !self.state.ejections.holds(address, backend.tls.as_deref(), self.now))
    }

    fn known(&self, endpoint: &Endpoint) -> Known {
        self.state.known.get(&endpoint.address).copied().unwrap_or_default()
    }
}
