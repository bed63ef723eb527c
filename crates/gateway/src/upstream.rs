//! The backend's leg: reach an endpoint, ask it for the upgrade, judge its answer. A connection that saw an
//! upgrade is never used for anything else.
//!
//! The request for an upgrade is one write and a sound 101 a head without a body, so both are done here, by [`http1_head`]: hyper's client
//! would make a task, channels and a buffer for them. Any other answer is hyper's to read, from its first byte: bodies, their
//! framing and its ambiguities are not ours to know. So are forwarded requests.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tidegate_table::BackendTls;
use tidegate_telemetry::RouteMetrics;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    sync::Notify,
    task::{AbortHandle, spawn_local},
    time::{Instant, timeout, timeout_at},
};

use super::{
    balance::Fault,
    fd_budget::out_of_files,
    handshake::{AnswerFault, check_response},
    headers::{FramingFault, HopByHop},
    http1_head::{self, AnswerHead, HeadFault, MAX_HEAD, MAX_INTERIM},
    refusal::{Refusal, RefusalReason},
    replay::Replay,
    socket, tls,
    transport::Transport,
};

/// How much of a refusing backend's body is passed on, bytes.
const MAX_REFUSAL_BODY: usize = 64 * 1024;

/// How long that body may take.
const REFUSAL_BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// Room for the first read of an answer, bytes: an upgrade is granted in some 200, and may have a frame behind it.
const FIRST_READ: usize = 1024;

/// What a backend answered to an upgrade.
#[derive(Debug)]
pub enum Answer<T> {
    /// A sound 101: the raw connection, and what came behind the answer.
    Switched {
        /// The answer's headers, without hop-by-hop ones.
        headers: HeaderMap,
        /// The connection.
        transport: T,
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

/// Asks for the upgrade, waits for the answer's head, at most `limit` for both, and judges it.
pub async fn upgrade<T>(
    mut transport: T,
    request: Request<Empty<Bytes>>,
    accept: &str,
    limit: Duration,
) -> Result<Answer<T>, Refusal>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let deadline = Instant::now() + limit;
    let late = |_| {
        Refusal::new(
            RefusalReason::BackendTimeout,
            "The backend did not answer the upgrade within the route's timeouts.upgrade.",
        )
    };
    let (parts, body) = request.into_parts();
    let asked = http1_head::of_request(&parts);
    match timeout_at(deadline, ask(&mut transport, &asked)).await.map_err(late)?? {
        (AnswerHead::Switching(mut headers), behind) => {
            let hop = HopByHop::take(&mut headers);
            check_response(&headers, &hop, accept, &parts.headers).map_err(bad_handshake)?;
            // A copy, as a rule of nothing: the buffer would live as long as a slice of it.
            let early = Bytes::copy_from_slice(&behind);
            Ok(Answer::Switched { headers, transport, early })
        }
        (AnswerHead::Other, read) => {
            let replay = Replay::new(transport, read.freeze());
            // Boxed, so that granted upgrades need not make room for it.
            let answer = Box::pin(send(replay, Request::from_parts(parts, body)));
            let (answer, _task) = timeout_at(deadline, answer).await.map_err(late)??;
            Ok(Answer::Refused(Box::pin(collect(answer)).await?))
        }
    }
}

/// Sends the head of a request and hears that of the answer, and returns it with what was read and not used.
async fn ask<T>(transport: &mut T, mut request: &[u8]) -> Result<(AnswerHead, BytesMut), Refusal>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = BytesMut::with_capacity(FIRST_READ);
    let mut interim = 0;
    let mut unsendable = None;
    loop {
        let room = MAX_HEAD - received.len();
        let mut buffer = (&mut received).limit(room);
        // Both at once: who refuses may do so before it has the whole request, and hang up.
        let read = poll_fn(|cx| {
            if unsendable.is_none()
                && let Poll::Ready(Err(error)) = poll_send(transport, &mut request, cx)
            {
                unsendable = Some(error);
            }
            pin!(transport.read_buf(&mut buffer)).poll(cx)
        });
        match read.await {
            Ok(0) => {
                let end = io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the connection was closed before the head of the answer had ended",
                );
                return Err(broken_off(unsendable.unwrap_or(end)));
            }
            Ok(_) => {}
            Err(error) => return Err(broken_off(unsendable.unwrap_or(error))),
        }
        let Some(head) = http1_head::of_answer(&mut received, &mut interim).map_err(no_http)?
        else {
            continue;
        };
        if matches!(head, AnswerHead::Switching(_)) {
            // The peers may speak only once the backend has the whole of the request. What failed fails again.
            poll_fn(|cx| poll_send(transport, &mut request, cx)).await.map_err(broken_off)?;
        }
        return Ok((head, received));
    }
}

