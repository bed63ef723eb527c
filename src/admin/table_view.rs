//! The routing table as JSON, page by page, for people who ask what is served now. Certificates by name; no keys.
//!
//! A page is a number of matches, not of bytes or hosts: one host may have thousands. It is written match by match, so that never more of
//! it is in memory than its reader is about to take.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};

use crate::table::{
    Backend, Endpoint, PathKind, RouteEntry, RoutingTable, Solver, SolverKey, TableVersion,
    VirtualHost,
};

/// Matches of a page, unless asked otherwise.
const MATCHES: usize = 100;
/// The most that may be asked for.
const MOST_MATCHES: usize = 1_000;
/// Bytes of a part, at least, but for the last one.
const PART: usize = 16 << 10;

/// Which page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The hostname that alone is asked about.
    host: Option<String>,
    after: Option<Cursor>,
    limit: usize,
}

/// The place of a match.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    host: String,
    /// How many of its matches have been told.
    matches: usize,
}

impl Cursor {
    /// Of `chat.example.com`, all of which has been told, or of `chat.example.com:100`.
    fn of(text: &str) -> Option<Self> {
        let (host, matches) = match text.rsplit_once(':') {
            Some((host, matches)) => (host, matches.parse().ok()?),
            None => (text, usize::MAX),
        };
        Some(Self { host: host.to_ascii_lowercase(), matches })
    }
}

impl Wanted {
    /// What a query asks for, or what is wrong with it.
    pub(super) fn of(query: Option<&str>) -> Result<Self, &'static str> {
        const USAGE: &str = "The query takes host=NAME, limit=1 to 1000, and after= as the page before says in \"next\".\n";
        let mut wanted = Self { host: None, after: None, limit: MATCHES };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(USAGE)?;
            let value = percent_decode_str(value).decode_utf8().map_err(|_| USAGE)?;
            match key {
                "host" => wanted.host = Some(value.to_ascii_lowercase()),
                "after" => wanted.after = Some(Cursor::of(&value).ok_or(USAGE)?),
                "limit" => {
                    let limit =
                        value.parse().ok().filter(|limit| (1..=MOST_MATCHES).contains(limit));
                    wanted.limit = limit.ok_or(USAGE)?;
                }
                _ => return Err(USAGE),
            }
        }
        Ok(wanted)
    }

    /// Whether it asks about a hostname that nothing serves.
    pub(super) fn names_nobody(&self, table: &RoutingTable) -> bool {
        self.host.as_ref().is_some_and(|host| table.host(host).is_none())
    }

    /// What asks for the page that follows.
    fn next(&self, last: &Cursor) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let after = encoded(&format!("{}:{}", last.host, last.matches));
        let host = self.host.as_ref().map(|host| format!("host={}&", encoded(host)));
        format!("/debug/table?{}limit={}&after={after}", host.unwrap_or_default(), self.limit)
    }
}

/// A page of a table.
pub(super) struct Page {
    published: Arc<TableVersion>,
    hosts: Vec<Section>,
    /// What asks for the next one.
    next: Option<String>,
}

/// The matches of a host that are on a page.
struct Section {
    host: Arc<VirtualHost>,
    skip: usize,
    take: usize,
}

