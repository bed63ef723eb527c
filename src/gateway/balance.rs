//! Which endpoint takes a new connection: weight decides between backends, live connections between endpoints.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::table::{Backend, Endpoint};

/// How long an endpoint that could not be reached is passed over.
const EJECTION: Duration = Duration::from_secs(10);

/// How many connections each endpoint has now, and which ones could not be reached lately. Outlives every table, so that both
/// stay right across changes.
#[derive(Clone, Debug, Default)]
pub struct EndpointLoad {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Connections by endpoint; none of them is zero.
    live: HashMap<SocketAddr, usize>,
    /// Endpoints that could not be reached, and until when they are passed over. The first connection after that tries.
    ejected: HashMap<SocketAddr, Instant>,
}

/// One connection's place at an endpoint; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    load: EndpointLoad,
    address: SocketAddr,
}

impl EndpointLoad {
    /// Chooses an endpoint and takes a seat at it, in one step. Those in `tried` are left out, and those that could not be
    /// reached lately, unless there are no others. `None` where no backend has an endpoint left.
    pub fn choose<'a>(
        &self,
        backends: &'a [Backend],
        tried: &[SocketAddr],
        random: u64,
        now: Instant,
    ) -> Option<(&'a Backend, Seat)> {
        let mut state = self.state();
        let untried = |endpoint: &Endpoint| !tried.contains(&endpoint.address);
        let State { live, ejected } = &*state;
        let in_service = |endpoint: &Endpoint| {
            untried(endpoint) && ejected.get(&endpoint.address).is_none_or(|until| *until <= now)
        };
        let count = |endpoint: &Endpoint| live.get(&endpoint.address).copied().unwrap_or(0);
        let (backend, endpoint) = pick(backends, in_service, count, random)
            .or_else(|| pick(backends, untried, count, random))?;
        let address = endpoint.address;
        *state.live.entry(address).or_default() += 1;
        if let Some(until) = state.ejected.get_mut(&address) {
            // The others wait for what becomes of this one.
            *until = now + EJECTION;
        }
        drop(state);
        Some((backend, Seat { load: self.clone(), address }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The endpoint's address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Notes that the endpoint was reached.
    pub fn reached(&self) {
        self.load.state().ejected.remove(&self.address);
    }

    /// Notes that the endpoint could not be reached: it is passed over for a while.
    pub fn missed(&self, now: Instant) {
        let ejected = &mut self.load.state().ejected;
        // Pods come and go: addresses that nobody has asked for since are forgotten.
        ejected.retain(|_, until| *until + EJECTION > now);
        ejected.insert(self.address, now + EJECTION);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let live = &mut self.load.state().live;
        if let Some(count) = live.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.address);
            }
        }
    }
}

/// Among the endpoints that are `eligible`: weight decides between backends, `live` connections within one.
fn pick(
    backends: &[Backend],
    eligible: impl Fn(&Endpoint) -> bool,
    live: impl Fn(&Endpoint) -> usize,
    random: u64,
) -> Option<(&Backend, &Endpoint)> {
    let backend = pick_backend(backends, &eligible, random)?;
    let endpoint = least_connections(backend.endpoints.in_service(), eligible, live, random >> 32)?;
    Some((backend, endpoint))
}

/// Shares connections out by weight, among the backends that have an eligible endpoint.
fn pick_backend(
    backends: &[Backend],
    eligible: impl Fn(&Endpoint) -> bool,
    random: u64,
) -> Option<&Backend> {
    let weight = |backend: &Backend| {
        if backend.endpoints.in_service().iter().any(&eligible) {
            u64::from(backend.weight)
        } else {
            0
        }
    };
    let total: u64 = backends.iter().map(weight).sum();
    let mut ticket = random.checked_rem(total)?;
    backends.iter().find(|backend| match ticket.checked_sub(weight(backend)) {
        Some(rest) => {
            ticket = rest;
            false
        }
        None => true,
    })
}

/// The eligible endpoint with the fewest live connections; `random` decides among equals.
fn least_connections(
    endpoints: &[Endpoint],
    eligible: impl Fn(&Endpoint) -> bool,
    live: impl Fn(&Endpoint) -> usize,
    random: u64,
) -> Option<&Endpoint> {
    let fewest = endpoints.iter().filter(|endpoint| eligible(endpoint)).map(&live).min()?;
    let equals =
        || endpoints.iter().filter(|endpoint| eligible(endpoint) && live(endpoint) == fewest);
    // `fewest` comes from one of them, so there is at least one.
    let count = equals().count() as u64;
    equals().nth(usize::try_from(random % count).unwrap_or(0))
}

#[cfg(test)]
mod tests;
