//! Which endpoint takes a new connection: weight decides between backends, live connections between endpoints.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::table::{Backend, Endpoint};

/// How many connections each endpoint has now. Outlives every table, so that counts stay right across changes.
#[derive(Clone, Debug, Default)]
pub struct EndpointLoad {
    live: Arc<Mutex<HashMap<SocketAddr, usize>>>,
}

/// One connection's place at an endpoint; given back when dropped.
#[derive(Debug)]
pub struct Seat {
    load: EndpointLoad,
    address: SocketAddr,
}

impl EndpointLoad {
    /// Chooses an endpoint and takes a seat at it, in one step. `None` where no backend has an endpoint.
    pub fn choose<'a>(&self, backends: &'a [Backend], random: u64) -> Option<(&'a Backend, Seat)> {
        let backend = pick_backend(backends, random)?;
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |endpoint: &Endpoint| live.get(&endpoint.address).copied().unwrap_or(0);
        let address = least_connections(&backend.endpoints, count, random >> 32)?.address;
        *live.entry(address).or_default() += 1;
        drop(live);
        Some((backend, Seat { load: self.clone(), address }))
    }
}

impl Seat {
    /// The endpoint's address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut live = self.load.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = live.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.address);
            }
        }
    }
}

/// Shares connections out by weight, among the backends that have an endpoint.
fn pick_backend(backends: &[Backend], random: u64) -> Option<&Backend> {
    let weight = |backend: &Backend| {
        if backend.endpoints.is_empty() { 0 } else { u64::from(backend.weight) }
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

/// The endpoint with the fewest live connections; `random` decides among equals.
fn least_connections(
    endpoints: &[Endpoint],
    live: impl Fn(&Endpoint) -> usize,
    random: u64,
) -> Option<&Endpoint> {
    let fewest = endpoints.iter().map(&live).min()?;
    let equals = || endpoints.iter().filter(|endpoint| live(endpoint) == fewest);
    // `fewest` comes from one of them, so there is at least one.
    let count = equals().count() as u64;
    equals().nth(usize::try_from(random % count).unwrap_or(0))
}

#[cfg(test)]
mod tests;
