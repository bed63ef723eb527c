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

use super::SecretAccess;
use crate::{
    api::{ReferenceGrant, RouteAddress, WebSocketRoute},
    table::ObjectRef,
};

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
    /// Where clients reach the gateway; `None` while that is not known, so that what a status says of it stays.
    pub addresses: Option<Vec<RouteAddress>>,
    /// The time, in seconds since 1970, at which certificates are judged; `None`: their validity is not looked at.
    pub now: Option<i64>,
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
