//! Which namespace a hostname is of. It is decided here, once, before any route is placed; matches, certificates,
//! `Strict-Transport-Security`, 421 and the solvers of ACME all go by it.
//!
//! A hostname is claimed by every route that has it, and by the owner of the wildcard that covers it. Of several namespaces it is
//! the one with the best evidence: a certificate for it that an authority issued who looks for control of names, before age.
//! Nothing else that a newcomer can make counts, neither a route nor a certificate of its own making: the name stays with
//! whoever had it first, and a Secret that covers the name counts as its holder's first day there, so that the route may be made
//! anew. Another namespace takes part by a ReferenceGrant of the owner, or where whoever runs the gateway says that the name is
//! shared.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;

use super::{grants::Grants, routes::CheckedRoute, status};
use crate::{
    api::GROUP,
    table::{HostnameClaims, WildcardCertificate},
};

/// When something came to be. What has no age comes after all that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Age(pub(super) Option<Timestamp>);

impl Ord for Age {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0.is_none(), self.0).cmp(&(other.0.is_none(), other.0))
    }
}

impl PartialOrd for Age {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What the certificate that a route names tells of its right to a hostname. The better comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    /// One of the route's own namespace, by an authority that looks for control of names.
    Proven(Age),
    /// The same, of another namespace that lets the route use it.
    Lent(Age),
    /// Any other one of the route's own namespace: it tells no more than since when it has been there.
    Present(Age),
    /// None that covers the hostname.
    Nothing,
}

/// What a namespace has to show for a hostname. The least wins.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Strength<'n> {
    proof: Proof,
    since: Age,
    oldest_route: Age,
    namespace: &'n str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Proof {
    Own,
    Lent,
    None,
}

/// Who has which hostname.
#[derive(Debug, Default)]
pub(super) struct Ownership {
    /// By hostname or wildcard, as routes have them.
    holdings: BTreeMap<String, Holding>,
    /// What is not served, see [`RoutingTable::with_reserved`](crate::table::RoutingTable::with_reserved).
    pub(super) reserved: BTreeMap<String, Option<String>>,
}

/// Who has one hostname.
#[derive(Clone, Debug, Default)]
pub(super) struct Holding {
    /// `None` where the policy lets none of those have it that claim it.
    pub(super) owner: Option<String>,
    /// The other namespaces that take part.
    pub(super) admitted: BTreeSet<String>,
    pub(super) wildcard_certificate: WildcardCertificate,
    /// Those that the policy does not let have it.
    denied: BTreeSet<String>,
    /// Whether all that take part do so alike.
    shared: bool,
}

/// What a namespace is to a hostname.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The owner, or one of those that share it.
    Owner,
    /// Admitted by the owner, whose routes come first.
    Guest,
    /// Nothing: another namespace holds it.
    HeldByAnother,
    /// Nothing: the policy gives it to others.
    DeniedByPolicy,
}

/// The routes that have a hostname, by namespace.
type Claims<'r, 'a> = BTreeMap<&'r str, Vec<&'r CheckedRoute<'a>>>;

