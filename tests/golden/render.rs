//! From an output to the text of an answer.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use tidegate::{
    api::RouteAddress,
    table::{
        self, HttpMode, MatchKey, PathKind, Plaintext, Rule, Verification, VirtualHost,
        WildcardCertificate,
    },
    translate::{Output, Problem, RouteStatus},
};

pub(crate) fn render(output: &Output) -> String {
    let answer = Answer {
        hosts: output.table.hosts().into_iter().map(|host| Host::of(host)).collect(),
        reserved: output
            .table
            .reserved()
            .into_iter()
            .map(|(name, owner)| (name, owner.unwrap_or("nobody").to_owned()))
            .collect(),
        solvers: output
            .table
            .solvers()
            .iter()
            .map(|(key, solver)| Solver::of(key, solver))
            .collect(),
        statuses: output.statuses.iter().map(|(route, status)| Status::of(route, status)).collect(),
        problems: output.problems.iter().map(Problem::to_string).collect(),
    };
    serde_saphyr::to_string(&answer).expect("answers are plain data")
}

#[derive(Serialize)]
struct Answer {
    hosts: Vec<Host>,
    /// Names that are not served, with their owners.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    reserved: BTreeMap<String, String>,
    /// In the order in which they are asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    solvers: Vec<Solver>,
    statuses: Vec<Status>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Host {
    hostname: String,
    /// Where it is not plain from the entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    admitted: Vec<String>,
    certificate: String,
    #[serde(rename = "Strict-Transport-Security", skip_serializing_if = "Option::is_none")]
    hsts: Option<String>,
    /// Of one path in the order in which they are tried.
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    #[serde(rename = "match")]
    key: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subprotocols: Vec<String>,
    rule: String,
    serves: String,
    /// What of the rest is not the default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    with: Vec<String>,
    backends: Vec<Backend>,
}

#[derive(Serialize)]
struct Backend {
    service: String,
    weight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<String>,
    endpoints: Vec<String>,
}

/// Who answers ACME's challenges for a name and a token.
#[derive(Serialize)]
struct Solver {
    domain: u32,
    token: u32,
    service: String,
    endpoints: Vec<String>,
}

#[derive(Serialize)]
struct Status {
    route: String,
    #[serde(rename = "observedGeneration", skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hostnames: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<RouteAddress>,
    conditions: BTreeMap<&'static str, Condition>,
}

#[derive(Serialize)]
struct Condition {
    is: String,
    message: String,
}

impl Host {
    fn of(host: &VirtualHost) -> Self {
        let mut entries: Vec<_> = host.entries().collect();
        // Stable: entries of one path stay in the order of precedence.
        entries.sort_by(|a, b| {
            let order = |key: &MatchKey| (key.kind == PathKind::Prefix, key.path.clone());
            order(&a.key).cmp(&order(&b.key))
        });
        let hsts = host.hsts.as_ref();
        Self {
            hsts: hsts.map(|value| value.to_str().expect("it is visible ASCII").to_owned()),
            hostname: host.pattern.to_string(),
            owner: host
                .entries()
                .any(|entry| entry.rule.route.namespace != *host.owner)
                .then(|| host.owner.to_string()),
            admitted: host.admitted.iter().map(ToString::to_string).collect(),
            certificate: match (&host.tls, host.wildcard_certificate) {
                (Some(identity), _) => format!("Secret {}", identity.secret),
                (None, WildcardCertificate::Shown) => "self-made".into(),
                (None, WildcardCertificate::Withheld) => "self-made, not the wildcard's".into(),
            },
            entries: entries.into_iter().map(|entry| Entry::of(&entry.key, &entry.rule)).collect(),
        }
    }
}

impl Solver {
    fn of(key: table::SolverKey, solver: &table::Solver) -> Self {
        Self {
            domain: key.domain,
            token: key.token,
            service: solver.service.to_string(),
            endpoints: solver.endpoints.iter().map(endpoint).collect(),
        }
    }
}

impl Entry {
    fn of(key: &MatchKey, rule: &Rule) -> Self {
        let path = match key.kind {
            PathKind::Exact => format!("Exact {}", key.path),
            PathKind::Prefix => format!("Prefix {}/", key.path),
        };
        let value =
            |value: &http::HeaderValue| value.to_str().expect("cases have ASCII").to_owned();
        Self {
            key: path,
            headers: key
                .headers
                .iter()
                .map(|(name, wanted)| (name.to_string(), value(wanted)))
                .collect(),
            query: key.query.iter().cloned().collect(),
            subprotocols: key.subprotocols.clone(),
            rule: format!("{} rule {}", rule.route, rule.name),
            serves: serves(rule),
            with: with(rule),
            backends: rule.backends.iter().map(Backend::of).collect(),
        }
    }
}

fn serves(rule: &Rule) -> String {
    let plaintext = match rule.plaintext {
        Plaintext::Refuse => "ws:// refused",
        Plaintext::Redirect => "ws:// redirected",
        Plaintext::Allow => "ws:// allowed",
    };
    let http = match rule.http {
        HttpMode::Refuse => "plain HTTP refused",
        HttpMode::Forward => "plain HTTP forwarded",
    };
    let table::Timeouts { connect, upgrade, idle, .. } = rule.timeouts;
    let idle = or_never(idle);
    format!("{plaintext}, {http}; connect {connect:?}, upgrade {upgrade:?}, idle {idle}")
}

/// What a rule that says nothing about it would not have, each by its name in the resource.
fn with(rule: &Rule) -> Vec<String> {
    let table::Timeouts { max_duration, max_duration_jitter, write_stall, close, .. } =
        rule.timeouts;
    let table::Keepalive { client_ping, backend_ping, pong_timeout } = rule.keepalive;
    let table::Drain { close_code, on_route_removed, on_endpoint_terminating, spread } = rule.drain;
    // The patience is the same for all.
    let table::Limits { max_message_bytes, messages_per_second, patience: _ } = rule.limits;
    let all = [
        ("maxDuration", or_never(max_duration), "never"),
        ("maxDurationJitter", max_duration_jitter.to_string(), "10"),
        ("writeStall", or_never(write_stall), "30s"),
        ("close", format!("{close:?}"), "5s"),
        ("clientPing", or_never(client_ping), "30s"),
        ("backendPing", or_never(backend_ping), "never"),
        ("pongTimeout", format!("{pong_timeout:?}"), "20s"),
        ("frames", format!("{:?}", rule.frames), "Strict"),
        ("maxMessageBytes", or_any(max_message_bytes), "any"),
        ("messagesPerSecond", or_any(messages_per_second), "any"),
        ("policy", policy(&rule.load_balancing.policy), "LeastConnections"),
        ("slowStart", or_never(rule.load_balancing.slow_start), "30s"),
        ("rebalance", format!("{} %/min", rule.load_balancing.rebalance_percent), "0 %/min"),
        ("connectAttempts", rule.connect_attempts.to_string(), "3"),
        ("closeCode", close_code.to_string(), "1012"),
        ("onRouteRemoved", format!("{on_route_removed:?}"), "Keep"),
        ("onEndpointTerminating", format!("{on_endpoint_terminating:?}"), "Keep"),
        ("spread", format!("{spread:?}"), "20s"),
    ];
    let different = all.into_iter().filter(|(_, value, default)| value != default);
    different.map(|(name, value, _)| format!("{name} {value}")).collect()
}

fn policy(policy: &table::Policy) -> String {
    match policy {
        table::Policy::LeastConnections => "LeastConnections".into(),
        table::Policy::RoundRobin => "RoundRobin".into(),
        table::Policy::ConsistentHash(hash_on) => format!("ConsistentHash on {hash_on:?}"),
    }
}

fn or_never(limit: Option<Duration>) -> String {
    limit.map_or_else(|| "never".into(), |limit| format!("{limit:?}"))
}

fn or_any(limit: Option<impl ToString>) -> String {
    limit.map_or_else(|| "any".into(), |limit| limit.to_string())
}

impl Backend {
    fn of(backend: &table::Backend) -> Self {
        Self {
            service: format!("{}:{}", backend.service, backend.port),
            weight: backend.weight,
            tls: backend.tls.as_ref().map(|tls| {
                let name = tls.server_name.to_str();
                match &tls.verification {
                    Verification::Authorities(list) => {
                        format!("{name}, signed by one of {}", list.len())
                    }
                    Verification::Skip => format!("{name}, not verified"),
                }
            }),
            endpoints: backend.endpoints.iter().map(endpoint).collect(),
        }
    }
}

fn endpoint(endpoint: &table::Endpoint) -> String {
    let zone = if endpoint.local { "" } else { ", for another zone" };
    match endpoint.state {
        table::EndpointState::Ready => format!("{}{zone}", endpoint.address),
        state => format!("{}, {state:?}{zone}", endpoint.address),
    }
}

impl Status {
    fn of(route: &table::ObjectRef, status: &RouteStatus) -> Self {
        let conditions = status.conditions.iter().map(|condition| {
            let is = if condition.status { "True" } else { "False" };
            let text = Condition {
                is: format!("{is}, {}", condition.reason),
                message: condition.message.clone(),
            };
            (condition.kind.as_str(), text)
        });
        Self {
            route: route.to_string(),
            generation: status.observed_generation,
            hostnames: status.hostnames.clone(),
            addresses: status.addresses.clone().unwrap_or_default(),
            conditions: conditions.collect(),
        }
    }
}
