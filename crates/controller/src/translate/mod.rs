//! From what is declared to what is served: `Inputs → Output`, a pure function.
//!
//! No I/O, no clock, no randomness, no tokio: the same inputs give the same output, in whatever
//! order they come, which is how the golden files of `tests/golden` can hold everything a user sees.
//! The time at which certificates are judged is one of the inputs.
//!
//! [`Translator`] remembers what is dear to make (parsed certificates and trust) by its content, so
//! that what has not changed is the same object in the next table. It changes no answer.

mod acme;
mod addresses;
mod backends;
mod budget;
mod candidate;
mod certificates;
mod claims;
mod conflicts;
mod endpoints;
mod grants;
mod inputs;
mod load_balancing;
mod output;
mod ownership;
mod policy;
mod proof;
mod routes;
mod secrets;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

pub use addresses::{EndpointPolicy, NoEndpoint};
pub use budget::{Budgets, KEPT_BYTES, MAX_CA_BYTES};
pub use grants::permits;
pub use inputs::{Inputs, RouteInput};
pub use output::{ConditionOutput, Output, Problem, RouteStatus};
pub use secrets::{SecretAccess, SecretsWanted, Unread, secrets_wanted};

use tidegate_api::Reason;
use tidegate_table::{HostnameClaims, ObjectRef, RoutingTable, Rule, Solvers};

use backends::{Backends, TrustCache};
use budget::{Ledger, RouteSize};
use candidate::Candidate;
use certificates::{CertificateCache, Certificates};
use conflicts::{Claim, Hosts};
use grants::Grants;
use ownership::{Ownership, Standing};
use routes::{CheckedRoute, CheckedRule};
use status::Findings;

/// Translates again and again; certificates that did not change are not parsed again, and keep their
/// TLS session tickets from table to table.
#[derive(Debug, Default)]
pub struct Translator {
    zone: Option<String>,
    no_solvers: bool,
    budgets: Budgets,
    endpoints: EndpointPolicy,
    certificates: CertificateCache,
    trust: TrustCache,
}

/// Builds the table and the statuses for the routes of `class`, once.
pub fn translate(inputs: &Inputs, class: &str) -> Output {
    Translator::default().translate(inputs, class)
}

/// What is wrong with a Service that answers ACME's challenges. No route leads to it, so it is for the log alone.
#[derive(Clone, Debug)]
struct SolverFinding {
    service: ObjectRef,
    reason: Reason,
    message: String,
}

/// Something wrong, with the reason that it is filed under.
#[derive(Clone, Debug)]
struct Fault {
    reason: Reason,
    message: String,
}

/// What one translation works with.
struct Work<'a> {
    certificates: Certificates<'a>,
    backends: Backends<'a>,
    grants: Grants<'a>,
    hosts: Hosts<'a>,
    ledger: Ledger,
    findings: BTreeMap<ObjectRef, Findings>,
}

impl Translator {
    /// One of a gateway that runs in this zone, as the hints of EndpointSlices call it.
    pub fn in_zone(zone: Option<String>) -> Self {
        Self { zone, ..Self::default() }
    }

    /// The same, but no Service is taken for one that answers ACME's challenges.
    #[must_use]
    pub fn without_solvers(self) -> Self {
        Self { no_solvers: true, ..self }
    }

    /// The same with these budgets.
    #[must_use]
    pub fn with_budgets(self, budgets: Budgets) -> Self {
        Self { budgets, ..self }
    }

    /// The same that dials what this permits.
    #[must_use]
    pub fn with_endpoints(self, endpoints: EndpointPolicy) -> Self {
        Self { endpoints, ..self }
    }

