//! The life of a granted upgrade around the relay: its place in the gauges, its log lines, its end.

use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{Response, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tidegate_table::Rule;
use tidegate_telemetry::{OpenGauge, RouteMetrics, bounded};
use tokio::{io::AsyncWriteExt, task::spawn_local, time::timeout};

use super::{
    ListenerKind,
    balance::EndpointPermit,
    close::{CloseCode, Side, peer_gone},
    frames::{Extensions, Role, close_frame},
    guarded::Guarded,
    http::{AnswerBody, BackendOpen, MAX_LOGGED, RequestContext},
    registry::ConnectionGuard,
    relay::{Ending, Legs, Relay, Traffic, relay},
    rewind::Rewind,
    transport::Transport,
    worker::{LiveToken, Worker},
};

/// A granted upgrade, from the 101 on.
pub(super) struct EstablishedConnection {
    pub(super) held: ConnectionGuards,
    pub(super) rule: Arc<Rule>,
    pub(super) metrics: Arc<RouteMetrics>,
}

/// What is held for a connection as long as it lives, besides its relay: its places, and what its last log line tells.
pub(super) struct ConnectionGuards {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: ListenerKind,
    pub(super) id: Box<str>,
    pub(super) seat: EndpointPermit,
    pub(super) entry: ConnectionGuard,
    pub(super) started: Instant,
    pub(super) _live: Rc<LiveToken>,
    pub(super) _open: OpenGauge,
    pub(super) _backend_open: BackendOpen,
}

/// One after the other.
fn both(first: Bytes, then: Bytes) -> Bytes {
    if then.is_empty() { first } else { [first, then].concat().into() }
}

impl EstablishedConnection {
    /// The line of the access log at the begin.
    pub(super) fn log_open(
        &self,
        facts: &RequestContext,
        host: &str,
        response: &Response<AnswerBody>,
    ) {
        // One that the rule does not name may be a token that the backend has sent back, as some applications do.
        let protocol = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
        let protocol = protocol.and_then(|protocol| {
            self.rule.subprotocols.iter().find(|named| protocol == named.as_str())
        });
        let path = bounded(facts.uri.path(), MAX_LOGGED);
        tracing::info!(
            target: "tidegate::access",
            event = "open",
            request_id = &*self.held.id,
            namespace = self.rule.route.namespace,
            route = self.rule.route.name,
            rule = self.rule.name,
            client = %facts.client,
            listener = self.held.listener.as_str(),
            host,
            path = &*path,
            subprotocol = protocol.map(String::as_str),
            endpoint = %self.held.seat.address(),
            upgrade_ms = facts.started.elapsed().as_millis() as u64,
        );
    }

    /// Takes the client's socket back from hyper once the 101 is written, and relays.
    pub(super) async fn run(
        self,
        on_upgrade: OnUpgrade,
        mut backend: Transport,
        from_backend: Bytes,
        extensions: Extensions,
    ) {
        // A client that does not take its 101 may not hold everything for ever.
        match timeout(self.rule.timeouts.upgrade, on_upgrade).await {
            Ok(Ok(upgraded)) => {
                let raw = upgraded
                    .downcast::<TokioIo<Guarded<Rewind<Transport>>>>()
                    .expect("this is what was given to hyper");
                let (client, rest) = raw.io.into_inner().into_inner().into_parts();
                let legs = Legs {
                    client,
                    from_client: both(raw.read_buf, rest),
                    backend,
                    from_backend,
                    extensions,
                };
                let Self { held, rule, metrics } = self;
                let relay = relay(legs, rule, held.entry.session(), metrics);
                spawn_local(ConnectionTask { held, relay });
                return;
            }
            Ok(Err(error)) => tracing::debug!(%error, "the client left before its 101"),
            Err(_) => tracing::debug!("the client did not take its 101"),
        }
        // The backend has granted a WebSocket and waits for its first frame.
        let words = peer_gone(Side::Backend);
        let frame = close_frame(Role::Client, words.code.0, words.reason);
        let said = async {
            backend.write_all(&frame).await?;
            backend.shutdown().await
        };
        let told = matches!(timeout(self.rule.timeouts.close, said).await, Ok(Ok(())));
        if !told {
            tracing::debug!("the backend could not be told that the client has gone");
        }
        let ending = Ending::before_start(told.then_some(words.code));
        self.held.note_end(&self.rule, &self.metrics, &ending);
    }
}

impl ConnectionGuards {
    /// Counts the end, and writes the line of the access log.
    fn note_end(&self, rule: &Rule, metrics: &RouteMetrics, ending: &Ending) {
        let life = self.started.elapsed();
        metrics.connection_duration.observe(life.as_secs_f64());
        let route = &rule.route;
        let metrics = &self.worker.metrics;
        metrics.closed(&route.namespace, &route.name, ending.cause.as_str());
        let Ending { up, down, .. } = ending;
        for (direction, code) in [
            ("client_to_backend", up.close),
            ("backend_to_client", down.close),
            ("gateway_to_client", down.said),
            ("gateway_to_backend", up.said),
        ] {
            if let Some(code) = code {
                metrics.close_code(&route.namespace, &route.name, direction, code.label());
            }
        }
        // What each side was told, and what it said itself; 0 stands for a Close frame without a code.
        let code = |code: Option<CloseCode>| code.map(|code| code.0.unwrap_or(0));
        let told = |traffic: &Traffic| code(traffic.told);
        tracing::info!(
            target: "tidegate::access",
            event = "close",
            cause = ending.cause.as_str(),
            initiator = ending.initiator.map_or("gateway", Side::as_str),
            request_id = &*self.id,
            namespace = route.namespace,
            route = route.name,
            rule = rule.name,
            listener = self.listener.as_str(),
            endpoint = %self.seat.address(),
            duration_ms = life.as_millis() as u64,
            bytes_up = up.bytes,
            bytes_down = down.bytes,
            messages_up = up.messages,
            messages_down = down.messages,
            client_code = code(up.close),
            backend_code = code(down.close),
            close_code_to_client = told(down),
            close_code_to_backend = told(up),
            "{}",
            ending.detail,
        );
    }
}

/// A granted connection's life: a task of its own, which holds nothing but it. The one before, with all that the upgrade needed,
/// is gone by then.
struct ConnectionTask {
    held: ConnectionGuards,
    relay: Relay,
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let ending = ready!(Pin::new(&mut this.relay).poll(cx));
        this.held.note_end(&this.relay.rule, &this.relay.metrics, &ending);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_a_connection_is_small() {
        let (held, relay) = (size_of::<ConnectionGuards>(), size_of::<Relay>());
        // With what tokio adds to a task it fits into an allocation of 896 bytes; the next size is 1,024.
        assert!(size_of::<ConnectionTask>() <= 800, "Held {held}, Relay {relay}");
    }
}
