//! The Kubernetes API: lists and watches every kind that concerns us, and keeps what it sees.
//!
//! Architecture invariant: nothing here ends, and nothing here forgets. While the API server is away,
//! refuses or answers nonsense, the last state stays, what is wrong is said once, and it is tried again.

mod fault;
mod named;
mod namespaces;
mod published;
mod route;
mod scopes;
mod store;
mod watch;
mod watches;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use futures::{StreamExt, stream::BoxStream, stream::SelectAll};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    core::PartialObjectMeta,
    runtime::watcher,
};
use tidegate_api::{ReferenceGrant, RouteAddress};
use tidegate_table::ObjectRef;

use super::{Change, Observed, Source, SourceProblem, SourceState, chain, prune};
use crate::translate::{Budgets, Inputs, SecretAccess, secrets_wanted};
use fault::{Cause, FaultReporter, Kind, Place};
use named::NamedSecrets;
use namespaces::NamespaceLabels;
pub use published::PublishedAddresses;
use published::ServiceAddresses;
use route::Route;
use scopes::ScopedStores;
use store::Store;
use watch::PAGE_TIMEOUT;
use watches::{everything, watches};

/// How long a connection to the API server may take.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// How long the API server may be silent when an answer is under way: longer than any watch request.
const READ_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(WATCH_SECONDS as u64 + 10);

/// How long one watch request lasts. A connection that died without a word is noticed that much
/// later, and 5 s; longer would mean to go on with endpoints that are long gone.
const WATCH_SECONDS: u32 = 60;

static ROUTES: &Kind =
    &Kind { plural: "websocketroutes", group: "tidegate.io", title: "WebSocketRoutes" };
static SECRETS: &Kind = &Kind { plural: "secrets", group: "", title: "Secrets" };
static CONFIG_MAPS: &Kind = &Kind { plural: "configmaps", group: "", title: "ConfigMaps" };
static SERVICES: &Kind = &Kind { plural: "services", group: "", title: "Services" };
static SLICES: &Kind =
    &Kind { plural: "endpointslices", group: "discovery.k8s.io", title: "EndpointSlices" };
static GRANTS: &Kind = &Kind {
    plural: "referencegrants",
    group: "gateway.networking.k8s.io",
    title: "ReferenceGrants",
};

/// Watched where the hostname policy selects namespaces by their labels, for the whole cluster.
const NAMESPACES: &Kind = &Kind { plural: "namespaces", group: "", title: "Namespaces" };

/// The one Service whose addresses are published, watched for itself: of the others nobody keeps the status.
static PUBLISHED: &Kind =
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
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    // The client would try again by itself for minutes, from 5 ms on, while nobody knows that anything is wrong.
    config.default_retry = false;
    let namespace = config.default_namespace.clone();
    tracing::info!("Kubernetes API at {}", config.cluster_url);
    let client = Client::try_from(config).map_err(|error| ConnectError::Client(chain(&error)))?;
    Ok((client, namespace))
}

/// Events of one kind, reduced to what is kept of the objects: `None` for one that does not concern us.
type Event<V> = watcher::Event<(ObjectRef, Option<V>)>;

/// What is read.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// These namespaces; none: all. Rights in those are enough then.
    pub namespaces: BTreeSet<String>,
    /// Which Secrets.
    pub secrets: SecretScope,
    /// What routes name as their addresses. The Service of it may be in any namespace.
    pub published: PublishedAddresses,
}

/// Which Secrets are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecretScope {
    /// All of the type kubernetes.io/tls. Their list needs the right to list Secrets: RBAC cannot limit a list to a type.
    #[default]
    All,
    /// Those with these labels, of that type. The right is the same, but no others come into this process.
    Labelled(String),
    /// Those that routes of this class refer to, by name. A right for each is enough.
    Referenced {
        /// The class.
        class: String,
        /// How many at most.
        budgets: Box<Budgets>,
    },
}

