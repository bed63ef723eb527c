//! The other end of a stream under test, and both ends joined.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion,
    client::UnbufferedClientConnection, pki_types::PrivateKeyDer,
    server::UnbufferedServerConnection,
};
use tidegate_table::BackendTls;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::TlsStream;

/// The other end: a buffered connection of rustls, and the socket that its records are written to by hand.
pub(super) struct Peer {
    pub(super) tls: rustls::Connection,
    pub(super) tcp: TcpStream,
    pub(super) plaintext: Vec<u8>,
}

impl Peer {
    pub(super) fn new(tls: impl Into<rustls::Connection>, tcp: TcpStream) -> Self {
        Self { tls: tls.into(), tcp, plaintext: Vec::new() }
    }

    /// Takes its part in the handshake.
    pub(super) async fn handshake(&mut self) {
        loop {
            self.flush().await;
            if !self.tls.is_handshaking() {
                return;
            }
            assert!(self.receive().await.unwrap(), "ended within the handshake");
        }
    }

    /// The records that wait to be sent.
    pub(super) fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut records).unwrap();
        }
        records
    }

    pub(super) async fn flush(&mut self) {
        let records = self.records();
        self.tcp.write_all(&records).await.unwrap();
    }

    pub(super) async fn send(&mut self, data: &[u8]) {
        self.tls.writer().write_all(data).unwrap();
        self.flush().await;
    }

    /// Reads the socket once; whether something came.
    pub(super) async fn receive(&mut self) -> Result<bool, rustls::Error> {
        let mut wire = Vec::with_capacity(8 * 1024);
        let count = self.tcp.read_buf(&mut wire).await.unwrap();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest).unwrap();
            self.tls.process_new_packets()?;
            // It fails where more may follow, but what there is has been read.
            let _ = self.tls.reader().read_to_end(&mut self.plaintext);
        }
        Ok(count > 0)
    }

    /// Reads so many bytes.
    pub(super) async fn read(&mut self, count: usize) -> Vec<u8> {
        while self.plaintext.len() < count {
            assert!(self.receive().await.unwrap(), "ended after {}", self.plaintext.len());
        }
        self.plaintext.drain(..count).collect()
    }
}

/// A pair of connected sockets.
pub(super) async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap().0);
    ours.set_nodelay(true).unwrap();
    theirs.set_nodelay(true).unwrap();
    (ours, theirs)
}

pub(super) fn server_config(version: &'static SupportedProtocolVersion) -> ServerConfig {
    let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.into()], key)
        .unwrap();
    config.send_tls13_tickets = 0;
    config
}

pub(super) fn client_config() -> Arc<ClientConfig> {
    Arc::clone(&BackendTls::unverified("a.test").unwrap().config)
}

/// Our stream as the server, and a client.
pub(super) async fn as_server(
    config: ServerConfig,
) -> (TlsStream<UnbufferedServerConnection>, Peer) {
    let (ours, theirs) = sockets().await;
    let tls = UnbufferedServerConnection::new(Arc::new(config)).unwrap();
    let name = "a.test".try_into().unwrap();
    let mut peer = Peer::new(ClientConnection::new(client_config(), name).unwrap(), theirs);
    let stream = TlsStream::handshake(ours, tls, Vec::new());
    let (stream, ()) = tokio::join!(stream, peer.handshake());
    (stream.unwrap(), peer)
}

/// Our stream as the client, and a server.
pub(super) async fn as_client(
    config: ServerConfig,
) -> (TlsStream<UnbufferedClientConnection>, Peer) {
    let (ours, theirs) = sockets().await;
    let name = "a.test".try_into().unwrap();
    let tls = UnbufferedClientConnection::new(client_config(), name).unwrap();
    let mut peer = Peer::new(ServerConnection::new(Arc::new(config)).unwrap(), theirs);
    let stream = TlsStream::handshake(ours, tls, Vec::new());
    let (stream, ()) = tokio::join!(stream, peer.handshake());
    (stream.unwrap(), peer)
}
