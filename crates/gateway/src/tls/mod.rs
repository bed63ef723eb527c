//! TLS: which certificate a client's server name gets, why a handshake failed, and the stream that comes of it, towards
//! clients and towards backends alike.
//!
//! What certificates and trust are made of is `table`'s to say; no setting of TLS is decided here.

pub mod client_hello;
mod stream;

use std::{cell::RefCell, future::poll_fn, io, net::IpAddr, pin::pin, sync::Arc};

use rustls::{
    AlertDescription, InvalidMessage, PeerIncompatible, ServerConfig,
    client::UnbufferedClientConnection,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{Accepted, Acceptor, NoServerSessionStorage, UnbufferedServerConnection},
};
use tidegate_table::{BackendTls, RoutingTable, TableCell, TlsIdentity};
use tidegate_telemetry::GatewayMetrics;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use self::{
    client_hello::MAX_HELLO,
    stream::{Handshake, TlsStream, tls_error},
};
use super::{
    handshake_gate::{HandshakeGate, Priority, Step},
    kept::Kept,
    pending::{Pending, cost},
    route_match::Arrival,
    socket,
};

/// TLS towards a client.
pub type ServerStream = TlsStream<UnbufferedServerConnection>;
/// TLS towards a backend.
pub type ClientStream = TlsStream<UnbufferedClientConnection>;

/// A ClientHello that is refused for its length.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the ClientHello takes more than {MAX_HELLO} bytes")]
struct HelloTooLong;

/// The certificate for server names that have none of their own. No client should trust it: it lets the handshake
/// end, so that the request can be answered and counted.
#[derive(Clone, Debug)]
pub struct FallbackCertificate {
    config: Arc<ServerConfig>,
}

/// Why a certificate cannot be the fallback.
#[derive(Debug, thiserror::Error)]
pub enum FallbackError {
    /// None could be made.
    #[error("the fallback certificate could not be made: {0}")]
    NotMade(#[from] rcgen::Error),
    /// The given one is not PEM.
    #[error("the fallback certificate is not PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// TLS cannot be done with it.
    #[error("the fallback certificate is not usable: {0}")]
    Unusable(#[from] rustls::Error),
}

impl FallbackCertificate {
    /// A new self-signed certificate, of this process alone.
    pub fn self_signed() -> Result<Self, FallbackError> {
        let made = rcgen::generate_simple_self_signed(["fallback.tidegate.invalid".to_owned()])?;
        Self::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes())
    }

    /// A given certificate (PEM, leaf first) with its key (PEM).
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, FallbackError> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Nobody comes back to it on purpose: no tickets, no memory of sessions.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config) })
    }
}

/// What a handshake with a client needs of the worker that does it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accept<'a> {
    pub(super) table: &'a TableCell,
    pub(super) fallback: &'a FallbackCertificate,
    pub(super) metrics: &'a GatewayMetrics,
    pub(super) gate: &'a HandshakeGate,
    pub(super) client: IpAddr,
    pub(super) pending: &'a Pending,
}

