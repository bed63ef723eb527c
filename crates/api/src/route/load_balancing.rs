//! What a rule says about the endpoint that a new connection goes to, and about endpoints that cannot be reached.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// How to choose the endpoint of a backend for a new connection. Weights decide between backendRefs.
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
    /// LeastConnections takes the endpoint with the fewest live connections. With more than 16 endpoints, it draws two
    /// at random and takes the one with fewer. RoundRobin takes the endpoints in turn. ConsistentHash sends requests
    /// with the same key to the same endpoint.
    #[serde(default)]
    pub policy: LoadBalancingPolicy,
    /// The key of ConsistentHash. Default: the client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_on: Option<HashOn>,
    /// How long an endpoint that has just become ready takes to reach its full share. Its chance of being considered
    /// for a new connection grows evenly, from zero to that of the others. 0s: full share immediately. At most 1h.
    /// ConsistentHash has no slow start.
    #[serde(default = "default_slow_start")]
    pub slow_start: Duration,
    /// Whether to move open connections to endpoints with fewer connections, for example after a scale-out.
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
    /// By a key of the request. When an endpoint comes or goes, only its own keys move.
    ConsistentHash,
}

/// The key of a request. A request without it goes to the endpoint with the fewest connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.name) == (self.source != 'ClientIP')")
        .message("name says which header, cookie or query parameter; with source: ClientIP there is none"),
    validation = Rule::new("!has(self.name) || self.source == 'QueryParam' || self.name.matches(\"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$\")")
        .message("the name of a header or cookie has no spaces and no separators")
)]
pub struct HashOn {
    /// Where the key is in the request.
    pub source: HashSource,
    /// Name of the header (case does not matter), cookie or query parameter (percent-decoded). If the name occurs more
    /// than once, the first value counts.
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
    /// Maximum percentage of the rule's live connections at a backend that the gateway closes each minute. Their
    /// clients connect again, to endpoints with fewer connections. 0: none.
    #[serde(default)]
    #[schemars(with = "i32", range(min = 0, max = 100))]
    pub max_percent_per_minute: u8,
}

/// What happens if an endpoint cannot be reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Maximum number of endpoints to try for one request, all within timeouts.connect. The gateway tries another one
    /// only if the connection to the previous one fails, so before it has sent anything. 1: try no other.
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
