//! Which namespace a hostname is of. It is decided here, once, before any route is placed; matches, certificates,
//! `Strict-Transport-Security`, 421 and the solvers of ACME all go by it.
//!
//! A hostname is claimed by every route that has it, and by the owner of the wildcard that covers it. Of several namespaces it is
//! the one with the best evidence: a certificate for it that an authority issued who looks for control of names, before age, and
//! one that is valid before one that has expired.
//! Nothing else that a newcomer can make counts, neither a route nor a certificate of its own making: the name stays with
//! whoever had it first, and a Secret that covers the name counts as its holder's first day there, so that the route may be made
//! anew. Another namespace takes part by a ReferenceGrant of the owner, or where whoever runs the gateway says that the name is
//! shared.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use jiff::Timestamp;
use tidegate_api::GROUP;
use tidegate_table::{HostnameClaims, WildcardCertificate};

use super::{
    grants::Grants,
    routes::CheckedRoute,
    status::{self, MAX_SENTENCES},
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
    /// As `Proven`, but it has expired, or is not valid yet.
    Lapsed(Age),
    /// As `Lent`, but it has expired, or is not valid yet.
    LentLapsed(Age),
    /// Any other one of the route's own namespace: it tells no more than since when it has been there.
    Present(Age),
    /// None that covers the hostname.
    Nothing,
}

/// What a certificate that a route may use tells, and of which names.
#[derive(Debug)]
pub(super) struct Testimony {
    pub(super) evidence: Evidence,
    /// As the certificate has them, wildcards too.
    pub(super) names: HashSet<Box<str>>,
}

/// What a namespace has to show for a hostname. The least wins.
#[derive(Debug)]
struct Strength<'n> {
    evidence: Evidence,
    oldest_route: Age,
    namespace: &'n str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Proof {
    Own,
    Lent,
    OwnLapsed,
    LentLapsed,
    None,
}

/// Who has which hostname.
#[derive(Debug, Default)]
pub(super) struct Ownership {
    /// By hostname or wildcard, as routes have them.
    holdings: BTreeMap<String, Holding>,
    /// What is not served, see [`RoutingTable::with_reserved`](tidegate_table::RoutingTable::with_reserved).
    pub(super) reserved: BTreeMap<String, Option<String>>,
    /// The exact ones of these by what follows their first label.
    kept: HashMap<String, Kept>,
}

/// Reserved names below one wildcard.
#[derive(Debug, Default)]
struct Kept {
    count: usize,
    by_owner: HashMap<String, Names>,
}

/// Some names, the first of which are told.
#[derive(Debug, Default)]
struct Names {
    count: usize,
    first: Vec<String>,
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
type Claims<'r, 'a> = BTreeMap<&'r str, Group<'r, 'a>>;

/// The routes of one namespace that have a hostname.
#[derive(Default)]
struct Group<'r, 'a> {
    routes: Vec<&'r CheckedRoute<'a>>,
    names: HashSet<&'r str>,
    oldest: Option<Age>,
}

/// What the owner of a wildcard brings to each name below it. There may be many of both, so it is put together once.
#[derive(Default)]
struct Backing<'r> {
    /// By the names of certificates.
    evidence: Option<HashMap<Box<str>, Evidence>>,
    /// Which other namespaces it admits.
    admits: HashMap<&'r str, bool>,
}

