//! A WebSocket client that blocks, over TLS: every call has a deadline.

use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio_tungstenite::tungstenite::{
    self, ClientRequestBuilder, HandshakeError, Message, WebSocket,
    protocol::{
        CloseFrame,
        frame::Frame,
        frame::coding::{Data, OpCode},
    },
};

use super::http::get_over;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A client of one host.
#[derive(Clone)]
pub struct Client {
    pub host: String,
    pub path: String,
    tls: Arc<ClientConfig>,
}

/// An open WebSocket.
pub struct Socket {
    stream: WebSocket<StreamOwned<ClientConnection, TcpStream>>,
    /// Who is at the other end: the echo backend's `x-backend`.
    pub backend: String,
    /// What the server showed.
    pub certificate: CertificateDer<'static>,
}

/// Why there is no socket.
#[derive(Debug)]
pub enum Failure {
    /// The server said no.
    Refused(Refused),
    /// It did not get so far.
    Broken(String),
}

/// An answer other than 101.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    /// The header `tidegate-reason`.
    pub reason: String,
    pub body: String,
}

impl Client {
    /// A client that verifies certificates by this configuration.
    pub fn new(host: &str, tls: Arc<ClientConfig>) -> Self {
        Self { host: host.to_owned(), path: "/".to_owned(), tls }
    }

    /// A client that takes any certificate, to see what is behind a wrong one.
    pub fn trusting_anyone(host: &str) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for both");
        #[expect(clippy::disallowed_methods, reason = "a client that looks behind any certificate")]
        let tls = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone))
            .with_no_client_auth();
        Self::new(host, Arc::new(tls))
    }

    /// The same for another path.
    pub fn at(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    /// By which it verifies certificates.
    pub fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// Opens a WebSocket.
    pub fn open(&self, to: SocketAddr) -> Result<Socket, Failure> {
        let stream = self.handshake(to).map_err(Failure::Broken)?;
        let shown = stream.conn.peer_certificates().and_then(|chain| chain.first());
        let certificate = shown.expect("there is one after a handshake").clone().into_owned();
        let uri = format!("wss://{}{}", self.host, self.path).parse().expect("it is a URI");
        let (stream, answer) = tungstenite::client(ClientRequestBuilder::new(uri), stream)
            .map_err(Failure::from_handshake)?;
        let backend = answer.headers().get("x-backend").and_then(|value| value.to_str().ok());
        let backend = backend.unwrap_or_default().to_owned();
        Ok(Socket { stream, backend, certificate })
    }

    /// Opens a WebSocket, which must be refused.
    pub fn refused(&self, to: SocketAddr) -> Result<Refused, String> {
        match self.open(to) {
            Err(Failure::Refused(refused)) => Ok(refused),
            Err(Failure::Broken(error)) => Err(error),
            Ok(socket) => Err(format!("it was opened, by {}", socket.backend)),
        }
    }

    /// Sends a plain GET. The status and the body of the answer.
    pub fn get(&self, to: SocketAddr) -> Result<(u16, String), String> {
        self.get_with(to, "")
    }

    /// The same with more headers, each ending in CRLF.
    pub fn get_with(&self, to: SocketAddr, headers: &str) -> Result<(u16, String), String> {
        get_over(self.handshake(to)?, &self.host, &self.path, headers)
    }

    fn handshake(
        &self,
        to: SocketAddr,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
        let name = ServerName::try_from(self.host.clone()).expect("it is a DNS name");
        let mut tls = ClientConnection::new(Arc::clone(&self.tls), name)
            .map_err(|error| error.to_string())?;
        let connect = || {
            let stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        let mut stream = connect().map_err(|error| format!("no connection to {to}: {error}"))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).map_err(|error| format!("TLS with {to}: {error}"))?;
        }
        Ok(StreamOwned::new(tls, stream))
    }
}

/// The certificate that a server shows for `host`, whether it is to be trusted or not.
pub fn certificate_shown(host: &str, to: SocketAddr) -> Result<CertificateDer<'static>, String> {
    let stream = Client::trusting_anyone(host).handshake(to)?;
    let chain = stream.conn.peer_certificates().ok_or("no certificate")?;
    Ok(chain[0].clone().into_owned())
}

