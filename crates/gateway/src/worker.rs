//! Worker threads: each owns its sockets from accept to close, on a runtime of its own.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr, TcpStream as StdTcpStream},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Instant as StdInstant,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tidegate_table::TableCell;
use tidegate_telemetry::GatewayMetrics;
use tokio::{
    net::TcpStream,
    runtime::LocalOptions,
    sync::{
        Notify,
        mpsc::{self, Receiver, Sender},
        watch,
    },
    task::spawn_local,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{
    GatewaySettings, ListenerKind,
    balance::EndpointLoad,
    cdn_loop::LoopMark,
    drain::{drain, follow},
    fd_budget::{FileBudget, FileToken},
    guarded::{self, Guarded},
    handshake_gate::{HandshakeGate, Priority},
    http,
    listen::{Accepting, Acceptors},
    pending::{Pending, PendingConnections, cost},
    rebalance::{ConnectionCounts, Order, carry_out, plan},
    refusal::RefusalReason,
    refusal_log::{RefusalLog, SUMMARY_AFTER, Verdict},
    registry::Registry,
    request_head::{self, Head},
    rewind::Rewind,
    route_match::Arrival,
    socket, tls,
    transport::Transport,
};

/// Accepted sockets that may wait for a worker.
const HAND_OVER: usize = 256;

/// What all workers share.
#[derive(Clone)]
pub(super) struct WorkerParts {
    pub(super) table: Arc<TableCell>,
    pub(super) load: EndpointLoad,
    pub(super) ledger: ConnectionCounts,
    pub(super) files: Arc<FileBudget>,
    pub(super) pending: Arc<PendingConnections>,
    pub(super) metrics: Arc<GatewayMetrics>,
    pub(super) settings: Arc<GatewaySettings>,
    /// Connections of all workers.
    pub(super) open: Arc<AtomicUsize>,
    pub(super) shutdown: watch::Receiver<bool>,
    /// Held as long as the worker serves.
    pub(super) serving: watch::Receiver<()>,
}

/// What is one worker's own.
pub(super) struct OwnParts {
    pub(super) index: usize,
    pub(super) accepted: Receiver<Accepted>,
    pub(super) orders: Receiver<Order>,
    /// Whom it gives orders to, if it is the one that gives them.
    pub(super) given: Vec<Sender<Order>>,
    /// What it accepts for all workers, if it is the one that does.
    pub(super) accepting: Option<Accepting>,
}

/// What the connections of one worker share.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) table: Arc<TableCell>,
    pub(super) load: EndpointLoad,
    pub(super) files: Arc<FileBudget>,
    pub(super) metrics: Arc<GatewayMetrics>,
    pub(super) settings: Arc<GatewaySettings>,
    pub(super) loop_mark: LoopMark,
    pub(super) sessions: Rc<Registry>,
    pub(super) gate: HandshakeGate,
    refusal_log: RefCell<RefusalLog>,
    /// Lines of refusals have been left out since the last summary.
    left_out: Notify,
    draining: Cell<bool>,
}

impl Worker {
    /// Whether new upgrades are refused because the gateway is shutting down.
    pub(super) fn draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether the refusal of a client may be logged. If not it is counted, and a line says later how many there were.
    pub(super) fn may_log_refusal(&self, client: IpAddr) -> bool {
        let verdict = self.refusal_log.borrow_mut().judge(client, StdInstant::now());
        let Verdict::LeaveOut { first } = verdict else { return true };
        self.metrics.refusals_left_out.inc();
        if first {
            self.left_out.notify_one();
        }
        false
    }

    /// Tells how many refusals were not logged, a while after the first of them.
    async fn tell_left_out(&self) -> Infallible {
        loop {
            self.left_out.notified().await;
            sleep(SUMMARY_AFTER).await;
            let lines = self.refusal_log.borrow_mut().take_left_out();
            tracing::warn!(
                target: "tidegate::access",
                event = "refusals_left_out",
                lines,
                "lines of refused requests were left out: there were too many"
            );
        }
    }
}

