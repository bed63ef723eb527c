//! Listening sockets: bound before anything starts, accepted by one thread, shared out to the workers.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::{ListenerKind, worker::WorkerHandle};
use crate::telemetry::GatewayMetrics;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;
/// The pause after the process has run out of something that accept needs.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Binds a listening socket. `[::]` takes IPv4 as well, and is `0.0.0.0` on a machine without IPv6.
pub fn bind(address: SocketAddr) -> io::Result<StdTcpListener> {
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

fn bind_as(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart may bind while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Starts the accepting thread. It ends, and closes the listeners, when `end` turns true.
pub(super) fn spawn(
    listeners: Vec<(ListenerKind, StdTcpListener)>,
    workers: Vec<WorkerHandle>,
    metrics: Arc<GatewayMetrics>,
    mut end: watch::Receiver<bool>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listeners = {
        let _entered = runtime.enter();
        listeners
            .into_iter()
            .map(|(kind, listener)| Ok((kind, TcpListener::from_std(listener)?)))
            .collect::<io::Result<Vec<_>>>()?
    };
    std::thread::Builder::new().name("accept".into()).spawn(move || {
        runtime.block_on(async {
            let workers: Arc<[WorkerHandle]> = workers.into();
            let mut loops = JoinSet::new();
            for (kind, listener) in listeners {
                loops.spawn(accept(kind, listener, Arc::clone(&workers), Arc::clone(&metrics)));
            }
            // An error means that the sender is gone: the program is ending as well.
            let _ = end.wait_for(|end| *end).await;
        });
    })
}

async fn accept(
    kind: ListenerKind,
    listener: TcpListener,
    workers: Arc<[WorkerHandle]>,
    metrics: Arc<GatewayMetrics>,
) {
    let mut backing_off = false;
    loop {
        match listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
            Ok((stream, peer)) => {
                if backing_off {
                    backing_off = false;
                    tracing::info!(listener = kind.as_str(), "accepting connections again");
                }
                // Kernel hashing would be uneven: these sockets live for days.
                let living = workers.iter().filter(|worker| !worker.ended());
                match living.min_by_key(|worker| worker.live()) {
                    Some(worker) => worker.hand(stream, peer, kind).await,
                    None => metrics.accept_failed(kind.as_str(), "no_worker"),
                }
            }
            Err(error) => {
                let (reason, exhausted) = accept_reason(&error);
                metrics.accept_failed(kind.as_str(), reason);
                if exhausted {
                    if !backing_off {
                        backing_off = true;
                        tracing::error!(listener = kind.as_str(), reason, %error, "connections cannot be accepted; trying on");
                    }
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }
}

/// The label for a failed accept, and whether it fails again at once.
fn accept_reason(error: &io::Error) -> (&'static str, bool) {
    match error.raw_os_error() {
        // EMFILE, ENFILE
        Some(23 | 24) => ("file_limit", true),
        // ENOMEM, ENOBUFS
        Some(12 | 105) => ("memory", true),
        // ECONNABORTED, and what Linux passes on of a connection's own network errors: see accept(2)
        _ => ("connection", false),
    }
}
