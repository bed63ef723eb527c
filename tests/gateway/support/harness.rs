//! A gateway in this process, with the table and the registry of one test.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use prometheus::Registry;
use rustls::ClientConfig;
use tidegate::{
    gateway::{
        DrainSettings, FallbackCertificate, Gateway, GatewaySettings, ListenerKind, RequestLimits,
        bind, scrape,
    },
    table::{
        Backend as TableBackend, Drain, Endpoint, FrameChecks, HttpMode, Keepalive, Limits,
        LoadBalancing, MatchKey, ObjectRef, PathAmbiguities, PathKind, Plaintext, RouteEntry,
        RoutingTable, Rule, TableCell, Timeouts, TlsIdentity, VirtualHost,
    },
    telemetry::{self, GatewayMetrics},
};
use tokio_tungstenite::tungstenite;

use super::{Backend, Head, Peer, eventually, switching, upgrade_request};

/// The hosts of a table.
pub type Hosts = Vec<VirtualHost>;

/// Labels that a series must have; others may have any value.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// A running gateway.
pub struct Harness {
    gateway: Option<Gateway>,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub table: Arc<TableCell>,
    registry: Registry,
    metrics: Arc<GatewayMetrics>,
}

impl Harness {
    /// A gateway of one worker that serves these hosts.
    pub fn start(hosts: Hosts) -> Self {
        Self::with(hosts, |_| {})
    }

    /// A gateway for `a.test`, in clear text, with one rule to one backend.
    pub fn to(backend: &Backend) -> Self {
        Self::start(vec![host("a.test", rule(&[backend.address()]))])
    }

    /// A gateway with other settings.
    pub fn with(hosts: Hosts, adjust: impl FnOnce(&mut GatewaySettings)) -> Self {
        let table = Arc::new(TableCell::default());
        table.publish(RoutingTable::new(hosts));
        Self::over(table, adjust)
    }