enum WatchMessage {
    Route(Event<Route>),
    Secret(Event<Arc<Secret>>),
    ConfigMap(Event<Arc<ConfigMap>>),
    /// Of a Secret that is watched for itself.
    Named(ObjectRef, Event<Arc<Secret>>),
    NamedFailed(ObjectRef, watcher::Error),
    Service(Event<Arc<Service>>),
    Slice(Event<Arc<EndpointSlice>>),
    Grant(Event<Arc<ReferenceGrant>>),
    Published(Event<ServiceAddresses>),
    Namespace(Event<NamespaceLabels>),
    Failed(&'static Kind, watcher::Error),
}

/// Of which of the namespaces it is: an index of [`KubernetesSource::places`].
type Message = (usize, WatchMessage);

/// The Kubernetes API as a source.
pub struct KubernetesSource {
    messages: SelectAll<BoxStream<'static, Message>>,
    speaker: FaultReporter,
    /// The namespaces that are read, or `None` alone for all of them.
    places: Vec<Option<String>>,
    namespaces: Option<Arc<BTreeSet<String>>>,
    routes: ScopedStores<Route>,
    secrets: ScopedStores<Arc<Secret>>,
    secret_scope: SecretScope,
    /// Where [`SecretScope::Referenced`]; then `secrets` stays empty.
    named: NamedSecrets,
    config_maps: ScopedStores<Arc<ConfigMap>>,
    services: ScopedStores<Arc<Service>>,
    slices: ScopedStores<Arc<EndpointSlice>>,
    grants: ScopedStores<Arc<ReferenceGrant>>,
    published: PublishedAddresses,
    /// The one of [`PublishedAddresses::Service`], if it is there.
    service: Store<ServiceAddresses>,
    client: Client,
    /// The labels of namespaces, where they are asked for.
    labels: Option<Store<NamespaceLabels>>,
}

impl KubernetesSource {
    /// Begins to read everything in `scope`, once it is asked for changes.
    pub fn new(client: &Client, scope: Scope) -> Self {
        let Scope { namespaces, secrets: secret_scope, published } = scope;
        let places: Vec<_> = match namespaces.is_empty() {
            true => vec![None],
            false => namespaces.iter().cloned().map(Some).collect(),
        };
        let mut messages = SelectAll::new();
        for (index, place) in places.iter().enumerate() {
            for watch in watches(client, place.as_deref(), &secret_scope) {
                messages.push(watch.map(move |what| (index, what)).boxed());
            }
        }
        if let PublishedAddresses::Service(ObjectRef { namespace, name }) = &published {
            let watch = watch::watch(
                Api::<Service>::namespaced(client.clone(), namespace),
                everything().fields(&format!("metadata.name={name}")),
                PUBLISHED,
                PAGE_TIMEOUT,
                |service| Some(ServiceAddresses::from(service)),
                WatchMessage::Published,
            );
            messages.push(watch.map(|what| (0, what)).boxed());
        }
        let count = places.len();
        Self {
            messages,
            speaker: FaultReporter::default(),
            places,
            namespaces: (!namespaces.is_empty()).then(|| Arc::new(namespaces)),
            routes: ScopedStores::new(count),
            secrets: ScopedStores::new(count),
            secret_scope,
            named: NamedSecrets::new(client.clone()),
            config_maps: ScopedStores::new(count),
            services: ScopedStores::new(count),
            slices: ScopedStores::new(count),
            grants: ScopedStores::new(count),
            published,
            service: Store::default(),
            client: client.clone(),
            labels: None,
        }
    }

