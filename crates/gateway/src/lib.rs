//! The data plane: from an accepted socket to its end.
//!
//! Serves whatever table is in the cell; never waits for the control plane and knows nothing of Kubernetes. What
//! peers send is judged by pure functions (`target`, `authority`, `headers`, `forwarded`, `handshake`, `intermediaries`, `route_match`, `balance`, `frames`); `http` and `worker` do
//! the I/O around them. Those of them that are public are so for benchmarks and fuzz targets.

mod acme;
pub mod authority;
mod balance;
pub mod cdn_loop;
mod close;
mod connection;
mod drain;
mod endpoint_readiness;
mod fd_budget;
mod fd_table;
mod forward;
pub mod forwarded;
pub mod frame_filter;
pub mod frames;
mod guarded;
pub mod handshake;
mod handshake_gate;
pub mod headers;
mod http;
pub mod http1_head;
pub mod intermediaries;
mod kept;
pub mod list;
mod listen;
pub mod outgoing;
mod pace;
mod pending;
mod rebalance;
pub mod refusal;
mod refusal_log;
mod refused;
mod refused_requests;
mod registry;
mod relay;
mod replay;
mod request_head;
mod rewind;
pub mod route_match;
mod scrape;
mod socket;
pub mod target;
mod tls;
mod transport;
mod upstream;
mod worker;

use std::{
    io,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use ::http::HeaderName;
use ipnet::IpNet;
use tidegate_table::TableCell;
use tidegate_telemetry::GatewayMetrics;
use tokio::sync::{mpsc, watch};

use self::{
    balance::EndpointLoad,
    fd_budget::FileBudget,
    listen::Accepting,
    pending::PendingConnections,
    rebalance::ConnectionCounts,
    worker::{OwnParts, WorkerHandle, WorkerParts},
};
pub use self::{
    close::CloseCause,
    close::CloseCode,
    drain::DrainSettings,
    listen::bind,
    pending::PendingLimits,
    refusal::RefusalReason,
    scrape::scrape,
    tls::client_hello,
    tls::{FallbackCertificate, FallbackError},
};

/// Up to so many workers the first of them accepts for all: a thread of its own would be woken by each connection only to
/// wake a worker. Beside more of them it would be the one that is behind in a wave of connections.
const FIRST_ACCEPTS: usize = 4;

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    /// TLS, then HTTP.
    Https,
    /// HTTP in clear text.
    Http,
}

impl ListenerKind {
    /// The value of the metric label `listener`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

/// What a client may take before its request is answered.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// From accept to the end of the TLS handshake.
    pub tls_timeout: Duration,
    /// For the whole head of a request, and for the wait until it begins.
    pub head_timeout: Duration,
    /// Most bytes of a head; hyper takes no less than 8 KiB.
    pub head_bytes: usize,
    /// Most headers.
    pub headers: usize,
    /// For a client that takes next to nothing of its answer.
    pub answer_timeout: Duration,
    /// A connection ends with so many refused requests in a row.
    pub refusals: u32,
    /// A connection that has had nothing but refusals for so long ends with the next.
    pub refused_time: Duration,
    /// Limits on all connections without a request together.
    pub pending: PendingLimits,
}

impl RequestLimits {
    /// How long a new connection may be silent.
    fn before_request(&self, listener: ListenerKind) -> Duration {
        match listener {
            ListenerKind::Https => self.tls_timeout,
            ListenerKind::Http => self.head_timeout,
        }
    }
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            tls_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            headers: 100,
            answer_timeout: Duration::from_secs(60),
            refusals: 16,
            refused_time: Duration::from_secs(60),
            pending: PendingLimits::default(),
        }
    }
}

