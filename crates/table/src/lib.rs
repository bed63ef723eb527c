//! What the gateway serves by: one immutable value with every default resolved.
//!
//! A table is built whole by `translate`, published whole through [`TableCell`] and never changed
//! afterwards. Nothing here knows of Kubernetes, and nothing here holds state of a connection:
//! counters and live sockets are the gateway's.

mod acme;
mod backend;
mod cell;
mod claims;
mod host;
pub mod path;
mod rule;
mod tls;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

pub use acme::{Solver, SolverKey, Solvers};
pub use backend::{
    Backend, Endpoint, EndpointState, Endpoints, HashOn, LoadBalancing, Policy, Rank,
};
pub use cell::{TableCell, TableVersion};
pub use claims::{ClaimDefault, ClaimRule, Claimants, HostnameClaims, Sharing};
pub use host::{
    MatchIndex, MatchKey, PathKind, RequestFacts, RouteEntry, VirtualHost, WildcardCertificate,
};
pub use path::{PathAmbiguities, PathAmbiguity, RequestPath};
pub use rule::{
    Drain, FrameChecks, HttpMode, Keepalive, Limits, ObjectRef, OnChange, Plaintext, Rule, Timeouts,
};
pub use tls::{
    BackendTls, IdentityError, Leaf, MAX_CHAIN_BYTES, MAX_CHAIN_CERTIFICATES, MAX_KEY_BYTES,
    MinVersion, TlsIdentity, TlsSettings, TrustError, Verification,
};

/// Every hostname served. Equal by content: an equal table need not be published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoutingTable {
    /// By exact hostname, lower case.
    exact: HashMap<Box<str>, Arc<VirtualHost>>,
    /// By what follows `*.`, lower case.
    wildcard: HashMap<Box<str>, Arc<VirtualHost>>,
    /// Names that no wildcard serves, though one covers them, and names and wildcards that are held without being served; each
    /// with its owner, if it has one.
    reserved: Reserved,
    /// Who may claim which name.
    claims: HostnameClaims,
    /// Who answers ACME's challenges.
    solvers: Solvers,
}

/// Names that are not served, with their owners. Keyed as the hosts are.
#[derive(Clone, Debug, Default, PartialEq)]
struct Reserved {
    exact: HashMap<Box<str>, Option<Box<str>>>,
    wildcard: HashMap<Box<str>, Option<Box<str>>>,
}

impl Reserved {
    /// The owner of what covers `name`, if anything does.
    fn owner(&self, name: &str) -> Option<Option<&str>> {
        let wildcard = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(wildcard).map(Option::as_deref)
    }
}

impl RoutingTable {
    /// A table of these hosts, keyed by their hostname or wildcard pattern in lower case.
    pub fn new(hosts: impl IntoIterator<Item = VirtualHost>) -> Self {
        let mut table = Self::default();
        for host in hosts {
            let host = Arc::new(host);
            match host.pattern.strip_prefix("*.") {
                Some(parent) => table.wildcard.insert(parent.into(), Arc::clone(&host)),
                None => table.exact.insert(host.pattern.as_ref().into(), Arc::clone(&host)),
            };
        }
        table
    }

    /// The same table with these solvers.
    #[must_use]
    pub fn with_solvers(mut self, solvers: Solvers) -> Self {
        self.solvers = solvers;
        self
    }

    /// The same table, with names and wildcards that are not served, by owner.
    #[must_use]
    pub fn with_reserved<'p>(
        mut self,
        reserved: impl IntoIterator<Item = (&'p str, Option<&'p str>)>,
    ) -> Self {
        for (pattern, owner) in reserved {
            let owner = owner.map(Box::from);
            match pattern.strip_prefix("*.") {
                Some(parent) => self.reserved.wildcard.insert(parent.into(), owner),
                None => self.reserved.exact.insert(pattern.into(), owner),
            };
        }
        self
    }

    /// Names and wildcards that are not served although a wildcard covers them or somebody holds them, with their owners; by
    /// name.
    pub fn reserved(&self) -> BTreeMap<String, Option<&str>> {
        let exact = self.reserved.exact.iter().map(|(name, owner)| (name.to_string(), owner));
        let wildcard = self.reserved.wildcard.iter();
        let wildcard = wildcard.map(|(parent, owner)| (format!("*.{parent}"), owner));
        exact.chain(wildcard).map(|(pattern, owner)| (pattern, owner.as_deref())).collect()
    }

    /// The same table under a policy of hostnames.
    #[must_use]
    pub fn with_claims(self, claims: HostnameClaims) -> Self {
        Self { claims, ..self }
    }

    /// Who answers the challenge `token` for `name` (lower case, no port). Where the name is served, only the namespaces that it
    /// [belongs to](VirtualHost::belongs_to) have a say: else whoever may create a Service could get a certificate for it. Where
    /// it is not, only those that may claim it.
    pub fn solver(&self, name: &str, token: &str) -> Option<&Arc<Solver>> {
        let host = self.host(name);
        let may = |solver: &&Arc<Solver>| {
            let namespace = solver.service.namespace.as_str();
            match (host, self.reserved.owner(name)) {
                (Some(host), _) => host.belongs_to(namespace),
                (None, Some(Some(owner))) => owner == namespace,
                (None, _) => self.claims.permits(name, namespace),
            }
        };
        self.solvers.of(SolverKey::new(name, token)).iter().find(may)
    }

    /// All solvers.
    pub fn solvers(&self) -> &Solvers {
        &self.solvers
    }

    /// The host that serves `name` (lower case, no port): the exact one, else the wildcard with
    /// exactly one label in the place of its star.
    pub fn host(&self, name: &str) -> Option<&Arc<VirtualHost>> {
        self.exact.get(name).or_else(|| self.wildcard_host(name))
    }

    /// The certificate for `name`: its host's own, else the one of the wildcard that covers it, unless that is another's.
    pub fn identity(&self, name: &str) -> Option<&Arc<TlsIdentity>> {
        match self.exact.get(name) {
            Some(host) if host.tls.is_some() => host.tls.as_ref(),
            Some(host) if host.wildcard_certificate == WildcardCertificate::Withheld => None,
            _ => self.wildcard_host(name)?.tls.as_ref(),
        }
    }

    fn wildcard_host(&self, name: &str) -> Option<&Arc<VirtualHost>> {
        if self.reserved.exact.contains_key(name) {
            return None;
        }
        let (label, parent) = name.split_once('.')?;
        if label.is_empty() { None } else { self.wildcard.get(parent) }
    }

    /// All hosts, exact ones first, by name.
    pub fn hosts(&self) -> Vec<&Arc<VirtualHost>> {
        let mut hosts: Vec<_> = self.exact.values().chain(self.wildcard.values()).collect();
        hosts.sort_by(|a, b| {
            (a.pattern.starts_with('*'), &a.pattern).cmp(&(b.pattern.starts_with('*'), &b.pattern))
        });
        hosts
    }

    /// The rules, in no particular order; one with several matches, or under several hostnames, as often.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let hosts = self.exact.values().chain(self.wildcard.values());
        hosts.flat_map(|host| host.entries()).map(|entry| &entry.rule)
    }

    /// Whether no hostname is served.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }
}

#[cfg(test)]
mod tests;