    /// Takes a message in. `None` if it changes nothing at all.
    fn take(&mut self, (at, what): Message) -> Option<Change> {
        let (kind, (change, complete)) = match what {
            WatchMessage::Route(event) => (ROUTES, self.routes.apply(at, event)),
            WatchMessage::Secret(event) => (SECRETS, self.secrets.apply(at, event)),
            WatchMessage::ConfigMap(event) => (CONFIG_MAPS, self.config_maps.apply(at, event)),
            WatchMessage::Service(event) => (SERVICES, self.services.apply(at, event)),
            WatchMessage::Slice(event) => (SLICES, self.slices.apply(at, event)),
            WatchMessage::Grant(event) => (GRANTS, self.grants.apply(at, event)),
            WatchMessage::Published(event) => (PUBLISHED, self.service.apply(event)),
            WatchMessage::Namespace(event) => match &mut self.labels {
                Some(labels) => (NAMESPACES, labels.apply(event)),
                None => return None,
            },
            WatchMessage::Named(name, event) => {
                let change = self.named.apply(&name, event);
                self.begin_named();
                return change;
            }
            WatchMessage::NamedFailed(name, error) => {
                let change = self.named.fail(&name, &error);
                self.begin_named();
                return change;
            }
            WatchMessage::Failed(kind, error) => {
                let change = self.failed(at, kind, &error);
                return Some(change.max(self.follow(change)));
            }
        };
        let change = match kind.plural {
            "websocketroutes" | "referencegrants" => {
                change.map(|change| change.max(self.follow(change)))
            }
            _ => change,
        };
        if complete {
            self.speaker.recovered(place(&self.places, at, kind, false));
        }
        change
    }

    /// Watches the Secrets that are referred to now. What that changes.
    fn follow(&mut self, change: Change) -> Change {
        let SecretScope::Referenced { class, budgets } = &self.secret_scope else { return change };
        let (Change::Inputs, Some(routes)) = (change, self.routes.known()) else { return change };
        let inputs = Inputs {
            routes: routes.into_values().map(|route| route.input).collect(),
            reference_grants: self.grants.known().map(|grants| grants.into_values().collect()),
            namespaces: self.namespaces.clone(),
            ..Inputs::default()
        };
        let (watches, changed) = self.named.want(secrets_wanted(&inputs, class, budgets));
        for watch in watches {
            self.messages.push(watch.map(|what| (0, what)).boxed());
        }
        self.begin_named();
        if changed { Change::Inputs } else { change }
    }

    fn begin_named(&mut self) {
        let known = self.routes.known().is_some() && self.grants.known().is_some();
        self.named.begin(known);
    }

    fn failed(&mut self, at: usize, kind: &'static Kind, error: &watcher::Error) -> Change {
        let dispensable = std::ptr::eq(kind, GRANTS) && self.grants.scope(at).is_without_objects();
        let cause = self.speaker.failed(place(&self.places, at, kind, dispensable), error);
        match kind.plural {
            _ if std::ptr::eq(kind, PUBLISHED) => self.service.fail(),
            "namespaces" => match (&mut self.labels, cause) {
                // Nothing waits for labels that may not be read: then no selector selects anything.
                (Some(labels), Cause::Forbidden) => return labels.forbid(),
                (Some(labels), _) => labels.fail(),
                (None, _) => {}
            },
            "websocketroutes" => self.routes.scope(at).fail(),
            "secrets" => self.secrets.scope(at).fail(),
            "configmaps" => self.config_maps.scope(at).fail(),
            "services" => self.services.scope(at).fail(),
            "endpointslices" => self.slices.scope(at).fail(),
            // The one kind that no table waits for.
            _ => {
                let grants = self.grants.scope(at);
                match cause {
                    Cause::Missing => return grants.not_installed(),
                    Cause::Forbidden => return grants.forbid(),
                    _ => grants.fail(),
                }
            }
        }
        Change::Sync
    }
}

/// What `at` and `kind` mean. The published Service names its own namespace.
fn place<'a>(
    places: &'a [Option<String>],
    at: usize,
    kind: &'static Kind,
    dispensable: bool,
) -> Place<'a> {
    let of_the_cluster = std::ptr::eq(kind, PUBLISHED) || std::ptr::eq(kind, NAMESPACES);
    let namespace = places[at].as_deref().filter(|_| !of_the_cluster);
    Place { kind, namespace, dispensable }
}

