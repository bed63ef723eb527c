//! How every TCP socket of the data plane is set, towards clients and towards endpoints.
//!
//! Nothing but options of sockets, and what is asked of one, belongs here. On Linux an accepted socket has those of the socket that listens, so
//! clients cost no system call; those towards endpoints are set one by one.

use std::{
    future::poll_fn,
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
/// The same towards endpoints, and clients that are sent no pings, seconds, drawn anew for each socket. Those that were opened
/// together and are quiet would be asked in one tick of the kernel's otherwise, and again in one: thousands of packets at once, of
/// which a queue of 1,000 (`net.core.netdev_max_backlog`, also that of a pod's veth) drops most, again and again, until healthy peers
/// count as gone.
const KEEPALIVE_AFTER_RANGE: RangeInclusive<u64> = 20..=35;
const KEEPALIVE_INTERVAL_RANGE: RangeInclusive<u64> = 4..=6;
const KEEPALIVE_SPREAD_PROBES: u32 = 6;
/// Bytes that nobody acknowledges for so long end the connection: while there are some, keepalive does not ask (RFC 5482).
/// Linux counts the time in which a peer's window is closed as well, though the peer answers.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// A peer is asked in vain after so many retransmission timeouts, of which the first is usually 0.2 s and each is twice the
/// one before, or so many questions to a closed window; those come at growing intervals, up to 2 minutes.
const RETRANSMITS_IN_VAIN: u8 = 3;
const PROBES_IN_VAIN: u8 = 2;
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
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    tune(&SockRef::from(socket), &keepalive)
}

/// Waits until there is something to read, or the end. For a socket with one reader: tokio's own `readable` is for several, and
/// holds an entry in a list of those that wait.
pub(super) fn readable(socket: &TcpStream) -> impl Future<Output = io::Result<()>> {
    poll_fn(|cx| socket.poll_read_ready(cx))
}

/// Connects to an endpoint.
pub(super) async fn connect(endpoint: SocketAddr) -> io::Result<TcpStream> {
    let socket = if endpoint.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    tune(&SockRef::from(&socket), &out_of_step())?;
    // Before it is connected: a window that began with another buffer would never use all of this one.
    SockRef::from(&socket).set_recv_buffer_size(FROM_ENDPOINT)?;
    socket.connect(endpoint).await
}

/// Asks a quiet peer whether it is there at other times than the peers of sockets that were opened together.
fn out_of_step() -> TcpKeepalive {
    let spread = |range| Duration::from_secs(fastrand::u64(range));
    TcpKeepalive::new()
        .with_time(spread(KEEPALIVE_AFTER_RANGE))
        .with_interval(spread(KEEPALIVE_INTERVAL_RANGE))
        .with_retries(KEEPALIVE_SPREAD_PROBES)
}

/// Does so towards a client to which pings go only after such a time, if at all: otherwise they come first, one after the other.
pub(super) fn ask_client(stream: &TcpStream, pings: Option<Duration>) -> io::Result<()> {
    match pings {
        Some(every) if every <= KEEPALIVE_AFTER => Ok(()),
        _ => SockRef::from(stream).set_tcp_keepalive(&out_of_step()),
    }
}

/// Sends small messages at once, notices within about a minute that a peer has vanished without a word, whether or not
/// something is being sent to it, and holds little for a peer that does not read.
fn tune(socket: &SockRef<'_>, keepalive: &TcpKeepalive) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(keepalive)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    socket.set_tcp_notsent_lowat(UNSENT)
}

/// Whether the kernel notices that a peer has vanished while something is on its way to it, where a peer may take nothing for
/// `stall` (`None`: for ever).
pub(super) fn notices_vanished(stall: Option<Duration>) -> bool {
    stall.is_some_and(|stall| stall < UNACKNOWLEDGED)
}

/// Lets a peer take nothing for `limit` (`None`: for ever) although that is longer than unacknowledged bytes may wait otherwise.
pub(super) fn allow_stall(stream: &TcpStream, limit: Option<Duration>) -> io::Result<()> {
    if notices_vanished(limit) {
        return Ok(());
    }
    // The route's limit first.
    let limit = limit.map(|limit| limit.saturating_add(KEEPALIVE_INTERVAL));
    SockRef::from(stream).set_tcp_user_timeout(limit)
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

/// What the kernel knows of the bytes that are on their way to a peer (`TCP_INFO`, tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Segments that were sent and not acknowledged.
    unacknowledged: u32,
    /// Bytes that were never sent: the peer's window is closed, or others are before them.
    unsent: u32,
    /// For how long no segment has come, for all of them acknowledge.
    silence: Duration,
    /// Retransmission timeouts since something new was acknowledged.
    retransmits: u8,
    /// Questions whether a closed window is open again, since the last answer to one.
    probes: u8,
}