/// Decides for every hostname of the routes. Routes of which nothing can be served count: that one is broken for a while must
/// not give its hostnames away. `testimony` is asked only where several namespaces claim a name.
pub(super) fn decide<'r, 'a>(
    routes: &'r [CheckedRoute<'a>],
    policy: &HostnameClaims,
    grants: &Grants<'_>,
    mut testimony: impl FnMut(&CheckedRoute<'a>) -> Option<Arc<Testimony>>,
) -> Ownership {
    let mut claims = BTreeMap::<&'r str, Claims<'r, 'a>>::new();
    for route in routes {
        for &hostname in &route.hostnames {
            let by = claims.entry(hostname).or_default();
            by.entry(route.object.namespace.as_str()).or_default().add(route);
        }
    }
    let mut ownership = Ownership::default();
    let mut backings = HashMap::<&str, Backing<'_>>::new();
    // Wildcards come first, for their owners claim the names below ('*' sorts before what a name begins with).
    for (&hostname, by) in &claims {
        let wildcard = wildcard_of(hostname);
        let above = wildcard.as_deref().and_then(|wildcard| {
            let owner = ownership.holdings.get(wildcard)?.owner.as_deref()?;
            let (&wildcard, by) = claims.get_key_value(wildcard)?;
            let (&owner, group) = by.get_key_value(owner)?;
            Some((wildcard, owner, group))
        });
        let mut candidates: BTreeSet<&str> = by.keys().copied().collect();
        candidates.extend(above.map(|(_, owner, _)| owner));
        let (candidates, denied): (BTreeSet<_>, BTreeSet<_>) =
            candidates.into_iter().partition(|namespace| policy.permits(hostname, namespace));
        let is_contested = candidates.len() > 1;
        let strength = |namespace| {
            let mut strength = Strength::of(namespace, hostname, by.get(namespace), &mut testimony);
            if let Some((wildcard, owner, group)) = above
                && owner == namespace
            {
                let backing = backings.entry(wildcard).or_default();
                strength.add_backing(hostname, backing.evidence(group, &mut testimony), group);
            }
            strength
        };
        let owner = match is_contested {
            true => candidates.into_iter().map(strength).map(|it| it.rank()).min().map(|it| it.3),
            false => candidates.into_iter().next(),
        };
        let shared = policy.is_shared(hostname);
        let denied = denied.into_iter().map(str::to_owned).collect();
        let mut holding = Holding { denied, shared, ..Holding::default() };
        if let Some(owner) = owner {
            holding.owner = Some(owner.to_owned());
            for &guest in by.keys().filter(|namespace| **namespace != owner) {
                let takes_part = shared && policy.permits(hostname, guest)
                    || by.get(owner).is_some_and(|own| grants.admits(owner, guest, &own.names))
                    || above.is_some_and(|(wildcard, above, group)| {
                        let admits = &mut backings.entry(wildcard).or_default().admits;
                        above == owner
                            && *admits
                                .entry(guest)
                                .or_insert_with(|| grants.admits(owner, guest, &group.names))
                    });
                if takes_part {
                    holding.admitted.insert(guest.to_owned());
                }
            }
            if let Some((wildcard, above, _)) = above {
                // No word of the wildcard's owner alone: what the other's clients are shown is not its to change.
                let has_it =
                    above == owner || policy.is_shared(wildcard) && policy.permits(wildcard, owner);
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
pub(super) fn wildcard_of(hostname: &str) -> Option<String> {
    let (label, parent) = hostname.split_once('.')?;
    (label != "*").then(|| format!("*.{parent}"))
}

impl<'r, 'a> Group<'r, 'a> {
    fn add(&mut self, route: &'r CheckedRoute<'a>) {
        self.routes.push(route);
        self.names.insert(&route.object.name);
        self.oldest = Some(self.oldest.map_or(route.age, |oldest| oldest.min(route.age)));
    }
}

impl Testimony {
    /// What it tells of a hostname.
    fn of(&self, hostname: &str) -> Evidence {
        let covers = self.names.contains(hostname)
            || wildcard_of(hostname).is_some_and(|wildcard| self.names.contains(&*wildcard));
        if covers { self.evidence } else { Evidence::Nothing }
    }
}

impl Backing<'_> {
    fn evidence<'a>(
        &mut self,
        group: &Group<'_, 'a>,
        testimony: &mut impl FnMut(&CheckedRoute<'a>) -> Option<Arc<Testimony>>,
    ) -> &HashMap<Box<str>, Evidence> {
        self.evidence.get_or_insert_with(|| {
            let mut best = HashMap::new();
            let mut heard = HashSet::new();
            for told in group.routes.iter().filter_map(|route| testimony(route)) {
                if !heard.insert(Arc::as_ptr(&told)) {
                    continue;
                }
                for name in &told.names {
                    match best.entry(name.clone()) {
                        Entry::Occupied(mut best) => {
                            let least = told.evidence.min(*best.get());
                            best.insert(least);
                        }
                        Entry::Vacant(free) => {
                            free.insert(told.evidence);
                        }
                    }
                }
            }
            best
        })
    }
}

impl<'n> Strength<'n> {
    /// That of the routes that have the hostname themselves.
    fn of<'a>(
        namespace: &'n str,
        hostname: &str,
        group: Option<&Group<'_, 'a>>,
        testimony: &mut impl FnMut(&CheckedRoute<'a>) -> Option<Arc<Testimony>>,
    ) -> Self {
        let told = group.into_iter().flat_map(|group| &group.routes);
        let told = told.filter_map(|route| testimony(route)).map(|told| told.of(hostname)).min();
        let oldest_route = group.and_then(|group| group.oldest).unwrap_or(Age(None));
        let evidence = told.unwrap_or(Evidence::Nothing);
        Self { evidence, oldest_route, namespace }
    }

    /// With what the namespace has for the wildcard above.
    fn add_backing(
        &mut self,
        hostname: &str,
        best: &HashMap<Box<str>, Evidence>,
        group: &Group<'_, '_>,
    ) {
        let wildcard = wildcard_of(hostname);
        let names = [Some(hostname), wildcard.as_deref()].into_iter().flatten();
        let told = names.filter_map(|name| best.get(name)).min();
        self.evidence = told.map_or(self.evidence, |told| self.evidence.min(*told));
        self.oldest_route = self.oldest_route.min(group.oldest.unwrap_or(Age(None)));
    }

    fn rank(&self) -> (Proof, Age, Age, &'n str) {
        let oldest = self.oldest_route;
        let (proof, since) = match self.evidence {
            Evidence::Proven(age) => (Proof::Own, age),
            Evidence::Lent(age) => (Proof::Lent, age),
            Evidence::Lapsed(age) => (Proof::OwnLapsed, age),
            Evidence::LentLapsed(age) => (Proof::LentLapsed, age),
            Evidence::Present(age) => (Proof::None, age.min(oldest)),
            Evidence::Nothing => (Proof::None, oldest),
        };
        (proof, since, oldest, self.namespace)
    }
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
        for (name, owner) in &reserved {
            let Some((label, parent)) = name.split_once('.') else { continue };
            if label == "*" {
                continue;
            }
            let kept = self.kept.entry(parent.to_owned()).or_default();
            kept.count += 1;
            if let Some(owner) = owner {
                kept.by_owner.entry(owner.clone()).or_default().add(name);
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

    /// What a wildcard, here by its parent, does not serve: a sentence for a route of `namespace`. Of others' names it tells how
    /// many there are, and no more.
    pub(super) fn kept_from(&self, parent: &str, namespace: &str) -> Vec<String> {
        let Some(kept) = self.kept.get(parent) else { return Vec::new() };
        let own = kept.by_owner.get(namespace);
        let others = kept.count - own.map_or(0, |own| own.count);
        let own = own.map(|own| {
            format!(
                "*.{parent} does not serve {}: this namespace holds {}, and no route of it is served there.",
                own.list(),
                if own.count == 1 { "it" } else { "them" }
            )
        });
        let others = match others {
            0 => None,
            1 => Some(format!("*.{parent} does not serve 1 name under it, which is another's.")),
            _ => Some(format!(
                "*.{parent} does not serve {others} names under it, which are others'."
            )),
        };
        own.into_iter().chain(others).collect()
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

impl Names {
    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.first.len() < MAX_SENTENCES {
            self.first.push(name.to_owned());
        }
    }

    fn list(&self) -> String {
        match self.count - self.first.len() {
            0 => status::list(&self.first),
            more => format!("{} and {more} more", self.first.join(", ")),
        }
    }
}

impl Standing {
    /// Whether routes of the namespace may be placed under the hostname.
    pub(super) const fn takes_part(self) -> bool {
        matches!(self, Self::Owner | Self::Guest)
    }
}

#[cfg(test)]
mod tests;
