//! Metrics of the data plane.

mod gone;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::{
    names::{self, CAUSE, CODE, DIRECTION, LISTENER, NAMESPACE, PEER, REASON, ROUTE},
    traffic::{Traffic, TrafficShard},
};

/// Metrics of the data plane. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct GatewayMetrics {
    connections_open: IntGaugeVec,
    connections_total: IntCounterVec,
    connections_closed: IntCounterVec,
    close_codes: IntCounterVec,
    ping_rtt: HistogramVec,
    upgrade_failures: IntCounterVec,
    upgrade_duration: HistogramVec,
    connection_duration: HistogramVec,
    http_requests: IntCounterVec,
    acme_challenges: IntCounterVec,
    backend_connections_open: IntGaugeVec,
    backend_connect_duration: HistogramVec,
    backend_ports_exhausted: IntCounterVec,
    backend_connect_failures: IntCounterVec,
    backend_ejections: IntCounterVec,
    tls_failures: IntCounterVec,
    tls_fallback: IntCounterVec,
    accept_errors: IntCounterVec,
    pending_evicted: IntCounterVec,
    head_timeouts: IntCounterVec,
    /// Connections without a request.
    pub pending_connections: IntGauge,
    /// 1 while connections are being ended.
    pub draining: IntGauge,
    /// Lines of refusals that were left out of the log.
    pub refusals_left_out: IntCounter,
    traffic: Traffic,
    routes: Mutex<HashMap<RouteKey, Arc<RouteMetrics>>>,
}

