//! What one namespace may take of this process: every input whose size a tenant chooses ends here, in a condition on the route
//! that goes over.
//!
//! Budgets are the namespaces' own, so that nobody else's routes suffer. Within a namespace they are spent in order of
//! precedence: older routes stay, whatever younger ones ask for.

use std::collections::{HashMap, HashSet};

use tidegate_api::Reason;
use tidegate_table::{MAX_CHAIN_BYTES, MAX_KEY_BYTES, ObjectRef};

use super::Fault;

/// Most bytes of an authority's bundle (`ca.crt`), in PEM. The bundles that systems come with have about 220 KiB.
pub const MAX_CA_BYTES: usize = 512 * 1024;
/// What is kept of the keys that are read: one byte more than is taken, so that it is known to be too long.
pub const KEPT_BYTES: [(&str, usize); 3] = [
    ("tls.crt", MAX_CHAIN_BYTES + 1),
    ("tls.key", MAX_KEY_BYTES + 1),
    ("ca.crt", MAX_CA_BYTES + 1),
];
/// What a certificate or a trust costs beside its text: settings, keys of tickets, memories of sessions.
const FIXED_BYTES: usize = 2 * 1024;

/// The budgets. What is bounded by the schema alone (16 hostnames, 16 rules, 16 matches, 16 backendRefs, 16 headers) is not
/// among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Matches of a namespace, one under several hostnames as often (`--max-matches-per-namespace`).
    pub matches_per_namespace: usize,
    /// Matches of a namespace under one hostname.
    pub matches_per_host: usize,
    /// Matches of a namespace with one path under one hostname: all of them may have to be tried for a request.
    pub matches_per_path: usize,
    /// Bytes of the names and values in a namespace's matches. Hostnames of a route share them.
    pub match_bytes_per_namespace: usize,
    /// BackendRefs of a namespace.
    pub backends_per_namespace: usize,
    /// Addresses of one port of a Service.
    pub endpoints_per_service: usize,
    /// Addresses in the EndpointSlices of all ports of Services that a namespace's routes lead to
    /// (`--max-endpoints-per-namespace`). They are paid for before they are looked at.
    pub endpoints_per_namespace: usize,
    /// Bytes of the certificates and keys that a namespace's routes show (`--max-certificate-bytes-per-namespace`).
    pub certificate_bytes_per_namespace: usize,
    /// Bytes of the authorities that a namespace's backends are verified by, once for each name expected.
    pub ca_bytes_per_namespace: usize,
    /// Services of a namespace that are labelled as solvers of ACME challenges.
    pub solvers_per_namespace: usize,
    /// Addresses of a solver.
    pub endpoints_per_solver: usize,
    /// Secrets that are read by name, where only those that routes refer to are (`--max-referenced-secrets`).
    pub named_secrets: usize,
    /// The same of one namespace's routes.
    pub named_secrets_per_namespace: usize,
    /// ReferenceGrants of a namespace that are looked at.
    pub grants_per_namespace: usize,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            matches_per_namespace: 16_384,
            matches_per_host: 4_096,
            matches_per_path: 256,
            match_bytes_per_namespace: 4 * 1024 * 1024,
            backends_per_namespace: 16_384,
            endpoints_per_service: 4_096,
            endpoints_per_namespace: 32_768,
            certificate_bytes_per_namespace: 32 * 1024 * 1024,
            ca_bytes_per_namespace: 4 * 1024 * 1024,
            solvers_per_namespace: 256,
            endpoints_per_solver: 16,
            named_secrets: 1_000,
            named_secrets_per_namespace: 100,
            grants_per_namespace: 256,
        }
    }
}

/// What a route takes of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RouteSize {
    pub(super) hostnames: usize,
    /// Of all rules together.
    pub(super) matches: usize,
    pub(super) match_bytes: usize,
    pub(super) backends: usize,
}

/// What namespaces have spent in one translation.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) budgets: Budgets,
    spent: HashMap<String, Spent>,
    /// Certificates that a namespace has paid for, each with whether only TLS 1.3 is spoken.
    certificates: HashSet<(String, ObjectRef, bool)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    matches: usize,
    match_bytes: usize,
    backends: usize,
    endpoints: usize,
    certificate_bytes: usize,
    ca_bytes: usize,
}

impl Ledger {
    pub(super) fn new(budgets: Budgets) -> Self {
        Self { budgets, spent: HashMap::new(), certificates: HashSet::new() }
    }

