//! What a rule says about the endpoint that a connection goes to: judged, and with every default resolved.
//!
//! The judgements are those of the CRD, for files and for objects stored under an older schema.

use std::time::Duration;

use http::HeaderName;
use tidegate_api::{HashSource, LoadBalancingPolicy, RouteRule};
use tidegate_table::{HashOn, LoadBalancing, Policy};

/// The longest slow start. What the gateway remembers of new endpoints is bounded by it.
const MAX_SLOW_START: Duration = Duration::from_secs(3600);
/// Most endpoints that are tried for one request.
const MAX_ATTEMPTS: u8 = 10;

/// Looks for what can never work; the first such thing in a sentence that begins with its field in the rule.
pub(super) fn check(rule: &RouteRule) -> Result<(), String> {
    balance(&rule.load_balancing).map_err(|fault| format!(".loadBalancing.{fault}"))?;
    match rule.retry.connect_attempts {
        1..=MAX_ATTEMPTS => Ok(()),
        attempts => Err(format!(
            ".retry.connectAttempts: is {attempts}. Give 1, for no other endpoint than the first, to {MAX_ATTEMPTS}."
        )),
    }
}

fn balance(spec: &tidegate_api::LoadBalancing) -> Result<(), String> {
    let hashes = spec.policy == LoadBalancingPolicy::ConsistentHash;
    if let Some(hash_on) = &spec.hash_on {
        if !hashes {
            return Err(format!(
                "hashOn: is set, but policy is {:?}, which hashes nothing. Set policy: ConsistentHash, or remove hashOn.",
                spec.policy
            ));
        }
        resolve_hash_on(hash_on)?;
    }
    if spec.slow_start.get() > MAX_SLOW_START {
        return Err(format!("slowStart: {} is longer than 1h, the longest.", spec.slow_start));
    }
    match spec.rebalance.max_percent_per_minute {
        0 => Ok(()),
        percent @ 101.. => Err(format!(
            "rebalance.maxPercentPerMinute: {percent} is more than the whole. Give per cent, 0 to 100."
        )),
        _ if hashes => Err(
            "rebalance.maxPercentPerMinute: does not go with policy ConsistentHash: a client that is moved would \
             come back to the same endpoint. Write 0, or choose another policy."
                .into(),
        ),
        _ => Ok(()),
    }
}

/// The key of a request, or what is wrong with it.
fn resolve_hash_on(spec: &tidegate_api::HashOn) -> Result<HashOn, String> {
    let HashSource::ClientIp = spec.source else {
        let name =
            spec.name.as_deref().filter(|name| !name.is_empty()).ok_or_else(|| {
                format!("hashOn.name: is missing. Name the {}.", called(spec.source))
            })?;
        // Names of cookies are tokens, as those of headers are (RFC 6265 §4.1.1), but case counts.
        let token = HeaderName::from_bytes(name.as_bytes());
        return match (spec.source, token) {
            (HashSource::QueryParam, _) => Ok(HashOn::QueryParam(name.into())),
            (HashSource::Cookie, Ok(_)) => Ok(HashOn::Cookie(name.into())),
            (_, Ok(header)) => Ok(HashOn::Header(header)),
            (source, Err(_)) => {
                Err(format!("hashOn.name: {name:?} can be no name of a {}.", called(source)))
            }
        };
    };
    match &spec.name {
        None => Ok(HashOn::ClientIp),
        Some(name) => Err(format!(
            "hashOn.name: is {name:?}, but source ClientIP has none. Remove it, or correct the source."
        )),
    }
}

const fn called(source: HashSource) -> &'static str {
    match source {
        HashSource::ClientIp => "client",
        HashSource::Header => "header",
        HashSource::Cookie => "cookie",
        HashSource::QueryParam => "query parameter",
    }
}

/// The way endpoints are chosen, of a rule that was checked.
pub(super) fn resolve(spec: &tidegate_api::LoadBalancing) -> LoadBalancing {
    let hash_on = || spec.hash_on.as_ref().and_then(|hash_on| resolve_hash_on(hash_on).ok());
    LoadBalancing {
        policy: match spec.policy {
            LoadBalancingPolicy::LeastConnections => Policy::LeastConnections,
            LoadBalancingPolicy::RoundRobin => Policy::RoundRobin,
            LoadBalancingPolicy::ConsistentHash => {
                Policy::ConsistentHash(hash_on().unwrap_or(HashOn::ClientIp))
            }
        },
        slow_start: spec.slow_start.limit(),
        rebalance_percent: spec.rebalance.max_percent_per_minute,
    }
}