impl Accept<'_> {
    /// Does the handshake, until `deadline`, with the certificate that the server name calls for; the client has sent something.
    /// `None`: it failed and was counted.
    pub(super) async fn run(
        self,
        stream: TcpStream,
        deadline: Instant,
    ) -> Option<(Box<ServerStream>, Arrival)> {
        let mut under_way =
            UnderWay { socket: Some(stream), kept: Kept::default(), answered: None };
        // Nothing is left of the future then: it may have stood in the queue of the gate.
        let error = match timeout_at(deadline, self.handshake(&mut under_way)).await {
            Ok(Ok(arrival)) => return under_way.answered.map(|tls| (tls, arrival)),
            Ok(Err(error)) => error,
            Err(_) => {
                // A thousand that are late together do not end together.
                let step = self.enter(Priority::New(self.client)).await;
                drop(under_way);
                drop(step);
                io::ErrorKind::TimedOut.into()
            }
        };
        let reason = failure_reason(&error);
        self.metrics.tls_failed(reason);
        tracing::debug!(reason, %error, "TLS handshake failed");
        None
    }

    async fn handshake(&self, under_way: &mut UnderWay) -> io::Result<Arrival> {
        let (tls, arrival) = self.answer_hello(under_way).await?;
        let tls = under_way.answered.insert(tls);
        while self.send_flight(tls).await? == Handshake::Open {
            self.pending.waits(cost::HANDSHAKE + tls.kept());
            socket::readable(tls.socket()).await?;
            let step = self.enter(Priority::Begun).await;
            if let Err(error) = tls.step() {
                // Closing is part of the step: a thousand that fail together do not end together.
                under_way.answered = None;
                drop(step);
                return Err(error);
            }
            drop(step);
        }
        self.pending.waits(cost::TLS + tls.kept());
        Ok(arrival)
    }

    /// Waits for its turn. While it does the connection waits for us, not for the client.
    async fn enter(&self, priority: Priority) -> Step<'_> {
        self.gate.enter(priority, || self.pending.works()).await
    }

    /// Sends our part. Where the client does not take it, the connection waits for the client.
    async fn send_flight(&self, tls: &mut ServerStream) -> io::Result<Handshake> {
        let held = cost::HANDSHAKE + tls.kept() + tls.unsent();
        let mut sent = pin!(tls.send_flight());
        let mut told = false;
        poll_fn(|cx| {
            let sent = sent.as_mut().poll(cx);
            if sent.is_pending() && !told {
                self.pending.waits(held);
                told = true;
            }
            sent
        })
        .await
    }

    /// Reads the ClientHello, and answers it in the same step once it is whole.
    async fn answer_hello(
        &self,
        under_way: &mut UnderWay,
    ) -> io::Result<(Box<ServerStream>, Arrival)> {
        loop {
            let step = self.enter(Priority::New(self.client)).await;
            let Some(stream) = under_way.socket.take() else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            let stream = match self.hello_step(stream, &mut under_way.kept)? {
                HelloStep::Answered(tls, arrival) => return Ok((tls, arrival)),
                HelloStep::Partial(stream) => under_way.socket.insert(stream),
            };
            drop(step);
            self.pending.waits(cost::SOCKET + under_way.kept.capacity());
            socket::readable(stream).await?;
        }
    }

    /// Reads what there is of the hello into a buffer of the thread. Only of one that is not whole something is kept.
    fn hello_step(&self, stream: TcpStream, kept: &mut Kept) -> io::Result<HelloStep> {
        HELLO.with_borrow_mut(|buffer| match read_hello(&stream, kept, buffer)? {
            Hello::Partial => Ok(HelloStep::Partial(stream)),
            Hello::Whole(length, hello) => {
                let (tls, arrival) = self.connection(&hello)?;
                drop(hello);
                let mut tls = Box::new(TlsStream::begin(stream, tls));
                tls.advance(&mut buffer[..length])?;
                Ok(HelloStep::Answered(tls, arrival))
            }
        })
    }

    /// The connection for a hello. What it needs of the hello's bytes it reads once more.
    fn connection(&self, hello: &Accepted) -> io::Result<(UnbufferedServerConnection, Arrival)> {
        let published = self.table.load().ok_or(io::ErrorKind::ConnectionAborted)?;
        let server_name = hello.client_hello().server_name().map(str::to_ascii_lowercase);
        let identity = match identity(&published.table, server_name.as_deref()) {
            Ok(identity) => Some(Arc::clone(identity)),
            Err(cause) => {
                self.metrics.tls_fallback(cause);
                None
            }
        };
        let config = identity.as_ref().map_or(&self.fallback.config, |identity| &identity.config);
        let tls = UnbufferedServerConnection::new(Arc::clone(config)).map_err(tls_error)?;
        Ok((tls, Arrival::Tls { server_name, identity }))
    }
}

thread_local! {
    static HELLO: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_HELLO].into_boxed_slice());
}

/// What a handshake holds, apart from the future that does it: that can be dropped first.
struct UnderWay {
    /// Until the hello is answered.
    socket: Option<TcpStream>,
    kept: Kept,
    answered: Option<Box<ServerStream>>,
}

/// What became of a ClientHello in a step. Nothing large of it is held while more is waited for.
enum HelloStep {
    Answered(Box<ServerStream>, Arrival),
    Partial(TcpStream),
}

