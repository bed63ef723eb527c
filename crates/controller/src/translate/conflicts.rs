//! Who gets a match, and whose certificate a hostname shows, among the routes that take part in a hostname: those of its owner
//! first, then the older route, then the one whose `namespace/name` comes first.
//!
//! Routes are placed in that order, so whatever is taken stays taken.

use std::{
    collections::{BTreeMap, HashMap, hash_map},
    fmt::Write as _,
    hash::{Hash, Hasher},
    sync::Arc,
};

use http::HeaderValue;
use tidegate_api::TlsVersion;
use tidegate_table::{
    MatchIndex, MatchKey, ObjectRef, PathKind, RouteEntry, Rule, TlsIdentity, VirtualHost,
    WildcardCertificate,
};

use super::{
    budget::Budgets,
    ownership::{Ownership, Standing, wildcard_of},
    routes::{CheckedRoute, CheckedRule},
    status,
    status::MAX_SENTENCES,
};

/// A winner of another namespace. Its name may be unknown to who reads this, and is to stay so.
const FOREIGN: &str = "a route of another namespace, which has precedence (the owner of the hostname, or older, or first by name)";

/// All hostnames, as they fill up.
pub(super) struct Hosts<'a> {
    hosts: BTreeMap<&'a str, Host>,
    budgets: Budgets,
}

#[derive(Default)]
struct Host {
    entries: Vec<RouteEntry>,
    /// Who holds a match: the route, and the index of the rule in its spec.
    holders: HashMap<Arc<MatchKey>, (Arc<ObjectRef>, usize)>,
    /// What each namespace holds of it.
    held: HashMap<Box<str>, Held>,
    /// Whose certificate is shown.
    certificate: Option<(ObjectRef, Claim)>,
    /// Whose `Strict-Transport-Security` is sent.
    hsts: Option<(ObjectRef, HeaderValue)>,
}

/// Matches of one namespace under a hostname.
#[derive(Default)]
struct Held {
    matches: usize,
    /// By path.
    paths: HashMap<(PathKind, Box<str>), usize>,
}

/// Entries that are the very same matches and rules, one by one: hosts that have them share an index.
struct Same(Vec<RouteEntry>);

impl Same {
    fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        self.0.iter().map(|entry| (Arc::as_ptr(&entry.key).addr(), Arc::as_ptr(&entry.rule).addr()))
    }
}

impl PartialEq for Same {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.places().eq(other.places())
    }
}

impl Eq for Same {}

impl Hash for Same {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.places().for_each(|place| place.hash(state));
    }
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

/// What became of a route's matches that are not served.
#[derive(Default)]
pub(super) struct Unplaced<'r> {
    lost: Losses<'r>,
    over: Overruns<'r>,
}