type RouteKey = (String, String, &'static str, usize);

/// Handles of one route on one listener and one worker, looked up once per connection.
#[derive(Debug)]
pub struct RouteMetrics {
    /// Open connections.
    pub connections_open: IntGauge,
    /// Upgrades granted.
    pub connections_total: IntCounter,
    /// Request to 101, seconds.
    pub upgrade_duration: Histogram,
    /// Life of connections, seconds.
    pub connection_duration: Histogram,
    /// Connections to endpoints.
    pub backend_connections_open: IntGauge,
    /// TCP and TLS to an endpoint, seconds.
    pub backend_connect_duration: Histogram,
    /// Connections to endpoints for which no local port was left.
    pub backend_ports_exhausted: IntCounter,
    /// Attempts to reach an endpoint that failed.
    pub backend_connect_failures: IntCounter,
    /// Endpoints passed over for a while, because they failed again and again.
    pub backend_ejections: IntCounter,
    /// From a Ping of ours to the client's Pong, seconds.
    pub client_ping_rtt: Histogram,
    /// From a Ping of ours to the backend's Pong, seconds.
    pub backend_ping_rtt: Histogram,
    /// Bytes and messages, counted by one worker alone.
    pub traffic: Arc<TrafficShard>,
}

/// Adds one to a gauge for as long as it exists.
#[derive(Debug)]
pub struct OpenGauge(IntGauge);

impl OpenGauge {
    /// One more.
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for OpenGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Statuses that have a label of their own; the others are told by their class.
const STATUSES: [(u16, &str); 29] = [
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (204, "204"),
    (206, "206"),
    (301, "301"),
    (302, "302"),
    (303, "303"),
    (304, "304"),
    (307, "307"),
    (308, "308"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (410, "410"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (426, "426"),
    (429, "429"),
    (500, "500"),
    (501, "501"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];

/// The value of the label `code` for a status that a backend chose: one of a fixed set, whatever it sends.
fn status_label(status: u16) -> &'static str {
    match (STATUSES.iter().find(|(known, _)| *known == status), status / 100) {
        (Some((_, label)), _) => label,
        (None, 1) => "1xx",
        (None, 2) => "2xx",
        (None, 3) => "3xx",
        (None, 4) => "4xx",
        (None, 5) => "5xx",
        (None, _) => "other",
    }
}

const FAST: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const LIFE: &[f64] =
    &[1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 604_800.0];

impl GatewayMetrics {
    /// Makes the metrics and registers them.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            prometheus::Result::Ok(metric)
        };
        let gauge = |name, help, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            prometheus::Result::Ok(metric)
        };
        let labelled = |name, help, buckets: &[f64], labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let metric = HistogramVec::new(options, labels)?;
            registry.register(Box::new(metric.clone()))?;
            prometheus::Result::Ok(metric)
        };
        let histogram = |name, help, buckets| labelled(name, help, buckets, &[NAMESPACE, ROUTE]);
        let draining = IntGauge::new(names::DRAINING, "1 while the gateway ends its connections.")?;
        registry.register(Box::new(draining.clone()))?;
        let pending_connections = IntGauge::new(
            names::PENDING_CONNECTIONS,
            "Connections without a request now: before it, or kept alive for the next one.",
        )?;
        registry.register(Box::new(pending_connections.clone()))?;
        let refusals_left_out = IntCounter::new(
            names::LOG_REFUSALS_LEFT_OUT_TOTAL,
            "Lines of refusals that were left out of the log, since there were too many.",
        )?;
        registry.register(Box::new(refusals_left_out.clone()))?;
        let traffic = Traffic::default();
        registry.register(Box::new(traffic.clone()))?;
        Ok(Self {
            connections_open: gauge(
                names::CONNECTIONS_OPEN,
                "Client connections (WebSockets) that are open now.",
                &[NAMESPACE, ROUTE, LISTENER],
            )?,
            connections_total: counter(
                names::CONNECTIONS_TOTAL,
                "Upgrades granted.",
                &[NAMESPACE, ROUTE, LISTENER],
            )?,
            connections_closed: counter(
                names::CONNECTIONS_CLOSED_TOTAL,
                "Connections that ended, by cause.",
                &[NAMESPACE, ROUTE, CAUSE],
            )?,
            close_codes: counter(
                names::CLOSE_CODES_TOTAL,
                "Close frames by code: those that peers sent, and those of the gateway.",
                &[NAMESPACE, ROUTE, DIRECTION, CODE],
            )?,
            ping_rtt: labelled(
                names::PING_RTT_SECONDS,
                "From a Ping of the gateway to the peer's Pong.",
                FAST,
                &[NAMESPACE, ROUTE, PEER],
            )?,
            upgrade_failures: counter(
                names::UPGRADE_FAILURES_TOTAL,
                "Requests not granted, by reason; without a route, namespace and route are empty.",
                &[NAMESPACE, ROUTE, LISTENER, REASON],
            )?,
            upgrade_duration: histogram(
                names::UPGRADE_DURATION_SECONDS,
                "From the request's head to the 101, the backend's part included.",
                FAST,
            )?,
            connection_duration: histogram(
                names::CONNECTION_DURATION_SECONDS,
                "Life of connections, counted when they end.",
                LIFE,
            )?,
            http_requests: counter(
                names::HTTP_REQUESTS_TOTAL,
                "Plain HTTP requests forwarded (http: Forward), by status code.",
                &[NAMESPACE, ROUTE, CODE],
            )?,
            acme_challenges: counter(
                names::ACME_CHALLENGES_TOTAL,
                "HTTP-01 challenges of ACME that a solver has answered, by status code.",
                &[CODE],
            )?,
            backend_connections_open: gauge(
                names::BACKEND_CONNECTIONS_OPEN,
                "Connections to endpoints that are open now.",
                &[NAMESPACE, ROUTE],
            )?,
            backend_connect_duration: histogram(
                names::BACKEND_CONNECT_DURATION_SECONDS,
                "TCP and, where used, TLS to an endpoint.",
                FAST,
            )?,
            backend_ports_exhausted: counter(
                names::BACKEND_PORTS_EXHAUSTED_TOTAL,
                "Connections to endpoints that failed because no local port was left towards them.",
                &[NAMESPACE, ROUTE],
            )?,
            backend_connect_failures: counter(
                names::BACKEND_CONNECT_FAILURES_TOTAL,
                "Attempts to reach an endpoint that failed; another endpoint may have been reached then.",
                &[NAMESPACE, ROUTE],
            )?,
            backend_ejections: counter(
                names::BACKEND_EJECTIONS_TOTAL,
                "Times that an endpoint which could not be reached again and again was ejected: passed over for a while.",
                &[NAMESPACE, ROUTE],
            )?,
            tls_failures: counter(
                names::TLS_HANDSHAKE_FAILURES_TOTAL,
                "TLS handshakes with clients that failed, by reason.",
                &[REASON],
            )?,
            tls_fallback: counter(
                names::TLS_FALLBACK_CERTIFICATE_TOTAL,
                "TLS handshakes begun with the self-made certificate, because there was no server name, no host for it, or no usable certificate.",
                &[CAUSE],
            )?,
            accept_errors: counter(
                names::ACCEPT_ERRORS_TOTAL,
                "Connections that could not be accepted, by reason.",
                &[LISTENER, REASON],
            )?,
            pending_evicted: counter(
                names::PENDING_CONNECTIONS_EVICTED_TOTAL,
                "Connections without a request that were ended to make room for others, by what was short.",
                &[REASON],
            )?,
            head_timeouts: counter(
                names::REQUEST_HEAD_TIMEOUTS_TOTAL,
                "Connections whose request did not come in time, after the TLS handshake where there is one.",
                &[LISTENER],
            )?,
            pending_connections,
            draining,
            refusals_left_out,
            traffic,
            routes: Mutex::default(),
        })
    }

    /// The handles of a route for one listener and worker.
    pub fn route(
        &self,
        namespace: &str,
        route: &str,
        listener: &'static str,
        worker: usize,
    ) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), route.to_owned(), listener, worker);
        let handles = routes.entry(key).or_insert_with(|| {
            let served = [namespace, route, listener];
            let named = [namespace, route];
            Arc::new(RouteMetrics {
                connections_open: self.connections_open.with_label_values(&served),
                connections_total: self.connections_total.with_label_values(&served),
                upgrade_duration: self.upgrade_duration.with_label_values(&named),
                connection_duration: self.connection_duration.with_label_values(&named),
                backend_connections_open: self.backend_connections_open.with_label_values(&named),
                backend_connect_duration: self.backend_connect_duration.with_label_values(&named),
                backend_ports_exhausted: self.backend_ports_exhausted.with_label_values(&named),
                backend_connect_failures: self.backend_connect_failures.with_label_values(&named),
                backend_ejections: self.backend_ejections.with_label_values(&named),
                client_ping_rtt: self.ping_rtt.with_label_values(&[namespace, route, "client"]),
                backend_ping_rtt: self.ping_rtt.with_label_values(&[namespace, route, "backend"]),
                traffic: self.traffic.shard(namespace, route),
            })
        });
        Arc::clone(handles)
    }

    /// Counts the end of a connection.
    pub fn closed(&self, namespace: &str, route: &str, cause: &'static str) {
        self.connections_closed.with_label_values(&[namespace, route, cause]).inc();
    }

    /// Counts a Close frame.
    pub fn close_code(
        &self,
        namespace: &str,
        route: &str,
        direction: &'static str,
        code: &'static str,
    ) {
        self.close_codes.with_label_values(&[namespace, route, direction, code]).inc();
    }

    /// Counts a request not granted.
    pub fn refused(
        &self,
        namespace: &str,
        route: &str,
        listener: &'static str,
        reason: &'static str,
    ) {
        self.upgrade_failures.with_label_values(&[namespace, route, listener, reason]).inc();
    }

    /// Counts a plain HTTP request that was forwarded and answered with such a status.
    pub fn forwarded(&self, namespace: &str, route: &str, status: u16) {
        self.http_requests.with_label_values(&[namespace, route, status_label(status)]).inc();
    }

    /// Counts a challenge of ACME that a solver has answered with such a status.
    pub fn challenged(&self, status: u16) {
        self.acme_challenges.with_label_values(&[status_label(status)]).inc();
    }

    /// Counts a TLS handshake that failed.
    pub fn tls_failed(&self, reason: &'static str) {
        self.tls_failures.with_label_values(&[reason]).inc();
    }

    /// Counts a TLS handshake done with the self-made certificate.
    pub fn tls_fallback(&self, cause: &'static str) {
        self.tls_fallback.with_label_values(&[cause]).inc();
    }

    /// Counts a connection that could not be accepted.
    pub fn accept_failed(&self, listener: &'static str, reason: &'static str) {
        self.accept_errors.with_label_values(&[listener, reason]).inc();
    }

    /// Counts connections without a request that were ended to make room for others. With 0 the series is there before the first.
    pub fn pending_evicted(&self, reason: &'static str, count: u64) {
        self.pending_evicted.with_label_values(&[reason]).inc_by(count);
    }

    /// Counts a connection whose request did not come in time.
    pub fn head_timed_out(&self, listener: &str) {
        self.head_timeouts.with_label_values(&[listener]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_few_labels_whatever_backends_answer() {
        let labels: std::collections::BTreeSet<_> = (0..=u16::MAX).map(status_label).collect();
        assert_eq!(labels.len(), STATUSES.len() + 6, "{labels:?}");
        for (status, label) in
            [(200, "200"), (299, "2xx"), (418, "4xx"), (599, "5xx"), (600, "other")]
        {
            assert_eq!(status_label(status), label);
        }
        assert!(STATUSES.iter().all(|(status, label)| status.to_string() == *label));
    }
}