/// What there is of a ClientHello.
#[expect(
    clippy::large_enum_variant,
    reason = "it is on the stack for one step: a box would be an allocation for each handshake"
)]
enum Hello {
    /// It is whole, in so many bytes of the buffer.
    Whole(usize, Accepted),
    Partial,
}

/// Reads what the socket has, behind what was kept of the hello before. Where it is not whole yet all of it is kept.
///
/// An error of TLS has the [`rustls::Error`] inside; the alert for it is sent before.
fn read_hello(stream: &TcpStream, kept: &mut Kept, buffer: &mut [u8]) -> io::Result<Hello> {
    let before = kept.len();
    let count = match stream.try_read(&mut buffer[before..]) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Hello::Partial),
        Err(error) => return Err(error),
    };
    kept.copy_to(&mut buffer[..before]);
    let length = before + count;
    match client_hello::progress(&buffer[..length]) {
        client_hello::Progress::Incomplete => {
            kept.push(&buffer[before..length]);
            Ok(Hello::Partial)
        }
        client_hello::Progress::TooLong => {
            // The alert is a courtesy: it is the failure that counts.
            let _ = stream.try_write(&client_hello::TOO_LONG_ALERT);
            Err(io::Error::new(io::ErrorKind::InvalidData, HelloTooLong))
        }
        client_hello::Progress::Ready => {
            *kept = Kept::default();
            let accepted = judge_hello(&buffer[..length]).map_err(|(error, alert)| {
                let _ = stream.try_write(&alert);
                tls_error(error)
            })?;
            Ok(Hello::Whole(length, accepted))
        }
    }
}

/// What rustls says to a hello that is whole, or cannot become one; with an error the alert for it.
fn judge_hello(mut bytes: &[u8]) -> Result<Accepted, (rustls::Error, Vec<u8>)> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        let full = |_| {
            let error = InvalidMessage::HandshakePayloadTooLarge;
            (rustls::Error::InvalidMessage(error), Vec::new())
        };
        acceptor.read_tls(&mut bytes).map_err(full)?;
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut record = Vec::new();
                // Writing to a vector does not fail.
                let _ = alert.write_all(&mut record);
                return Err((error, record));
            }
        }
    }
    // A version's number that rustls lets pass in headers, and that is none of TLS.
    Err((rustls::Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion), Vec::new()))
}

/// Does the handshake with a backend.
///
/// An error of TLS has the [`rustls::Error`] inside.
pub async fn connect(stream: TcpStream, tls: &BackendTls) -> io::Result<ClientStream> {
    let connection =
        UnbufferedClientConnection::new(Arc::clone(&tls.config), tls.server_name.clone())
            .map_err(tls_error)?;
    TlsStream::handshake(stream, connection, Vec::new()).await
}

/// The certificate for a server name, or why there is none.
fn identity<'a>(
    table: &'a RoutingTable,
    server_name: Option<&str>,
) -> Result<&'a Arc<TlsIdentity>, &'static str> {
    let name = server_name.ok_or("no_server_name")?;
    table.host(name).ok_or("unknown_host")?;
    table.identity(name).ok_or("no_certificate")
}

/// The label for a failed handshake.
fn failure_reason(error: &io::Error) -> &'static str {
    if error.get_ref().is_some_and(|inner| inner.is::<HelloTooLong>()) {
        return "hello_too_long";
    }
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "closed",
            io::ErrorKind::ConnectionReset => "reset",
            io::ErrorKind::TimedOut => "timeout",
            // Longer than any sound handshake.
            io::ErrorKind::InvalidData => "protocol",
            _ => "io",
        };
    };
    match tls {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)
        | rustls::Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion)
        | rustls::Error::InvalidMessage(InvalidMessage::MessageTooLarge)
        | rustls::Error::InvalidMessage(InvalidMessage::InvalidEmptyPayload) => "not_tls",
        rustls::Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // Clients from before TLS 1.2 leave it out.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::Tls13RequiredForQuic,
        ) => "no_shared_version",
        rustls::Error::PeerIncompatible(_) => "incompatible",
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        ) => "certificate_refused",
        rustls::Error::AlertReceived(_) => "alert",
        _ => "protocol",
    }
}

#[cfg(test)]
mod tests;
