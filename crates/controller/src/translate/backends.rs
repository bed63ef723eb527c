//! From backendRefs to backends: Services, their ports, and trust in the pods' certificates.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::EndpointSlice,
};
use tidegate_api::{APP_PROTOCOL_WSS, BackendRef, CaCertificateKind, CaCertificateRef, Reason};
use tidegate_table::{Backend, BackendTls, Endpoints, ObjectRef, TrustError};

use super::{
    Fault, Inputs,
    addresses::{EndpointPolicy, Judge},
    budget::{Ledger, MAX_CA_BYTES},
    certificates::TLS_SECRET,
    endpoints::{Resolved, endpoints},
    routes::CheckedRule,
    secrets, status,
    status::Findings,
};

/// The label by which an EndpointSlice names its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The key of CA certificates.
const CA_KEY: &str = "ca.crt";

/// TLS settings towards backends, by the name expected and the authorities trusted (`None`: any certificate).
/// Sessions are resumed by them, so they live on from table to table.
#[derive(Debug, Default)]
pub(super) struct TrustCache {
    entries: HashMap<(String, Option<Vec<u8>>), Trust>,
}

#[derive(Debug)]
struct Trust {
    made: Result<Arc<BackendTls>, TrustError>,
    used: bool,
}

impl TrustCache {
    /// Drops what no backend asked for since the last call.
    pub(super) fn forget_unused(&mut self) {
        self.entries.retain(|_, trust| std::mem::take(&mut trust.used));
    }

    fn get(&mut self, server_name: &str, ca: Option<&[u8]>) -> Result<Arc<BackendTls>, TrustError> {
        let key = (server_name.to_owned(), ca.map(<[u8]>::to_vec));
        let trust = self.entries.entry(key).or_insert_with(|| {
            let made = match ca {
                Some(ca) => BackendTls::verified(server_name, ca),
                None => BackendTls::unverified(server_name),
            };
            Trust { made: made.map(Arc::new), used: true }
        });
        trust.used = true;
        trust.made.clone()
    }
}

/// The backends of one translation.
pub(super) struct Backends<'a> {
    pub(super) inputs: &'a Inputs,
    trust: &'a mut TrustCache,
    /// Our own zone.
    pub(super) zone: Option<&'a str>,
    /// What may be dialled.
    pub(super) judge: Judge<'a>,
    /// EndpointSlices by namespace and Service.
    slices: HashMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>,
    /// How many addresses they have.
    written: HashMap<(&'a str, &'a str), usize>,
    /// What was found out about a Service's port: many rules may lead to one.
    ports: HashMap<(ObjectRef, u16), Result<Port, Fault>>,
    /// TLS settings that were made, by namespace, name and the place of the authorities' text.
    trusts: HashMap<TrustPlace, Result<Arc<BackendTls>, Fault>>,
}

/// Namespace, name, and where the text of the authorities is, with its length.
type TrustPlace = (String, String, Option<(usize, usize)>);

/// A port of a Service.
#[derive(Clone)]
struct Port {
    tls: bool,
    /// The appProtocol, for messages.
    protocol: Option<Arc<str>>,
    resolved: Resolved,
}

