//! What is made: routes, Services and Secrets, each with the notes that concern it. [`super::yaml`] writes it.
//!
//! Only what the source says stands in a draft; what is absent is left to the defaults of the resource.

use std::collections::BTreeSet;

use tidegate_api::{Duration, HashSource, Hsts, LoadBalancingPolicy, Plaintext};

use super::{
    nginx::parse::Place,
    notes::{Note, NoteKind},
    paths::Path,
};

/// The most hostnames, rules, matches and backends that a route may have, by the schema of the resource.
pub const MOST: usize = 16;

/// All that came of the sources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imported {
    /// WebSocketRoutes, in the order of the sources.
    pub routes: Vec<Route>,
    /// Services without a selector, with their addresses.
    pub services: Vec<Service>,
    /// Secrets with certificates, where they were asked for.
    pub secrets: Vec<Secret>,
    /// What concerns none of these alone.
    pub notes: Vec<Note>,
    /// What could not be read.
    pub unreadable: Vec<String>,
}

/// A WebSocketRoute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `spec.className`.
    pub class: Option<String>,
    /// `spec.hostnames`.
    pub hostnames: Vec<String>,
    /// `spec.tls`.
    pub tls: Option<Tls>,
    /// `spec.plaintext`.
    pub plaintext: Plaintext,
    /// `spec.rules`.
    pub rules: Vec<Rule>,
    /// Where it comes from.
    pub origin: Vec<Place>,
    /// What concerns the route as a whole.
    pub notes: Vec<Note>,
}

/// The certificate of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// `secretName`.
    pub secret: String,
    /// Whether `minVersion` is 1.3.
    pub only_1_3: bool,
    /// `hsts`.
    pub hsts: Option<Hsts>,
}

/// A rule of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `name`.
    pub name: String,
    /// `matches`.
    pub matches: Vec<Match>,
    /// `backendRefs`.
    pub backends: Vec<Backend>,
    /// Timeouts and balancing.
    pub policy: Policy,
    /// Whether `http` is Forward.
    pub forward: bool,
    /// Where it comes from.
    pub origin: Option<Place>,
    /// What concerns it.
    pub notes: Vec<Note>,
}

/// One of the `matches` of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// `path`.
    pub path: Path,
}

/// One of the `backendRefs` of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// `name`.
    pub service: String,
    /// `port`.
    pub port: u16,
    /// `weight`; 1 is not written.
    pub weight: u32,
    /// `tls`.
    pub tls: Option<BackendTls>,
}

/// How a backend's certificate is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackendTls {
    /// Kind and name of the object that holds the authority; without it any certificate is taken.
    pub authority: Option<(&'static str, String)>,
    /// `hostname`.
    pub hostname: Option<String>,
}

/// What a rule says of its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `timeouts.connect`.
    pub connect: Option<Duration>,
    /// `timeouts.upgrade`.
    pub upgrade: Option<Duration>,
    /// `timeouts.idle`.
    pub idle: Option<Duration>,
    /// `timeouts.writeStall`.
    pub write_stall: Option<Duration>,
    /// `loadBalancing.policy`.
    pub balancing: Option<LoadBalancingPolicy>,
    /// `loadBalancing.hashOn`.
    pub hash_on: Option<(HashSource, Option<String>)>,
    /// `loadBalancing.slowStart`.
    pub slow_start: Option<Duration>,
}

/// A Service without a selector, and its EndpointSlices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// Its one port.
    pub port: u16,
    /// Whether its endpoints speak TLS.
    pub tls: bool,
    /// Where they are.
    pub addresses: BTreeSet<(std::net::IpAddr, u16)>,
    /// Where it comes from.
    pub origin: Option<Place>,
    /// What concerns it.
    pub notes: Vec<Note>,
}

/// A Secret of type kubernetes.io/tls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// The certificate chain, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

