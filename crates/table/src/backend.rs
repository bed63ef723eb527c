//! Where connections go, and how one of several endpoints is chosen.

use std::{net::SocketAddr, ops::Deref, sync::Arc, time::Duration};

use http::HeaderName;

use super::{BackendTls, ObjectRef};

/// A Service port with its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// The Service.
    pub service: ObjectRef,
    /// Its port.
    pub port: u16,
    /// Its share among the rule's backends; 0 takes none.
    pub weight: u32,
    /// How TLS is done with its pods; `None` speaks clear text.
    pub tls: Option<Arc<BackendTls>>,
    /// All its endpoints, also those that take no new connections.
    pub endpoints: Endpoints,
}

/// The endpoints of a backend: sorted by [`Endpoint::rank`], then by address, each address once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Arc<[Endpoint]>);

/// One address of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is good for.
    pub state: EndpointState,
    /// Whether the hints of its EndpointSlice are for our own zone. Where not all endpoints have hints, or none is for it,
    /// all are local.
    pub local: bool,
}

/// What the conditions of an endpoint come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointState {
    /// Takes new connections.
    Ready,
    /// Is being ended.
    Terminating {
        /// Still serves: takes new connections where no endpoint is ready.
        serving: bool,
    },
    /// Is there, but takes no new connections now.
    NotReady,
}

/// In which order endpoints are considered for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rank {
    /// Ready, and local.
    Local,
    /// Ready, but for another zone.
    Remote,
    /// Terminating, but still serving.
    Leaving,
    /// Never.
    Out,
}

impl EndpointState {
    /// Whether the endpoint is being ended, serving or not.
    pub const fn is_terminating(self) -> bool {
        matches!(self, Self::Terminating { .. })
    }
}

impl Endpoint {
    /// A ready endpoint that zones make no difference to.
    pub const fn ready(address: SocketAddr) -> Self {
        Self { address, state: EndpointState::Ready, local: true }
    }

    /// Its place in the order.
    pub const fn rank(&self) -> Rank {
        match (self.state, self.local) {
            (EndpointState::Ready, true) => Rank::Local,
            (EndpointState::Ready, false) => Rank::Remote,
            (EndpointState::Terminating { serving: true }, _) => Rank::Leaving,
            (EndpointState::Terminating { serving: false } | EndpointState::NotReady, _) => {
                Rank::Out
            }
        }
    }
}

impl Endpoints {
    /// Those of one rank, sorted by address.
    pub fn of_rank(&self, rank: Rank) -> &[Endpoint] {
        let start = self.0.partition_point(|endpoint| endpoint.rank() < rank);
        let end = self.0.partition_point(|endpoint| endpoint.rank() <= rank);
        &self.0[start..end]
    }

    /// The one with this address.
    pub fn at(&self, address: SocketAddr) -> Option<&Endpoint> {
        let ranks = [Rank::Local, Rank::Remote, Rank::Leaving, Rank::Out];
        ranks.into_iter().find_map(|rank| {
            let of = self.of_rank(rank);
            let found = of.binary_search_by_key(&address, |endpoint| endpoint.address).ok()?;
            Some(&of[found])
        })
    }

    /// Those that new connections go to while all can be reached: the ready ones of our zone, else the other ready ones, else
    /// those that terminate but still serve.
    pub fn in_service(&self) -> &[Endpoint] {
        let ranks = [Rank::Local, Rank::Remote, Rank::Leaving];
        ranks.map(|rank| self.of_rank(rank)).into_iter().find(|of| !of.is_empty()).unwrap_or(&[])
    }

    /// Those that may take a new connection.
    pub fn usable(&self) -> &[Endpoint] {
        &self.0[..self.0.partition_point(|endpoint| endpoint.rank() < Rank::Out)]
    }

    /// Those that are ready, of all zones.
    pub fn ready(&self) -> &[Endpoint] {
        &self.0[..self.0.partition_point(|endpoint| endpoint.rank() <= Rank::Remote)]
    }

    /// A number that clones share while any of them lives, and others do not.
    pub fn id(&self) -> usize {
        self.0.as_ptr().addr()
    }

    /// Whether any is ready.
    pub fn any_ready(&self) -> bool {
        !self.ready().is_empty()
    }

    /// Whether any terminates, but still serves.
    pub fn any_leaving(&self) -> bool {
        !self.of_rank(Rank::Leaving).is_empty()
    }
}

impl Default for Endpoints {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl Deref for Endpoints {
    type Target = [Endpoint];

    fn deref(&self) -> &[Endpoint] {
        &self.0
    }
}

impl FromIterator<Endpoint> for Endpoints {
    /// Sorts; of several with one address the first in the order stays.
    fn from_iter<I: IntoIterator<Item = Endpoint>>(endpoints: I) -> Self {
        let mut endpoints: Vec<_> = endpoints.into_iter().collect();
        endpoints.sort_by_key(|endpoint| (endpoint.address, endpoint.rank()));
        endpoints.dedup_by_key(|endpoint| endpoint.address);
        endpoints.sort_by_key(|endpoint| (endpoint.rank(), endpoint.address));
        Self(endpoints.into())
    }
}

/// Which endpoint takes a new connection, within a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancing {
    /// How it is chosen.
    pub policy: Policy,
    /// Over how long an endpoint that has become ready gets its share; `None`: it has it at once.
    pub slow_start: Option<Duration>,
    /// Most connections of a backend that are moved in a minute to endpoints with fewer, in per cent, 0 to 100.
    pub rebalance_percent: u8,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The one with the fewest live connections.
    LeastConnections,
    /// One after the other.
    RoundRobin,
    /// By a key of the request.
    ConsistentHash(HashOn),
}

/// The key of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The client's address.
    ClientIp,
    /// The value of the first header of this name.
    Header(HeaderName),
    /// The value of the first cookie of this name.
    Cookie(Box<str>),
    /// The value of the first query parameter of this name, which is decoded.
    QueryParam(Box<str>),
}

impl Default for LoadBalancing {
    /// What a route gets that says nothing about it.
    fn default() -> Self {
        Self {
            policy: Policy::LeastConnections,
            slow_start: Some(Duration::from_secs(30)),
            rebalance_percent: 0,
        }
    }
}
