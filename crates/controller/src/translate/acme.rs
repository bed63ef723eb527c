//! From Services to solvers of ACME's HTTP-01 challenges, by the labels that cert-manager gives those of its own.
//!
//! Such a Service lives for as long as a challenge does. cert-manager makes an Ingress or an HTTPRoute beside it, which tells no more
//! than its labels do, and needs no kind of its own to be read here.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use tidegate_api::Reason;
use tidegate_table::{Solver, SolverKey, Solvers};

use super::{
    SolverFinding,
    backends::{Backends, is_external, transport},
    budget::Budgets,
    endpoints::endpoints,
};

/// Says that a Service is a solver's.
const SOLVER_LABEL: &str = "acme.cert-manager.io/http01-solver";
/// The Adler-32 of the name to be validated, decimal.
const DOMAIN_LABEL: &str = "acme.cert-manager.io/http-domain";
/// The Adler-32 of the challenge's token, decimal.
const TOKEN_LABEL: &str = "acme.cert-manager.io/http-token";
/// The port of such a Service.
const SOLVER_PORT: i32 = 8089;

impl Backends<'_> {
    /// Every Service that answers challenges, and what is wrong with some. What has the labels only in part, or not that port,
    /// is none. Of each namespace the first by name are taken, as many as its budget has.
    pub(super) fn solvers(&self, budgets: &Budgets) -> (Solvers, Vec<SolverFinding>) {
        let mut solvers = Vec::new();
        let mut findings = Vec::new();
        let mut count = 0;
        let mut before = None;
        // By namespace, then by name.
        for (name, service) in &self.inputs.services {
            let Some((key, port)) = challenge(service) else { continue };
            if before.replace(&name.namespace) != Some(&name.namespace) {
                count = 0;
            }
            count += 1;
            let most = budgets.solvers_per_namespace;
            if count > most {
                if count == most + 1 {
                    findings.push(SolverFinding {
                        service: name.clone(),
                        reason: Reason::BudgetExceeded,
                        message: format!(
                            "a namespace may have {most} Services that are labelled as solvers of ACME challenges, and this \
                             one and those after it by name are left out. Delete those of challenges that are over."
                        ),
                    });
                }
                continue;
            }
            let most = budgets.endpoints_per_solver;
            let written = self.written(name);
            if written > budgets.endpoints_per_service {
                findings.push(SolverFinding {
                    service: name.clone(),
                    reason: Reason::BudgetExceeded,
                    message: format!(
                        "its EndpointSlices have {written} addresses, and a solver of ACME challenges may have {}; it is left \
                         out. Write those of its pods.",
                        budgets.endpoints_per_service
                    ),
                });
                continue;
            }
            let resolved =
                endpoints(service, port, self.slices(name), (self.zone, &self.judge, most));
            findings.extend(resolved.refused.iter().map(|message| SolverFinding {
                service: name.clone(),
                reason: Reason::EndpointNotPermitted,
                message: message.clone(),
            }));
            solvers.push((key, Solver { service: name.clone(), endpoints: resolved.endpoints }));
        }
        (solvers.into_iter().collect(), findings)
    }
}

/// What a Service answers for, and at which port.
fn challenge(service: &Service) -> Option<(SolverKey, &ServicePort)> {
    let labels = service.metadata.labels.as_ref()?;
    if labels.get(SOLVER_LABEL)? != "true" || is_external(service) {
        return None;
    }
    let checksum = |label| labels.get(label)?.parse::<u32>().ok();
    let key = SolverKey { domain: checksum(DOMAIN_LABEL)?, token: checksum(TOKEN_LABEL)? };
    let ports = service.spec.as_ref()?.ports.as_deref()?;
    let is_solvers = |port: &&ServicePort| {
        port.port == SOLVER_PORT && transport(port.protocol.as_deref()) == "TCP"
    };
    Some((key, ports.iter().find(is_solvers)?))
}