impl Unplaced<'_> {
    /// Sentences about the matches that are another's, and about those that are too many.
    pub(super) fn sentences(
        self,
        route: &ObjectRef,
        budgets: &Budgets,
    ) -> (Vec<String>, Vec<String>) {
        (self.lost.sentences(route), self.over.sentences(&route.namespace, budgets))
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
    pub(super) fn new(budgets: Budgets) -> Self {
        Self { hosts: BTreeMap::new(), budgets }
    }

    /// Gives the route every match that is free under `hostnames`, and notes those that are not. Under which of them at least one
    /// match is the route's.
    pub(super) fn place<'r>(
        &mut self,
        route: &'r CheckedRoute<'a>,
        hostnames: &[&'a str],
        rules: &[Arc<Rule>],
        unplaced: &mut Unplaced<'r>,
    ) -> Vec<&'a str> {
        let mut served = Vec::new();
        let Unplaced { lost, over } = unplaced;
        let object = Arc::new(route.object.clone());
        let budgets = self.budgets;
        for &hostname in hostnames {
            let host = self.hosts.entry(hostname).or_default();
            let before = host.entries.len();
            let held = host.held.entry(object.namespace.as_str().into()).or_default();
            for (checked, rule) in route.rules.iter().zip(rules) {
                for (index, key) in &checked.keys {
                    match host.holders.entry(Arc::clone(key)) {
                        hash_map::Entry::Vacant(free) => match held.take(key, &budgets) {
                            Ok(()) => {
                                free.insert((Arc::clone(&object), checked.index));
                                let (key, rule) = (Arc::clone(key), Arc::clone(rule));
                                host.entries.push(RouteEntry { key, rule });
                            }
                            Err(overrun) => over.add(overrun, hostname),
                        },
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
    /// first that asks for `Strict-Transport-Security` decides on that. A guest, who comes after all owners, chooses where the
    /// owner has left the choice, and decides on no `Strict-Transport-Security`: browsers remember it.
    pub(super) fn claim(
        &mut self,
        route: &ObjectRef,
        hostnames: &[&'a str],
        claim: &Claim,
        (standing, ownership): (Standing, &Ownership),
    ) -> ClaimOutcome<'a> {
        let is_guest = standing == Standing::Guest;
        let mut held = Vec::new();
        let mut winners = Vec::<(ObjectRef, Claim, Vec<&str>)>::new();
        let mut hsts_winners = Vec::<(ObjectRef, HeaderValue, Vec<&str>)>::new();
        let mut hsts_refused = Vec::new();
        for &hostname in hostnames {
            let above = is_guest.then(|| self.chosen_above(hostname, ownership)).flatten();
            let host = self.hosts.entry(hostname).or_default();
            let (winner, shown) = match &above {
                Some(above) if host.certificate.is_none() => above,
                _ => host.certificate.get_or_insert_with(|| (route.clone(), claim.clone())),
            };
            if shown.is_like(claim) {
                held.push(hostname);
                let Some(wanted) = &claim.hsts else { continue };
                if is_guest && host.hsts.is_none() {
                    hsts_refused.push(hostname);
                    continue;
                }
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
        let hsts_refused = (!hsts_refused.is_empty()).then(|| {
            format!(
                "spec.tls.hsts: under {} only the owner of the hostname decides on the header Strict-Transport-Security, and \
                 that is another namespace. Leave it out, or agree with whoever runs that namespace.",
                status::list(&hsts_refused)
            )
        });
        ClaimOutcome { held, lost: lost.chain(hsts_lost).chain(hsts_refused).collect() }
    }

    /// Who of the owners of the wildcard has chosen what is shown under a hostname without a certificate of its own.
    fn chosen_above(&self, hostname: &str, ownership: &Ownership) -> Option<(ObjectRef, Claim)> {
        let wildcard = wildcard_of(hostname)?;
        let (by, claim) = self.hosts.get(wildcard.as_str())?.certificate.as_ref()?;
        let is_shown =
            ownership.holding(hostname)?.wildcard_certificate == WildcardCertificate::Shown;
        (is_shown && ownership.standing(&by.namespace, &wildcard) == Standing::Owner)
            .then(|| (by.clone(), claim.clone()))
    }

    /// Whether a hostname has a place in the table. Where every match is too much for its namespace nothing is served.
    pub(super) fn serve(&self, hostname: &str) -> bool {
        self.hosts.get(hostname).is_some_and(Host::is_served)
    }

    /// The hosts of the table. Within a host the entries stand in order of precedence.
    #[expect(clippy::mutable_key_type, reason = "entries are compared by their places alone")]
    pub(super) fn build(self, ownership: &Ownership) -> impl Iterator<Item = VirtualHost> {
        let mut indexes = HashMap::<Same, Arc<MatchIndex>>::new();
        let served = self.hosts.into_iter().filter(|(_, host)| host.is_served());
        served.map(move |(pattern, host)| {
            let entries = Same(host.entries);
            let index = match indexes.get(&entries) {
                Some(index) => Arc::clone(index),
                None => {
                    let index = Arc::new(MatchIndex::new(entries.0.iter().cloned()));
                    indexes.insert(entries, Arc::clone(&index));
                    index
                }
            };
            // The owner's word lets who keeps its Secrets answer challenges. A guest has no such word.
            let chosen = host
                .certificate
                .as_ref()
                .filter(|(by, _)| ownership.standing(&by.namespace, pattern) == Standing::Owner);
            let secret_namespace = chosen.map(|(_, claim)| claim.secret.namespace.as_str().into());
            let tls = host.certificate.and_then(|(_, claim)| claim.identity);
            let mut built = VirtualHost::sharing(pattern, tls, index);
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

impl Host {
    fn is_served(&self) -> bool {
        !self.entries.is_empty()
    }
}

impl Held {
    /// Makes room for one match more.
    fn take(&mut self, key: &MatchKey, budgets: &Budgets) -> Result<(), Overrun> {
        if self.matches >= budgets.matches_per_host {
            return Err(Overrun::Host);
        }
        let path = self.paths.entry((key.kind, key.path.clone())).or_default();
        if *path >= budgets.matches_per_path {
            return Err(Overrun::Path(key.kind, key.path.clone()));
        }
        *path += 1;
        self.matches += 1;
        Ok(())
    }
}

/// Which budget of a host a match does not fit into.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Overrun {
    /// All matches.
    Host,
    /// Those with one path.
    Path(PathKind, Box<str>),
}

/// Matches that are too many, by the hostname and the budget.
#[derive(Default)]
struct Overruns<'r>(BTreeMap<(&'r str, Overrun), usize>);

impl<'r> Overruns<'r> {
    fn add(&mut self, overrun: Overrun, hostname: &'r str) {
        *self.0.entry((hostname, overrun)).or_default() += 1;
    }

    fn sentences(&self, namespace: &str, budgets: &Budgets) -> Vec<String> {
        let sentence = |((hostname, overrun), count): (&(&str, Overrun), &usize)| match overrun {
            Overrun::Host => format!(
                "{count} matches under {hostname} are left out: routes of namespace {namespace} may have {} there, and those \
                 with precedence (older, or first by name) have the others. Write fewer matches, or another hostname.",
                budgets.matches_per_host
            ),
            Overrun::Path(kind, path) => format!(
                "{count} matches of {} under {hostname} are left out: routes of namespace {namespace} may have {} with one \
                 path there, as all of them may have to be tried for a request, and those with precedence (older, or first \
                 by name) have the others. Tell requests apart by their paths.",
                describe_path(*kind, path),
                budgets.matches_per_path
            ),
        };
        self.0.iter().map(sentence).collect()
    }
}

/// Lost matches; one that is lost to one winner under several hostnames is told once.
#[derive(Default)]
struct Losses<'r> {
    order: BTreeMap<(usize, usize, Arc<ObjectRef>, usize), Loss<'r>>,
}

struct Loss<'r> {
    key: &'r MatchKey,
    under: Vec<&'r str>,
}

impl<'r> Losses<'r> {
    fn add(
        &mut self,
        (rule, index, key): (&'r CheckedRule<'_>, usize, &'r MatchKey),
        winner: &(Arc<ObjectRef>, usize),
        hostname: &'r str,
    ) {
        let slot = (rule.index, index, Arc::clone(&winner.0), winner.1);
        let loss = self.order.entry(slot).or_insert_with(|| Loss { key, under: Vec::new() });
        loss.under.push(hostname);
    }

    /// A sentence for each match that is another's. Only what is of the route's own namespace is named.
    fn sentences(self, route: &ObjectRef) -> Vec<String> {
        let sentence = |((rule, index, winner, winning_rule), loss): (&(_, _, _, _), &Loss<'_>)| {
            let (winner, Loss { key, under }): (&Arc<ObjectRef>, _) = (winner, loss);
            let (rule, index, winning_rule): (&usize, &usize, &usize) = (rule, index, winning_rule);
            let what = format!("spec.rules[{rule}].matches[{index}] ({})", describe(key));
            if **winner == *route {
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
        // Of thousands nobody reads more than the first; each may quote what is long.
        let mut sentences: Vec<_> = self.order.iter().take(MAX_SENTENCES).map(sentence).collect();
        let more = self.order.len() - sentences.len();
        if more > 0 {
            sentences.truncate(MAX_SENTENCES - 1);
            sentences.push(format!("{} more matches are held by others too.", more + 1));
        }
        sentences
    }
}

/// A match in the words of the spec.
fn describe(key: &MatchKey) -> String {
    let mut text = describe_path(key.kind, &key.path);
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

fn describe_path(kind: PathKind, path: &str) -> String {
    match kind {
        PathKind::Exact => format!("Exact {path}"),
        PathKind::Prefix if path.is_empty() => "Prefix /".to_owned(),
        PathKind::Prefix => format!("Prefix {path}"),
    }
}

fn version(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    }
}