/// Settings of the data plane.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// Number of worker threads, at least one.
    pub workers: usize,
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` count.
    pub trusted_proxies: Vec<IpNet>,
    /// Further headers about the client and its request that pass from these proxies as they are.
    pub trusted_proxy_headers: Vec<HeaderName>,
    /// The certificate for server names without one.
    pub fallback: FallbackCertificate,
    /// The port that clients reach the TLS listener at, for redirects and messages.
    pub public_https_port: u16,
    /// What a client may take before its request is answered.
    pub limits: RequestLimits,
    /// How connections are ended when the gateway stops.
    pub drain: DrainSettings,
    /// By which requests that come back are known. Differs between gateways that run at the same time.
    pub instance: u64,
    /// Whether refusals tell clients which endpoint was tried, and what the error was, as the log does: for development.
    pub name_endpoints: bool,
    /// Files that are left to the admin port's connections, besides those for everything else.
    pub reserved_files: usize,
}

/// A running data plane.
#[derive(Debug)]
pub struct Gateway {
    shutdown: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
    beside: JoinHandle<()>,
    open: OpenConnections,
}

/// How many connections a gateway has now.
#[derive(Clone, Debug, Default)]
pub struct OpenConnections(Arc<AtomicUsize>);

impl OpenConnections {
    /// Their number.
    pub fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Gateway {
    /// Starts serving on listeners of [`bind`].
    pub fn start(
        settings: GatewaySettings,
        listeners: Vec<(ListenerKind, TcpListener)>,
        table: Arc<TableCell>,
        metrics: Arc<GatewayMetrics>,
    ) -> io::Result<Self> {
        let (sender, shutdown) = watch::channel(false);
        let files = Arc::new(FileBudget::of_process(settings.reserved_files)?);
        let room = fd_table::begin(Arc::clone(&files), fd_budget::limit_of_process()?);
        let (served, serving) = watch::channel(());
        let open = OpenConnections::default();
        let load = EndpointLoad::default();
        let count = settings.workers.max(1);
        let (handles, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| WorkerHandle::new()).unzip();
        let (orders, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::channel(rebalance::ORDERS)).unzip();
        let pending = Arc::new(PendingConnections::new(
            settings.limits.pending,
            settings.limits.head_bytes,
            settings.trusted_proxies.clone(),
            Arc::clone(&files),
            Arc::clone(&metrics),
        ));
        let accepting = Accepting::new(
            listeners,
            handles,
            Arc::clone(&files),
            Arc::clone(&pending),
            Arc::clone(&metrics),
            served,
        );
        let first_accepts = count <= FIRST_ACCEPTS;
        let parts = WorkerParts {
            table: Arc::clone(&table),
            load: load.clone(),
            ledger: ConnectionCounts::new(count),
            files,
            pending,
            metrics,
            settings: Arc::new(settings),
            open: Arc::clone(&open.0),
            shutdown,
            serving,
        };
        let mut workers = Vec::with_capacity(count);
        for (index, (accepted, received)) in inboxes.into_iter().zip(receivers).enumerate() {
            // The first one also says for all of them what is to be moved.
            let first = index == 0;
            let own = OwnParts {
                index,
                accepted,
                orders: received,
                given: if first { orders.clone() } else { Vec::new() },
                accepting: (first && first_accepts).then(|| accepting.clone()),
            };
            workers.push(worker::spawn(parts.clone(), own)?);
        }
        let beside =
            spawn_beside(endpoint_readiness::follow(table, load), room, accepting, !first_accepts)?;
        Ok(Self { shutdown: sender, workers, beside, open })
    }

    /// How many connections there are, also while it shuts down.
    pub fn open_connections(&self) -> OpenConnections {
        self.open.clone()
    }

    /// Drains: goes on for [`DrainSettings::delay`], then refuses upgrades and says goodbye to every connection, and
    /// returns when all have ended or their time is up.
    pub fn shut_down(self) {
        self.shutdown.send_replace(true);
        let join = |thread: JoinHandle<()>| {
            if thread.join().is_err() {
                tracing::error!("a thread of the gateway has panicked");
            }
        };
        self.workers.into_iter().for_each(join);
        join(self.beside);
    }
}

/// Starts the thread for what is no worker's: it surveys the tables, makes room for descriptors, and accepts where none of
/// the workers does, or stands by. It ends when no worker serves any more.
fn spawn_beside(
    survey: impl Future<Output = ()> + Send + 'static,
    room: impl Future<Output = ()> + Send + 'static,
    accepting: Accepting,
    accepts: bool,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let acceptors = accepts.then(|| accepting.begin()).transpose()?;
    drop(entered);
    let name = if accepts { "accept" } else { "survey" };
    std::thread::Builder::new().name(name.into()).spawn(move || {
        runtime.block_on(async {
            tokio::spawn(survey);
            tokio::spawn(room);
            match acceptors {
                Some(acceptors) => acceptors.run().await,
                None => accepting.stand_by().await,
            }
        });
    })
}
