//! A socket, in clear text or under TLS, as one type, so that it can be taken back from hyper whole.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    request_head::Awaited,
    socket::{self, Delivery},
    tls::{ClientStream, ServerStream},
};

/// One leg of a connection.
#[derive(Debug)]
pub enum Transport {
    /// TCP.
    Plain(TcpStream),
    /// TLS towards a client.
    Server(Box<ServerStream>),
    /// TLS towards a backend.
    Client(Box<ClientStream>),
}

impl Transport {
    /// Bytes on their way to the peer that it has not acknowledged: those of TLS, and those in the kernel.
    pub fn outstanding(&self) -> usize {
        self.unsent() + socket::unacknowledged(self.socket())
    }

    /// What the kernel knows of the bytes on their way to the peer.
    pub(super) fn delivery(&self) -> Option<Delivery> {
        socket::delivery(self.socket())
    }

    /// Bytes of TLS that were taken for sending and are not in the socket yet.
    pub fn unsent(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Server(stream) => stream.unsent(),
            Self::Client(stream) => stream.unsent(),
        }
    }

    /// Does what is due where a client's request has not come with the end of the handshake.
    pub(super) fn wait_for_head(&mut self, part: Awaited) {
        let Self::Server(stream) = self else { return };
        match part {
            Awaited::Head => stream.acknowledge(),
            Awaited::Rest => stream.send_tickets(),
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Server(stream) => stream.socket(),
            Self::Client(stream) => stream.socket(),
        }
    }

    /// Lets the peer take nothing for so long (`None`: for ever) before the kernel ends the connection.
    pub fn allow_stall(&self, limit: Option<Duration>) {
        if let Err(error) = socket::allow_stall(self.socket(), limit) {
            tracing::debug!(%error, "the time to take something could not be set on a socket");
        }
    }

    /// Has the kernel ask a quiet client whether it is there, where no ping of ours comes before that.
    pub fn ask_client(&self, pings: Option<Duration>) {
        if let Err(error) = socket::ask_client(self.socket(), pings) {
            tracing::debug!(%error, "the times of TCP keepalive could not be set on a socket");
        }
    }

    /// Has the kernel reset the connection when this is dropped, and forget at once what was not sent.
    pub fn abort(&self) {
        if let Err(error) = SockRef::from(self.socket()).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a socket could not be set to be reset");
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Server(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Client(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Server(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Client(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Server(stream) => Pin::new(stream).poll_flush(cx),
            Self::Client(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Server(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Client(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
