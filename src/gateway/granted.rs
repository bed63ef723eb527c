//! The life of a granted upgrade around the relay: its place in the gauges, its log lines, its end.

use std::{rc::Rc, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{
    balance::Seat,
    frames::Extensions,
    goodbye::{CloseCode, Side},
    http::{AnswerBody, BackendOpen, ClientConnection, Facts},
    relay::{Ending, Legs, Traffic, relay},
    sessions::Entry,
    transport::Transport,
};
use crate::{
    table::Rule,
    telemetry::{OpenGauge, RouteMetrics},
};

/// A granted upgrade, from the 101 on.
pub(super) struct Granted {
    pub(super) connection: Rc<ClientConnection>,
    pub(super) id: HeaderValue,
    pub(super) rule: Arc<Rule>,
    pub(super) seat: Seat,
    pub(super) metrics: Arc<RouteMetrics>,
    pub(super) entry: Entry,
    pub(super) started: Instant,
    pub(super) _open: OpenGauge,
    pub(super) _backend_open: BackendOpen,
}

impl Granted {
    /// The line of the access log at the begin.
    pub(super) fn log_open(&self, facts: &Facts, host: &str, response: &Response<AnswerBody>) {
        let protocol = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
        tracing::info!(
            target: "tidegate::access",
            event = "open",
            request_id = self.id.to_str().unwrap_or_default(),
            namespace = self.rule.route.namespace,
            route = self.rule.route.name,
            rule = self.rule.name,
            client = %facts.client,
            listener = self.connection.listener.as_str(),
            host,
            path = facts.uri.path(),
            subprotocol = protocol.and_then(|protocol| protocol.to_str().ok()),
            endpoint = %self.seat.address(),
            upgrade_ms = facts.started.elapsed().as_millis() as u64,
        );
    }

    /// Takes the client's socket back from hyper once the 101 is written, and relays.
    pub(super) async fn run(
        self,
        on_upgrade: OnUpgrade,
        backend: Transport,
        from_backend: Bytes,
        extensions: Extensions,
    ) {
        // A client that does not take its 101 may not hold everything for ever.
        let ending = match timeout(self.rule.timeouts.upgrade, on_upgrade).await {
            Ok(Ok(upgraded)) => {
                let raw = upgraded
                    .downcast::<TokioIo<Transport>>()
                    .expect("this is what was given to hyper");
                let legs = Legs {
                    client: raw.io.into_inner(),
                    from_client: raw.read_buf,
                    backend,
                    from_backend,
                    extensions,
                };
                relay(legs, &self.rule, self.entry.session(), &self.metrics).await
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "the client left before its 101");
                Ending::before_start()
            }
            Err(_) => {
                tracing::debug!("the client did not take its 101");
                Ending::before_start()
            }
        };
        self.note_end(&ending);
    }

    /// Counts the end, and writes the line of the access log.
    fn note_end(&self, ending: &Ending) {
        let life = self.started.elapsed();
        self.metrics.connection_duration.observe(life.as_secs_f64());
        let route = &self.rule.route;
        let metrics = &self.connection.worker.metrics;
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
        let told = |traffic: &Traffic| code(traffic.said.or(traffic.close));
        tracing::info!(
            target: "tidegate::access",
            event = "close",
            cause = ending.cause.as_str(),
            initiator = ending.initiator.map_or("gateway", Side::as_str),
            request_id = self.id.to_str().unwrap_or_default(),
            namespace = route.namespace,
            route = route.name,
            rule = self.rule.name,
            listener = self.connection.listener.as_str(),
            endpoint = %self.seat.address(),
            duration_ms = life.as_millis() as u64,
            bytes_up = up.bytes,
            bytes_down = down.bytes,
            messages_up = up.messages,
            messages_down = down.messages,
            client_code = code(up.close),
            backend_code = code(down.close),
            client_told = told(down),
            backend_told = told(up),
            "{}",
            ending.detail,
        );
    }
}
