//! One route on its way into the table: placed, its certificate chosen, and what there is to say about it in the end.

use std::sync::Arc;

use tidegate_api::Reason;
use tidegate_table::{ObjectRef, Rule};

use super::{
    Fault,
    budget::{Budgets, Ledger, RouteSize},
    conflicts::{Claim, Hosts, Unplaced},
    grants::Grants,
    ownership::{Ownership, Standing},
    routes::CheckedRoute,
    status::{self, Findings},
};

/// A route on its way into the table.
pub(super) struct Candidate<'r, 'a> {
    pub(super) route: &'r CheckedRoute<'a>,
    /// Those in which its namespace takes part.
    pub(super) hostnames: Vec<&'a str>,
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) claim: Option<Claim>,
    /// What was paid for it.
    pub(super) paid: Option<RouteSize>,
    unplaced: Unplaced<'r>,
    served: Vec<&'a str>,
    /// Those whose certificate is the one that it wants.
    held: Vec<&'a str>,
    lost_claims: Vec<String>,
    pub(super) findings: Findings,
}

impl<'r, 'a> Candidate<'r, 'a> {
    pub(super) fn new(route: &'r CheckedRoute<'a>) -> Self {
        Self {
            route,
            hostnames: Vec::new(),
            rules: Vec::new(),
            claim: None,
            paid: None,
            unplaced: Unplaced::default(),
            served: Vec::new(),
            held: Vec::new(),
            lost_claims: Vec::new(),
            findings: Findings::new(route.generation),
        }
    }

    /// Those of `hostnames` to which its namespace stands so.
    fn standing(&self, hostnames: &[&'a str], wanted: Standing, by: &Ownership) -> Vec<&'a str> {
        let namespace = &self.route.object.namespace;
        let hostnames = hostnames.iter().copied();
        hostnames.filter(|hostname| by.standing(namespace, hostname) == wanted).collect()
    }

    pub(super) fn place(
        &mut self,
        standing: Standing,
        ownership: &Ownership,
        hosts: &mut Hosts<'a>,
    ) {
        let hostnames = self.standing(&self.hostnames, standing, ownership);
        let served = hosts.place(self.route, &hostnames, &self.rules, &mut self.unplaced);
        self.served.extend(served);
    }

    pub(super) fn claim(
        &mut self,
        standing: Standing,
        ownership: &Ownership,
        hosts: &mut Hosts<'a>,
    ) {
        let Some(claim) = &self.claim else { return };
        let hostnames = self.standing(&self.served, standing, ownership);
        let outcome = hosts.claim(&self.route.object, &hostnames, claim, (standing, ownership));
        self.held.extend(outcome.held);
        self.lost_claims.extend(outcome.lost);
    }

    /// Whether it has hostnames that are another's, who admits it.
    pub(super) fn is_guest(&self, ownership: &Ownership) -> bool {
        !self.standing(&self.hostnames, Standing::Guest, ownership).is_empty()
    }

    /// Takes back what was paid for it, if it has no place in the table.
    pub(super) fn give_back(&mut self, ledger: &mut Ledger) {
        if self.served.is_empty()
            && let Some(size) = self.paid.take()
        {
            ledger.give_back(&self.route.object.namespace, size);
            // What is not paid for is not kept: there may be any number of such routes.
            self.rules = Vec::new();
            self.findings.shorten();
        }
    }

    /// What there is to say about it.
    pub(super) fn finish(
        mut self,
        ownership: &Ownership,
        grants: &Grants<'_>,
        budgets: &Budgets,
    ) -> (ObjectRef, Findings) {
        let (route, mut findings) = (self.route, self.findings);
        let object = route.object.clone();
        if findings.rejected.is_some() {
            return (object, findings);
        }
        let refused = ownership.refusals(&object.namespace, &route.hostnames, grants);
        let (lost, over) = self.unplaced.sentences(&object, budgets);
        if self.hostnames.is_empty() {
            findings.reject_as(Reason::HostnameNotPermitted, refused);
            return (object, findings);
        }
        let refusal = |message| Fault { reason: Reason::HostnameNotPermitted, message };
        findings.partial.extend(refused.into_iter().map(refusal));
        if self.served.is_empty() {
            let reason = match lost.len() {
                0 => Reason::BudgetExceeded,
                _ => Reason::Conflicted,
            };
            findings.reject_as(reason, lost.into_iter().chain(over).collect());
            return (object, findings);
        }
        let too_many = |message| Fault { reason: Reason::BudgetExceeded, message };
        findings.partial.extend(over.into_iter().map(too_many));
        if route.spec.plaintext == tidegate_api::Plaintext::Allow {
            findings.notes.push(
                "spec.plaintext is Allow: ws:// on port 80 is served in clear text, which anyone on the way can read and \
                 change, and proxies may break."
                    .into(),
            );
        }
        let wildcards = self.served.iter().filter_map(|served| served.strip_prefix("*."));
        let kept = wildcards.flat_map(|parent| ownership.kept_from(parent, &object.namespace));
        findings.notes.extend(kept);
        self.served.sort_by_key(|served| route.hostnames.iter().position(|name| name == served));
        findings.served = self.served.iter().map(|&hostname| hostname.to_owned()).collect();
        let conflict = |message| Fault { reason: Reason::Conflicted, message };
        findings.partial.extend(lost.into_iter().chain(self.lost_claims).map(conflict));
        let unusable = self.claim.is_some_and(|claim| claim.identity.is_none());
        if unusable && !self.held.is_empty() {
            findings.unserved.push(format!(
                "Clients of {} are shown a self-made certificate, which they refuse, until the \
                 fault under ResolvedRefs is mended.",
                status::list(&self.held)
            ));
        }
        (object, findings)
    }
}
