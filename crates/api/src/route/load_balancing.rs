//! What a rule says about the endpoint that a new connection goes to, and about endpoints that cannot be reached.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// Which endpoint takes a new connection. Weights decide between backendRefs; this decides within each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.hashOn) || self.policy == 'ConsistentHash'")
        .message("hashOn needs policy: ConsistentHash: no other policy hashes anything"),
    validation = Rule::new("self.policy != 'ConsistentHash' || self.rebalance.maxPercentPerMinute == 0")
        .message("rebalance does not go with policy: ConsistentHash: a client that is moved would come back to the same endpoint"),
    validation = Rule::new("duration(self.slowStart) <= duration('1h')")
        .message("slowStart is at most 1h")
)]
pub struct LoadBalancing {
    /// LeastConnections takes the endpoint with the fewest live connections (beyond 16 endpoints, that of two drawn at
    /// random); RoundRobin takes one after the other; ConsistentHash sends what has the same key to the same endpoint.
    #[serde(default)]
    pub policy: LoadBalancingPolicy,
    /// What the key of ConsistentHash is. Default: the client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_on: Option<HashOn>,
    /// The chance of an endpoint that has just become ready to be considered for a connection grows from nothing to
    /// that of the others over so long. 0s: it is considered at once. At most 1h; ConsistentHash has no slow start.
    #[serde(default = "default_slow_start")]
    pub slow_start: Duration,
    /// What becomes of open connections when there are more endpoints than before.
    #[serde(default)]
    pub rebalance: Rebalance,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancingPolicy {
    /// The endpoint with the fewest live connections.
    #[default]
    LeastConnections,
    /// One after the other.
    RoundRobin,
    /// By a key of the request; when endpoints come or go, only the keys of those move.
    ConsistentHash,
}

/// The key of a request. One without it goes to the endpoint with the fewest connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.name) == (self.source != 'ClientIP')")
        .message("name says which header, cookie or query parameter; with source: ClientIP there is none"),
    validation = Rule::new("!has(self.name) || self.source == 'QueryParam' || self.name.matches(\"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$\")")
        .message("the name of a header or cookie has no spaces and no separators")
)]
pub struct HashOn {
    /// Where it is.
    pub source: HashSource,
    /// Name of the header (in any case), cookie or query parameter (percent-decoded). The first of that name counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
}

/// Where the key of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HashSource {
    /// The client's address: the peer's or, behind trusted proxies, the one in X-Forwarded-For.
    #[serde(rename = "ClientIP")]
    ClientIp,
    /// A header's value.
    Header,
    /// A cookie's value.
    Cookie,
    /// A query parameter's value.
    QueryParam,
}

/// How open connections are moved to endpoints that have fewer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rebalance {
    /// Most connections that are closed in a minute so that their clients come back to an endpoint with fewer, in per cent
    /// of the rule's live connections at the backend. 0: none is.
    #[serde(default)]
    #[schemars(with = "i32", range(min = 0, max = 100))]
    pub max_percent_per_minute: u8,
}

/// What happens where an endpoint cannot be reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Most endpoints that are tried for one request, all within timeouts.connect. Another one is tried only where the
    /// connection to the one before failed, so before anything was sent. 1: no other is.
    #[serde(default = "default_connect_attempts")]
    #[schemars(with = "i32", range(min = 1, max = 10))]
    pub connect_attempts: u8,
}

impl Default for LoadBalancing {
    fn default() -> Self {
        Self {
            policy: LoadBalancingPolicy::default(),
            hash_on: None,
            slow_start: default_slow_start(),
            rebalance: Rebalance::default(),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { connect_attempts: default_connect_attempts() }
    }
}

const fn default_slow_start() -> Duration {
    Duration::from_secs(30)
}

const fn default_connect_attempts() -> u8 {
    3
}
