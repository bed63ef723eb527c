//! From what is declared to what is served: `Inputs → Output`, a pure function.
//!
//! No I/O, no clock, no randomness, no tokio: the same inputs give the same output, in whatever
//! order they come, which is how the golden files of `tests/golden` can hold everything a user sees.
//! The time at which certificates are judged is one of the inputs.
//!
//! [`Translator`] remembers what is dear to make (parsed certificates and trust) by its content, so
//! that what has not changed is the same object in the next table. It changes no answer.

mod acme;
mod backends;
mod certificates;
mod conflicts;
mod endpoints;
mod grants;
mod inputs;
mod load_balancing;
mod output;
mod policy;
mod routes;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use grants::permits;
pub use inputs::{Inputs, RouteInput};
pub use output::{ConditionOutput, Output, Problem, RouteStatus};

use crate::{
    api::{self, Reason},
    table::{ObjectRef, RoutingTable, Rule, Solvers},
};
use backends::{Backends, TrustCache};
use certificates::{CertificateCache, Certificates};
use conflicts::{Claim, Hosts};
use grants::Grants;
use routes::{CheckedRoute, CheckedRule};
use status::Findings;

/// Translates again and again; certificates that did not change are not parsed again, and keep their
/// TLS session tickets from table to table.
#[derive(Debug, Default)]
pub struct Translator {
    zone: Option<String>,
    no_solvers: bool,
    certificates: CertificateCache,
    trust: TrustCache,
}

/// Builds the table and the statuses for the routes of `class`, once.
pub fn translate(inputs: &Inputs, class: &str) -> Output {
    Translator::default().translate(inputs, class)
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

    /// Builds the table and the statuses for the routes of `class`. Equal inputs give equal outputs,
    /// whatever was translated before.
    pub fn translate(&mut self, inputs: &Inputs, class: &str) -> Output {
        let mut work = Work {
            certificates: Certificates::new(inputs, &mut self.certificates),
            backends: Backends::new(inputs, &mut self.trust, self.zone.as_deref()),
            grants: Grants::new(inputs),
            hosts: Hosts::default(),
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
        for route in routes::by_precedence(&inputs.routes, class) {
            let checked = routes::check(route);
            let findings = work.take(&checked);
            work.findings.insert(checked.object, findings);
        }
        let next_change = work.certificates.next_change();
        let solvers = if self.no_solvers { Solvers::default() } else { work.backends.solvers() };
        let table = RoutingTable::new(work.hosts.build()).with_solvers(solvers);
        let (statuses, problems) = status::report(work.findings, inputs.addresses.as_deref());
        self.certificates.forget_unused();
        self.trust.forget_unused();
        Output { table, statuses, problems, next_change }
    }
}

impl<'a> Work<'a> {
    /// Gives a route its place in the table. Routes come in order of precedence.
    fn take(&mut self, route: &CheckedRoute<'a>) -> Findings {
        let mut findings = Findings::new(route.generation);
        if let Some(message) = &route.rejected {
            findings.rejected = Some(Fault { reason: Reason::Invalid, message: message.clone() });
            return findings;
        }
        for message in &route.faults {
            findings.partial.push(Fault { reason: Reason::Invalid, message: message.clone() });
        }
        let claim = self.certificate(route, &mut findings);
        let rules: Vec<_> = route
            .rules
            .iter()
            .map(|checked| Arc::new(self.rule(route, checked, &mut findings)))
            .collect();

        let placement = self.hosts.place(route, &rules);
        let lost = placement.lost.into_iter();
        if placement.served.is_empty() {
            let message = lost.collect::<Vec<_>>();
            findings.reject_as_conflicted(message);
            return findings;
        }
        if route.spec.plaintext == api::Plaintext::Allow {
            findings.notes.push(
                "spec.plaintext is Allow: ws:// on port 80 is served in clear text, which anyone on the way can read and \
                 change, and proxies may break."
                    .into(),
            );
        }
        findings.served = placement.served.iter().map(|&hostname| hostname.to_owned()).collect();
        findings.partial.extend(lost.map(|message| Fault { reason: Reason::Conflicted, message }));
        if let Some(claim) = claim {
            let unusable = claim.identity.is_none();
            let outcome = self.hosts.claim(&route.object, &placement.served, &claim);
            findings.partial.extend(
                outcome
                    .lost
                    .into_iter()
                    .map(|message| Fault { reason: Reason::Conflicted, message }),
            );
            if unusable && !outcome.held.is_empty() {
                findings.unserved.push(format!(
                    "Clients of {} are shown a self-made certificate, which they refuse, until the \
                     fault under ResolvedRefs is mended.",
                    status::list(&outcome.held)
                ));
            }
        }
        findings
    }

    /// What the route says about its hostnames' certificate.
    fn certificate(&mut self, route: &CheckedRoute<'_>, findings: &mut Findings) -> Option<Claim> {
        let wanted = route.tls.as_ref()?;
        let identity = self
            .grants
            .permit_secret(&route.object.namespace, &wanted.secret, wanted.field)
            .and_then(|()| self.certificates.identity(wanted));
        match &identity {
            Ok(identity) => {
                findings.warnings.extend(self.certificates.doubts(identity, &route.hostnames));
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
                api::Plaintext::Refuse => crate::table::Plaintext::Refuse,
                api::Plaintext::Redirect => crate::table::Plaintext::Redirect,
                api::Plaintext::Allow => crate::table::Plaintext::Allow,
            },
            http: match spec.http {
                api::HttpMode::Refuse => crate::table::HttpMode::Refuse,
                api::HttpMode::Forward => crate::table::HttpMode::Forward,
            },
            timeouts: policy::resolve_timeouts(&spec.timeouts),
            keepalive: policy::resolve_keepalive(spec),
            frames: policy::resolve_frames(spec.frames),
            limits: policy::resolve_limits(&spec.limits),
            load_balancing: load_balancing::resolve(&spec.load_balancing),
            connect_attempts: spec.retry.connect_attempts,
            drain: policy::resolve_drain(&spec.drain),
            subprotocols: subprotocols(spec),
            backends: self.backends.of_rule(&route.object.namespace, checked, findings),
        }
    }
}

/// All that the matches of a rule name, each once.
fn subprotocols(spec: &api::RouteRule) -> Vec<String> {
    let named = spec.matches.iter().flat_map(|wanted| &wanted.subprotocols);
    named.cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests;