    /// Pays for a route, or says why it does not fit.
    pub(super) fn take_route(&mut self, namespace: &str, size: RouteSize) -> Result<(), Fault> {
        let budgets = self.budgets;
        let spent = self.of(namespace);
        let matches = size.hostnames * size.matches;
        let parts = [
            (
                "matches (each counts once for each hostname)",
                matches,
                spent.matches,
                budgets.matches_per_namespace,
                "Write fewer hostnames or matches in the routes of the namespace, or ask the operator of the gateway to \
                 raise --max-matches-per-namespace.",
            ),
            (
                "bytes of paths, headers, query parameters and subprotocols in matches",
                size.match_bytes,
                spent.match_bytes,
                budgets.match_bytes_per_namespace,
                "Write shorter or fewer matches in the routes of the namespace.",
            ),
            (
                "backendRefs",
                size.backends,
                spent.backends,
                budgets.backends_per_namespace,
                "Write fewer backendRefs in the routes of the namespace.",
            ),
        ];
        for (what, wanted, spent, limit, advice) in parts {
            if spent + wanted > limit {
                let message = format!(
                    "The route has {wanted} {what}. Routes of namespace {namespace} with precedence (older, or first by name) \
                     have {spent}, and a namespace may have {limit}. {advice}"
                );
                return Err(over(message));
            }
        }
        spent.matches += matches;
        spent.match_bytes += size.match_bytes;
        spent.backends += size.backends;
        Ok(())
    }

    /// A route that was paid for has no place in the table after all.
    pub(super) fn give_back(&mut self, namespace: &str, size: RouteSize) {
        let spent = self.of(namespace);
        spent.matches -= size.hostnames * size.matches;
        spent.match_bytes -= size.match_bytes;
        spent.backends -= size.backends;
    }

    /// Pays for the addresses of a Service's port. What is wrong is a clause that goes on after the port.
    pub(super) fn take_endpoints(&mut self, namespace: &str, count: usize) -> Result<(), String> {
        let limit = self.budgets.endpoints_per_namespace;
        let spent = &mut self.of(namespace).endpoints;
        if *spent + count > limit {
            return Err(format!(
                "has {count} addresses in its EndpointSlices. The backends of routes of namespace {namespace} with precedence \
                 have {spent}, and a namespace may have {limit}. Lead fewer routes of the namespace to large Services, or ask the operator of \
                 the gateway to raise --max-endpoints-per-namespace."
            ));
        }
        *spent += count;
        Ok(())
    }

    /// Pays for the certificate that a route of the namespace shows, once.
    pub(super) fn take_certificate(
        &mut self,
        namespace: &str,
        (secret, only_tls13): (&ObjectRef, bool),
        bytes: usize,
    ) -> Result<(), Fault> {
        let slot = (namespace.to_owned(), secret.clone(), only_tls13);
        if self.certificates.contains(&slot) {
            return Ok(());
        }
        let limit = self.budgets.certificate_bytes_per_namespace;
        let spent = &mut self.of(namespace).certificate_bytes;
        let bytes = bytes + FIXED_BYTES;
        if *spent + bytes > limit {
            return Err(over(format!(
                "the certificate in Secret {secret} takes {bytes} bytes (text, and {FIXED_BYTES} for its settings). Those of \
                 routes of namespace {namespace} with precedence take {spent}, and a namespace may have {limit}. Let routes \
                 share a certificate, or ask the operator of the gateway to raise --max-certificate-bytes-per-namespace."
            )));
        }
        *spent += bytes;
        self.certificates.insert(slot);
        Ok(())
    }

    /// Pays for the authorities by which backends of one name are verified.
    pub(super) fn take_authorities(&mut self, namespace: &str, bytes: usize) -> Result<(), String> {
        let limit = self.budgets.ca_bytes_per_namespace;
        let spent = &mut self.of(namespace).ca_bytes;
        let bytes = bytes + FIXED_BYTES;
        if *spent + bytes > limit {
            return Err(format!(
                "tls.caCertificateRef: the authorities take {bytes} bytes. Those of backends of namespace {namespace} with \
                 precedence take {spent}, once for each name expected, and a namespace may have {limit}. Put only the \
                 authority that signed the backends' certificates there, or let them share a name (tls.hostname)."
            ));
        }
        *spent += bytes;
        Ok(())
    }

    fn of(&mut self, namespace: &str) -> &mut Spent {
        if !self.spent.contains_key(namespace) {
            self.spent.insert(namespace.to_owned(), Spent::default());
        }
        self.spent.get_mut(namespace).expect("it was inserted where it was missing")
    }
}

fn over(message: String) -> Fault {
    Fault { reason: Reason::BudgetExceeded, message }
}
