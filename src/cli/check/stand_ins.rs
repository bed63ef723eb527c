//! What stands in for objects that the files do not hold, so that the rest can be judged.
//!
//! A repository of routes seldom holds their Secrets, and never their EndpointSlices. Whoever refers to an object that was not
//! read gets one that fits, and a note that it was taken for granted. Nothing is put in the place of what was read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context, Result};
use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{ConfigMap, Secret, Service, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use rcgen::{CertificateParams, KeyPair};

use super::{reference, routes};
use crate::{
    api::{
        APP_PROTOCOL_WSS, BackendRef, CaCertificateKind, GROUP, ReferenceGrant, ReferenceGrantFrom,
        ReferenceGrantSpec, ReferenceGrantTo, WebSocketRoute,
    },
    table::ObjectRef,
    translate::{Inputs, permits},
};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Of a network for documentation (RFC 5737): nothing is sent there.
const ADDRESS: &str = "192.0.2.1";

/// Gives every Service with a selector that no EndpointSlice belongs to one: Kubernetes writes them, not people.
pub(super) fn endpoints(inputs: &mut Inputs) {
    let labelled = |slice: &EndpointSlice| {
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?.clone();
        let namespace = slice.metadata.namespace.clone().unwrap_or_default();
        Some(ObjectRef { namespace, name: service })
    };
    let served: BTreeSet<_> =
        inputs.endpoint_slices.iter().filter_map(|slice| labelled(slice)).collect();
    for (name, service) in &inputs.services {
        let spec = service.spec.as_ref();
        let selects = spec
            .and_then(|spec| spec.selector.as_ref())
            .is_some_and(|selector| !selector.is_empty());
        if selects && !served.contains(name) {
            let slice =
                slice(name, spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default());
            inputs.endpoint_slices.push(Arc::new(slice));
        }
    }
}

/// Adds what routes refer to and the files do not hold. The notes about that, by route.
pub(super) fn references(
    inputs: &mut Inputs,
    empty_config_maps: &BTreeSet<ObjectRef>,
) -> Result<BTreeMap<ObjectRef, Vec<String>>> {
    let mut wanted = Wanted::default();
    for route in routes(inputs) {
        wanted.look_at(route, inputs, empty_config_maps);
    }
    let Wanted { certificates, authorities, services, grants, notes } = wanted;
    let key = KeyPair::generate().context("cannot make a key")?;
    for (name, hostnames) in certificates {
        let names: Vec<_> = hostnames.into_iter().collect();
        let made = CertificateParams::new(names).and_then(|params| params.self_signed(&key));
        let pem = made.context("cannot make a certificate")?.pem();
        inputs.secrets.insert(name.clone(), Arc::new(secret(&name, &pem, &key)));
    }
    for (kind, name) in authorities {
        let made = CertificateParams::new([]).and_then(|params| params.self_signed(&key));
        let pem = made.context("cannot make a certificate")?.pem();
        match kind {
            CaCertificateKind::ConfigMap => {
                let data = Some([("ca.crt".to_owned(), pem)].into());
                let map = ConfigMap { metadata: metadata(&name), data, ..ConfigMap::default() };
                inputs.config_maps.insert(name, Arc::new(map));
            }
            CaCertificateKind::Secret => {
                let made = || Arc::new(secret(&name, &pem, &key));
                inputs.secrets.entry(name.clone()).or_insert_with(made);
            }
        }
    }
    for (name, ports) in services {
        let ports: Vec<_> = ports.into_iter().map(|(number, tls)| port(number, tls)).collect();
        inputs.endpoint_slices.push(Arc::new(slice(&name, &ports)));
        let spec = ServiceSpec { ports: Some(ports), ..ServiceSpec::default() };
        let service = Service { metadata: metadata(&name), spec: Some(spec), status: None };
        inputs.services.insert(name, Arc::new(service));
    }
    let grants = grants.into_iter().map(|(from, to)| Arc::new(grant(from, to)));
    inputs.reference_grants.get_or_insert_default().extend(grants);
    Ok(notes)
}

/// What is referred to and not there.
#[derive(Default)]
struct Wanted {
    /// Secrets, with the hostnames that their certificates are shown for.
    certificates: BTreeMap<ObjectRef, BTreeSet<String>>,
    authorities: BTreeSet<(CaCertificateKind, ObjectRef)>,
    /// Services, with their ports and whether these speak TLS.
    services: BTreeMap<ObjectRef, BTreeMap<u16, bool>>,
    /// From a namespace to a Secret.
    grants: BTreeSet<(String, ObjectRef)>,
    notes: BTreeMap<ObjectRef, Vec<String>>,
}

impl Wanted {
    fn look_at(
        &mut self,
        route: &WebSocketRoute,
        inputs: &Inputs,
        empty_config_maps: &BTreeSet<ObjectRef>,
    ) {
        let name = reference(route);
        let namespace = &name.namespace;
        let mut notes = Vec::new();
        if let Some(tls) = &route.spec.tls {
            let (field, secret) = match (&tls.secret_name, &tls.secret_ref) {
                (Some(secret), _) => ("spec.tls.secretName", here(namespace, secret)),
                (None, Some(secret)) => (
                    "spec.tls.secretRef",
                    here(secret.namespace.as_deref().unwrap_or(namespace), &secret.name),
                ),
                // The rules of the CRD let none through.
                (None, None) => return,
            };
            if !inputs.secrets.contains_key(&secret) {
                notes.push(format!(
                    "{field}: Secret {secret} is not among the files; taken as a sound certificate for the hostnames"
                ));
                let hostnames = self.certificates.entry(secret.clone()).or_default();
                hostnames.extend(route.spec.hostnames.iter().cloned());
            }
            if secret.namespace != *namespace && !permitted(inputs, namespace, &secret) {
                notes.push(format!(
                    "{field}: no ReferenceGrant among the files lets WebSocketRoutes of namespace {namespace} use Secret \
                     {secret}; taken as granted"
                ));
                self.grants.insert((namespace.clone(), secret));
            }
        }
        for (rule, spec) in route.spec.rules.iter().enumerate() {
            for (index, backend) in spec.backend_refs.iter().enumerate() {
                let field = format!("spec.rules[{rule}].backendRefs[{index}]");
                self.look_at_backend(
                    namespace,
                    &field,
                    backend,
                    inputs,
                    empty_config_maps,
                    &mut notes,
                );
            }
        }
        if !notes.is_empty() {
            self.notes.insert(name, notes);
        }
    }

    fn look_at_backend(
        &mut self,
        namespace: &str,
        field: &str,
        backend: &BackendRef,
        inputs: &Inputs,
        empty_config_maps: &BTreeSet<ObjectRef>,
        notes: &mut Vec<String>,
    ) {
        let service = here(namespace, &backend.name);
        if !inputs.services.contains_key(&service) {
            let protocol = match backend.tls {
                Some(_) => format!(" with appProtocol {APP_PROTOCOL_WSS}"),
                None => String::new(),
            };
            notes.push(format!(
                "{field}: Service {service} is not among the files; taken to have port {}{protocol}",
                backend.port
            ));
            let ports = self.services.entry(service).or_default();
            *ports.entry(backend.port).or_default() |= backend.tls.is_some();
        }
        let Some(ca) = backend.tls.as_ref().and_then(|tls| tls.ca_certificate_ref.as_ref()) else {
            return;
        };
        let name = here(namespace, &ca.name);
        let (kind, given) = match ca.kind {
            CaCertificateKind::ConfigMap => {
                let empty = empty_config_maps.contains(&name);
                ("ConfigMap", empty || inputs.config_maps.contains_key(&name))
            }
            CaCertificateKind::Secret => ("Secret", inputs.secrets.contains_key(&name)),
        };
        if !given {
            notes.push(format!(
                "{field}.tls.caCertificateRef: {kind} {name} is not among the files; taken to hold an authority"
            ));
            self.authorities.insert((ca.kind, name));
        }
    }
}

/// Whether a grant that was read permits it.
fn permitted(inputs: &Inputs, from: &str, secret: &ObjectRef) -> bool {
    let grants = inputs.reference_grants.iter().flatten();
    grants
        .filter(|grant| grant.metadata.namespace.as_deref() == Some(&*secret.namespace))
        .any(|grant| permits(grant, from, &secret.name))
}

fn here(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn metadata(name: &ObjectRef) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(name.namespace.clone()),
        name: Some(name.name.clone()),
        ..ObjectMeta::default()
    }
}