/// Sends what is left of a request.
fn poll_send<T>(transport: &mut T, rest: &mut &[u8], cx: &mut Context<'_>) -> Poll<io::Result<()>>
where
    T: AsyncWrite + Unpin,
{
    while !rest.is_empty() {
        let count = ready!(Pin::new(&mut *transport).poll_write(cx, rest))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        *rest = &rest[count..];
    }
    Pin::new(transport).poll_flush(cx)
}

fn bad_handshake(why: AnswerFault) -> Refusal {
    Refusal::new(
        RefusalReason::BackendBadHandshake,
        format!("The backend's answer is no WebSocket handshake: {why}."),
    )
}

fn no_http(error: impl std::error::Error) -> Refusal {
    Refusal::new(
        RefusalReason::BackendBadHandshake,
        "The backend's answer is not HTTP, or its head is too long, or comes behind too many interim ones.",
    )
    .because(error)
}

fn broken_off(error: impl std::error::Error) -> Refusal {
    Refusal::new(RefusalReason::BackendBadHandshake, "The backend broke off before it answered.")
        .because(error)
}

/// The refusal of an answer of which it cannot be told where its body ends.
pub(super) fn bad_framing(fault: FramingFault) -> Refusal {
    Refusal::new(
        RefusalReason::BackendBadHandshake,
        format!("The backend's answer is not passed on: its {fault}."),
    )
}

/// The task of a connection to an endpoint, which ends with this.
#[derive(Debug)]
pub struct ConnectionTask(AbortHandle);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends one request over a connection of its own and waits for the head of the answer. The connection lives as long as what is
/// returned beside it.
pub async fn send<T, B>(
    transport: T,
    mut request: Request<B>,
) -> Result<(Response<Incoming>, ConnectionTask), Refusal>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let failed = |error: hyper::Error| {
        if error.is_parse() || error.is_parse_too_large() {
            no_http(error)
        } else {
            broken_off(error)
        }
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(transport))
        .await
        .map_err(failed)?;
    let task = spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to an endpoint failed");
        }
    });
    let task = ConnectionTask(task.abort_handle());
    // hyper passes over interim answers (RFC 9110 §15.2), however many come.
    let (interim, enough) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let told = Arc::clone(&enough);
    hyper::ext::on_informational(&mut request, move |_| {
        if interim.fetch_add(1, Relaxed) >= MAX_INTERIM {
            told.notify_one();
        }
    });
    let mut answer = tokio::select! {
        biased;
        () = enough.notified() => return Err(no_http(HeadFault::Interim)),
        answer = sender.send_request(request) => answer.map_err(failed)?,
    };
    // What is passed on is in our version, not in the backend's (RFC 9110 §2.5).
    *answer.version_mut() = Version::HTTP_11;
    Ok((answer, task))
}

/// A refusing answer with its body. Where that is too long, late or broken, our sentence stands in its place: status
/// and headers are what a client goes by.
async fn collect(response: Response<Incoming>) -> Result<Response<Bytes>, Refusal> {
    let (mut parts, body) = response.into_parts();
    if let Some(fault) = HopByHop::take(&mut parts.headers).fault {
        return Err(bad_framing(fault));
    }
    // hyper writes the length of what we send.
    parts.headers.remove(header::CONTENT_LENGTH);
    let whole = timeout(REFUSAL_BODY_TIMEOUT, Limited::new(body, MAX_REFUSAL_BODY).collect()).await;
    let excuse = match whole {
        Ok(Ok(body)) => return Ok(Response::from_parts(parts, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => "is too long to pass on",
        Ok(Err(_)) => "was cut off",
        Err(_) => "did not come in time",
    };
    parts.headers.remove(header::CONTENT_ENCODING);
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    parts.headers.insert(header::CONTENT_TYPE, plain);
    let body = format!("The backend refused the upgrade; its explanation {excuse}.\n").into();
    Ok(Response::from_parts(parts, body))
}

#[cfg(test)]
mod tests;
