//! The backend's leg: reach an endpoint, ask it for the upgrade, judge its answer. A connection that saw an
//! upgrade is never used for anything else.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header, response};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    task::spawn_local,
    time::{Instant, timeout, timeout_at},
};

use super::{
    balance::Fault,
    files::out_of_files,
    handshake::check_response,
    headers::HopByHop,
    refuse::{Refusal, RefusalReason},
    socket, tls,
    transport::Transport,
};
use crate::{table::BackendTls, telemetry::RouteMetrics};

/// How much of a refusing backend's body is passed on, bytes.
const MAX_REFUSAL_BODY: usize = 64 * 1024;

/// How long that body may take.
const REFUSAL_BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of an answer's head is read, bytes.
const MAX_HEAD: usize = 16 * 1024;

/// What a backend answered to an upgrade.
#[derive(Debug)]
pub enum Answer {
    /// A sound 101: the raw connection, and what came behind the answer.
    Switched {
        /// The answer without its hop-by-hop headers.
        parts: response::Parts,
        /// The connection.
        transport: Transport,
        /// The first bytes of the backend's frames.
        early: Bytes,
    },
    /// Another status, with its body.
    Refused(Response<Bytes>),
}

/// An endpoint that could not be reached.
#[derive(Debug)]
pub struct Unreached {
    /// What its client is told if no other endpoint can be either.
    pub refusal: Refusal,
    /// How far it came.
    pub fault: Fault,
}

/// Opens a connection to an endpoint, with TLS where the backend wants it, within `limit`.
pub async fn connect(
    address: SocketAddr,
    backend_tls: Option<&BackendTls>,
    limit: Duration,
    metrics: &RouteMetrics,
) -> Result<Transport, Unreached> {
    let deadline = Instant::now() + limit;
    let failed = |fault| move |refusal| Unreached { refusal, fault };
    let stream = timeout_at(deadline, socket::connect(address)).await;
    let stream = stream
        .map_err(|_| late())
        .and_then(|result| result.map_err(|error| unreachable(&error, metrics)));
    let stream = stream.map_err(failed(Fault::Tcp))?;
    let Some(backend_tls) = backend_tls else { return Ok(Transport::Plain(stream)) };
    let stream = timeout_at(deadline, tls::connect(stream, backend_tls)).await;
    let stream = stream
        .map_err(|_| late())
        .and_then(|result| result.map_err(|error| unreachable(&error, metrics)));
    Ok(Transport::Client(Box::new(stream.map_err(failed(Fault::Tls))?)))
}

fn late() -> Refusal {
    Refusal::new(
        RefusalReason::BackendTimeout,
        "The backend's endpoint could not be reached within the route's timeouts.connect.",
    )
}

fn unreachable(error: &io::Error, metrics: &RouteMetrics) -> Refusal {
    if out_of_files(error) {
        return Refusal::out_of_files().because(error);
    }
    let detail = if out_of_ports(error) {
        metrics.backend_ports_exhausted.inc();
        "The gateway has run out of local ports towards the backend's endpoint."
    } else if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        "TLS with the backend's endpoint failed: its certificate may not be the one that the route expects."
    } else {
        "The backend's endpoint could not be reached."
    };
    Refusal::new(RefusalReason::BackendConnect, detail).because(error)
}

/// Whether every local port is in use towards one address and port: EADDRNOTAVAIL, see connect(2).
fn out_of_ports(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Asks for the upgrade and waits for the answer's head, at most `limit`.
pub async fn upgrade(
    transport: Transport,
    request: Request<Empty<Bytes>>,
    accept: &str,
    limit: Duration,
) -> Result<Answer, Refusal> {
    let offered = request.headers().clone();
    let late = |_| {
        Refusal::new(
            RefusalReason::BackendTimeout,
            "The backend did not answer the upgrade within the route's timeouts.upgrade.",
        )
    };
    let response = timeout(limit, send(transport, request)).await.map_err(late)??;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        timeout(limit, switch(response, accept, &offered)).await.map_err(late)?
    } else {
        Ok(Answer::Refused(collect(response).await))
    }
}

/// Judges a 101 and takes the connection back from hyper.
async fn switch(
    mut response: Response<Incoming>,
    accept: &str,
    offered: &HeaderMap,
) -> Result<Answer, Refusal> {
    let hop = HopByHop::take(response.headers_mut());
    let on_upgrade = hyper::upgrade::on(&mut response);
    let (parts, _) = response.into_parts();
    check_response(&parts, &hop, accept, offered).map_err(|why| {
        Refusal::new(
            RefusalReason::BackendBadHandshake,
            format!("The backend's answer is no WebSocket handshake: {why}."),
        )
    })?;
    let broken = |error: hyper::Error| {
        Refusal::new(RefusalReason::BackendBadHandshake, "The backend broke off after its 101.")
            .because(error)
    };
    let upgraded = on_upgrade.await.map_err(broken)?;
    let raw = upgraded.downcast::<TokioIo<Transport>>().expect("this is what was given to hyper");
    Ok(Answer::Switched { parts, transport: raw.io.into_inner(), early: raw.read_buf })
}

/// Sends one request over a connection of its own and waits for the head of the answer.
pub async fn send<B>(
    transport: Transport,
    request: Request<B>,
) -> Result<Response<Incoming>, Refusal>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let failed = |error: hyper::Error| {
        let detail = if error.is_parse() || error.is_parse_too_large() {
            "The backend's answer is not HTTP, or its head is too long."
        } else {
            "The backend broke off before it answered."
        };
        Refusal::new(RefusalReason::BackendBadHandshake, detail).because(error)
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(transport))
        .await
        .map_err(failed)?;
    spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to an endpoint failed");
        }
    });
    let mut answer = sender.send_request(request).await.map_err(failed)?;
    // What is passed on is in our version, not in the backend's (RFC 9110 §2.5).
    *answer.version_mut() = Version::HTTP_11;
    Ok(answer)
}

/// A refusing answer with its body. Where that is too long, late or broken, our sentence stands in its place: status
/// and headers are what a client goes by.
async fn collect(response: Response<Incoming>) -> Response<Bytes> {
    let (mut parts, body) = response.into_parts();
    HopByHop::take(&mut parts.headers);
    // hyper writes the length of what we send.
    parts.headers.remove(header::CONTENT_LENGTH);
    let whole = timeout(REFUSAL_BODY_TIMEOUT, Limited::new(body, MAX_REFUSAL_BODY).collect()).await;
    let excuse = match whole {
        Ok(Ok(body)) => return Response::from_parts(parts, body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => "is too long to pass on",
        Ok(Err(_)) => "was cut off",
        Err(_) => "did not come in time",
    };
    parts.headers.remove(header::CONTENT_ENCODING);
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    parts.headers.insert(header::CONTENT_TYPE, plain);
    let body = format!("The backend refused the upgrade; its explanation {excuse}.\n").into();
    Response::from_parts(parts, body)
}