    /// A gateway that serves what is in a cell.
    pub fn over(table: Arc<TableCell>, adjust: impl FnOnce(&mut GatewaySettings)) -> Self {
        let mut settings = GatewaySettings {
            workers: 1,
            trusted_proxies: Vec::new(),
            trusted_proxy_headers: Vec::new(),
            instance: fastrand::u64(..),
            fallback: FallbackCertificate::self_signed().expect("a certificate can be made"),
            public_https_port: 443,
            limits: RequestLimits::default(),
            drain: DrainSettings {
                delay: Duration::ZERO,
                spread: Duration::ZERO,
                timeout: Duration::from_secs(6),
            },
            reserved_files: 0,
            name_endpoints: false,
        };
        adjust(&mut settings);
        let registry = telemetry::registry();
        let metrics = GatewayMetrics::register(&registry).expect("the registry is new");
        let metrics = Arc::new(metrics);
        let listen = || bind((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback has free ports");
        let address = |listener: &TcpListener| listener.local_addr().expect("it is bound");
        let (http, https) = (listen(), listen());
        let (http_address, https_address) = (address(&http), address(&https));
        let listeners = vec![(ListenerKind::Http, http), (ListenerKind::Https, https)];
        let gateway = Gateway::start(settings, listeners, Arc::clone(&table), Arc::clone(&metrics));
        Self {
            gateway: Some(gateway.expect("threads can be started")),
            http: http_address,
            https: https_address,
            table,
            registry,
            metrics,
        }
    }

    /// A client in clear text.
    #[track_caller]
    pub fn client(&self) -> Peer {
        Peer::connect(self.http)
    }

    /// A client under TLS.
    #[track_caller]
    pub fn tls_client(&self, config: &Arc<ClientConfig>, name: &str) -> Peer {
        Peer::tls(self.https, config, name)
    }

    /// Sends a request in clear text and reads the answer.
    #[track_caller]
    pub fn ask(&self, request: impl AsRef<[u8]>) -> (Head, String) {
        self.client().send(request).answer()
    }

    /// An open connection to `a.test`: the client's and the backend's end.
    #[track_caller]
    pub fn open(&self, backend: &Backend) -> (Peer, Peer) {
        self.open_at("a.test", backend)
    }

    /// The same with another host.
    #[track_caller]
    pub fn open_at(&self, host: &str, backend: &Backend) -> (Peer, Peer) {
        let mut client = self.client();
        let server = open_over_at(&mut client, host, backend);
        (client, server)
    }

    /// The sum of the series of a metric with these labels.
    pub fn metric(&self, name: &str, labels: Labels<'_>) -> f64 {
        telemetry::render(&self.registry)
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(series, _)| {
                let (family, rest) = series.split_once('{').unwrap_or((series, ""));
                family == name
                    && labels
                        .iter()
                        .all(|(label, value)| rest.contains(&format!("{label}=\"{value}\"")))
            })
            .map(|(_, value)| value.parse::<f64>().expect("values are numbers"))
            // The sum of nothing would be -0.0.
            .fold(0.0, |sum, value| sum + value)
    }

    /// What a scrape of the admin port gets.
    pub fn scrape(&self) -> String {
        scrape(&self.registry, &self.table, &self.metrics)
    }

    /// All series of a metric with their values, sorted.
    pub fn series(&self, name: &str) -> Vec<String> {
        let text = telemetry::render(&self.registry);
        let begin = format!("{name}{{");
        let mut series: Vec<_> =
            text.lines().filter(|line| line.starts_with(&begin)).map(str::to_owned).collect();
        series.sort();
        series
    }

    /// Waits until a metric has a value.
    #[track_caller]
    pub fn await_metric(&self, name: &str, labels: Labels<'_>, value: f64) {
        let what = format!("{name}{labels:?} is {value}");
        eventually(&what, || self.metric(name, labels).total_cmp(&value).is_eq());
    }

    /// Waits until one connection has ended, for this cause.
    #[track_caller]
    pub fn await_cause(&self, cause: &str) {
        let closed = "tidegate_connections_closed_total";
        eventually("a connection has ended", || self.metric(closed, &[]) > 0.0);
        let family = || {
            let text = telemetry::render(&self.registry);
            text.lines().filter(|line| line.starts_with(closed)).collect::<String>()
        };
        let counted = self.metric(closed, &[("cause", cause)]);
        assert!(counted.total_cmp(&1.0).is_eq(), "not ended as {cause}: {}", family());
        self.await_metric("tidegate_connections_open", &[], 0.0);
    }

    /// Takes the gateway, to shut it down.
    pub fn take_gateway(&mut self) -> Gateway {
        self.gateway.take().expect("it is taken once")
    }
}

/// Makes the upgrade over a client's connection; the backend's end.
#[track_caller]
pub fn open_over(client: &mut Peer, backend: &Backend) -> Peer {
    open_over_at(client, "a.test", backend)
}

#[track_caller]
fn open_over_at(client: &mut Peer, host: &str, backend: &Backend) -> Peer {
    client.send(upgrade_request(host));
    let (server, _) = backend.answer(switching(""));
    let head = client.head();
    assert_eq!(head.status(), 101, "{head:?}");
    server
}

/// The rule of a route of this name to one backend.
pub fn rule_of(route: &str, backend: &Backend) -> Rule {
    let mut rule = rule(&[backend.address()]);
    rule.route.name = route.into();
    rule
}

/// A rule of the route test/route that allows clear text and refuses plain HTTP.
pub fn rule(endpoints: &[SocketAddr]) -> Rule {
    let object = |name: &str| ObjectRef { namespace: "test".into(), name: name.into() };
    let seconds = Duration::from_secs(10);
    Rule {
        route: object("route"),
        name: "0".into(),
        plaintext: Plaintext::Allow,
        http: HttpMode::Refuse,
        path_allow: PathAmbiguities::NONE,
        timeouts: Timeouts {
            connect: seconds,
            upgrade: seconds,
            idle: None,
            close: Duration::from_secs(2),
            ..Timeouts::default()
        },
        keepalive: Keepalive::default(),
        frames: FrameChecks::Strict,
        limits: Limits::default(),
        load_balancing: LoadBalancing::default(),
        connect_attempts: 3,
        drain: Drain::default(),
        subprotocols: Vec::new(),
        backends: vec![TableBackend {
            service: object("backend"),
            port: 8080,
            weight: 1,
            tls: None,
            endpoints: endpoints.iter().copied().map(Endpoint::ready).collect(),
        }],
    }
}

/// A host whose every path leads to one rule.
pub fn host(pattern: &str, rule: Rule) -> VirtualHost {
    VirtualHost::new(pattern, None, [prefix("", rule)])
}

/// The same with a certificate.
pub fn tls_host(pattern: &str, identity: &Arc<TlsIdentity>, rule: Rule) -> VirtualHost {
    VirtualHost::new(pattern, Some(Arc::clone(identity)), [prefix("", rule)])
}

/// Paths that begin so lead to a rule.
pub fn prefix(path: &str, rule: Rule) -> RouteEntry {
    let key = MatchKey {
        kind: PathKind::Prefix,
        path: path.into(),
        headers: Vec::new(),
        query: Vec::new(),
        subprotocols: Vec::new(),
    };
    RouteEntry { key: key.into(), rule: Arc::new(rule) }
}

/// A WebSocket server that sends every message back. Lives as long as the test's process.
pub fn echo_backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            std::thread::spawn(move || {
                let Ok(mut socket) = tungstenite::accept(socket) else { return };
                while let Ok(message) = socket.read() {
                    if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}