impl Failure {
    fn from_handshake<R: tungstenite::handshake::HandshakeRole>(error: HandshakeError<R>) -> Self {
        match error {
            HandshakeError::Failure(tungstenite::Error::Http(answer)) => {
                let reason = answer.headers().get("tidegate-reason");
                let reason = reason.and_then(|value| value.to_str().ok()).unwrap_or_default();
                let body = answer.body().as_deref().unwrap_or_default();
                Self::Refused(Refused {
                    status: answer.status().as_u16(),
                    reason: reason.to_owned(),
                    body: String::from_utf8_lossy(body).into_owned(),
                })
            }
            HandshakeError::Failure(error) => Self::Broken(error.to_string()),
            HandshakeError::Interrupted(_) => Self::Broken("no answer in time".to_owned()),
        }
    }
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refused) => format!("refused: {refused:?}"),
            Failure::Broken(error) => error,
        }
    }
}

impl Socket {
    /// Sends a text and expects it back.
    #[track_caller]
    pub fn echo(&mut self, text: &str) {
        self.echo_message(&Message::text(text));
    }

    /// Sends a text; an error unless it comes back.
    pub fn try_echo(&mut self, text: &str) -> Result<(), String> {
        self.stream.send(Message::text(text)).map_err(|error| error.to_string())?;
        match self.read() {
            Ok(Message::Text(back)) if back.as_str() == text => Ok(()),
            other => Err(summary(&other)),
        }
    }

    /// Sends a message and expects it back.
    #[track_caller]
    pub fn echo_message(&mut self, message: &Message) {
        self.send(message.clone());
        let back = self.read();
        assert!(back.as_ref().is_ok_and(|back| back == message), "{}", summary(&back));
    }

    /// Sends a text in as many frames as there are parts, and expects the whole back.
    #[track_caller]
    pub fn echo_fragments(&mut self, parts: &[&str]) {
        for (index, part) in parts.iter().enumerate() {
            let opcode = if index == 0 { Data::Text } else { Data::Continue };
            let last = index + 1 == parts.len();
            let frame = Frame::message(part.as_bytes().to_vec(), OpCode::Data(opcode), last);
            self.send(Message::Frame(frame));
        }
        let (back, whole) = (self.read(), Message::text(parts.concat()));
        assert!(back.as_ref().is_ok_and(|back| *back == whole), "{}", summary(&back));
    }

    #[track_caller]
    fn send(&mut self, message: Message) {
        if let Err(error) = self.stream.send(message) {
            panic!("the socket to {} was expected to be open: {error}", self.backend);
        }
    }

    /// The next message. Pings on the way are answered.
    pub fn read(&mut self) -> Result<Message, tungstenite::Error> {
        loop {
            match self.stream.read()? {
                Message::Ping(_) => self.stream.flush()?,
                message => return Ok(message),
            }
        }
    }

    /// Lets a read wait for so long.
    pub fn be_patient_for(&mut self, time: Duration) {
        let timeout = self.stream.get_ref().sock.set_read_timeout(Some(time));
        timeout.expect("the time is not zero");
    }

    /// Waits for the end, `within` at most. The peer's Close frame if it sent one; an error if nothing ended.
    pub fn read_to_end(&mut self, within: Duration) -> Result<Option<CloseFrame>, String> {
        let begin = Instant::now();
        let mut close = None;
        while let Some(left) = within.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) {
            let timeout = self.stream.get_ref().sock.set_read_timeout(Some(left));
            timeout.map_err(|error| error.to_string())?;
            match self.stream.read() {
                Ok(Message::Close(frame)) => close = frame,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if error.kind() == std::io::ErrorKind::WouldBlock =>
                {
                    break;
                }
                Err(_) => return Ok(close),
            }
        }
        Err(format!("the socket to {} is still open after {within:?}", self.backend))
    }
}

fn summary(back: &Result<Message, tungstenite::Error>) -> String {
    match back {
        Ok(message) => {
            format!(
                "another message came back: {:.200}, {} bytes",
                format!("{message:?}"),
                message.len()
            )
        }
        Err(error) => format!("no message came back: {error}"),
    }
}

/// Takes every certificate.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}
