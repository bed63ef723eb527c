//! `http: Forward`: plain HTTP to the same endpoints, one connection a request.

use std::{
    error::Error,
    io,
    pin::Pin,
    rc::Rc,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tidegate_table::{HttpMode, Rule};
use tokio::{
    sync::oneshot,
    task::spawn_local,
    time::{Sleep, sleep, timeout},
};

use super::{
    balance::EndpointPermit,
    forwarded::Sender,
    headers::HopByHop,
    http::{AnswerBody, BackendOpen, ClientConnection, RequestContext, hash_key},
    outgoing::prepare,
    pace::Pace,
    pending::Answering,
    refusal::{Refusal, RefusalReason},
    registry::RequestEntry,
    upstream::{self, ConnectionTask},
};

type BoxError = Box<dyn Error + Send + Sync>;

impl ClientConnection {
    /// A request that asks for no WebSocket.
    pub(super) async fn plain_http(
        self: &Rc<Self>,
        facts: &RequestContext,
        rule: &Arc<Rule>,
        mut parts: request::Parts,
        body: Incoming,
        sender: &Sender<'_>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        if rule.http == HttpMode::Refuse {
            return Err(Refusal::new(
                RefusalReason::NotWebsocket,
                "Only WebSockets are served here: connect with a WebSocket client. If you did, something on the way removed the Upgrade header.",
            ));
        }
        if self.worker.draining() {
            return Err(Refusal::new(
                RefusalReason::Draining,
                "The gateway is shutting down: connect again.",
            ));
        }
        let metrics = self.metrics(rule);
        let key = hash_key(rule, facts, &parts);
        let (seat, transport, open) = self.reach(rule, key, &metrics).await?;
        prepare(&mut parts, &self.marks(facts, sender));
        let (body, fault) = ClientBody::new(body, rule.timeouts.request_body);
        let answer = upstream::send(transport, Request::from_parts(parts, body));
        // Long polling answers late on purpose: it may take as long as a silent WebSocket.
        let answer = match rule.timeouts.idle {
            None => answer.await,
            Some(idle) => timeout(idle, answer).await.unwrap_or_else(|_| {
                Err(Refusal::new(
                    RefusalReason::BackendTimeout,
                    "The backend did not answer within the route's timeouts.idle.",
                ))
            }),
        };
        // Where the request broke off, that is why there is no answer.
        let (answer, task) = answer.map_err(|refusal| fault.refusal().unwrap_or(refusal))?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Refusal::new(
                RefusalReason::BackendBadHandshake,
                "The backend switched protocols, which nobody had asked for.",
            ));
        }
        let (mut parts, body) = answer.into_parts();
        let hop = HopByHop::take(&mut parts.headers);
        if let Some(fault) = hop.fault {
            return Err(upstream::bad_framing(fault));
        }
        let status = parts.status;
        self.worker.metrics.forwarded(&rule.route.namespace, &rule.route.name, status.as_u16());
        let (broken, report) = oneshot::channel();
        let address = seat.address();
        let body = ForwardedBody {
            body,
            idle: rule.timeouts.idle,
            timer: None,
            fault,
            broken: Some(broken),
            _held: (seat, open, self.worker.sessions.enter_request(), task, self.answering()),
        };
        if !body.is_end_stream() {
            let (connection, facts, rule) = (Rc::clone(self), facts.clone(), Arc::clone(rule));
            spawn_local(async move {
                if let Ok(refusal) = report.await {
                    let endpoint = Some(address);
                    connection.count_refusal(
                        &facts,
                        Some(&rule),
                        &refusal,
                        status.as_u16(),
                        endpoint,
                    );
                }
            });
        }
        Ok(Response::from_parts(parts, body.boxed_unsync()))
    }
}

/// How a client's body has ended, where not well.
#[derive(Clone, Copy, Debug)]
enum BodyFault {
    /// Nothing came for too long.
    Silent,
    /// Too little came for too long.
    Slow,
    /// It is not in the coding that it should be in.
    Malformed,
    /// The client has left.
    Gone,
}