impl Delivery {
    /// To a peer that has all that was sent, and is quiet.
    #[cfg(test)]
    pub(super) const NOTHING: Self = Self {
        unacknowledged: 0,
        unsent: 0,
        silence: Duration::from_secs(3600),
        retransmits: 0,
        probes: 0,
    };

    /// To a peer that was quiet for an hour and was asked so often since.
    #[cfg(test)]
    pub(super) const fn for_tests(retransmits: u8, probes: u8) -> Self {
        Self { unacknowledged: 1, retransmits, probes, ..Self::NOTHING }
    }

    /// Whether something is on its way.
    pub(super) const fn is_under_way(self) -> bool {
        self.unacknowledged > 0 || self.unsent > 0
    }

    /// Whether something waits to be sent for the first time.
    pub(super) const fn is_unsent(self) -> bool {
        self.unsent > 0
    }

    /// Whether the peer was asked again and again, and nothing was heard of it for so long. A healthy one whose window is closed
    /// answers each question, and so does one that gets only some of what is sent; one question may be lost.
    pub(super) fn is_in_vain(self, silence: Duration) -> bool {
        self.is_under_way()
            && self.silence >= silence
            && (self.retransmits >= RETRANSMITS_IN_VAIN || self.probes >= PROBES_IN_VAIN)
    }
}

/// What is known of the bytes on their way to the peer; `None` where that cannot be told.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "no crate in use wraps this call; it is made every ten seconds at most, and where a pong is late"
)]
pub(super) fn delivery(stream: &TcpStream) -> Option<Delivery> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed, and the call writes at most `length` bytes to where
    // `info` is.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return None;
    }
    // SAFETY: all of it was written, with zeros at first, which are valid for its integers; an older kernel writes less.
    let info = unsafe { info.assume_init() };
    Some(Delivery {
        unacknowledged: info.tcpi_unacked,
        unsent: info.tcpi_notsent_bytes,
        silence: Duration::from_millis(info.tcpi_last_ack_recv.into()),
        retransmits: info.tcpi_retransmits,
        probes: info.tcpi_probes,
    })
}

