//! How every TCP socket of the data plane is set, towards clients and towards endpoints.
//!
//! Nothing but options of sockets belongs here. On Linux an accepted socket has those of the socket that listens, so
//! clients cost no system call; those towards endpoints are set one by one.

use std::{
    io,
    net::SocketAddr,
    ops::RangeInclusive,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

/// A silent peer is asked whether it is still there after so long.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// And again after each of these.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// So often, before it counts as gone.
const KEEPALIVE_PROBES: u32 = 3;
/// The same towards endpoints, seconds, drawn anew for each socket. Those that were opened together and are quiet would be
/// asked in one tick of the kernel's otherwise, and again in one: thousands of packets at once, of which a queue of
/// 1,000 (`net.core.netdev_max_backlog`, also that of a pod's veth) drops most, again and again, until healthy endpoints
/// count as gone. Clients are sent pings, one after the other.
const KEEPALIVE_AFTER_RANGE: RangeInclusive<u64> = 20..=35;
const KEEPALIVE_INTERVAL_RANGE: RangeInclusive<u64> = 4..=6;
const KEEPALIVE_ENDPOINT_PROBES: u32 = 6;
/// Bytes that nobody acknowledges for so long end the connection: while there are some, keepalive does not ask (RFC 5482).
/// Linux counts the time in which a peer's window is closed as well, though the peer answers.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// So many bytes may wait in the kernel to be sent for the first time: see tcp(7), `TCP_NOTSENT_LOWAT`. What is under way
/// to a distant peer is not among them, so this bounds what a slow reader holds, and not what a distant one gets. A
/// worker is asked for more at the half of it: at 1 Gbit/s it then has half a millisecond to come.
const UNSENT: u32 = 128 * 1024;
/// The receive buffer towards an endpoint, in bytes; the kernel takes as much again for its bookkeeping. No more
/// than the least `net.core.rmem_max` that one meets, so that it is the same everywhere. Endpoints are near.
const FROM_ENDPOINT: usize = 208 * 1024;

/// Sets a socket that is going to listen, and so all that will be accepted from it. Their receive buffers stay the
/// kernel's to size: clients may be far away.
pub(super) fn tune_listener(socket: &impl AsFd) -> io::Result<()> {
    tune(&SockRef::from(socket))
}

/// Connects to an endpoint.
pub(super) async fn connect(endpoint: SocketAddr) -> io::Result<TcpStream> {
    let socket = if endpoint.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    tune(&SockRef::from(&socket))?;
    let spread = |range| Duration::from_secs(fastrand::u64(range));
    let keepalive = TcpKeepalive::new()
        .with_time(spread(KEEPALIVE_AFTER_RANGE))
        .with_interval(spread(KEEPALIVE_INTERVAL_RANGE))
        .with_retries(KEEPALIVE_ENDPOINT_PROBES);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    // Before it is connected: a window that began with another buffer would never use all of this one.
    SockRef::from(&socket).set_recv_buffer_size(FROM_ENDPOINT)?;
    socket.connect(endpoint).await
}

/// Sends small messages at once, notices within about a minute that a peer has vanished without a word, whether or not
/// something is being sent to it, and holds little for a peer that does not read.
fn tune(socket: &SockRef<'_>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    socket.set_tcp_notsent_lowat(UNSENT)
}

/// Lets a peer take nothing for `limit` (`None`: for ever) although that is longer than unacknowledged bytes may wait otherwise.
pub(super) fn allow_stall(stream: &TcpStream, limit: Option<Duration>) -> io::Result<()> {
    match limit {
        Some(limit) if limit < UNACKNOWLEDGED => Ok(()),
        // The route's limit first.
        limit => {
            let limit = limit.map(|limit| limit.saturating_add(KEEPALIVE_INTERVAL));
            SockRef::from(stream).set_tcp_user_timeout(limit)
        }
    }
}

/// Bytes that were written to a socket and that its peer has not acknowledged (SIOCOUTQ, tcp(7)); 0 where that cannot be
/// told. The one way to see that a slow peer takes something: writability is told for some hundred KiB at a time.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "no crate in use wraps this call; it is made once a stall, not per message"
)]
pub(super) fn unacknowledged(stream: &TcpStream) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed, and the call writes one int to where `bytes` is.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Not told here.
#[cfg(not(target_os = "linux"))]
pub(super) fn unacknowledged(_: &TcpStream) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::gateway::listen::bind;

    #[track_caller]
    fn assert_tuned(socket: &SockRef<'_>) {
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
    }

    #[test]
    fn an_accepted_socket_has_the_options_of_the_one_that_listens() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let listener = bind(address.parse().unwrap()).unwrap();
            listener.set_nonblocking(false).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let accepted = SockRef::from(&accepted);
            assert_tuned(&accepted);
            assert_eq!(accepted.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
            assert_eq!(accepted.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(accepted.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
            let untuned = SockRef::from(&client);
            assert_ne!(untuned.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
            assert_ne!(untuned.tcp_notsent_lowat().unwrap(), UNSENT);
        }
    }

    #[tokio::test]
    async fn a_socket_towards_an_endpoint_is_tuned_and_its_receive_buffer_is_bounded() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine without IPv6 has one case less.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let stream = connect(listener.local_addr().unwrap()).await.unwrap();
            let socket = SockRef::from(&stream);
            assert_eq!(socket.recv_buffer_size().unwrap(), 2 * FROM_ENDPOINT);
            assert_tuned(&socket);
        }
    }

    #[tokio::test]
    async fn sockets_towards_endpoints_are_not_asked_in_step() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut times = std::collections::BTreeSet::new();
        for _ in 0..32 {
            let stream = connect(listener.local_addr().unwrap()).await.unwrap();
            let socket = SockRef::from(&stream);
            let after = socket.tcp_keepalive_time().unwrap();
            let interval = socket.tcp_keepalive_interval().unwrap();
            assert!(KEEPALIVE_AFTER_RANGE.contains(&after.as_secs()));
            assert!(KEEPALIVE_INTERVAL_RANGE.contains(&interval.as_secs()));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_ENDPOINT_PROBES);
            times.insert((after, interval));
        }
        assert!(times.len() > 16, "{times:?}");
    }
}