/// A socket on its way to a worker.
pub(super) struct Accepted {
    pub(super) stream: StdTcpStream,
    pub(super) of: Arrived,
}

/// Where a socket came from and what is held for it.
pub(super) struct Arrived {
    pub(super) peer: SocketAddr,
    pub(super) listener: ListenerKind,
    pub(super) pending: Pending,
    pub(super) live: LiveToken,
}

/// The acceptor's side of a worker.
#[derive(Clone, Debug)]
pub(super) struct WorkerHandle {
    sender: mpsc::Sender<Accepted>,
    live: Arc<AtomicUsize>,
}

/// Counts one socket of a worker for as long as it exists.
#[derive(Debug)]
pub(super) struct LiveToken(Arc<AtomicUsize>, #[expect(dead_code, reason = "held")] FileToken);

impl Drop for LiveToken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl WorkerHandle {
    /// That of a worker, and where the worker gets its sockets.
    pub(super) fn new() -> (Self, Receiver<Accepted>) {
        let (sender, receiver) = mpsc::channel(HAND_OVER);
        (Self { sender, live: Arc::default() }, receiver)
    }

    /// Sockets that the worker owns now.
    pub(super) fn live(&self) -> usize {
        self.live.load(Relaxed)
    }

    /// Whether the worker has ended: it takes no socket any more.
    pub(super) fn ended(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the worker has ended.
    pub(super) async fn has_ended(&self) {
        self.sender.closed().await;
    }

    /// Hands a socket over; waits while the worker is behind, so that the kernel's backlog fills instead of our memory.
    /// The socket is closed if the worker has ended.
    pub(super) async fn hand(
        &self,
        stream: StdTcpStream,
        peer: SocketAddr,
        listener: ListenerKind,
        pending: Pending,
        file: FileToken,
    ) {
        self.live.fetch_add(1, Relaxed);
        let live = LiveToken(Arc::clone(&self.live), file);
        let _ = self
            .sender
            .send(Accepted { stream, of: Arrived { peer, listener, pending, live } })
            .await;
    }
}

/// Starts a worker thread.
pub(super) fn spawn(parts: WorkerParts, own: OwnParts) -> io::Result<JoinHandle<()>> {
    let (started, result) = std::sync::mpsc::sync_channel(1);
    let name = format!("worker-{}", own.index);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        // Such a runtime cannot move to another thread, so it is made in this one.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        let begun = runtime.and_then(|runtime| {
            let entered = runtime.enter();
            let acceptors = own.accepting.as_ref().map(Accepting::begin).transpose()?;
            drop(entered);
            Ok((runtime, acceptors))
        });
        // The other end is waiting.
        let _ = match begun {
            Ok((runtime, acceptors)) => {
                let _ = started.send(Ok(()));
                runtime.block_on(run(parts, own, acceptors));
                Ok(())
            }
            Err(error) => started.send(Err(error)),
        };
    })?;
    result.recv().map_err(|_| io::Error::other("a worker thread ended at once"))??;
    Ok(thread)
}

