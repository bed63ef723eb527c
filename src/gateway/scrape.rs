//! What a scrape gets: all metrics, and for the last time those of routes that are no more.

use std::collections::BTreeSet;

use prometheus::Registry;

use crate::{
    table::TableCell,
    telemetry::{self, GatewayMetrics},
};

/// All metrics in Prometheus' text format. The series of routes that the table serves no longer, and that have no
/// connection left, are removed behind that: their last values have been told by then.
pub fn scrape(registry: &Registry, table: &TableCell, metrics: &GatewayMetrics) -> String {
    let mut gone = metrics.idle_routes();
    if let Some(published) = table.load().filter(|_| !gone.is_empty()) {
        let hosts = published.table.hosts();
        let entries = hosts.iter().flat_map(|host| host.entries());
        let served: BTreeSet<_> = entries
            .map(|entry| (entry.rule.route.namespace.as_str(), entry.rule.route.name.as_str()))
            .collect();
        gone.retain(|(namespace, route)| !served.contains(&(namespace.as_str(), route.as_str())));
    }
    let text = telemetry::render(registry);
    metrics.forget(&gone);
    text
}