impl<'a> Backends<'a> {
    pub(super) fn new(
        inputs: &'a Inputs,
        trust: &'a mut TrustCache,
        zone: Option<&'a str>,
        policy: &'a EndpointPolicy,
    ) -> Self {
        let (mut slices, mut written) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, usize>::new());
        for slice in &inputs.endpoint_slices {
            let labels = slice.metadata.labels.as_ref();
            let Some(service) = labels.and_then(|labels| labels.get(SERVICE_LABEL)) else {
                continue;
            };
            let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
            let addresses = slice.endpoints.iter().map(|endpoint| endpoint.addresses.len());
            *written.entry((namespace, service.as_str())).or_default() += addresses.sum::<usize>();
            slices.entry((namespace, service.as_str())).or_default().push(slice.as_ref());
        }
        let judge = Judge::new(policy);
        let mut backends = Self {
            inputs,
            trust,
            zone,
            judge,
            slices,
            written,
            ports: HashMap::new(),
            trusts: HashMap::new(),
        };
        backends.find_ourselves();
        backends
    }

    /// Looks for the Services that we are behind, so that neither they nor our other replicas are taken for endpoints. Only in
    /// our own namespace: elsewhere anyone could put our address beside those of others, and take theirs away.
    fn find_ourselves(&mut self) {
        let inputs = self.inputs;
        for (name, service) in &inputs.services {
            if !self.judge.may_be_ours(name) {
                continue;
            }
            let addresses: Vec<_> =
                self.slices(name).iter().flat_map(|slice| socket_addresses(slice)).collect();
            if !addresses.iter().any(|address| self.judge.is_own(*address)) {
                continue;
            }
            let Some(spec) = &service.spec else { continue };
            let published = inputs.addresses.iter().flatten().map(|address| address.value.as_str());
            let given = spec.cluster_ips.iter().chain(&spec.external_ips).flatten();
            let given: Vec<IpAddr> = given
                .map(String::as_str)
                .chain(published)
                .filter_map(|ip| ip.parse().ok())
                .collect();
            let ports =
                spec.ports.iter().flatten().filter_map(|port| u16::try_from(port.port).ok());
            let fronts =
                ports.flat_map(|port| given.iter().map(move |ip| SocketAddr::new(*ip, port)));
            fronts.chain(addresses).for_each(|address| self.judge.add(address));
        }
    }

    /// The backends of a rule that can be resolved. The others' shares go to these; where none is left,
    /// upgrades are refused.
    pub(super) fn of_rule(
        &mut self,
        namespace: &str,
        rule: &CheckedRule<'_>,
        ledger: &mut Ledger,
        findings: &mut Findings,
    ) -> Vec<Backend> {
        let mut backends = Vec::with_capacity(rule.spec.backend_refs.len());
        let mut missing = Vec::new();
        for (index, reference) in rule.spec.backend_refs.iter().enumerate() {
            let field = format!("spec.rules[{}].backendRefs[{index}]", rule.index);
            match self.resolve(namespace, reference, &field, ledger) {
                Ok((backend, resolved)) => {
                    findings.notes.extend(resolved.ignored.iter().cloned());
                    // Several rules may lead to one Service; once is enough.
                    for message in resolved.refused.iter() {
                        if findings.unresolved.iter().all(|fault| fault.message != *message) {
                            let (reason, message) = (Reason::EndpointNotPermitted, message.clone());
                            findings.unresolved.push(Fault { reason, message });
                        }
                    }
                    backends.push(backend);
                }
                Err(fault) => {
                    findings.unresolved.push(fault);
                    missing.push(field);
                }
            }
        }
        let takes_connections = |backend: &Backend| backend.weight > 0;
        if !missing.is_empty() {
            let whose = if missing.len() == 1 { "its share goes" } else { "their shares go" };
            let missing = status::list(&missing);
            findings.unserved.push(if backends.iter().any(takes_connections) {
                format!("{missing} cannot be served: {whose} to the rule's other backends.")
            } else {
                let rule = rule.index;
                format!(
                    "{missing} cannot be served: spec.rules[{rule}] has no other backend, so upgrades are answered \
                     503 no_endpoints."
                )
            });
        }
        let any = |ready: fn(&Endpoints) -> bool| {
            backends.iter().any(|backend| takes_connections(backend) && ready(&backend.endpoints))
        };
        let (ready, leaving) = (any(Endpoints::any_ready), any(Endpoints::any_leaving));
        for backend in backends.iter().filter(|backend| takes_connections(backend)) {
            if !backend.endpoints.any_ready() {
                let (service, port) = (&backend.service, backend.port);
                let consequence = if !ready && backend.endpoints.any_leaving() {
                    "connections go to those that are terminating but still serve, until one is ready"
                } else if ready || leaving {
                    "it takes no connections until one is ready"
                } else {
                    "upgrades are answered 503 no_endpoints until one is ready"
                };
                let note =
                    format!("Backend {service}:{port} has no ready endpoint: {consequence}.");
                findings.notes.push(note);
            }
        }
        // Several rules may lead to one Service; once is enough.
        let mut told = BTreeSet::new();
        findings.notes.retain(|note| told.insert(note.clone()));
        backends
    }

    fn resolve(
        &mut self,
        namespace: &str,
        reference: &BackendRef,
        field: &str,
        ledger: &mut Ledger,
    ) -> Result<(Backend, Resolved), Fault> {
        let service = ObjectRef { namespace: namespace.to_owned(), name: reference.name.clone() };
        let number = reference.port;
        let key = (service.clone(), number);
        let port = match self.ports.get(&key) {
            Some(known) => known.clone(),
            None => {
                let found = self.port(&service, number, ledger);
                self.ports.insert(key, found.clone());
                found
            }
        };
        let in_field =
            |fault: Fault| Fault { message: format!("{field}: {}", fault.message), ..fault };
        let port = port.map_err(in_field)?;
        let tls = self.tls(&service, reference, &port, ledger).map_err(in_field)?;
        let resolved = port.resolved;
        let endpoints = resolved.endpoints.clone();
        Ok((Backend { service, port: number, weight: reference.weight, tls, endpoints }, resolved))
    }

    fn port(&self, name: &ObjectRef, number: u16, ledger: &mut Ledger) -> Result<Port, Fault> {
        let not_found = |message| Err(Fault { reason: Reason::BackendNotFound, message });
        let unsupported = |message| Err(Fault { reason: Reason::UnsupportedProtocol, message });
        let Some(service) = self.inputs.services.get(name) else {
            return not_found(format!(
                "there is no Service {name}. Create it, or correct the name."
            ));
        };
        if is_external(service) {
            return not_found(format!(
                "Service {name} is of type ExternalName, which is not supported: it has no endpoints. Make it a \
                 Service without a selector, and write an EndpointSlice with the addresses."
            ));
        }
        let ports =
            service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        let same = || ports.iter().filter(|port| port.port == i32::from(number));
        let Some(port) = same().find(|port| transport(port.protocol.as_deref()) == "TCP") else {
            return match same().next() {
                Some(port) => unsupported(format!(
                    "port {number} of Service {name} is {}. WebSockets need a TCP port.",
                    transport(port.protocol.as_deref())
                )),
                None => not_found(format!(
                    "Service {name} has no port {number}; {}. Correct the number: it is the Service's port, not the \
                     targetPort of the pods.",
                    has_ports(ports)
                )),
            };
        };
        let protocol = port.app_protocol.as_deref().filter(|protocol| !protocol.is_empty());
        let Some(tls) = speaks_tls(protocol) else {
            return unsupported(format!(
                "port {number} of Service {name} has appProtocol {}, which cannot carry WebSockets to the pods: \
                 they are reached by HTTP/1.1. Name a port that speaks it (appProtocol kubernetes.io/ws or \
                 {APP_PROTOCOL_WSS}).",
                protocol.unwrap_or_default()
            ));
        };
        // Paid for before they are looked at: it is the looking that costs.
        ledger.take_endpoints(&name.namespace, self.written(name)).map_err(|what| Fault {
            reason: Reason::BudgetExceeded,
            message: format!("port {number} of Service {name} {what}"),
        })?;
        let most = ledger.budgets.endpoints_per_service;
        let resolved = endpoints(service, port, self.slices(name), (self.zone, &self.judge, most));
        Ok(Port { tls, protocol: protocol.map(Arc::from), resolved })
    }

    /// How many addresses the EndpointSlices of a Service have.
    pub(super) fn written(&self, service: &ObjectRef) -> usize {
        self.written.get(&(service.namespace.as_str(), service.name.as_str())).copied().unwrap_or(0)
    }

    /// The EndpointSlices of a Service.
    pub(super) fn slices<'b>(&'b self, service: &'b ObjectRef) -> &'b [&'a EndpointSlice] {
        let slices = self.slices.get(&(service.namespace.as_str(), service.name.as_str()));
        slices.map(Vec::as_slice).unwrap_or_default()
    }

    fn tls(
        &mut self,
        service: &ObjectRef,
        reference: &BackendRef,
        port: &Port,
        ledger: &mut Ledger,
    ) -> Result<Option<Arc<BackendTls>>, Fault> {
        let fault = |message| Fault { reason: Reason::InvalidBackendTls, message };
        let number = reference.port;
        let tls = match (port.tls, &reference.tls) {
            (false, None) => return Ok(None),
            (true, Some(tls)) => tls,
            (true, None) => {
                return Err(fault(format!(
                    "port {number} of Service {service} speaks TLS (appProtocol {}), but tls does not say how its \
                     certificate is verified. Set tls.caCertificateRef.name to a ConfigMap that holds the authority \
                     under {CA_KEY}, or tls.insecureSkipVerify: true to accept any certificate.",
                    port.protocol.as_deref().unwrap_or_default()
                )));
            }
            (false, Some(_)) => {
                return Err(fault(format!(
                    "tls is set, but port {number} of Service {service} speaks clear text ({}). Set appProtocol: \
                     {APP_PROTOCOL_WSS} on that port of the Service, or remove tls here.",
                    match port.protocol.as_deref() {
                        Some(protocol) => format!("appProtocol {protocol}"),
                        None => "it has no appProtocol".to_owned(),
                    }
                )));
            }
        };
        let server_name = match &tls.hostname {
            Some(hostname) => hostname.clone(),
            None => format!("{}.{}.svc", service.name, service.namespace),
        };
        let inputs = self.inputs;
        let ca = match (&tls.ca_certificate_ref, tls.insecure_skip_verify) {
            (Some(reference), false) => {
                if reference.kind == CaCertificateKind::Secret {
                    let (namespace, name) = (service.namespace.clone(), reference.name.clone());
                    let secret = ObjectRef { namespace, name };
                    if let Some(unread) = secrets::unread(inputs, &secret, "tls.caCertificateRef") {
                        return Err(unread);
                    }
                }
                Some(authorities(inputs, &service.namespace, reference).map_err(fault)?)
            }
            (None, true) => None,
            _ => {
                return Err(fault(
                    "tls: set caCertificateRef to verify the backend's certificate, or insecureSkipVerify: true to \
                     accept any, but not both."
                        .into(),
                ));
            }
        };
        // Text of the inputs stays where it is: its place is as good as its content, and quicker to compare.
        let place = ca.map(|ca| (ca.as_ptr().addr(), ca.len()));
        let slot = (service.namespace.clone(), server_name, place);
        if let Some(made) = self.trusts.get(&slot) {
            return made.clone().map(Some);
        }
        let made = self.trust(ledger, &service.namespace, &slot.1, ca, tls);
        self.trusts.insert(slot, made.clone());
        made.map(Some)
    }

    fn trust(
        &mut self,
        ledger: &mut Ledger,
        namespace: &str,
        server_name: &str,
        ca: Option<&[u8]>,
        tls: &tidegate_api::BackendTls,
    ) -> Result<Arc<BackendTls>, Fault> {
        ledger
            .take_authorities(namespace, ca.map_or(0, <[u8]>::len))
            .map_err(|message| Fault { reason: Reason::BudgetExceeded, message })?;
        let origin = tls
            .ca_certificate_ref
            .as_ref()
            .map(|reference| format!(" ({} {namespace}/{})", kind(reference.kind), reference.name));
        self.trust.get(server_name, ca).map_err(|error| Fault {
            reason: Reason::InvalidBackendTls,
            message: format!(
                "tls: {error}{}. Correct tls.hostname, or put the authority's certificate in PEM under {CA_KEY}.",
                origin.unwrap_or_default()
            ),
        })
    }
}