/// Decides for every hostname of the routes. Routes of which nothing can be served count: that one is broken for a while must
/// not give its hostnames away. `evidence` is asked only where several namespaces claim a name.
pub(super) fn decide<'r, 'a>(
    routes: &'r [CheckedRoute<'a>],
    policy: &HostnameClaims,
    grants: &Grants<'_>,
    mut evidence: impl FnMut(&CheckedRoute<'a>, &str) -> Evidence,
) -> Ownership {
    let mut claims = BTreeMap::<&str, Claims<'r, 'a>>::new();
    for route in routes {
        for &hostname in &route.hostnames {
            let by = claims.entry(hostname).or_default();
            by.entry(route.object.namespace.as_str()).or_default().push(route);
        }
    }
    let mut ownership = Ownership::default();
    // Wildcards come first, for their owners claim the names below ('*' sorts before what a name begins with).
    for (&hostname, by) in &claims {
        let mut candidates = by.clone();
        let wildcard = wildcard_of(hostname);
        let above = wildcard.as_deref().and_then(|wildcard| {
            let owner = ownership.holdings.get(wildcard)?.owner.as_deref()?;
            claims.get(wildcard)?.get_key_value(owner)
        });
        if let Some((owner, routes)) = above {
            candidates.entry(owner).or_default().extend(routes);
        }
        let denied: BTreeSet<_> = candidates
            .keys()
            .filter(|namespace| !policy.permits(hostname, namespace))
            .map(|namespace| (*namespace).to_owned())
            .collect();
        candidates.retain(|namespace, _| !denied.contains(*namespace));
        let owner = contest(hostname, &candidates, &mut evidence);
        let shared = policy.is_shared(hostname);
        let mut holding = Holding { denied, shared, ..Holding::default() };
        if let Some(owner) = owner {
            let owners = &candidates[owner];
            let takes_part = |namespace: &str| {
                namespace != owner
                    && (shared && policy.permits(hostname, namespace)
                        || grants.admits(owner, namespace, owners))
            };
            holding.owner = Some(owner.to_owned());
            holding.admitted =
                by.keys().filter(|by| takes_part(by)).map(|by| (*by).to_owned()).collect();
            if let (Some((above, _)), Some(wildcard)) = (above, wildcard.as_deref()) {
                // No word of the wildcard's owner alone: what the other's clients are shown is not its to change.
                let has_it = *above == owner
                    || policy.is_shared(wildcard) && policy.permits(wildcard, owner);
                if !has_it {
                    holding.wildcard_certificate = WildcardCertificate::Withheld;
                }
            }
        }
        ownership.holdings.insert(hostname.to_owned(), holding);
    }
    ownership
}

/// The wildcard that covers a hostname.
fn wildcard_of(hostname: &str) -> Option<String> {
    let (label, parent) = hostname.split_once('.')?;
    (label != "*").then(|| format!("*.{parent}"))
}

/// The namespace with the best evidence.
fn contest<'r, 'a>(
    hostname: &str,
    candidates: &Claims<'r, 'a>,
    evidence: &mut impl FnMut(&CheckedRoute<'a>, &str) -> Evidence,
) -> Option<&'r str> {
    if candidates.len() <= 1 {
        return candidates.keys().next().copied();
    }
    let strength = |(&namespace, routes): (&&'r str, &Vec<&CheckedRoute<'a>>)| {
        let oldest_route = routes.iter().map(|route| route.age).min().unwrap_or(Age(None));
        let (proof, since) = match routes.iter().map(|route| evidence(route, hostname)).min() {
            Some(Evidence::Proven(age)) => (Proof::Own, age),
            Some(Evidence::Lent(age)) => (Proof::Lent, age),
            Some(Evidence::Present(age)) => (Proof::None, age.min(oldest_route)),
            Some(Evidence::Nothing) | None => (Proof::None, oldest_route),
        };
        Strength { proof, since, oldest_route, namespace }
    };
    candidates.iter().map(strength).min().map(|strength| strength.namespace)
}

impl Ownership {
    /// Finds what is not served though a wildcard covers it, or though it is somebody's. `served` tells which names have a host
    /// in the table: why the others have none makes no difference.
    pub(super) fn reserve(&mut self, policy: &HostnameClaims, served: impl Fn(&str) -> bool) {
        let held = self.holdings.keys().map(String::as_str);
        let names: BTreeSet<&str> = held.chain(policy.exact_names()).collect();
        let mut reserved = BTreeMap::new();
        for name in names.into_iter().filter(|name| !served(name)) {
            let holding = self.holdings.get(name);
            let above = wildcard_of(name).and_then(|wildcard| {
                let holding = self.holdings.get(&wildcard)?;
                Some((holding.owner.as_deref()?, holding))
            });
            // A name that stands in the policy alone is claimed by the wildcard's owner, if by anyone.
            let owner = match (holding, above) {
                (Some(holding), _) => holding.owner.as_deref(),
                (None, Some((above, _))) if policy.permits(name, above) => Some(above),
                (None, _) => None,
            };
            let by_wildcard = above.is_some_and(|(above, holding)| {
                let guests = || holding.admitted.iter();
                owner == Some(above)
                    && !(holding.shared && guests().any(|guest| !policy.permits(name, guest)))
            });
            if !by_wildcard && (owner.is_some() || above.is_some()) {
                reserved.insert(name.to_owned(), owner.map(str::to_owned));
            }
        }
        self.reserved = reserved;
    }