fn secret(name: &ObjectRef, certificate: &str, key: &KeyPair) -> Secret {
    let key = key.serialize_pem();
    let data = [("tls.crt", certificate), ("tls.key", &key), ("ca.crt", certificate)];
    let data = data.map(|(name, pem)| (name.to_owned(), ByteString(pem.as_bytes().to_vec())));
    Secret {
        metadata: metadata(name),
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data.into()),
        ..Secret::default()
    }
}

fn port(number: u16, tls: bool) -> ServicePort {
    ServicePort {
        name: Some(number.to_string()),
        port: number.into(),
        app_protocol: tls.then(|| APP_PROTOCOL_WSS.to_owned()),
        ..ServicePort::default()
    }
}

/// An EndpointSlice with one endpoint for these ports of a Service.
fn slice(service: &ObjectRef, ports: &[ServicePort]) -> EndpointSlice {
    let ports = ports.iter().map(|port| EndpointPort {
        name: port.name.clone(),
        port: Some(port.port),
        protocol: port.protocol.clone(),
        ..EndpointPort::default()
    });
    EndpointSlice {
        address_type: "IPv4".to_owned(),
        metadata: ObjectMeta {
            labels: Some([(SERVICE_LABEL.to_owned(), service.name.clone())].into()),
            ..metadata(service)
        },
        endpoints: vec![Endpoint { addresses: vec![ADDRESS.to_owned()], ..Endpoint::default() }],
        ports: Some(ports.collect()),
    }
}

fn grant(from: String, to: ObjectRef) -> ReferenceGrant {
    let spec = ReferenceGrantSpec {
        from: vec![ReferenceGrantFrom {
            group: GROUP.to_owned(),
            kind: "WebSocketRoute".to_owned(),
            namespace: from,
        }],
        to: vec![ReferenceGrantTo {
            group: String::new(),
            kind: "Secret".to_owned(),
            name: Some(to.name.clone()),
        }],
    };
    let mut grant = ReferenceGrant::new(&to.name, spec);
    grant.metadata.namespace = Some(to.namespace);
    grant
}
