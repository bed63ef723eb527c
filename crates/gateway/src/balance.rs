//! Which endpoint takes a new connection. Pure: time and randomness are passed in, and nothing here opens a socket.
//!
//! Weight decides between backends, the rule's policy between the endpoints of one. What is remembered for that is kept by
//! address, not by table, so that it stays right across changes: how many connections an endpoint has, since when it has
//! been ready, and whether it could be reached.

mod draw;
mod ejection;
pub mod key;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tidegate_table::{Backend, LoadBalancing, Policy};

use self::{draw::Picker, ejection::Ejections};

pub use self::ejection::Fault;

/// What is known of all endpoints. Outlives every table; shared by all workers.
#[derive(Clone, Debug, Default)]
pub struct EndpointLoad {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Endpoints that have connections, or are ready in the last table that was surveyed.
    known: HashMap<SocketAddr, Known>,
    ejections: Ejections,
    /// Where RoundRobin is, by [`key::of_backend`]: the endpoint that had the last turn.
    turns: HashMap<u64, SocketAddr>,
    /// The number of the last survey that was finished; 0 before the first.
    survey: u64,
}

/// What is known of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Its connections.
    live: usize,
    ready: Readiness,
    /// The last survey that found it ready.
    survey: u64,
}

/// Since when an endpoint has been ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Readiness {
    /// It was not, in the last table that was surveyed.
    #[default]
    Not,
    /// Since before the first survey: there is nothing that it would be new beside.
    FromTheBeginning,
    /// Since then.
    Since(Instant),
}

/// What a connection needs.
#[derive(Clone, Copy, Debug)]
pub struct PickRequest<'a, 'w> {
    /// Where it may go.
    pub backends: &'a [Backend],
    /// How the endpoint is chosen.
    pub how: &'w LoadBalancing,
    /// The key for [`Policy::ConsistentHash`], if the request has one; see [`key::of_request`].
    pub key: Option<u64>,
    /// Endpoints that were tried already.
    pub tried: &'w [SocketAddr],
}

/// One connection's place at an endpoint; given back when dropped.
#[derive(Debug)]
pub struct EndpointPermit {
    load: EndpointLoad,
    address: SocketAddr,
}

impl EndpointLoad {
    /// Chooses an endpoint and takes a seat at it, in one step. Ready endpoints come first, of our zone before others; then
    /// those that terminate but still serve; then, where all are ejected, the ejected ones: to try is better than to
    /// refuse. `None` where no endpoint is left that was not tried.
    pub fn choose<'a>(
        &self,
        wanted: &PickRequest<'a, '_>,
        random: u64,
        now: Instant,
    ) -> Option<(&'a Backend, EndpointPermit)> {
        let mut state = self.state();
        let (backend, endpoint) = Picker::new(&state, wanted, random, now).run()?;
        let address = endpoint.address;
        state.known.entry(address).or_default().live += 1;
        state.ejections.chosen(address, backend.tls.as_deref(), now);
        if wanted.how.policy == Policy::RoundRobin {
            state.turns.insert(key::of_backend(backend), address);
        }
        drop(state);
        Some((backend, EndpointPermit { load: self.clone(), address }))
    }

    /// Notes that the table with the number `endpoint_readiness` has these as ready endpoints. A table's come in any number of parts, so
    /// that nobody waits long for the lock, and [`Self::finish_survey`] after the last.
    pub fn mark_ready(&self, ready: &[SocketAddr], survey: u64, now: Instant) {
        let mut state = self.state();
        let state = &mut *state;
        for address in ready {
            let known = state.known.entry(*address).or_default();
            known.survey = survey;
            if known.ready == Readiness::Not {
                known.ready = match state.survey {
                    // Nothing was known of it before: a failure by now is its own.
                    0 => Readiness::FromTheBeginning,
                    _ => {
                        // It is another pod, or Kubernetes says that this one is well again.
                        state.ejections.forget(*address);
                        Readiness::Since(now)
                    }
                };
            }
        }
    }

    /// Forgets what the survey did not find. `rotating` are the backends that RoundRobin is used for, by
    /// [`key::of_backend`].
    pub fn finish_survey(&self, survey: u64, rotating: &HashSet<u64>) {
        let mut state = self.state();
        state.survey = survey;
        state.known.retain(|_, known| {
            if known.survey != survey {
                known.ready = Readiness::Not;
            }
            known.live > 0 || known.ready != Readiness::Not
        });
        state.turns.retain(|backend, _| rotating.contains(backend));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EndpointPermit {
    /// The endpoint's address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Notes that the endpoint was reached, as this backend wants it.
    pub fn reached(&self, backend: &Backend, now: Instant) {
        self.load.state().ejections.reached(self.address, backend.tls.as_deref(), now);
    }

    /// Notes that the endpoint could not be reached: where that happens again and again it is passed over for a while. Whether
    /// that begins now.
    pub fn missed(&self, backend: &Backend, fault: Fault, now: Instant) -> bool {
        self.load.state().ejections.missed(self.address, backend.tls.as_deref(), fault, now)
    }
}

impl Drop for EndpointPermit {
    fn drop(&mut self) {
        let known = &mut self.load.state().known;
        if let Some(endpoint) = known.get_mut(&self.address) {
            endpoint.live -= 1;
            if endpoint.live == 0 && endpoint.ready == Readiness::Not {
                known.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests;
