//! The built-in backend: echoes every message, and tells who it is.

use std::{convert::Infallible, net::TcpListener as StdTcpListener, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use super::{args::EchoArgs, print, serve::stop_signal};

/// Most of a plain request's body that is echoed, bytes.
const MAX_BODY: usize = 1024 * 1024;

/// The pause after a failed accept: it fails again at once where the process is out of files.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How long clients have to answer a Close.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs the backend until the process ends.
pub(super) fn run(args: &EchoArgs) -> Result<()> {
    let listener = super::ports::bind_exactly(args.listen, "--listen")?;
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(chain), Some(key)) => Some(acceptor(chain, key)?),
        _ => None,
    };
    print(&format!("echo backend on {}\n", listener.local_addr()?))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let leave = Leave::new(false);
    runtime.block_on(async {
        tokio::select! {
            served = serve(listener, tls, leave.clone()) => return served,
            () = stopped(args.linger) => {}
        }
        if args.linger.is_some() {
            leave.send_replace(true);
            let _ = tokio::time::timeout(GOODBYE, leave.closed()).await;
        }
        Ok(())
    })
}

/// Becomes true when sockets shall close. They, and nothing else, are subscribed to it.
pub(super) type Leave = watch::Sender<bool>;

/// Waits for a signal, which has no default in the first process of a container, and then so many seconds, or for another signal.
async fn stopped(linger: Option<u64>) {
    stop_signal().await;
    if let Some(seconds) = linger {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            () = stop_signal() => {}
        }
    }
}

fn acceptor(chain: &std::path::Path, key: &std::path::Path) -> Result<TlsAcceptor> {
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .with_context(|| format!("{} cannot be read", chain.display()))?;
    let key = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("{} cannot be read", key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves on a bound listener for ever.
pub(super) async fn serve(
    listener: StdTcpListener,
    tls: Option<TlsAcceptor>,
    leave: Leave,
) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "echo backend cannot accept; trying again");
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (tls, leave) = (tls.clone(), leave.clone());
        tokio::spawn(async move {
            match tls {
                None => serve_one(stream, leave).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => serve_one(stream, leave).await,
                    Err(error) => tracing::debug!(%error, "TLS with the echo backend failed"),
                },
            }
        });
    }
}

async fn serve_one<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, leave: Leave) {
    let served = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(|request| answer(request, &leave)))
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection of the echo backend failed");
    }
}

/// Who answers: the pod's name, where there is one.
fn name() -> HeaderValue {
    let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "echo".into());
    HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("echo"))
}

async fn answer(
    mut request: Request<Incoming>,
    leave: &Leave,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
    let mut response = match key {
        Some(key) if request.headers().contains_key(header::UPGRADE) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.expect("base64 is visible ASCII"));
            if let Some(protocol) = first_protocol(&request) {
                headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
            }
            tokio::spawn(echo(hyper::upgrade::on(&mut request), leave.subscribe()));
            response
        }
        _ => plain(request).await,
    };
    response.headers_mut().insert("x-backend", name());
    Ok(response)
}

fn first_protocol(request: &Request<Incoming>) -> Option<HeaderValue> {
    let offered = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    HeaderValue::from_str(offered.split(',').next()?.trim()).ok()
}

/// Tells a plain request back, as lines of text.
async fn plain(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    text += "\n";
    match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => text += &String::from_utf8_lossy(&body.to_bytes()),
        Err(error) => text += &format!("(body not read: {error})\n"),
    }
    Response::new(Full::new(text.into()))
}

async fn echo(upgrade: OnUpgrade, mut leave: watch::Receiver<bool>) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = async { let _ = leave.wait_for(|leave| *leave).await; } => {
                let away = CloseFrame { code: CloseCode::Away, reason: "".into() };
                // The client's answer, and what it sent before, is read below.
                if socket.close(Some(away)).await.is_err() {
                    return;
                }
                break;
            }
        };
        match message {
            Some(Ok(message)) if message.is_text() || message.is_binary() => {
                if socket.send(message).await.is_err() {
                    break;
                }
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break,
        }
    }
    // Sends what is left of the closing handshake.
    let _ = socket.close(None).await;
    while let Some(Ok(_)) = socket.next().await {}
}
