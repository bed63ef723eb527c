//! The Kubernetes API: lists and watches every kind that concerns us, and keeps what it sees.
//!
//! Architecture invariant: nothing here ends, and nothing here forgets. While the API server is away,
//! refuses or answers nonsense, the last state stays, what is wrong is said once, and it is tried again.

mod fault;
mod published;
mod route;
mod store;
mod watch;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use futures::{StreamExt, stream::BoxStream, stream::SelectAll};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, DeserializeGuard, DynamicObject},
    runtime::watcher,
};

use super::{Change, Observed, Snapshot, Source, SourceProblem, chain, reference, strip};
use crate::{
    api::{ReferenceGrant, RouteAddress, WebSocketRoute},
    table::ObjectRef,
    translate::Inputs,
};

use fault::{Cause, Kind, Speaker};
pub use published::Published;
use published::ServiceAddresses;
use route::Route;
use store::Store;

/// How long a connection to the API server may take.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// How long one watch request lasts. A connection that died without a word is noticed that much
/// later, and 5 s; longer would mean to go on with endpoints that are long gone.
const WATCH_SECONDS: u32 = 60;

const ROUTES: &Kind =
    &Kind { plural: "websocketroutes", group: "tidegate.io", title: "WebSocketRoutes" };
const SECRETS: &Kind = &Kind { plural: "secrets", group: "", title: "Secrets" };
const CONFIG_MAPS: &Kind = &Kind { plural: "configmaps", group: "", title: "ConfigMaps" };
const SERVICES: &Kind = &Kind { plural: "services", group: "", title: "Services" };
const SLICES: &Kind =
    &Kind { plural: "endpointslices", group: "discovery.k8s.io", title: "EndpointSlices" };
const GRANTS: &Kind = &Kind {
    plural: "referencegrants",
    group: "gateway.networking.k8s.io",
    title: "ReferenceGrants",
};

/// The one Service whose addresses are published, watched for itself: of the others nobody keeps the status.
const PUBLISHED: &Kind =
    &Kind { plural: "services", group: "", title: "the Service of --publish-service" };

/// Why there is nothing to connect to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file is missing, unreadable or wrong.
    #[error("cannot use the kubeconfig {}: {error}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// Neither a kubeconfig nor a cluster around us.
    #[error(
        "found no Kubernetes cluster: {0}; run in a pod, set KUBECONFIG or --kubeconfig, or serve a folder with --source DIR"
    )]
    NoCluster(String),
    /// The settings were found, but make no client.
    #[error("cannot make a client for the Kubernetes API from the configuration: {0}")]
    Client(String),
}

/// A client, and the namespace that it is at home in. Reads files; does not talk to the API server.
pub async fn connect(kubeconfig: Option<PathBuf>) -> Result<(Client, String), ConnectError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let broken = |error: &dyn std::error::Error| ConnectError::Kubeconfig {
                path: path.clone(),
                error: chain(error),
            };
            let file = Kubeconfig::read_from(&path).map_err(|error| broken(&error))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|error| broken(&error))?
        }
        None => Config::infer().await.map_err(|error| ConnectError::NoCluster(chain(&error)))?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let namespace = config.default_namespace.clone();
    tracing::info!("Kubernetes API at {}", config.cluster_url);
    let client = Client::try_from(config).map_err(|error| ConnectError::Client(chain(&error)))?;
    Ok((client, namespace))
}

/// Events of one kind, reduced to what is kept of the objects: `None` for one that does not concern us.
type Event<V> = watcher::Event<(ObjectRef, Option<V>)>;

