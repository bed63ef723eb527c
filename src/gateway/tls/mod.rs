//! TLS: which certificate a client's server name gets, why a handshake failed, and the stream that comes of it, towards
//! clients and towards backends alike.
//!
//! What certificates and trust are made of is `table`'s to say; no setting of TLS is decided here.

mod stream;

use std::{io, sync::Arc, time::Duration};

use rustls::{
    AlertDescription, InvalidMessage, PeerIncompatible, ServerConfig,
    client::UnbufferedClientConnection,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{Accepted, Acceptor, NoServerSessionStorage, UnbufferedServerConnection},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use self::stream::{TlsStream, tls_error};
use super::admit::Arrival;
use crate::{
    table::{BackendTls, RoutingTable, TlsIdentity},
    telemetry::GatewayMetrics,
};

/// TLS towards a client.
pub type ServerStream = TlsStream<UnbufferedServerConnection>;
/// TLS towards a backend.
pub type ClientStream = TlsStream<UnbufferedClientConnection>;

/// Room for a read of a ClientHello: most come whole in the first one.
const HELLO_READ: usize = 4 * 1024;

/// The certificate for server names that have none of their own. No client should trust it: it lets the handshake
/// end, so that the request can be answered and counted.
#[derive(Clone, Debug)]
pub struct FallbackCertificate {
    config: Arc<ServerConfig>,
}

impl FallbackCertificate {
    /// A new self-made certificate, of this process alone.
    pub fn self_made() -> Result<Self, String> {
        let made = rcgen::generate_simple_self_signed(vec!["fallback.tidegate.invalid".to_owned()])
            .map_err(|error| format!("the fallback certificate could not be made: {error}"))?;
        Self::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes())
    }

    /// A given certificate (PEM, leaf first) with its key (PEM).
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        let error = |error: rustls::pki_types::pem::Error| {
            format!("the fallback certificate is not PEM: {error}")
        };
        let chain =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(error)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(error)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| format!("the fallback certificate is not usable: {error}"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Nobody comes back to it on purpose: no tickets, no memory of sessions.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config) })
    }
}

/// Does the handshake, within `limit`, with the certificate that the server name calls for. `None`: it failed and was counted.
pub async fn accept(
    mut stream: TcpStream,
    table: &RoutingTable,
    fallback: &FallbackCertificate,
    limit: Duration,
    metrics: &GatewayMetrics,
) -> Option<(ServerStream, Arrival)> {
    let handshake = async {
        let mut hello = Vec::new();
        let accepted = read_hello(&mut stream, &mut hello).await?;
        let server_name = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
        drop(accepted);
        let identity = match identity(table, server_name.as_deref()) {
            Ok(identity) => Some(Arc::clone(identity)),
            Err(cause) => {
                metrics.tls_fallback(cause);
                None
            }
        };
        let config = identity.as_ref().map_or(&fallback.config, |identity| &identity.config);
        let tls = UnbufferedServerConnection::new(Arc::clone(config)).map_err(tls_error)?;
        let stream = TlsStream::handshake(stream, tls, hello).await?;
        io::Result::Ok((stream, Arrival::Tls { server_name, identity }))
    };
    match tokio::time::timeout(limit, handshake).await {
        Ok(Ok(done)) => Some(done),
        Ok(Err(error)) => {
            let reason = failure_reason(&error);
            metrics.tls_failed(reason);
            tracing::debug!(reason, %error, "TLS handshake failed");
            None
        }
        Err(_) => {
            metrics.tls_failed("timeout");
            tracing::debug!(reason = "timeout", "TLS handshake failed");
            None
        }
    }
}

/// Reads until the ClientHello is whole; rustls takes 64 KiB of it at most. What was read is left in `hello`: the
/// connection, which cannot begin before its settings are known, reads it once more.
///
/// An error of TLS has the [`rustls::Error`] inside; the alert for it is sent before.
async fn read_hello(stream: &mut TcpStream, hello: &mut Vec<u8>) -> io::Result<Accepted> {
    let mut acceptor = Acceptor::default();
    loop {
        hello.reserve(HELLO_READ);
        let start = hello.len();
        if stream.read_buf(hello).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut fresh = &hello[start..];
        while !fresh.is_empty() {
            acceptor.read_tls(&mut fresh)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok(accepted),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let mut record = Vec::new();
                    alert.write_all(&mut record)?;
                    // The alert is a courtesy: it is the failure that counts.
                    let _ = stream.write_all(&record).await;
                    return Err(tls_error(error));
                }
            }
        }
    }
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
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "closed",
            io::ErrorKind::ConnectionReset => "reset",
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