impl Imported {
    /// All notes, in the order of the sources.
    pub fn all_notes(&self) -> Vec<&Note> {
        let mut notes: Vec<_> = self.notes.iter().collect();
        for route in &self.routes {
            notes.extend(&route.notes);
            notes.extend(route.rules.iter().flat_map(|rule| &rule.notes));
        }
        notes.extend(self.services.iter().flat_map(|service| &service.notes));
        notes.sort_by(|a, b| {
            let key = |note: &Note| {
                (note.place.clone(), note.kind, note.text.clone(), note.reason.clone())
            };
            key(a).cmp(&key(b))
        });
        // A route that had to be cut in two has its notes twice.
        notes.dedup();
        notes
    }

    /// Whether something of the sources has no counterpart.
    pub fn has_losses(&self) -> bool {
        self.all_notes().iter().any(|note| note.kind.is_loss())
    }

    /// Adds a note that concerns no object alone.
    pub fn note(&mut self, kind: NoteKind, place: &Place, text: &str, reason: impl Into<String>) {
        self.notes.push(note(kind, place, text, reason));
    }

    /// Cuts what is more than a route may have, gives equal names a number, and takes out Services that no rule names.
    pub(super) fn finish(&mut self) {
        let routes = std::mem::take(&mut self.routes);
        for route in routes {
            for hostnames in route.hostnames.chunks(MOST) {
                for rules in route.rules.chunks(MOST) {
                    self.routes.push(Route {
                        hostnames: hostnames.to_vec(),
                        rules: rules.to_vec(),
                        ..route.clone()
                    });
                }
            }
        }
        let mut taken = BTreeSet::new();
        for route in &mut self.routes {
            route.name = unique(&route.name, |name| {
                taken.insert((route.namespace.clone(), name.to_owned()))
            });
            let mut names = BTreeSet::new();
            for rule in &mut route.rules {
                rule.name = unique(&rule.name, |name| names.insert(name.to_owned()));
            }
        }
        let named: BTreeSet<_> = self
            .routes
            .iter()
            .flat_map(|route| &route.rules)
            .flat_map(|rule| &rule.backends)
            .map(|backend| backend.service.clone())
            .collect();
        self.services.retain(|service| named.contains(&service.name));
    }
}

/// A note.
pub fn note(kind: NoteKind, place: &Place, text: &str, reason: impl Into<String>) -> Note {
    Note { kind, place: place.clone(), text: text.to_owned(), reason: reason.into() }
}

/// `wanted`, or with a number behind it the first that can be taken.
pub fn unique(wanted: &str, mut take: impl FnMut(&str) -> bool) -> String {
    if take(wanted) {
        return wanted.to_owned();
    }
    let mut number = 2;
    loop {
        let stem: String = wanted.chars().take(55).collect();
        let name = format!("{}-{number}", stem.trim_end_matches('-'));
        if take(&name) {
            return name;
        }
        number += 1;
    }
}

/// A name for an object: DNS label of what is in `text` (RFC 1035 §2.3.1), which begins with a letter.
pub fn label(text: &str, otherwise: &str) -> String {
    let mut name = String::new();
    for next in text.to_lowercase().chars() {
        let next = if next.is_ascii_alphanumeric() { next } else { '-' };
        if next != '-' || !(name.is_empty() || name.ends_with('-')) {
            name.push(next);
        }
    }
    name.truncate(56);
    let name = name.trim_end_matches('-');
    match name.chars().next() {
        None => otherwise.to_owned(),
        Some(first) if first.is_ascii_digit() => {
            format!("{otherwise}-{name}").chars().take(63).collect()
        }
        Some(_) => name.to_owned(),
    }
}

/// Whether a text can be a hostname of a route, `*.` at its front included.
pub fn is_hostname(name: &str) -> bool {
    let part = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let labels = name.strip_prefix("*.").unwrap_or(name);
    name.len() <= 253
        && labels.split('.').all(part)
        && name.parse::<std::net::IpAddr>().is_err()
        && !is_dotted_quad(name)
}

/// Four numbers with dots, in range or not: the resource takes none for a name.
fn is_dotted_quad(name: &str) -> bool {
    let mut parts = 0;
    name.split('.').all(|part| {
        parts += 1;
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
    }) && parts == 4
}
