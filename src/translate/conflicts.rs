//! Who gets a match, and whose certificate a hostname shows, among the routes that take part in a hostname: those of its owner
//! first, then the older route, then the one whose `namespace/name` comes first.
//!
//! Routes are placed in that order, so whatever is taken stays taken.

use std::{
    collections::{BTreeMap, HashMap, hash_map},
    fmt::Write as _,
    sync::Arc,
};

use http::HeaderValue;

use super::{
    ownership::Ownership,
    routes::{CheckedRoute, CheckedRule},
    status,
};
use crate::{
    api::TlsVersion,
    table::{MatchKey, ObjectRef, PathKind, RouteEntry, Rule, TlsIdentity, VirtualHost},
};

/// A winner of another namespace. Its name may be unknown to who reads this, and is to stay so.
const FOREIGN: &str = "a route of another namespace, which has precedence (the owner of the hostname, or older, or first by name)";

/// All hostnames, as they fill up.
#[derive(Default)]
pub(super) struct Hosts<'a> {
    hosts: BTreeMap<&'a str, Host>,
}

#[derive(Default)]
struct Host {
    entries: Vec<RouteEntry>,
    /// Who holds a match: the route, and the index of the rule in its spec.
    holders: HashMap<MatchKey, (ObjectRef, usize)>,
    /// Whose certificate is shown.
    certificate: Option<(ObjectRef, Claim)>,
    /// Whose `Strict-Transport-Security` is sent.
    hsts: Option<(ObjectRef, HeaderValue)>,
}

/// What a route wants its hostnames to show.
#[derive(Clone)]
pub(super) struct Claim {
    pub(super) secret: ObjectRef,
    pub(super) min_version: TlsVersion,
    /// `None` if the Secret cannot be used.
    pub(super) identity: Option<Arc<TlsIdentity>>,
    /// The value of `Strict-Transport-Security`, if it wants one.
    pub(super) hsts: Option<HeaderValue>,
}

impl Claim {
    /// Whether both show the same. They need not, though they name one Secret: a route of another namespace may not be
    /// permitted to use it.
    fn is_like(&self, other: &Self) -> bool {
        self.secret == other.secret
            && self.min_version == other.min_version
            && self.identity.is_some() == other.identity.is_some()
    }
}

/// What became of a route's claim.
pub(super) struct ClaimOutcome<'a> {
    /// Hostnames whose certificate is the one that the route wants.
    pub(super) held: Vec<&'a str>,
    /// A sentence for each winner.
    pub(super) lost: Vec<String>,
}

impl<'a> Hosts<'a> {
    /// Gives the route every match that is free under `hostnames`, and notes those that are not. Under which of them at least one
    /// match is the route's.
    pub(super) fn place<'r>(
        &mut self,
        route: &'r CheckedRoute<'a>,
        hostnames: &[&'a str],
        rules: &[Arc<Rule>],
        lost: &mut Losses<'r>,
    ) -> Vec<&'a str> {
        let mut served = Vec::new();
        for &hostname in hostnames {
            let host = self.hosts.entry(hostname).or_default();
            let before = host.entries.len();
            for (checked, rule) in route.rules.iter().zip(rules) {
                for (index, key) in &checked.keys {
                    match host.holders.entry(key.clone()) {
                        hash_map::Entry::Vacant(free) => {
                            free.insert((route.object.clone(), checked.index));
                            host.entries
                                .push(RouteEntry { key: key.clone(), rule: Arc::clone(rule) });
                        }
                        hash_map::Entry::Occupied(taken) => {
                            lost.add((checked, *index, key), taken.get(), hostname);
                        }
                    }
                }
            }
            if host.entries.len() > before {
                served.push(hostname);
            }
        }
        served
    }

    /// Lets the route choose the certificate of `hostnames`, where none has before it. Of those that choose the same one the
    /// first that asks for `Strict-Transport-Security` decides on that.
    pub(super) fn claim(
        &mut self,
        route: &ObjectRef,
        hostnames: &[&'a str],
        claim: &Claim,
    ) -> ClaimOutcome<'a> {
        let mut held = Vec::new();
        let mut winners = Vec::<(ObjectRef, Claim, Vec<&str>)>::new();
        let mut hsts_winners = Vec::<(ObjectRef, HeaderValue, Vec<&str>)>::new();
        for &hostname in hostnames {
            let host = self.hosts.entry(hostname).or_default();
            let (winner, shown) =
                host.certificate.get_or_insert_with(|| (route.clone(), claim.clone()));
            if shown.is_like(claim) {
                held.push(hostname);
                let Some(wanted) = &claim.hsts else { continue };
                let (winner, sent) =
                    host.hsts.get_or_insert_with(|| (route.clone(), wanted.clone()));
                if sent != wanted {
                    match hsts_winners.iter_mut().find(|(other, ..)| other == winner) {
                        Some((.., under)) => under.push(hostname),
                        None => hsts_winners.push((winner.clone(), sent.clone(), vec![hostname])),
                    }
                }
            } else if let Some((.., under)) = winners.iter_mut().find(|(other, ..)| other == winner)
            {
                under.push(hostname);
            } else {
                winners.push((winner.clone(), shown.clone(), vec![hostname]));
            }
        }
        let lost = winners.into_iter().map(|(winner, shown, under)| {
            let under = status::list(&under);
            if winner.namespace != route.namespace {
                return format!(
                    "spec.tls: under {under} the certificate is chosen by {FOREIGN}. Leave spec.tls out, agree with whoever \
                     runs that namespace, or take another hostname."
                );
            }
            format!(
                "spec.tls: under {under} the certificate is chosen by route {winner}, which has precedence \
                 (older, or first by name): Secret {}, TLS {} and later. Use the same Secret and minVersion, \
                 leave spec.tls out, or take another hostname.",
                shown.secret,
                version(shown.min_version),
            )
        });
        let hsts_lost = hsts_winners.into_iter().map(|(winner, sent, under)| {
            let whose = match winner.namespace == route.namespace {
                true => format!("route {winner}, which has precedence (older, or first by name)"),
                false => FOREIGN.to_owned(),
            };
            // The value is no secret: every client is told it.
            format!(
                "spec.tls.hsts: under {} the header Strict-Transport-Security is chosen by {whose}: {}. Write the same \
                 here, or leave it out.",
                status::list(&under),
                sent.to_str().unwrap_or_default(),
            )
        });
        ClaimOutcome { held, lost: lost.chain(hsts_lost).collect() }
    }

    /// The hosts of the table. Within a host the entries stand in order of precedence.
    pub(super) fn build(self, ownership: &Ownership) -> impl Iterator<Item = VirtualHost> {
        // A hostname that only losers named has no entry, for whoever wins it has one.
        self.hosts.into_iter().map(|(pattern, host)| {
            let claim = host.certificate.map(|(_, claim)| claim);
            let secret_namespace =
                claim.as_ref().map(|claim| claim.secret.namespace.as_str().into());
            let tls = claim.and_then(|claim| claim.identity);
            let mut built = VirtualHost::new(pattern, tls, host.entries);
            built.hsts = host.hsts.map(|(_, value)| value);
            built.secret_namespace = secret_namespace;
            if let Some(holding) = ownership.holding(pattern) {
                built.owner = holding.owner.as_deref().unwrap_or_default().into();
                built.admitted = holding.admitted.iter().map(|by| by.as_str().into()).collect();
                built.wildcard_certificate = holding.wildcard_certificate;
            }
            built
        })
    }
}

