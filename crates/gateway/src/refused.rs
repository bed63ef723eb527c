//! How a refusal is told: to the client, to the metrics and to the log.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};
use tidegate_table::Rule;
use tidegate_telemetry::bounded;

use super::{
    balance::EndpointPermit,
    http::{AnswerBody, ClientConnection, MAX_LOGGED, RequestContext, full},
    intermediaries::IntermediaryTrace,
    refusal::{REASON_HEADER, Refusal, RefusalReason, SEEN_HEADER, concerns_way},
};

impl ClientConnection {
    /// The backend's own refusal, counted and passed on.
    pub(super) fn pass_refusal(
        &self,
        facts: &RequestContext,
        rule: &Rule,
        seat: &EndpointPermit,
        response: Response<Bytes>,
    ) -> Response<AnswerBody> {
        let refusal = Refusal::new(
            RefusalReason::BackendRefused,
            format!("The backend answered {}.", response.status()),
        );
        let status = response.status().as_u16();
        self.count_refusal(facts, Some(rule), &refusal, status, Some(seat.address()));
        let mut response = response.map(full);
        response.headers_mut().insert(
            HeaderName::from_static(REASON_HEADER),
            HeaderValue::from_static(RefusalReason::BackendRefused.as_str()),
        );
        response
    }

    pub(super) fn refuse(
        &self,
        facts: &RequestContext,
        rule: Option<&Rule>,
        refusal: &Refusal,
    ) -> Response<AnswerBody> {
        let mut response = refusal.response();
        if concerns_way(refusal.reason) {
            let name = HeaderName::from_static(SEEN_HEADER);
            response.headers_mut().insert(name, facts.way.seen());
        }
        if let Some(source) =
            refusal.source.as_ref().filter(|_| self.worker.settings.name_endpoints)
        {
            let body = [&response.body()[..], source.as_bytes(), b"\n"].concat();
            *response.body_mut() = body.into();
        }
        self.count_refusal(facts, rule, refusal, response.status().as_u16(), None);
        response.map(full)
    }

    /// Counts a refusal and, as far as there is room in the log, writes its line.
    pub(super) fn count_refusal(
        &self,
        facts: &RequestContext,
        rule: Option<&Rule>,
        refusal: &Refusal,
        status: u16,
        endpoint: Option<SocketAddr>,
    ) {
        let (namespace, route) =
            rule.map_or(("", ""), |rule| (&rule.route.namespace, &rule.route.name));
        let reason = refusal.reason.as_str();
        self.refused.count();
        self.worker.metrics.refused(namespace, route, self.listener.as_str(), reason);
        if !self.worker.may_log_refusal(facts.client) {
            return;
        }
        let way = concerns_way(refusal.reason).then_some(&facts.way);
        let path = bounded(facts.uri.path(), MAX_LOGGED);
        let error = refusal.source.as_deref().map(|error| bounded(error, MAX_LOGGED));
        tracing::info!(
            target: "tidegate::access",
            event = "refused",
            reason,
            status,
            request_id = facts.id.to_str().unwrap_or_default(),
            namespace,
            route,
            rule = rule.map(|rule| rule.name.as_str()),
            client = %facts.client,
            listener = self.listener.as_str(),
            host = facts.host.get(),
            path = &*path,
            endpoint = endpoint.map(tracing::field::display),
            error = error.as_deref(),
            http = way.map(IntermediaryTrace::http),
            missing = way.and_then(IntermediaryTrace::missing),
            via = way.and_then(IntermediaryTrace::via),
            forwarded_for = way.and_then(IntermediaryTrace::forwarded_for),
            proxies = way.and_then(IntermediaryTrace::proxies),
            "{}",
            refusal.detail,
        );
    }
}