/// What is known of the end of a client's body, also where the body is somebody else's.
#[derive(Clone, Debug, Default)]
struct BodyEnd(Arc<OnceLock<BodyFault>>);

impl BodyEnd {
    /// The refusal of a request whose body did not end well.
    fn refusal(&self) -> Option<Refusal> {
        let (reason, detail) = match self.0.get()? {
            BodyFault::Silent => (
                RefusalReason::BodyTimeout,
                "Nothing came of the request's body for the route's timeouts.requestBody.",
            ),
            BodyFault::Slow => (
                RefusalReason::BodyTimeout,
                "The request's body came too slowly: it has to bring 100 bytes a second over the route's timeouts.requestBody.",
            ),
            BodyFault::Malformed => (
                RefusalReason::BadHandshake,
                "The request's body is not in the chunked coding that its head announces.",
            ),
            BodyFault::Gone => {
                (RefusalReason::ClientGone, "The client left before its request's body had ended.")
            }
        };
        Some(Refusal::new(reason, detail))
    }
}

/// A request's body on its way to the backend. It breaks off where the client takes too long over it.
struct ClientBody {
    body: Incoming,
    pace: Pace,
    end: BodyEnd,
}

impl ClientBody {
    fn new(body: Incoming, limit: Option<Duration>) -> (Self, BodyEnd) {
        let end = BodyEnd::default();
        (Self { body, pace: Pace::new(limit), end: end.clone() }, end)
    }

    fn fail(&self, fault: BodyFault) {
        // The first is the one.
        let _ = self.end.0.set(fault);
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                let gone = is_end_of_file(&error);
                self.fail(if gone { BodyFault::Gone } else { BodyFault::Malformed });
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(frame) => {
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok());
                self.pace.progress(data.and_then(Frame::data_ref).map_or(0, Bytes::len));
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                ready!(self.pace.poll_wait(cx));
                let silent = self.pace.is_silent();
                self.fail(if silent { BodyFault::Silent } else { BodyFault::Slow });
                Poll::Ready(Some(Err("the request's body did not come in time".into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether a body was cut off, and not broken.
fn is_end_of_file(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let kind = error.kind();
            return matches!(
                kind,
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
            );
        }
        source = error.source();
    }
    error.is_incomplete_message() || error.is_canceled() || error.is_closed()
}

/// An answer's body on its way to the client. It breaks off where the backend is silent for too long, and holds the seat at the
/// endpoint until it has ended, and a worker that drains as well.
struct ForwardedBody {
    body: Incoming,
    idle: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Of the request's body, which may still be under way.
    fault: BodyEnd,
    /// Told why it breaks off.
    broken: Option<oneshot::Sender<Refusal>>,
    _held: (EndpointPermit, BackendOpen, RequestEntry, ConnectionTask, Answering),
}

impl ForwardedBody {
    fn breaks_off(&mut self, refusal: Refusal) {
        if let Some(broken) = self.broken.take() {
            let refusal = self.fault.refusal().unwrap_or(refusal);
            // Nobody listens where there is nothing to come.
            let _ = broken.send(refusal);
        }
    }
}

impl Body for ForwardedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.timer = None;
            if let Some(Err(error)) = &frame {
                let broken = Refusal::new(
                    RefusalReason::BackendBadHandshake,
                    "The backend's answer broke off in its body.",
                );
                self.breaks_off(broken.because(error));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(idle) = self.idle else { return Poll::Pending };
        ready!(self.timer.get_or_insert_with(|| Box::pin(sleep(idle))).as_mut().poll(cx));
        let detail = "The backend was silent in its answer's body for the route's timeouts.idle.";
        self.breaks_off(Refusal::new(RefusalReason::BackendTimeout, detail));
        Poll::Ready(Some(Err(detail.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