/// Lost matches; one that is lost to one winner under several hostnames is told once.
#[derive(Default)]
pub(super) struct Losses<'r> {
    order: Vec<Loss<'r>>,
}

struct Loss<'r> {
    rule: usize,
    index: usize,
    key: &'r MatchKey,
    winner: (ObjectRef, usize),
    under: Vec<&'r str>,
}

impl<'r> Losses<'r> {
    fn add(
        &mut self,
        (rule, index, key): (&'r CheckedRule<'_>, usize, &'r MatchKey),
        winner: &(ObjectRef, usize),
        hostname: &'r str,
    ) {
        let rule = rule.index;
        let known = self
            .order
            .iter_mut()
            .find(|loss| loss.rule == rule && loss.index == index && loss.winner == *winner);
        match known {
            Some(loss) => loss.under.push(hostname),
            None => {
                let under = vec![hostname];
                self.order.push(Loss { rule, index, key, winner: winner.clone(), under });
            }
        }
    }

    /// A sentence for each match that is another's. Only what is of the route's own namespace is named.
    pub(super) fn sentences(mut self, route: &ObjectRef) -> Vec<String> {
        self.order.sort_by(|a, b| (a.rule, a.index, &a.winner).cmp(&(b.rule, b.index, &b.winner)));
        let sentence = |loss: &Loss<'_>| {
            let Loss { rule, index, key, winner: (winner, winning_rule), under } = loss;
            let what = format!("spec.rules[{rule}].matches[{index}] ({})", describe(key));
            if winner == route {
                format!(
                    "{what} is never reached: spec.rules[{winning_rule}] has the same match. Remove one."
                )
            } else if winner.namespace == route.namespace {
                format!(
                    "{what} under {} belongs to route {winner}, which has precedence (older, or first by \
                     name). Change the match or the hostname here, or delete it there.",
                    status::list(under)
                )
            } else {
                format!(
                    "{what} under {} belongs to {FOREIGN}. Change the match or the hostname here, or agree with whoever runs \
                     that namespace.",
                    status::list(under)
                )
            }
        };
        self.order.iter().map(sentence).collect()
    }
}

/// A match in the words of the spec.
fn describe(key: &MatchKey) -> String {
    let mut text = match key.kind {
        PathKind::Exact => format!("Exact {}", key.path),
        PathKind::Prefix if key.path.is_empty() => "Prefix /".to_owned(),
        PathKind::Prefix => format!("Prefix {}", key.path),
    };
    for (name, value) in &key.headers {
        let _ = write!(text, ", header {name}: {}", value.to_str().unwrap_or("…"));
    }
    for (name, value) in &key.query {
        let _ = write!(text, ", query parameter {name}={value}");
    }
    if !key.subprotocols.is_empty() {
        let _ = write!(text, ", subprotocol {}", key.subprotocols.join(" or "));
    }
    text
}

fn version(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    }
}