enum Message {
    Route(Event<Route>),
    Secret(Event<Arc<Secret>>),
    ConfigMap(Event<Arc<ConfigMap>>),
    Service(Event<Arc<Service>>),
    Slice(Event<Arc<EndpointSlice>>),
    Grant(Event<Arc<ReferenceGrant>>),
    Published(Event<ServiceAddresses>),
    Failed(&'static Kind, watcher::Error),
}

/// The Kubernetes API as a source.
pub struct KubernetesSource {
    messages: SelectAll<BoxStream<'static, Message>>,
    speaker: Speaker,
    routes: Store<Route>,
    secrets: Store<Arc<Secret>>,
    config_maps: Store<Arc<ConfigMap>>,
    services: Store<Arc<Service>>,
    slices: Store<Arc<EndpointSlice>>,
    grants: Store<Arc<ReferenceGrant>>,
    published: Published,
    /// The one of [`Published::Service`], if it is there.
    service: Store<ServiceAddresses>,
}

impl KubernetesSource {
    /// Begins to read everything, in all namespaces, once it is asked for changes. `published` is what routes name as their
    /// addresses.
    pub fn new(client: &Client, published: Published) -> Self {
        let routes = ApiResource::erase::<WebSocketRoute>(&());
        let everything = || watcher::Config::default().timeout(WATCH_SECONDS);
        let tls_only = everything().fields("type=kubernetes.io/tls");
        let mut messages: SelectAll<_> = [
            watch::watch(
                Api::<DynamicObject>::all_with(client.clone(), &routes),
                everything(),
                ROUTES,
                |object| Some(Route::from(object)),
                Message::Route,
            ),
            watch::watch(
                Api::<Secret>::all(client.clone()),
                tls_only,
                SECRETS,
                |mut secret| {
                    strip::secret(&mut secret);
                    Some(Arc::new(secret))
                },
                Message::Secret,
            ),
            watch::watch(
                Api::<ConfigMap>::all(client.clone()),
                everything(),
                CONFIG_MAPS,
                |mut map| strip::config_map(&mut map).then(|| Arc::new(map)),
                Message::ConfigMap,
            ),
            watch::watch(
                Api::<Service>::all(client.clone()),
                everything(),
                SERVICES,
                |mut service| {
                    strip::service(&mut service);
                    Some(Arc::new(service))
                },
                Message::Service,
            ),
            watch::watch(
                Api::<EndpointSlice>::all(client.clone()),
                everything(),
                SLICES,
                |mut slice| {
                    strip::metadata(&mut slice.metadata);
                    Some(Arc::new(slice))
                },
                Message::Slice,
            ),
            watch::watch(
                Api::<DeserializeGuard<ReferenceGrant>>::all(client.clone()),
                everything(),
                GRANTS,
                |DeserializeGuard(grant)| match grant {
                    Ok(mut grant) => {
                        strip::metadata(&mut grant.metadata);
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
                Message::Grant,
            ),
        ]
        .into_iter()
        .collect();
        if let Published::Service(ObjectRef { namespace, name }) = &published {
            messages.push(watch::watch(
                Api::<Service>::namespaced(client.clone(), namespace),
                everything().fields(&format!("metadata.name={name}")),
                PUBLISHED,
                |service| Some(ServiceAddresses::from(service)),
                Message::Published,
            ));
        }
        Self {
            messages,
            speaker: Speaker::default(),
            routes: Store::default(),
            secrets: Store::default(),
            config_maps: Store::default(),
            services: Store::default(),
            slices: Store::default(),
            grants: Store::default(),
            published,
            service: Store::default(),
        }
    }

    /// Takes a message in. `None` if it changes nothing at all.
    fn take(&mut self, message: Message) -> Option<Change> {
        let (kind, (change, complete)) = match message {
            Message::Route(event) => (ROUTES, self.routes.apply(event)),
            Message::Secret(event) => (SECRETS, self.secrets.apply(event)),
            Message::ConfigMap(event) => (CONFIG_MAPS, self.config_maps.apply(event)),
            Message::Service(event) => (SERVICES, self.services.apply(event)),
            Message::Slice(event) => (SLICES, self.slices.apply(event)),
            Message::Grant(event) => (GRANTS, self.grants.apply(event)),
            Message::Published(event) => (PUBLISHED, self.service.apply(event)),
            Message::Failed(kind, error) => return Some(self.failed(kind, &error)),
        };
        if complete {
            self.speaker.recovered(kind);
        }
        change
    }

    fn failed(&mut self, kind: &'static Kind, error: &watcher::Error) -> Change {
        let cause = self.speaker.failed(kind, error);
        match kind.plural {
            _ if std::ptr::eq(kind, PUBLISHED) => self.service.fail(),
            "websocketroutes" => self.routes.fail(),
            "secrets" => self.secrets.fail(),
            "configmaps" => self.config_maps.fail(),
            "services" => self.services.fail(),
            "endpointslices" => self.slices.fail(),
            // The one kind that a cluster need not have.
            _ if cause == Cause::Missing => return self.grants.not_installed(),
            _ => self.grants.fail(),
        }
        Change::Sync
    }
}

impl KubernetesSource {
    /// Where clients reach the gateway; `None` until the Service that says so has been read. No table waits for it.
    fn addresses(&self) -> Option<Vec<RouteAddress>> {
        match &self.published {
            Published::Nothing => Some(Vec::new()),
            Published::Addresses(addresses) => Some(addresses.clone()),
            Published::Service(_) => {
                let found = self.service.known()?.values().next();
                Some(found.map(|ServiceAddresses(list)| list.clone()).unwrap_or_default())
            }
        }
    }

    fn published_problem(&self) -> Option<SourceProblem> {
        let Published::Service(name) = &self.published else { return None };
        self.service.known()?.is_empty().then(|| {
            SourceProblem(format!(
                "--publish-service: there is no Service {name}; the statuses of routes name no addresses until there is"
            ))
        })
    }
}

impl Source for KubernetesSource {
    async fn changed(&mut self) -> Change {
        loop {
            let Some(message) = self.messages.next().await else {
                // The streams of watches do not end.
                return std::future::pending().await;
            };
            if let Some(change) = self.take(message) {
                return change;
            }
        }
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let inputs = Inputs {
            routes: self.routes.known()?.values().map(|route| route.input.clone()).collect(),
            secrets: self.secrets.known()?.clone(),
            config_maps: self.config_maps.known()?.clone(),
            services: self.services.known()?.clone(),
            endpoint_slices: self.slices.known()?.values().cloned().collect(),
            reference_grants: match self.grants.installed() {
                true => Some(self.grants.known()?.values().cloned().collect()),
                false => None,
            },
            addresses: self.addresses(),
            now: None,
        };
        Some(Snapshot { inputs, problems: self.published_problem().into_iter().collect() })
    }

    fn synced(&self) -> Vec<(&'static str, bool)> {
        vec![
            (ROUTES.plural, self.routes.synced()),
            (SECRETS.plural, self.secrets.synced()),
            (CONFIG_MAPS.plural, self.config_maps.synced()),
            (SERVICES.plural, self.services.synced()),
            (SLICES.plural, self.slices.synced()),
            (GRANTS.plural, self.grants.synced()),
        ]
    }

    fn observed(&self) -> Observed {
        let routes = self.routes.known();
        routes
            .into_iter()
            .flatten()
            .map(|(name, route)| (name.clone(), Arc::clone(&route.observed)))
            .collect::<BTreeMap<_, _>>()
    }
}