/// The content of `ca.crt`, or what is wrong with the object that should have it.
fn authorities<'a>(
    inputs: &'a Inputs,
    namespace: &str,
    reference: &CaCertificateRef,
) -> Result<&'a [u8], String> {
    let name = ObjectRef { namespace: namespace.to_owned(), name: reference.name.clone() };
    let kind = kind(reference.kind);
    let found = match reference.kind {
        CaCertificateKind::ConfigMap => inputs.config_maps.get(&name).and_then(|map| {
            let text = map.data.as_ref().and_then(|data| data.get(CA_KEY)).map(String::as_bytes);
            let binary = || map.binary_data.as_ref()?.get(CA_KEY).map(|value| value.0.as_slice());
            text.or_else(binary)
        }),
        CaCertificateKind::Secret => {
            let secret = inputs.secrets.get(&name);
            let is = secret.map(|secret| secret.type_.as_deref().unwrap_or("Opaque"));
            if let Some(is) = is.filter(|is| *is != TLS_SECRET) {
                return Err(format!(
                    "tls.caCertificateRef: Secret {name} is of type {is}, not {TLS_SECRET}. A certificate is no \
                     secret: put it into a ConfigMap under {CA_KEY}."
                ));
            }
            secret.and_then(|secret| Some(secret.data.as_ref()?.get(CA_KEY)?.0.as_slice()))
        }
    };
    if found.is_some_and(|ca| ca.len() > MAX_CA_BYTES) {
        return Err(format!(
            "tls.caCertificateRef: {CA_KEY} in {kind} {name} has more than {MAX_CA_BYTES} bytes, the most that is read. Put only \
             the authority that signed the backend's certificate there."
        ));
    }
    found.filter(|ca| !ca.is_empty()).ok_or_else(|| {
        let of_type = match reference.kind {
            CaCertificateKind::ConfigMap => String::new(),
            CaCertificateKind::Secret => {
                format!(" of type {TLS_SECRET}{}", secrets::condition(inputs))
            }
        };
        format!(
            "tls.caCertificateRef: there is no {kind} {name}{of_type} with the key {CA_KEY}. Create it with the \
             certificate of the authority that signed the backend's."
        )
    })
}