    /// What a namespace is to a hostname that one of its routes has.
    pub(super) fn standing(&self, namespace: &str, hostname: &str) -> Standing {
        let Some(holding) = self.holdings.get(hostname) else { return Standing::HeldByAnother };
        if holding.owner.as_deref() == Some(namespace) {
            Standing::Owner
        } else if holding.admitted.contains(namespace) {
            match holding.shared && !holding.denied.contains(namespace) {
                true => Standing::Owner,
                false => Standing::Guest,
            }
        } else if holding.denied.contains(namespace) {
            Standing::DeniedByPolicy
        } else {
            Standing::HeldByAnother
        }
    }

    /// Who has a hostname.
    pub(super) fn holding(&self, hostname: &str) -> Option<&Holding> {
        self.holdings.get(hostname)
    }

    /// The names below the wildcards of a route that the policy keeps from these.
    pub(super) fn kept_from<'o>(&'o self, wildcard: &str) -> impl Iterator<Item = &'o str> {
        let names = self.reserved.keys().map(String::as_str);
        names.filter(move |name| wildcard_of(name).as_deref() == Some(wildcard))
    }

    /// Why a route of `namespace` has not all of its hostnames: a sentence for each reason. Of the others' objects it says
    /// nothing: whoever reads it may not be one who may know them.
    pub(super) fn refusals(
        &self,
        namespace: &str,
        hostnames: &[&str],
        grants: &Grants<'_>,
    ) -> Vec<String> {
        let with = |standing| -> Vec<&str> {
            let these = hostnames.iter().copied();
            these.filter(|hostname| self.standing(namespace, hostname) == standing).collect()
        };
        let mut sentences = Vec::new();
        let held = with(Standing::HeldByAnother);
        if !held.is_empty() {
            let (is, it) = plural(&held);
            let operator = format!(
                "whoever runs this gateway to give {it} to namespace {namespace} (--hostname-policy)"
            );
            let whom = match grants.are_read() {
                true => format!(
                    "Ask its owner for a ReferenceGrant there (from: {{group: {GROUP}, kind: WebSocketRoute, namespace: \
                     {namespace}}}, to: {{group: {GROUP}, kind: WebSocketRoute}}), or {operator}"
                ),
                false => format!("Ask {operator}"),
            };
            sentences.push(format!(
                "spec.hostnames: {} {is} held by another namespace. {whom}.",
                status::list(&held)
            ));
        }
        let denied = with(Standing::DeniedByPolicy);
        if !denied.is_empty() {
            let (_, it) = plural(&denied);
            sentences.push(format!(
                "spec.hostnames: the hostname policy of this gateway does not let namespace {namespace} have {}. Ask \
                 whoever runs the gateway for a rule that does (--hostname-policy), or take {it} out.",
                status::list(&denied)
            ));
        }
        sentences
    }
}

fn plural(names: &[&str]) -> (&'static str, &'static str) {
    if names.len() == 1 { ("is", "it") } else { ("are", "them") }
}

impl Standing {
    /// Whether routes of the namespace may be placed under the hostname.
    pub(super) const fn takes_part(self) -> bool {
        matches!(self, Self::Owner | Self::Guest)
    }
}

#[cfg(test)]
mod tests;
