//! From Services to solvers of ACME's HTTP-01 challenges, by the labels that cert-manager gives those of its own.
//!
//! Such a Service lives for as long as a challenge does. cert-manager makes an Ingress or an HTTPRoute beside it, which tells no more
//! than its labels do, and needs no kind of its own to be read here.

use k8s_openapi::api::core::v1::{Service, ServicePort};

use super::{
    backends::{Backends, is_external, transport},
    endpoints::endpoints,
};
use crate::table::{Solver, SolverKey, Solvers};

/// Says that a Service is a solver's.
const SOLVER_LABEL: &str = "acme.cert-manager.io/http01-solver";
/// The Adler-32 of the name to be validated, decimal.
const DOMAIN_LABEL: &str = "acme.cert-manager.io/http-domain";
/// The Adler-32 of the challenge's token, decimal.
const TOKEN_LABEL: &str = "acme.cert-manager.io/http-token";
/// The port of such a Service.
const SOLVER_PORT: i32 = 8089;

impl Backends<'_> {
    /// Every Service that answers challenges. What has the labels only in part, or not that port, is none.
    pub(super) fn solvers(&self) -> Solvers {
        let services = self.inputs.services.iter();
        let solvers = services.filter_map(|(name, service)| {
            let (key, port) = challenge(service)?;
            let (endpoints, _) = endpoints(service, port, self.slices(name), self.zone);
            Some((key, Solver { service: name.clone(), endpoints }))
        });
        solvers.collect()
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