fn kind(kind: CaCertificateKind) -> &'static str {
    match kind {
        CaCertificateKind::ConfigMap => "ConfigMap",
        CaCertificateKind::Secret => "Secret",
    }
}

/// Every address of a slice with every port of it.
fn socket_addresses(slice: &EndpointSlice) -> impl Iterator<Item = SocketAddr> + '_ {
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    addresses.filter_map(|address| address.parse().ok()).flat_map(|ip: IpAddr| {
        let ports = slice.ports.iter().flatten();
        ports
            .filter_map(|port| u16::try_from(port.port?).ok())
            .map(move |port| SocketAddr::new(ip, port))
    })
}

pub(super) fn is_external(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

pub(super) fn transport(protocol: Option<&str>) -> &str {
    protocol.unwrap_or("TCP")
}

fn has_ports(ports: &[ServicePort]) -> String {
    let ports: Vec<_> = ports
        .iter()
        .map(|port| match port.name.as_deref() {
            Some(name) if !name.is_empty() => format!("{} ({name})", port.port),
            _ => port.port.to_string(),
        })
        .collect();
    if ports.is_empty() { "it has none".into() } else { format!("it has {}", status::list(&ports)) }
}

/// Whether a port of this appProtocol speaks TLS; `None` if it cannot carry WebSockets over HTTP/1.1. KEP-3726 has the
/// names with a prefix, IANA the bare ones; in doubt it is clear text, as it is without one.
fn speaks_tls(protocol: Option<&str>) -> Option<bool> {
    match protocol.unwrap_or_default().to_ascii_lowercase().as_str() {
        "kubernetes.io/wss" | "wss" | "https" => Some(true),
        "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" | "grpcs" | "kubernetes.io/grpc" => None,
        _ => Some(false),
    }
}