    /// Builds the table and the statuses for the routes of `class`. Equal inputs give equal outputs,
    /// whatever was translated before.
    pub fn translate(&mut self, inputs: &Inputs, class: &str) -> Output {
        let authorities = inputs.hostname_policy.as_ref().and_then(|it| it.authorities.as_ref());
        self.certificates.trust(authorities);
        let mut work = Work {
            certificates: Certificates::new(inputs, &mut self.certificates),
            backends: Backends::new(inputs, &mut self.trust, self.zone.as_deref(), &self.endpoints),
            grants: Grants::new(inputs, self.budgets.grants_per_namespace),
            hosts: Hosts::new(self.budgets),
            ledger: Ledger::new(self.budgets),
            findings: BTreeMap::new(),
        };
        for route in &inputs.routes {
            if let RouteInput::Unreadable { metadata, class_name, error } = route
                && class_name.as_deref().is_none_or(|name| name == class)
            {
                work.findings
                    .insert(routes::object_ref(metadata), routes::unreadable(metadata, error));
            }
        }
        let routes: Vec<_> =
            routes::by_precedence(&inputs.routes, class).into_iter().map(routes::check).collect();
        let claims = claims::resolve(inputs);
        let mut ownership = work.decide(&routes, &claims);
        work.place(&routes, &mut ownership, &claims);
        let next_change = work.certificates.next_change();
        let (solvers, doubts) = match self.no_solvers {
            true => (Solvers::default(), Vec::new()),
            false => work.backends.solvers(&self.budgets),
        };
        let reserved = ownership.reserved.iter().map(|(name, owner)| (&**name, owner.as_deref()));
        let table = RoutingTable::new(work.hosts.build(&ownership))
            .with_reserved(reserved)
            .with_claims(claims)
            .with_solvers(solvers);
        let (statuses, mut problems) = status::report(work.findings, inputs.addresses.as_deref());
        problems.extend(doubts.into_iter().map(|found| Problem {
            kind: "Service",
            object: found.service,
            reason: found.reason,
            message: found.message,
        }));
        self.certificates.forget_unused();
        self.trust.forget_unused();
        Output { table, statuses, problems, next_change }
    }
}