/// Not told here.
#[cfg(not(target_os = "linux"))]
pub(super) fn delivery(_: &TcpStream) -> Option<Delivery> {
    None
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use socket2::{Domain, SockFilter, Socket, Type};

    use super::*;
    use crate::listen::bind;

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

    #[test]
    fn a_peer_is_asked_in_vain_that_answers_nothing_at_all() {
        let quiet = Duration::from_secs(10);
        let way = |unacknowledged, unsent, silence, retransmits, probes| {
            let silence = Duration::from_secs(silence);
            Delivery { unacknowledged, unsent, silence, retransmits, probes }
        };
        for (what, delivery, in_vain) in [
            ("nothing was sent for an hour", way(0, 0, 3600, 0, 0), false),
            ("just sent, after an hour", way(1, 0, 3600, 0, 0), false),
            ("sent, and lost twice", way(1, 0, 11, 2, 0), false),
            ("sent, and lost, to a peer that goes on sending", way(9, 5000, 1, 7, 0), false),
            ("vanished with something on the way", way(9, 5000, 11, 6, 0), true),
            ("vanished with one segment on the way", way(1, 0, 3600, 3, 0), true),
            ("a closed window, the last question answered", way(0, 5000, 100, 0, 0), false),
            ("a closed window, a question just sent, or lost", way(0, 5000, 110, 0, 1), false),
            ("vanished behind a closed window", way(0, 5000, 240, 0, 2), true),
            ("asked until a moment ago, and all is acknowledged", way(0, 0, 30, 5, 5), false),
        ] {
            assert_eq!(delivery.is_in_vain(quiet), in_vain, "{what}");
        }
    }

    /// A connection whose one end takes little; both are of the kernel's alone.
    fn narrow() -> (tokio::net::TcpStream, TcpStream) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.set_recv_buffer_size(4096).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(1).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        let peer = listener.accept().unwrap().0.into();
        stream.set_nonblocking(true).unwrap();
        (tokio::net::TcpStream::from_std(stream).unwrap(), peer)
    }

    fn await_delivery(stream: &tokio::net::TcpStream, expected: impl Fn(Delivery) -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let delivery = delivery(stream).unwrap();
            if expected(delivery) {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{delivery:?}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_healthy_peer_that_does_not_read_answers_each_question() {
        let (stream, mut peer) = narrow();
        stream.writable().await.unwrap();
        let bytes = stream.try_write(&[7; 64 * 1024]).unwrap();
        await_delivery(&stream, |told| told.is_unsent() && told.unacknowledged == 0);
        // Some questions later: each one that was answered is forgotten.
        let begun = std::time::Instant::now();
        await_delivery(&stream, |told| {
            assert!(!told.is_in_vain(Duration::ZERO), "{told:?}");
            begun.elapsed() > Duration::from_secs(2)
        });
        let (mut buffer, mut read) = ([0; 4096], 0);
        while read < bytes {
            read += std::io::Read::read(&mut peer, &mut buffer).unwrap();
        }
        await_delivery(&stream, |told| !told.is_under_way());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_peer_that_vanishes_is_asked_in_vain_with_something_on_the_way_or_a_closed_window() {
        // Drops all that comes, as a network does that has lost the peer: one instruction, "take 0 bytes".
        let drop_all = [SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)];
        for closed in [false, true] {
            let (stream, peer) = narrow();
            stream.writable().await.unwrap();
            if closed {
                stream.try_write(&[7; 64 * 1024]).unwrap();
                await_delivery(&stream, |told| told.is_unsent() && told.unacknowledged == 0);
            }
            SockRef::from(&peer).attach_filter(&drop_all).unwrap();
            if !closed {
                stream.try_write(b"there?").unwrap();
            }
            await_delivery(&stream, |told| told.is_in_vain(Duration::ZERO));
            let told = delivery(&stream).unwrap();
            assert_eq!(told.is_unsent(), closed, "{told:?}");
            assert!(told.silence > Duration::from_millis(500), "{told:?}");
            assert!(!told.is_in_vain(Duration::from_secs(60)), "{told:?}");
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

    #[track_caller]
    fn assert_out_of_step(streams: &[tokio::net::TcpStream]) {
        let mut times = std::collections::BTreeSet::new();
        for stream in streams {
            let socket = SockRef::from(stream);
            let after = socket.tcp_keepalive_time().unwrap();
            let interval = socket.tcp_keepalive_interval().unwrap();
            assert!(KEEPALIVE_AFTER_RANGE.contains(&after.as_secs()));
            assert!(KEEPALIVE_INTERVAL_RANGE.contains(&interval.as_secs()));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_SPREAD_PROBES);
            times.insert((after, interval));
        }
        assert!(times.len() > streams.len() / 2, "{times:?}");
    }

    #[tokio::test]
    async fn sockets_towards_endpoints_are_not_asked_in_step() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut streams = Vec::new();
        for _ in 0..32 {
            streams.push(connect(listener.local_addr().unwrap()).await.unwrap());
        }
        assert_out_of_step(&streams);
    }

    #[tokio::test]
    async fn clients_are_not_asked_in_step_where_no_ping_comes_first() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(false).unwrap();
        for (pings, spread) in
            [(None, true), (Some(31), true), (Some(240), true), (Some(30), false), (Some(5), false)]
        {
            let mut streams = Vec::new();
            for _ in 0..32 {
                let _client = TcpStream::connect(address).unwrap();
                let (accepted, _) = listener.accept().unwrap();
                accepted.set_nonblocking(true).unwrap();
                let stream = tokio::net::TcpStream::from_std(accepted).unwrap();
                ask_client(&stream, pings.map(Duration::from_secs)).unwrap();
                streams.push(stream);
            }
            if spread {
                assert_out_of_step(&streams);
                continue;
            }
            for stream in &streams {
                let after = SockRef::from(stream).tcp_keepalive_time().unwrap();
                assert_eq!(after, KEEPALIVE_AFTER, "{pings:?}");
            }
        }
    }
}