async fn run(parts: WorkerParts, own: OwnParts, acceptors: Option<Acceptors>) {
    let OwnParts { index, mut accepted, mut orders, given, .. } = own;
    let WorkerParts { mut shutdown, serving, .. } = parts;
    let settings = parts.settings.drain;
    let ledger = parts.ledger.clone();
    let worker = Rc::new(Worker {
        index,
        table: parts.table,
        load: parts.load,
        files: parts.files,
        metrics: parts.metrics,
        loop_mark: LoopMark::new(parts.settings.instance),
        settings: parts.settings,
        sessions: Rc::new(Registry::new(index, parts.ledger, parts.open)),
        gate: HandshakeGate::new(),
        refusal_log: RefCell::new(RefusalLog::new(StdInstant::now())),
        left_out: Notify::new(),
        draining: Cell::new(false),
    });
    let gate = Rc::clone(&worker);
    spawn_local(async move { match gate.gate.give_turns().await {} });
    let gate = Rc::clone(&worker);
    spawn_local(async move { match gate.gate.take_turns_back().await {} });
    let pending = parts.pending;
    // Connections are taken to the very end: who comes late is told why there is no upgrade any more.
    let taking = async {
        while let Some(socket) = accepted.recv().await {
            let Accepted { stream, of } = socket;
            let stream = match TcpStream::from_std(stream) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, "accepted socket not usable");
                    continue;
                }
            };
            let id = of.pending.id();
            let task = spawn_local(serve(Rc::clone(&worker), stream, of));
            pending.attach(id, task.abort_handle());
        }
    };
    let draining = async {
        let ordered = async {
            stopped(&mut shutdown).await;
            sleep(settings.delay).await;
        };
        tokio::select! {
            () = ordered => {}
            // These end with the wait: what they had begun is the drain's to go on with.
            never = follow(&worker.table, &worker.sessions) => match never {},
            never = carry_out(&worker.sessions, &mut orders) => match never {},
            never = plan(&worker.table, &ledger, &given), if !given.is_empty() => match never {},
        }
        worker.draining.set(true);
        drain(&worker.sessions, settings).await;
        drop(serving);
    };
    // Goes on after the own drain, for those of the others.
    let accepting = async {
        if let Some(acceptors) = acceptors {
            acceptors.run().await;
        }
    };
    tokio::select! {
        biased;
        _ = async { tokio::join!(draining, accepting) } => {}
        // The acceptors are gone before the order to stop: their thread has panicked.
        never = worker.tell_left_out() => match never {},
        () = taking => tracing::error!("a worker gets no connections any more"),
    }
}

/// Waits for the shutdown. That its sender is gone means the same.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|down| *down).await;
}

/// Serves one socket until it ends or is upgraded.
///
/// Of one that is silent nothing is held but this: what a handshake and a request take is on the heap, and is made when it
/// is needed.
fn serve(worker: Rc<Worker>, stream: TcpStream, of: Arrived) -> impl Future<Output = ()> {
    // Taken apart here, for what a function that is async is given it holds twice.
    let Arrived { peer, listener, pending, live } = of;
    let deadline = Instant::now() + worker.settings.limits.before_request(listener);
    async move {
        let readable = timeout_at(deadline, socket::readable(&stream)).await;
        match (readable, listener) {
            (Ok(Ok(())), ListenerKind::Http) => {
                let client = Client { worker, peer, listener, pending, live };
                let transport = Transport::Plain(stream);
                Box::pin(client.requests(transport, Arrival::Plain, cost::SOCKET)).await;
            }
            (Ok(Ok(())), ListenerKind::Https) => {
                let accept = tls::Accept {
                    table: &worker.table,
                    fallback: &worker.settings.fallback,
                    metrics: &worker.metrics,
                    gate: &worker.gate,
                    client: peer.ip(),
                    pending: &pending,
                };
                let accepted = Box::pin(accept.run(stream, deadline)).await;
                let Some((stream, arrival)) = accepted else { return };
                let client = Client { worker, peer, listener, pending, live };
                Box::pin(client.requests(Transport::Server(stream), arrival, cost::TLS)).await;
            }
            (failed, listener) => {
                // A thousand that are silent together do not end together.
                drop(worker.gate.enter(Priority::New(peer.ip()), || pending.works()).await);
                match (failed, listener) {
                    (Err(_), ListenerKind::Https) => worker.metrics.tls_failed("timeout"),
                    (Err(_), ListenerKind::Http) => worker.metrics.head_timed_out("http"),
                    (Ok(_), _) => {}
                }
            }
        }
    }
}

/// A connection that has come as far as HTTP.
struct Client {
    worker: Rc<Worker>,
    peer: SocketAddr,
    listener: ListenerKind,
    pending: Pending,
    live: LiveToken,
}

