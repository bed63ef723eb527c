//! One rule of a route, as the gateway follows it.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use super::BackendTls;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A rule with every default resolved. A connection keeps the `Arc` of the rule it was admitted with.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The WebSocketRoute.
    pub route: ObjectRef,
    /// The rule's name, or its index where it has none.
    pub name: String,
    /// What ws:// meets.
    pub plaintext: Plaintext,
    /// What plain HTTP meets.
    pub http: HttpMode,
    /// Limits of time.
    pub timeouts: Timeouts,
    /// Where connections go. Backends whose references could not be resolved are not in it; it may be empty.
    pub backends: Vec<Backend>,
}

/// What a request in clear text meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// 403.
    Refuse,
    /// 308 to https.
    Redirect,
    /// Served.
    Allow,
}

/// What a request that is no upgrade meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMode {
    /// 426.
    Refuse,
    /// Taken to the backend.
    Forward,
}

/// Limits of time of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For TCP and TLS to an endpoint. Above zero.
    pub connect: Duration,
    /// For the backend's answer to the upgrade. Above zero.
    pub upgrade: Duration,
    /// For silence in both directions; `None`: no limit.
    pub idle: Option<Duration>,
}

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
    /// The endpoints that take new connections, sorted, without duplicates.
    pub endpoints: Arc<[Endpoint]>,
}

/// One address of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
