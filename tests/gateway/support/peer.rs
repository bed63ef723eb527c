//! Raw peers of the gateway: a client or a backend's end of one connection, in clear text or under TLS.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};

use super::{DEADLINE, Frame};

/// The key of RFC 6455 §1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What answers it.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A sound upgrade request for `/` of a host.
pub fn upgrade_request(host: &str) -> String {
    upgrade_with(host, "")
}

/// A sound upgrade request with more header lines, each ending in CRLF.
pub fn upgrade_with(host: &str, lines: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{lines}\r\n"
    )
}

/// A sound 101 for [`KEY`] with more header lines, each ending in CRLF.
pub fn switching(lines: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {ACCEPT}\r\n{lines}\r\n"
    )
}

/// A start line with its headers.
#[derive(Clone, Debug)]
pub struct Head {
    pub start: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (name, value) = line.split_once(':').expect("header lines have a colon");
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        Self { start, headers }
    }

    /// The status of an answer.
    #[track_caller]
    pub fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no status line: {:?}", self.start))
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| &**value).collect()
    }

    /// The one value of a header, if it is there.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there more than once: {all:?}");
        all.first().copied()
    }
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// One end of a connection.
pub struct Peer {
    stream: Box<dyn Stream>,
    /// The socket under `stream`.
    pub socket: TcpStream,
    /// Whether it is a backend's end.
    server: bool,
    unread: Vec<u8>,
}

impl Peer {
    fn new(socket: TcpStream, wrap: impl FnOnce(TcpStream) -> Box<dyn Stream>) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout above zero is valid");
        socket.set_write_timeout(Some(DEADLINE)).expect("a timeout above zero is valid");
        socket.set_nodelay(true).expect("a TCP socket has the option");
        let stream = wrap(socket.try_clone().expect("descriptors are not exhausted"));
        Self { stream, socket, server: false, unread: Vec::new() }
    }

    /// A client in clear text.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("the listener is up");
        Self::new(socket, |socket| Box::new(socket))
    }

    /// A client in clear text that lets only some KiB come that it has not read.
    #[track_caller]
    pub fn narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)
            .expect("descriptors are not exhausted");
        // Before it is connected, as the window begins with it.
        socket.set_recv_buffer_size(4096).expect("a TCP socket has the option");
        socket.connect(&address.into()).expect("the listener is up");
        Self::new(socket.into(), |socket| Box::new(socket))
    }

    /// Another hold on a connection's socket: beside what another thread does with it, or beneath its TLS.
    pub fn over(socket: &TcpStream) -> Self {
        let socket = socket.try_clone().expect("descriptors are not exhausted");
        Self::new(socket, |socket| Box::new(socket))
    }

    /// A client under TLS, its handshake done.
    #[track_caller]
    pub fn tls(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        Self::try_tls(address, config, name).expect("the handshake succeeds").0
    }

    /// A client under TLS, and the certificate that it was shown; the error of its handshake.
    pub fn try_tls(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> io::Result<(Self, Vec<u8>)> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        let name = name.to_owned().try_into().map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        let shown = tls.peer_certificates().and_then(|chain| chain.first());
        let shown = shown.expect("a server shows a certificate").to_vec();
        Ok((Self::new(socket, |socket| Box::new(StreamOwned::new(tls, socket))), shown))
    }

    /// Sends bytes. A peer that has hung up is no failure here: what it answered is looked at afterwards.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let sent = self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush());
        if let Err(error) = sent {
            assert!(is_hang_up(&error), "sending failed: {error}");
        }
        self
    }

    /// Sends bytes; an error once the peer has hung up, or takes no more within the deadline.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush())
    }

    /// Reads a head.
    #[track_caller]
    pub fn head(&mut self) -> Head {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.fill().expect("the head comes in time") {
                panic!("ended within the head: {:?}", String::from_utf8_lossy(&self.unread));
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        Head::parse(std::str::from_utf8(&head).expect("heads in tests are UTF-8"))
    }

    /// Reads an answer: its head, and its body by Content-Length.
    #[track_caller]
    pub fn answer(&mut self) -> (Head, String) {
        let head = self.head();
        let length = head.get("content-length").map_or(0, |text| text.parse().expect("a number"));
        let body = self.bytes(length);
        (head, String::from_utf8(body).expect("bodies in tests are UTF-8"))
    }

    /// Reads exactly so many bytes.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            let more = self.fill().expect("the bytes come in time");
            assert!(more, "ended after {} of {count} bytes", self.unread.len());
        }
        self.unread.drain(..count).collect()
    }

    /// Reads a frame and unmasks it.
    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        let head = self.bytes(2);
        let length = match head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes(self.bytes(2).try_into().expect("two bytes"))),
            127 => u64::from_be_bytes(self.bytes(8).try_into().expect("eight bytes")),
            short => u64::from(short),
        };
        let masked = head[1] & 0x80 != 0;
        let key = if masked { self.bytes(4) } else { vec![0; 4] };
        let mut payload = self.bytes(usize::try_from(length).expect("frames of tests are short"));
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        Frame { fin: head[0] & 0x80 != 0, opcode: head[0] & 0x0f, masked, payload }
    }

    /// Reads a text message of one frame.
    #[track_caller]
    pub fn text(&mut self) -> String {
        let frame = self.frame();
        assert_eq!((frame.fin, frame.opcode), (true, 1), "no text message: {frame:?}");
        String::from_utf8(frame.payload).expect("texts are UTF-8")
    }

    /// Reads a Close frame; its code and reason.
    #[track_caller]
    pub fn close(&mut self) -> (u16, String) {
        self.frame().close()
    }

    /// Reads all that still comes; a reset is an end as well.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return std::mem::take(&mut self.unread),
                Err(error) if is_hang_up(&error) => return std::mem::take(&mut self.unread),
                Err(error) => panic!("the connection did not end: {error}"),
            }
        }
    }

    /// The same of a connection that both sides have said Close on, or one of them has ended: a backend's end is ended first, as
    /// servers do (RFC 6455 §7.1.1), since the gateway waits for that.
    #[track_caller]
    pub fn ended(&mut self) -> Vec<u8> {
        if self.server {
            // The gateway may have ended it by now.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        self.rest()
    }

    /// Says that nothing more is sent, and goes on reading. For clear text.
    pub fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).expect("the socket is connected");
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        SockRef::from(&self.socket)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("a TCP socket has the option");
    }

    /// Whether something waits to be read from its socket.
    pub fn has_input(&self) -> bool {
        self.socket.set_nonblocking(true).expect("a socket has the option");
        let waiting = self.socket.peek(&mut [0]);
        self.socket.set_nonblocking(false).expect("a socket has the option");
        waiting.is_ok()
    }

    /// Reads to the end: whether that is a reset.
    pub fn is_reset(&mut self) -> bool {
        loop {
            match self.fill() {
                Ok(true) => self.unread.clear(),
                Ok(false) => return false,
                Err(error) => return error.kind() == ErrorKind::ConnectionReset,
            }
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.unread.extend(&buffer[..count]);
                Ok(count > 0)
            }
            // TLS that ended without close_notify.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    )
}

