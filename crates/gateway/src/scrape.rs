//! What a scrape gets: all metrics, and for the last time those of routes that are no more.

use std::collections::BTreeSet;

use prometheus::Registry;
use tidegate_table::{Rule, TableCell};
use tidegate_telemetry::GatewayMetrics;

/// All metrics in Prometheus' text format. The series of routes that the table serves no longer, and that have no
/// connection left, are removed behind that: their last values have been told by then.
pub fn scrape(registry: &Registry, table: &TableCell, metrics: &GatewayMetrics) -> String {
    let mut gone = metrics.idle_routes();
    if let Some(published) = table.load().filter(|_| !gone.is_empty()) {
        let name = |rule: &'_ Rule| (rule.route.namespace.clone(), rule.route.name.clone());
        let served: BTreeSet<_> = published.table.rules().map(|rule| name(rule)).collect();
        gone.retain(|route| !served.contains(route));
    }
    let text = tidegate_telemetry::render(registry);
    metrics.forget(&gone);
    text
}
