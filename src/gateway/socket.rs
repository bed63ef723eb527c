//! How every TCP socket of the data plane is set, towards clients and towards endpoints.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A silent peer is asked whether it is still there after so long.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// And again after each of these.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// So often, before it counts as gone.
const KEEPALIVE_PROBES: u32 = 3;
/// Bytes that nobody acknowledges for so long end the connection: while there are some, keepalive does not ask (RFC 5482).
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// Sends small messages at once, and notices within about a minute that a peer has vanished without a word, whether or not
/// something is being sent to it.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tuned_socket_asks_after_silent_peers_and_gives_up_on_deaf_ones() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
    }
}
