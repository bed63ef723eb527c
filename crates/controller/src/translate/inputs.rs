//! What the world looks like: all that a source has read, at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Secret, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use tidegate_api::{HostnamePolicy, ReferenceGrant, RouteAddress, WebSocketRoute};
use tidegate_table::ObjectRef;

use super::{SecretAccess, certificates};

/// All objects that concern us. Sources build it; `translate` only reads it.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// WebSocketRoutes of every class.
    pub routes: Vec<RouteInput>,
    /// Secrets of type kubernetes.io/tls.
    pub secrets: BTreeMap<ObjectRef, Arc<Secret>>,
    /// Which Secrets are read, and why some are not among them.
    pub secret_access: SecretAccess,
    /// ConfigMaps that hold `ca.crt`.
    pub config_maps: BTreeMap<ObjectRef, Arc<ConfigMap>>,
    /// Services.
    pub services: BTreeMap<ObjectRef, Arc<Service>>,
    /// EndpointSlices.
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
    /// ReferenceGrants; `None` where their kind is not installed.
    pub reference_grants: Option<Vec<Arc<ReferenceGrant>>>,
    /// Whether ReferenceGrants may not be read, of some namespaces at least: then nothing tells what those permit.
    pub reference_grants_forbidden: bool,
    /// The namespaces that are read; `None` for all. What lies outside is unknown, not absent.
    pub namespaces: Option<Arc<BTreeSet<String>>>,
    /// Who may claim which hostname, where whoever runs the gateway has written that down.
    pub hostname_policy: Option<Arc<HostnamePolicy>>,
    /// The labels of namespaces, as far as that policy asks for them.
    pub namespace_labels: BTreeMap<String, BTreeMap<String, String>>,
    /// Secrets whose key was left out when they were kept, and belonged to the certificate.
    pub withheld_keys: BTreeSet<ObjectRef>,
    /// Where clients reach the gateway; `None` while that is not known, so that what a status says of it stays.
    pub addresses: Option<Vec<RouteAddress>>,
    /// The time, in seconds since 1970, at which certificates are judged; `None`: their validity is not looked at.
    pub now: Option<i64>,
}

impl Inputs {
    /// The Secrets whose certificate has its key with it, or had when they were kept.
    pub fn secrets_with_keys(&self) -> BTreeSet<ObjectRef> {
        let with_keys = self.secrets.iter().filter(|(_, secret)| certificates::has_key(secret));
        let with_keys = with_keys.map(|(name, _)| name.clone());
        with_keys.chain(self.withheld_keys.iter().cloned()).collect()
    }
}

/// A WebSocketRoute, or what could be read of it.
#[derive(Clone, Debug)]
pub enum RouteInput {
    /// A sound one.
    Valid(Arc<WebSocketRoute>),
    /// One whose spec the types of this version cannot hold (it was stored under another schema).
    Unreadable {
        /// Its metadata.
        metadata: Arc<ObjectMeta>,
        /// Its class, if that much can be read.
        class_name: Option<String>,
        /// What is wrong and where.
        error: String,
    },
}