/// A backend's listening socket.
pub struct Backend {
    listener: TcpListener,
}

impl Backend {
    /// Listens on a port of its own.
    pub fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        // On Linux this is a deadline for accept(2).
        SockRef::from(&listener)
            .set_read_timeout(Some(DEADLINE))
            .expect("a timeout above zero is valid");
        Self { listener }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// The next connection.
    #[track_caller]
    pub fn accept(&self) -> Peer {
        let (socket, _) = self.listener.accept().expect("a connection comes in time");
        Peer { server: true, ..Peer::new(socket, |socket| Box::new(socket)) }
    }

    /// The next connection, under TLS once something is read or sent.
    #[track_caller]
    pub fn accept_tls(&self, config: &Arc<ServerConfig>) -> Peer {
        let (socket, _) = self.listener.accept().expect("a connection comes in time");
        let tls = ServerConnection::new(Arc::clone(config)).expect("the settings are valid");
        let peer = Peer::new(socket, |socket| Box::new(StreamOwned::new(tls, socket)));
        Peer { server: true, ..peer }
    }

    /// Does the backend's side of a handshake that the gateway breaks off: `None`, or goes on with.
    pub fn try_tls(&self, config: &Arc<ServerConfig>) -> Option<ServerConnection> {
        let (mut socket, _) = self.listener.accept().expect("a connection comes in time");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout above zero is valid");
        let mut tls = ServerConnection::new(Arc::clone(config)).expect("the settings are valid");
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).ok()?;
        }
        Some(tls)
    }

    /// Accepts, reads the request's head, and answers with `answer`.
    #[track_caller]
    pub fn answer(&self, answer: impl AsRef<[u8]>) -> (Peer, Head) {
        let mut peer = self.accept();
        let head = peer.head();
        peer.send(answer);
        (peer, head)
    }

    /// Checks that no connection came so far: one of our own is the first in the queue.
    #[track_caller]
    pub fn assert_untouched(&self) {
        let ours = TcpStream::connect(self.address()).expect("the backend listens");
        let (_, first) = self.listener.accept().expect("our connection is there");
        assert_eq!(
            first,
            ours.local_addr().expect("it is connected"),
            "the gateway has connected to the backend"
        );
    }
}
