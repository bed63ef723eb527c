//! Listening sockets: bound before anything starts, accepted by one thread, what comes shared out to the workers.

use std::{
    fmt::Display,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, Socket, Type};
use tidegate_telemetry::GatewayMetrics;
use tokio::{
    io::Interest,
    sync::watch,
    task::{JoinSet, yield_now},
};

use super::{
    ListenerKind,
    fd_budget::{FileBudget, FileToken, out_of_files},
    pending::{PendingConnections, Room},
    socket,
    worker::WorkerHandle,
};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;
/// The pause after the process has run out of something that accept needs.
const BACK_OFF: Duration = Duration::from_millis(100);
/// The pause where all connections without a request wait for the CPU: some of them will have gone on.
const BREATH: Duration = Duration::from_millis(5);
/// So many connections are accepted in one turn of the runtime.
const A_TURN: usize = 16;
/// Accepting without a pause for so long ends a shortage.
const CALM: Duration = Duration::from_secs(5);
/// The label where that something is files.
const FILE_LIMIT: &str = "file_limit";
/// The label where as many connections without a request as there may be wait for the CPU.
const PENDING_LIMIT: &str = "pending_limit";

/// Binds a listening socket, set as all that are accepted from it shall be. `[::]` takes IPv4 as well, and is `0.0.0.0`
/// on a machine without IPv6.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match bind_as(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6(&error) => {
            bind_as((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        result => result,
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    // EAFNOSUPPORT, EADDRNOTAVAIL
    matches!(error.raw_os_error(), Some(97 | 99))
}

fn bind_as(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart may bind while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket::tune_listener(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// What takes connections. Begun on the thread that is to do it, and on another one should that have panicked.
#[derive(Clone)]
pub(super) struct Accepting {
    listeners: Arc<[(ListenerKind, TcpListener)]>,
    workers: Arc<[WorkerHandle]>,
    files: Arc<FileBudget>,
    pending: Arc<PendingConnections>,
    metrics: Arc<GatewayMetrics>,
    /// Each worker holds a receiver as long as it serves.
    serving: watch::Sender<()>,
}

impl Accepting {
    /// Of connections for these workers, until none of them serves any more.
    pub(super) fn new(
        listeners: Vec<(ListenerKind, TcpListener)>,
        workers: Vec<WorkerHandle>,
        files: Arc<FileBudget>,
        pending: Arc<PendingConnections>,
        metrics: Arc<GatewayMetrics>,
        serving: watch::Sender<()>,
    ) -> Self {
        let (listeners, workers) = (listeners.into(), workers.into());
        Self { listeners, workers, files, pending, metrics, serving }
    }

    /// Begins, on the runtime of this thread.
    pub(super) fn begin(&self) -> io::Result<Acceptors> {
        let each = self.listeners.iter().map(|(kind, listener)| {
            let acceptor = Acceptor {
                kind: *kind,
                workers: Arc::clone(&self.workers),
                files: Arc::clone(&self.files),
                pending: Arc::clone(&self.pending),
                metrics: Arc::clone(&self.metrics),
                shortage: Shortage::default(),
            };
            Ok((acceptor, Listening::new(listener.try_clone()?)?))
        });
        Ok(Acceptors { each: each.collect::<io::Result<_>>()?, serving: self.serving.clone() })
    }

    /// Waits until no worker serves any more, and begins if the first one, which accepts, ends before.
    pub(super) async fn stand_by(self) {
        let Some(first) = self.workers.first() else { return };
        tokio::select! {
            biased;
            () = self.serving.closed() => return,
            () = first.has_ended() => {}
        }
        tracing::error!("the worker that accepts has panicked; another thread accepts from now on");
        match self.begin() {
            Ok(acceptors) => acceptors.run().await,
            Err(error) => tracing::error!(%error, "no connection can be accepted any more"),
        }
    }
}

/// All that accept on one thread.
pub(super) struct Acceptors {
    each: Vec<(Acceptor, Listening)>,
    serving: watch::Sender<()>,
}

impl Acceptors {
    /// Accepts until no worker serves any more.
    pub(super) async fn run(self) {
        let mut loops = JoinSet::new();
        for (acceptor, listening) in self.each {
            loops.spawn(acceptor.run(listening));
        }
        self.serving.closed().await;
    }
}

/// A listening socket. Tokio's listener would register each accepted socket with the runtime of this thread, though it
/// is for that of a worker. Its stream stands in: a type of it that tells readiness and leaves the call to us.
struct Listening(tokio::net::TcpStream);

impl Listening {
    fn new(listener: TcpListener) -> io::Result<Self> {
        let socket = TcpStream::from(OwnedFd::from(listener));
        tokio::net::TcpStream::from_std(socket).map(Self)
    }

    /// The next connection, its socket non-blocking and registered nowhere.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accept = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            rustix::net::acceptfrom_with(&self.0, flags).map_err(io::Error::from)
        };
        let (socket, peer) = self.0.async_io(Interest::READABLE, accept).await?;
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        Ok((socket.into(), peer.expect("the socket is bound to an IP address")))
    }
}

/// Accepts on one listener.
struct Acceptor {
    kind: ListenerKind,
    workers: Arc<[WorkerHandle]>,
    files: Arc<FileBudget>,
    pending: Arc<PendingConnections>,
    metrics: Arc<GatewayMetrics>,
    shortage: Shortage,
}

impl Acceptor {
    async fn run(mut self, listener: Listening) {
        let mut accepted = 0_usize;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // One client waits here with a file of the reserve, the others in the kernel's backlog.
                    if self.room(peer.ip()).await == Room::Refused {
                        drop(stream);
                        breathe(&mut accepted).await;
                        continue;
                    }
                    let file = self.place().await;
                    let pending = self.pending.enter(peer.ip());
                    if self.shortage.over(Instant::now()) {
                        let listener = self.kind.as_str();
                        tracing::info!(listener, "accepting connections again");
                    }
                    // Kernel hashing would be uneven: these sockets live for days.
                    let living = self.workers.iter().filter(|worker| !worker.ended());
                    match living.min_by_key(|worker| worker.live()) {
                        Some(worker) => worker.hand(stream, peer, self.kind, pending, file).await,
                        None => self.metrics.accept_failed(self.kind.as_str(), "no_worker"),
                    }
                    breathe(&mut accepted).await;
                }
                Err(error) => match accept_reason(&error) {
                    (reason, true) => self.back_off(reason, &error).await,
                    (reason, false) => self.metrics.accept_failed(self.kind.as_str(), reason),
                },
            }
        }
    }

    /// Waits while there is no room among the connections without a request. Mostly there is some, or somebody is told to go for it.
    async fn room(&self, client: IpAddr) -> Room {
        let mut counted = false;
        loop {
            let room = self.pending.make_room(client);
            if room != Room::Full {
                return room;
            }
            if !counted {
                self.metrics.accept_failed(self.kind.as_str(), PENDING_LIMIT);
                counted = true;
            }
            tokio::time::sleep(BREATH).await;
        }
    }

    /// Waits for a place within the limit on files.
    async fn place(&mut self) -> FileToken {
        loop {
            if let Some(file) = self.files.client() {
                return file;
            }
            if self.pending.free_file() == Room::Free {
                // Its task ends in a moment.
                let _ = tokio::time::timeout(BACK_OFF, self.files.freed()).await;
                continue;
            }
            self.back_off(FILE_LIMIT, &"all files for connections are in use").await;
        }
    }

    /// Counts, tells once, and pauses: trying again at once would spin.
    async fn back_off(&mut self, reason: &'static str, error: &(dyn Display + Sync)) {
        let listener = self.kind.as_str();
        self.metrics.accept_failed(listener, reason);
        if self.shortage.felt(Instant::now()) {
            tracing::error!(listener, reason, %error, "connections cannot be accepted; trying on");
        }
        tokio::time::sleep(BACK_OFF).await;
    }
}