impl KubernetesSource {
    /// Where clients reach the gateway; `None` until the Service that says so has been read. No table waits for it.
    fn addresses(&self) -> Option<Vec<RouteAddress>> {
        match &self.published {
            PublishedAddresses::Nothing => Some(Vec::new()),
            PublishedAddresses::Addresses(addresses) => Some(addresses.clone()),
            PublishedAddresses::Service(_) => {
                let found = self.service.known()?.values().next();
                Some(found.map(|ServiceAddresses(list)| list.clone()).unwrap_or_default())
            }
        }
    }

    fn published_problem(&self) -> Option<SourceProblem> {
        let PublishedAddresses::Service(name) = &self.published else { return None };
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

    fn snapshot(&self) -> Option<SourceState> {
        let (secrets, secret_access) = match &self.secret_scope {
            SecretScope::All => (self.secrets.known()?, SecretAccess::All),
            SecretScope::Labelled(selector) => {
                (self.secrets.known()?, SecretAccess::Labelled(selector.clone()))
            }
            SecretScope::Referenced { .. } => {
                let (secrets, unread) = self.named.known()?;
                (secrets, SecretAccess::Referenced(unread))
            }
        };
        let inputs = Inputs {
            routes: self.routes.known()?.into_values().map(|route| route.input).collect(),
            secrets,
            secret_access,
            config_maps: self.config_maps.known()?,
            services: self.services.known()?,
            endpoint_slices: self.slices.known()?.into_values().collect(),
            reference_grants: {
                let grants = self.grants.known()?;
                self.grants.installed().then(|| grants.into_values().collect())
            },
            reference_grants_forbidden: self.grants.forbidden(),
            namespaces: self.namespaces.clone(),
            // The policy is read beside this source.
            hostname_policy: None,
            namespace_labels: match &self.labels {
                Some(labels) => namespaces::labels(labels.known()?),
                None => BTreeMap::new(),
            },
            withheld_keys: BTreeSet::new(),
            addresses: self.addresses(),
            now: None,
        };
        Some(SourceState { inputs, problems: self.published_problem().into_iter().collect() })
    }

    fn synced(&self) -> Vec<(&'static str, bool)> {
        let mut synced = vec![
            (ROUTES.plural, self.routes.synced()),
            (
                SECRETS.plural,
                match self.secret_scope {
                    SecretScope::Referenced { .. } => self.named.synced(),
                    SecretScope::All | SecretScope::Labelled(_) => self.secrets.synced(),
                },
            ),
            (CONFIG_MAPS.plural, self.config_maps.synced()),
            (SERVICES.plural, self.services.synced()),
            (SLICES.plural, self.slices.synced()),
            (GRANTS.plural, self.grants.synced()),
        ];
        synced.extend(self.labels.as_ref().map(|labels| (NAMESPACES.plural, labels.synced())));
        synced
    }

    fn ask_for_labels(&mut self) {
        if self.labels.is_none() {
            self.labels = Some(Store::default());
            // Of this type nothing but metadata is asked for.
            let watch = watch::watch(
                Api::<PartialObjectMeta<Namespace>>::all(self.client.clone()),
                everything(),
                NAMESPACES,
                PAGE_TIMEOUT,
                |namespace| Some(NamespaceLabels::from(namespace.metadata)),
                WatchMessage::Namespace,
            );
            self.messages.push(watch.map(|what| (0, what)).boxed());
        }
    }

    fn faults(&self) -> Vec<String> {
        self.speaker.faults().into_iter().collect()
    }

    fn observed(&self) -> Observed {
        let routes = self.routes.each();
        routes.map(|(name, route)| (name.clone(), Arc::clone(&route.observed))).collect()
    }
}
