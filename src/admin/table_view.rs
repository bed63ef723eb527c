//! The routing table as JSON, for people who ask what is served now. Certificates by name; no keys.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::table::{Backend, Endpoint, PathKind, Published, RouteEntry, Solver, SolverKey};

/// The table as indented JSON with a final newline.
pub(super) fn render(published: &Published) -> String {
    let hosts: Vec<Value> = published
        .table
        .hosts()
        .into_iter()
        .map(|host| {
            let mut entries: Vec<&RouteEntry> = host.entries().collect();
            entries.sort_by(|a, b| (&a.key.path, &a.rule.route).cmp(&(&b.key.path, &b.rule.route)));
            json!({
                "hostname": host.pattern,
                "owner": host.owner,
                "admitted": host.admitted,
                "certificate": host.tls.as_ref().map(|tls| json!({
                    "secret": tls.secret.to_string(),
                    "notAfter": tls.not_after,
                })),
                "strictTransportSecurity": host.hsts.as_ref().and_then(|value| value.to_str().ok()),
                "matches": entries.into_iter().map(entry).collect::<Vec<_>>(),
            })
        })
        .collect();
    let reserved = published.table.reserved();
    let reserved: Vec<Value> = reserved
        .into_iter()
        .map(|(hostname, owner)| json!({"hostname": hostname, "owner": owner}))
        .collect();
    let solvers: Vec<Value> = published.table.solvers().iter().map(solver).collect();
    let view = json!({
        "generation": published.generation,
        "hosts": hosts,
        "reserved": reserved,
        "acmeSolvers": solvers,
    });
    format!("{view:#}\n")
}

fn entry(entry: &RouteEntry) -> Value {
    let (key, rule) = (&entry.key, &entry.rule);
    json!({
        "path": if key.path.is_empty() { "/" } else { &*key.path },
        "pathType": match key.kind { PathKind::Prefix => "Prefix", PathKind::Exact => "Exact" },
        "headers": key.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        "queryParams": key.query.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "subprotocols": key.subprotocols,
        "route": rule.route.to_string(),
        "rule": rule.name,
        "plaintext": format!("{:?}", rule.plaintext),
        "http": format!("{:?}", rule.http),
        "timeouts": {
            "connect": rule.timeouts.connect.as_secs_f64(),
            "upgrade": rule.timeouts.upgrade.as_secs_f64(),
            "idle": seconds(rule.timeouts.idle),
            "maxDuration": seconds(rule.timeouts.max_duration),
            "maxDurationJitter": rule.timeouts.max_duration_jitter,
            "writeStall": seconds(rule.timeouts.write_stall),
            "close": rule.timeouts.close.as_secs_f64(),
        },
        "keepalive": {
            "clientPing": seconds(rule.keepalive.client_ping),
            "backendPing": seconds(rule.keepalive.backend_ping),
            "pongTimeout": rule.keepalive.pong_timeout.as_secs_f64(),
        },
        "frames": format!("{:?}", rule.frames),
        "limits": {
            "maxMessageBytes": rule.limits.max_message_bytes,
            "messagesPerSecond": rule.limits.messages_per_second,
        },
        "loadBalancing": {
            "policy": format!("{:?}", rule.load_balancing.policy),
            "slowStart": seconds(rule.load_balancing.slow_start),
            "rebalancePercentPerMinute": rule.load_balancing.rebalance_percent,
        },
        "connectAttempts": rule.connect_attempts,
        "drain": {
            "closeCode": rule.drain.close_code,
            "onRouteRemoved": format!("{:?}", rule.drain.on_route_removed),
            "onEndpointTerminating": format!("{:?}", rule.drain.on_endpoint_terminating),
            "spread": rule.drain.spread.as_secs_f64(),
        },
        "backends": rule.backends.iter().map(backend).collect::<Vec<_>>(),
    })
}

fn solver((key, solver): (SolverKey, &Arc<Solver>)) -> Value {
    json!({
        "domain": key.domain,
        "token": key.token,
        "service": solver.service.to_string(),
        "endpoints": solver.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// Seconds, or null for no limit.
fn seconds(limit: Option<Duration>) -> Option<f64> {
    limit.map(|limit| limit.as_secs_f64())
}

fn backend(backend: &Backend) -> Value {
    json!({
        "service": backend.service.to_string(),
        "port": backend.port,
        "weight": backend.weight,
        "tls": backend.tls.is_some(),
        "endpoints": backend.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn endpoint(endpoint: &Endpoint) -> Value {
    json!({
        "address": endpoint.address.to_string(),
        "state": format!("{:?}", endpoint.state),
        "local": endpoint.local,
    })
}
