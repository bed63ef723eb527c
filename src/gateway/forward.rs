//! `http: Forward`: plain HTTP to the same endpoints, one connection a request.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode, request};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep, timeout};

use super::{
    balance::Seat,
    headers::{self, HopByHop, Sender},
    http::{AnswerBody, BackendOpen, ClientConnection, Facts, hash_key, outgoing},
    refuse::{Refusal, RefusalReason},
    sessions::RequestEntry,
    upstream,
};
use crate::table::{HttpMode, Rule};

impl ClientConnection {
    /// A request that asks for no WebSocket.
    pub(super) async fn plain_http(
        &self,
        facts: &Facts,
        rule: &Arc<Rule>,
        mut parts: request::Parts,
        body: Incoming,
        sender: Sender<'_>,
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
        headers::tell_sender(&mut parts.headers, sender);
        let answer = upstream::send(transport, outgoing(facts, parts, body)?);
        // Long polling answers late on purpose: it may take as long as a silent WebSocket.
        let answer = match rule.timeouts.idle {
            None => answer.await?,
            Some(idle) => timeout(idle, answer).await.map_err(|_| {
                Refusal::new(
                    RefusalReason::BackendTimeout,
                    "The backend did not answer within the route's timeouts.idle.",
                )
            })??,
        };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Refusal::new(
                RefusalReason::BackendBadHandshake,
                "The backend switched protocols, which nobody had asked for.",
            ));
        }
        let (mut parts, body) = answer.into_parts();
        HopByHop::take(&mut parts.headers);
        self.worker.metrics.forwarded(
            &rule.route.namespace,
            &rule.route.name,
            parts.status.as_u16(),
        );
        let body = ForwardedBody {
            body,
            idle: rule.timeouts.idle,
            timer: None,
            _held: (seat, open, self.worker.sessions.enter_request()),
        };
        Ok(Response::from_parts(parts, body.boxed_unsync()))
    }
}

/// An answer's body on its way to the client. It breaks off where the backend is silent for too long, and holds the seat at the
/// endpoint until it has ended, and a worker that drains as well.
struct ForwardedBody {
    body: Incoming,
    idle: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    _held: (Seat, BackendOpen, RequestEntry),
}

impl Body for ForwardedBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(idle) = self.idle else { return Poll::Pending };
        ready!(self.timer.get_or_insert_with(|| Box::pin(sleep(idle))).as_mut().poll(cx));
        Poll::Ready(Some(Err("the backend was silent for the route's timeouts.idle".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
