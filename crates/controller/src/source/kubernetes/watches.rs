//! What is watched of each kind, and what is kept of an object.

use std::sync::Arc;

use futures::stream::BoxStream;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DeserializeGuard, DynamicObject, NamespaceResourceScope},
    runtime::watcher,
};
use tidegate_api::{ReferenceGrant, WebSocketRoute};

use super::{
    CONFIG_MAPS, GRANTS, ROUTES, SECRETS, SERVICES, SLICES, SecretScope, WATCH_SECONDS,
    WatchMessage, prune,
    route::Route,
    watch::{self, PAGE_TIMEOUT},
};
use crate::source::reference;

/// Objects in one page of a list, of kinds that may have 1 MiB each: what a page takes until it is reduced.
const LARGE_PAGE: u32 = 50;

pub(super) fn everything() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// The watches of every kind, in one namespace or in all.
pub(super) fn watches(
    client: &Client,
    namespace: Option<&str>,
    secrets: &SecretScope,
) -> Vec<BoxStream<'static, WatchMessage>> {
    fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    }
    let kind = ApiResource::erase::<WebSocketRoute>(&());
    let routes = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    };
    let certificates = everything().fields("type=kubernetes.io/tls").page_size(LARGE_PAGE);
    let certificates = match secrets {
        SecretScope::All => Some(certificates),
        SecretScope::Labelled(selector) => Some(certificates.labels(selector)),
        SecretScope::Referenced { .. } => None,
    };
    let certificates = certificates.map(|config| {
        watch::watch(
            api::<Secret>(client, namespace),
            config,
            SECRETS,
            PAGE_TIMEOUT,
            |mut secret| {
                prune::secret(&mut secret);
                Some(Arc::new(secret))
            },
            WatchMessage::Secret,
        )
    });
    let others = [
        watch::watch(
            routes,
            everything(),
            ROUTES,
            PAGE_TIMEOUT,
            |object: DynamicObject| Some(Route::from(object)),
            WatchMessage::Route,
        ),
        watch::watch(
            api::<ConfigMap>(client, namespace),
            everything().page_size(LARGE_PAGE),
            CONFIG_MAPS,
            PAGE_TIMEOUT,
            |mut map| prune::config_map(&mut map).then(|| Arc::new(map)),
            WatchMessage::ConfigMap,
        ),
        watch::watch(
            api::<Service>(client, namespace),
            everything(),
            SERVICES,
            PAGE_TIMEOUT,
            |mut service| {
                prune::service(&mut service);
                Some(Arc::new(service))
            },
            WatchMessage::Service,
        ),
        watch::watch(
            api::<EndpointSlice>(client, namespace),
            everything(),
            SLICES,
            PAGE_TIMEOUT,
            |mut slice| {
                prune::metadata(&mut slice.metadata);
                Some(Arc::new(slice))
            },
            WatchMessage::Slice,
        ),
        watch::watch(
            api::<DeserializeGuard<ReferenceGrant>>(client, namespace),
            everything(),
            GRANTS,
            PAGE_TIMEOUT,
            |DeserializeGuard(grant)| match grant {
                Ok(mut grant) => {
                    prune::metadata(&mut grant.metadata);
                    Some(Arc::new(grant))
                }
                Err(invalid) => {
                    let name = reference(&invalid.metadata);
                    tracing::warn!(
                        "ReferenceGrant {name} cannot be read and permits nothing: {invalid}"
                    );
                    None
                }
            },
            WatchMessage::Grant,
        ),
    ];
    others.into_iter().chain(certificates).collect()
}