impl Client {
    /// Serves its requests until it ends or is upgraded.
    #[expect(clippy::manual_async_fn, reason = "that would hold what it is given twice")]
    fn requests(
        self,
        mut transport: Transport,
        arrival: Arrival,
        base: usize,
    ) -> impl Future<Output = ()> {
        async move {
            let limits = &self.worker.settings.limits;
            let deadline = Instant::now() + limits.head_timeout;
            let most = (limits.head_bytes, limits.headers);
            let waits = Transport::wait_for_head;
            let head = request_head::read(&mut transport, &self.pending, base, most, waits);
            // What hyper holds is made only then. The future that reads is gone before the gate is entered.
            match timeout_at(deadline, head).await {
                Ok(Ok(Head::Whole(head))) => {
                    let transport = Rewind::new(transport, head);
                    Box::pin(self.serve_http(transport, arrival, None)).await;
                }
                Ok(Ok(Head::Part(head))) => {
                    self.pending.waits_in_hyper(base);
                    let transport = Rewind::new(transport, head);
                    Box::pin(self.serve_part(transport, arrival, deadline)).await;
                }
                Ok(Ok(Head::Ended)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(peer = %self.peer, %error, "connection ended before a request");
                }
                Err(_) => {
                    let works = || self.pending.works();
                    drop(self.worker.gate.enter(Priority::New(self.peer.ip()), works).await);
                    self.worker.metrics.head_timed_out(self.listener.as_str());
                }
            }
        }
    }

    /// Serves one of whose first head hyper is to read the rest: for that it has the time that is left.
    async fn serve_part(self, transport: Rewind<Transport>, arrival: Arrival, deadline: Instant) {
        let (worker, listener) = (Rc::clone(&self.worker), self.listener);
        let asked = Rc::new(Cell::new(false));
        let late = async {
            sleep_until(deadline).await;
            if asked.get() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.serve_http(transport, arrival, Some(Rc::clone(&asked))) => {}
            () = late => worker.metrics.head_timed_out(listener.as_str()),
        }
    }

    /// Serves requests. `asked` is set with the first of them.
    async fn serve_http(
        self,
        transport: Rewind<Transport>,
        arrival: Arrival,
        asked: Option<Rc<Cell<bool>>>,
    ) {
        let Self { worker, peer, listener, pending, live } = self;
        let limits = worker.settings.limits;
        let own = Rc::clone(&worker);
        let connection =
            http::ClientConnection::new(worker, peer, listener, arrival, pending, live);
        let connection = Rc::new(connection);
        let service = service_fn(move |request| {
            asked.iter().for_each(|asked| asked.set(true));
            http::handle(Rc::clone(&connection), request)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_buf_size(limits.head_bytes)
            .max_headers(limits.headers)
            .serve_connection(TokioIo::new(Guarded::new(transport, limits.answer_timeout)), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            ended(&error, peer, listener, &own);
        }
    }
}

/// Counts and logs what ended a connection before an upgrade.
fn ended(error: &hyper::Error, peer: SocketAddr, listener: ListenerKind, worker: &Worker) {
    tracing::debug!(%peer, %error, "connection ended before an upgrade");
    if error.is_timeout() {
        worker.metrics.head_timed_out(listener.as_str());
    }
    let (reason, what) = if error.is_parse() || error.is_parse_too_large() {
        // hyper has answered 400 or 431 itself.
        (RefusalReason::BadHandshake, "not sound HTTP")
    } else if guarded::is_late(error) {
        (RefusalReason::ClientGone, "cut off")
    } else {
        return;
    };
    worker.metrics.refused("", "", listener.as_str(), reason.as_str());
    if !worker.may_log_refusal(peer.ip()) {
        return;
    }
    tracing::info!(
        target: "tidegate::access",
        event = "refused",
        reason = reason.as_str(),
        client = %peer.ip(),
        listener = listener.as_str(),
        %error,
        "{what}",
    );
}