impl<'a> Work<'a> {
    /// Which namespace each hostname is of.
    fn decide(&mut self, routes: &[CheckedRoute<'a>], claims: &HostnameClaims) -> Ownership {
        let (grants, certificates) = (&self.grants, &mut self.certificates);
        // Certificates are paid for once more when they are shown, in order of precedence.
        let mut ledger = Ledger::new(self.ledger.budgets);
        let mut heard = HashMap::new();
        ownership::decide(routes, claims, grants, |route| {
            let (namespace, wanted) = (route.object.namespace.as_str(), route.tls.as_ref()?);
            let slot = (namespace.to_owned(), wanted.secret.clone(), wanted.min_version);
            let testimony = heard.entry(slot).or_insert_with(|| {
                grants.permit_secret(namespace, &wanted.secret, wanted.field).ok()?;
                certificates.testimony(wanted, namespace, &mut ledger).map(Arc::new)
            });
            testimony.clone()
        })
    }

    /// Gives the routes their places in the table. They come in order of precedence; those of a hostname's owner go before
    /// all others under it.
    fn place(
        &mut self,
        routes: &[CheckedRoute<'a>],
        ownership: &mut Ownership,
        claims: &HostnameClaims,
    ) {
        let mut candidates = Vec::with_capacity(routes.len());
        for route in routes {
            let mut candidate = self.candidate(route, ownership);
            candidate.place(Standing::Owner, ownership, &mut self.hosts);
            if !candidate.is_guest(ownership) {
                candidate.give_back(&mut self.ledger);
            }
            candidates.push(candidate);
        }
        for candidate in &mut candidates {
            candidate.place(Standing::Guest, ownership, &mut self.hosts);
            candidate.give_back(&mut self.ledger);
        }
        for standing in [Standing::Owner, Standing::Guest] {
            for candidate in &mut candidates {
                candidate.claim(standing, ownership, &mut self.hosts);
            }
        }
        ownership.reserve(claims, |hostname| self.hosts.serve(hostname));
        for candidate in candidates {
            let (route, findings) = candidate.finish(ownership, &self.grants, &self.ledger.budgets);
            self.findings.insert(route, findings);
        }
    }

    /// A route with all that it refers to looked up.
    fn candidate<'r>(
        &mut self,
        route: &'r CheckedRoute<'a>,
        ownership: &Ownership,
    ) -> Candidate<'r, 'a> {
        let mut findings = Findings::new(route.generation);
        let mut candidate = Candidate::new(route);
        if let Some(message) = &route.rejected {
            findings.rejected = Some(Fault { reason: Reason::Invalid, message: message.clone() });
            candidate.findings = findings;
            return candidate;
        }
        for message in &route.faults {
            findings.partial.push(Fault { reason: Reason::Invalid, message: message.clone() });
        }
        let namespace = route.object.namespace.as_str();
        let hostnames = route.hostnames.iter().copied();
        candidate.hostnames = hostnames
            .filter(|hostname| ownership.standing(namespace, hostname).takes_part())
            .collect();
        // What is another's costs nothing, so it is not looked up either.
        if candidate.hostnames.is_empty() {
            candidate.findings = findings;
            return candidate;
        }
        let size = RouteSize { hostnames: candidate.hostnames.len(), ..route.size() };
        match self.ledger.take_route(namespace, size) {
            Ok(()) => candidate.paid = Some(size),
            Err(over) => {
                findings.rejected = Some(over);
                candidate.hostnames.clear();
                candidate.findings = findings;
                return candidate;
            }
        }
        candidate.claim = self.certificate(route, &candidate.hostnames, &mut findings);
        candidate.rules = route
            .rules
            .iter()
            .map(|checked| Arc::new(self.rule(route, checked, &mut findings)))
            .collect();
        candidate.findings = findings;
        candidate
    }

    /// What the route says about its hostnames' certificate.
    fn certificate(
        &mut self,
        route: &CheckedRoute<'_>,
        hostnames: &[&str],
        findings: &mut Findings,
    ) -> Option<Claim> {
        let wanted = route.tls.as_ref()?;
        let identity = self
            .grants
            .permit_secret(&route.object.namespace, &wanted.secret, wanted.field)
            .and_then(|()| {
                self.certificates.identity(wanted, &route.object.namespace, &mut self.ledger)
            });
        match &identity {
            Ok(identity) => {
                findings.warnings.extend(self.certificates.doubts(identity, hostnames));
            }
            Err(fault) => findings.unresolved.push(fault.clone()),
        }
        Some(Claim {
            secret: wanted.secret.clone(),
            min_version: wanted.min_version,
            identity: identity.ok(),
            hsts: wanted.hsts.clone(),
        })
    }

    fn rule(
        &mut self,
        route: &CheckedRoute<'_>,
        checked: &CheckedRule<'_>,
        findings: &mut Findings,
    ) -> Rule {
        let spec = checked.spec;
        Rule {
            route: route.object.clone(),
            name: checked.name.clone(),
            plaintext: match route.spec.plaintext {
                tidegate_api::Plaintext::Refuse => tidegate_table::Plaintext::Refuse,
                tidegate_api::Plaintext::Redirect => tidegate_table::Plaintext::Redirect,
                tidegate_api::Plaintext::Allow => tidegate_table::Plaintext::Allow,
            },
            http: match spec.http {
                tidegate_api::HttpMode::Refuse => tidegate_table::HttpMode::Refuse,
                tidegate_api::HttpMode::Forward => tidegate_table::HttpMode::Forward,
            },
            path_allow: policy::resolve_path(&spec.path),
            timeouts: policy::resolve_timeouts(&spec.timeouts),
            keepalive: policy::resolve_keepalive(spec),
            frames: policy::resolve_frames(spec.frames),
            limits: policy::resolve_limits(&spec.limits),
            load_balancing: load_balancing::resolve(&spec.load_balancing),
            connect_attempts: spec.retry.connect_attempts,
            drain: policy::resolve_drain(&spec.drain),
            subprotocols: subprotocols(spec),
            backends: self.backends.of_rule(
                &route.object.namespace,
                checked,
                &mut self.ledger,
                findings,
            ),
        }
    }
}

/// All that the matches of a rule name, each once.
fn subprotocols(spec: &tidegate_api::RouteRule) -> Vec<String> {
    let named = spec.matches.iter().flat_map(|wanted| &wanted.subprotocols);
    named.cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests;