/// One more was accepted: open connections have their turn in a wave of new ones.
async fn breathe(accepted: &mut usize) {
    *accepted += 1;
    if accepted.is_multiple_of(A_TURN) {
        yield_now().await;
    }
}

/// A time in which accept lacks something. One line tells of its begin and one of its end, however many connections come
/// and go at the brim.
#[derive(Debug, Default)]
struct Shortage(Option<Instant>);

impl Shortage {
    /// Something is lacking now. Whether this is the begin.
    fn felt(&mut self, now: Instant) -> bool {
        self.0.replace(now).is_none()
    }

    /// Nothing is lacking now. Whether it was the end.
    fn over(&mut self, now: Instant) -> bool {
        self.0.take_if(|last| now.duration_since(*last) >= CALM).is_some()
    }
}

/// The label for a failed accept, and whether it fails again at once.
fn accept_reason(error: &io::Error) -> (&'static str, bool) {
    match error.raw_os_error() {
        _ if out_of_files(error) => (FILE_LIMIT, true),
        // ENOMEM, ENOBUFS
        Some(12 | 105) => ("memory", true),
        // ECONNABORTED, and what Linux passes on of a connection's own network errors: see accept(2)
        _ => ("connection", false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PendingLimits;

    #[tokio::test]
    async fn another_thread_accepts_when_the_worker_that_did_has_panicked() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (first, its_sockets) = WorkerHandle::new();
        let (second, mut sockets) = WorkerHandle::new();
        let (served, serving) = watch::channel(());
        let files = Arc::new(FileBudget::of_process(0).unwrap());
        let metrics = Arc::new(GatewayMetrics::register(&prometheus::Registry::new()).unwrap());
        let pending = PendingConnections::new(
            PendingLimits::default(),
            16 * 1024,
            Vec::new(),
            Arc::clone(&files),
            Arc::clone(&metrics),
        );
        let accepting = Accepting::new(
            vec![(ListenerKind::Http, listener)],
            vec![first, second],
            files,
            Arc::new(pending),
            metrics,
            served,
        );
        let standing_by = tokio::spawn(accepting.stand_by());
        let client = TcpStream::connect(address).unwrap();
        drop(its_sockets);
        let accepted = sockets.recv().await.expect("the other worker gets it");
        assert_eq!(accepted.of.peer, client.local_addr().unwrap());
        drop(serving);
        standing_by.await.expect("it ends with the workers");
        TcpStream::connect(address).expect_err("and closes the listener");
    }

    #[test]
    fn a_shortage_is_told_once_and_ends_after_a_calm() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut shortage = Shortage::default();
        assert!(!shortage.over(start), "there is none yet");
        assert!(shortage.felt(start));
        assert!(!shortage.over(after(100)), "a place at the brim is no end");
        assert!(!shortage.felt(after(4000)) && !shortage.over(after(8999)));
        assert!(shortage.over(after(9000)));
        assert!(!shortage.over(after(9001)) && shortage.felt(after(9002)));
    }

    #[test]
    fn what_fails_again_at_once_is_told_from_what_one_client_did() {
        let reason = |code| accept_reason(&io::Error::from_raw_os_error(code));
        for (code, expected) in [
            (23, (FILE_LIMIT, true)),
            (24, (FILE_LIMIT, true)),
            (12, ("memory", true)),
            (105, ("memory", true)),
            (103, ("connection", false)),
            (110, ("connection", false)),
        ] {
            assert_eq!(reason(code), expected, "{code}");
        }
    }
}
