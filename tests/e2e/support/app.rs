//! The usual application: pods that echo, behind one route.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    authority::Authority,
    client::{Client, Socket},
    namespace::Namespace,
    objects,
    poll::eventually,
    release::Release,
};

/// An echo application named `chat` in a namespace of its own, served.
pub struct App {
    pub namespace: Namespace,
    pub authority: Authority,
    pub client: Client,
}

impl App {
    /// The name of its Deployment, Service and WebSocketRoute; its Secret is `chat-tls`.
    pub const NAME: &'static str = "chat";

    /// Applies Deployment, Service, Secret and WebSocketRoute, and waits until both replicas serve them.
    #[track_caller]
    pub fn start(release: &Release, label: &str, replicas: u32) -> Self {
        Self::prepare(label, replicas).serve(release)
    }

    /// The same with all pods on one node.
    #[track_caller]
    pub fn start_on(node: &str, release: &Release, label: &str, replicas: u32) -> Self {
        let mut deployment = objects::deployment(Self::NAME, replicas);
        deployment["spec"]["template"]["spec"]["nodeSelector"] =
            json!({ "kubernetes.io/hostname": node });
        Self::prepare_as(label, &deployment).serve(release)
    }

    /// The same with pods that serve on for three seconds after SIGTERM, and then tell their sockets Close 1001.
    #[track_caller]
    pub fn start_lingering(release: &Release, label: &str, replicas: u32) -> Self {
        let mut deployment = objects::deployment(Self::NAME, replicas);
        let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
        container["args"] = json!(["echo-backend", "--listen=[::]:8080", "--linger=3"]);
        Self::prepare_as(label, &deployment).serve(release)
    }

    #[track_caller]
    fn serve(self, release: &Release) -> Self {
        let mut route = objects::route(Self::NAME, &self.client.host);
        route["spec"]["className"] = release.class.as_str().into();
        self.namespace.apply(&[&route]);
        self.wait_until_served(release);
        self
    }

    /// All but the WebSocketRoute; the pods are ready.
    #[track_caller]
    pub fn prepare(label: &str, replicas: u32) -> Self {
        Self::prepare_as(label, &objects::deployment(Self::NAME, replicas))
    }

    #[track_caller]
    fn prepare_as(label: &str, deployment: &Value) -> Self {
        let namespace = Namespace::new(label);
        let authority = Authority::new();
        let host = namespace.host(Self::NAME);
        let identity = authority.issue(&[&host]);
        namespace.apply(&[
            deployment,
            &objects::service(Self::NAME),
            &objects::tls_secret("chat-tls", &identity),
        ]);
        namespace.wait_for_rollout(Self::NAME);
        let client = Client::new(&host, authority.client_config());
        Self { namespace, authority, client }
    }

    /// Waits for the condition Programmed, and until every replica opens WebSockets.
    #[track_caller]
    pub fn wait_until_served(&self, release: &Release) {
        self.namespace.wait_for("Programmed", "wsr/chat");
        for pod in release.pods() {
            eventually(&format!("{} serves {}", pod.name, self.client.host), 20, || {
                Ok(self.client.open(pod.https()).map(|_| ())?)
            });
        }
    }

    /// Opens a WebSocket, which must work at once.
    #[track_caller]
    pub fn open(&self, to: SocketAddr) -> Socket {
        self.client.open(to).unwrap_or_else(|failure| panic!("{}", String::from(failure)))
    }
}
