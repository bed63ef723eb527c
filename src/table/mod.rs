//! What the gateway serves by: one immutable value with every default resolved.
//!
//! A table is built whole by `translate`, published whole through [`TableCell`] and never changed
//! afterwards. Nothing here knows of Kubernetes, and nothing here holds state of a connection:
//! counters and live sockets are the gateway's.

mod acme;
mod backend;
mod cell;
mod host;
pub mod path;
mod rule;
mod tls;

use std::{collections::HashMap, sync::Arc};

pub use acme::{Solver, SolverKey, Solvers};
pub use backend::{
    Backend, Endpoint, EndpointState, Endpoints, HashOn, LoadBalancing, Policy, Rank,
};
pub use cell::{Published, TableCell};
pub use host::{MatchKey, PathKind, RequestFacts, RouteEntry, VirtualHost};
pub use path::{PathAmbiguities, PathAmbiguity, RequestPath};
pub use rule::{
    Drain, FrameChecks, HttpMode, Keepalive, Limits, ObjectRef, OnChange, Plaintext, Rule, Timeouts,
};
pub use tls::{BackendTls, IdentityError, TlsIdentity, Verification};

/// Every hostname served. Equal by content: an equal table need not be published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoutingTable {
    /// By exact hostname, lower case.
    exact: HashMap<Box<str>, Arc<VirtualHost>>,
    /// By what follows `*.`, lower case.
    wildcard: HashMap<Box<str>, Arc<VirtualHost>>,
    /// Who answers ACME's challenges.
    solvers: Solvers,
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

    /// Who answers the challenge `token` for `name` (lower case, no port). Where the name is served, only the namespaces that it
    /// [belongs to](VirtualHost::belongs_to) have a say: else whoever may create a Service could get a certificate for it.
    pub fn solver(&self, name: &str, token: &str) -> Option<&Arc<Solver>> {
        let host = self.host(name);
        let may = |solver: &&Arc<Solver>| {
            host.is_none_or(|host| host.belongs_to(&solver.service.namespace))
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

    /// The certificate for `name`: its host's own, else the one of the wildcard that covers it.
    pub fn identity(&self, name: &str) -> Option<&Arc<TlsIdentity>> {
        let own = self.exact.get(name).and_then(|host| host.tls.as_ref());
        own.or_else(|| self.wildcard_host(name)?.tls.as_ref())
    }

    fn wildcard_host(&self, name: &str) -> Option<&Arc<VirtualHost>> {
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