impl Page {
    /// The page that is asked for.
    pub(super) fn of(published: Arc<TableVersion>, wanted: &Wanted) -> Self {
        let table = &published.table;
        let mut hosts: Vec<_> = match &wanted.host {
            Some(host) => table.host(host).into_iter().collect(),
            None => table.hosts(),
        };
        let order = |pattern: &str| (pattern.starts_with('*'), pattern.to_owned());
        if let Some(after) = &wanted.after {
            let after = order(&after.host);
            hosts.retain(|host| order(&host.pattern) >= after);
        }
        let (mut sections, mut left, mut next) = (Vec::new(), wanted.limit, None);
        for host in hosts {
            let all = host.entries().count();
            let told = match &wanted.after {
                Some(after) if *after.host == *host.pattern => after.matches,
                _ => 0,
            };
            if all > 0 && told >= all || all == 0 && told > 0 {
                continue;
            }
            if left == 0 {
                next = sections.last().map(|Section { host, skip, take }: &Section| {
                    wanted.next(&Cursor { host: host.pattern.to_string(), matches: skip + take })
                });
                break;
            }
            let take = left.min(all - told);
            // One that has no matches takes a place as well.
            left -= take.max(1).min(left);
            let more = told + take < all;
            sections.push(Section { host: Arc::clone(host), skip: told, take });
            if more {
                let (host, matches) = (host.pattern.to_string(), told + take);
                next = Some(wanted.next(&Cursor { host, matches }));
                break;
            }
        }
        Self { hosts: sections, next, published }
    }

    /// Writes it part by part, until `write` says no.
    pub(super) fn write(&self, write: &mut dyn FnMut(Bytes) -> bool) {
        let mut parts = Parts { text: String::new(), write, open: true };
        parts.add(&format!("{{\n\"generation\": {},\n\"hosts\": [", self.published.generation));
        for (index, section) in self.hosts.iter().enumerate() {
            parts.add(if index == 0 { "\n" } else { ",\n" });
            section.write(&mut parts);
        }
        parts.add("\n],\n\"reserved\": [");
        // They come with the last page, as the solvers do.
        let reserved = self.next.is_none().then(|| self.published.table.reserved());
        for (index, (hostname, owner)) in reserved.into_iter().flatten().enumerate() {
            parts.add(if index == 0 { "\n" } else { ",\n" });
            parts.add(&json!({"hostname": hostname, "owner": owner}).to_string());
        }
        parts.add("\n],\n\"acmeSolvers\": [");
        let solvers = self.next.is_none().then(|| self.published.table.solvers().iter());
        for (index, found) in solvers.into_iter().flatten().enumerate() {
            parts.add(if index == 0 { "\n" } else { ",\n" });
            parts.add(&solver(found).to_string());
        }
        parts.add(&format!("\n],\n\"next\": {}\n}}\n", json!(self.next)));
        parts.flush();
    }
}

impl Section {
    fn write(&self, parts: &mut Parts<'_>) {
        let Self { host, skip, take } = self;
        let head = json!({
            "hostname": host.pattern,
            "owner": host.owner,
            "admitted": host.admitted,
            "certificate": host.tls.as_ref().map(|tls| json!({
                "secret": tls.secret.to_string(),
                "notAfter": tls.not_after,
            })),
            "strictTransportSecurity": host.hsts.as_ref().and_then(|value| value.to_str().ok()),
        });
        let head = head.to_string();
        // An object, to which the matches are added.
        parts.add(head.strip_suffix('}').unwrap_or(&head));
        parts.add(", \"matches\": [");
        let mut entries: Vec<&RouteEntry> = host.entries().collect();
        entries.sort_by(|a, b| (&a.key.path, &a.rule.route).cmp(&(&b.key.path, &b.rule.route)));
        for (index, found) in entries.into_iter().skip(*skip).take(*take).enumerate() {
            if !parts.open {
                return;
            }
            parts.add(if index == 0 { "\n" } else { ",\n" });
            parts.add(&entry(found).to_string());
        }
        parts.add("\n]}");
    }
}

/// Text on its way, handed over in parts.
struct Parts<'a> {
    text: String,
    write: &'a mut dyn FnMut(Bytes) -> bool,
    /// Whether somebody still takes it.
    open: bool,
}

impl Parts<'_> {
    fn add(&mut self, text: &str) {
        if self.open {
            self.text.push_str(text);
            if self.text.len() >= PART {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if self.open && !self.text.is_empty() {
            self.open = (self.write)(std::mem::take(&mut self.text).into());
        }
    }
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
            "framesPerSecond": rule.limits.frames_per_second,
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

#[cfg(test)]
mod tests;
