//! Series of routes that are no more: found and removed, so that their number is bounded by the routes there are.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError},
};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};

use super::{
    super::names::{NAMESPACE, ROUTE},
    GatewayMetrics, RouteMetrics,
};

/// Namespaces and names of routes.
pub type Routes = BTreeSet<(String, String)>;

impl GatewayMetrics {
    /// The routes that have series, but neither a connection nor anybody who counts for them now.
    pub fn idle_routes(&self) -> Routes {
        let mut idle = Routes::new();
        let mut busy = Routes::new();
        for ((namespace, route, ..), handles) in self.handles().iter() {
            let routes = if is_idle(handles) { &mut idle } else { &mut busy };
            routes.insert((namespace.clone(), route.clone()));
        }
        // Those that were only ever refused have no handles.
        for labels in series(&self.upgrade_failures) {
            idle.extend(route_of(&labels));
        }
        idle.retain(|route| !busy.contains(route) && !route.1.is_empty());
        idle
    }

    /// Removes all series of `gone`, but of those that have become busy.
    pub fn forget(&self, gone: &Routes) {
        if gone.is_empty() {
            return;
        }
        let mut gone = gone.clone();
        let idle = self.idle_routes();
        gone.retain(|route| idle.contains(route));
        self.handles().retain(|(namespace, route, ..), _| {
            !gone.contains(&(namespace.clone(), route.clone()))
        });
        prune(&self.connections_open, &gone);
        prune(&self.connections_total, &gone);
        prune(&self.connections_closed, &gone);
        prune(&self.close_codes, &gone);
        prune(&self.ping_rtt, &gone);
        prune(&self.upgrade_failures, &gone);
        prune(&self.upgrade_duration, &gone);
        prune(&self.connection_duration, &gone);
        prune(&self.http_requests, &gone);
        prune(&self.backend_connections_open, &gone);
        prune(&self.backend_connect_duration, &gone);
        prune(&self.backend_ports_exhausted, &gone);
        prune(&self.backend_connect_failures, &gone);
        prune(&self.backend_ejections, &gone);
        self.traffic.forget(&gone);
    }

    fn handles(&self) -> std::sync::MutexGuard<'_, HashMap<super::RouteKey, Arc<RouteMetrics>>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nobody counts by these handles: whoever does holds them, or has its part in a gauge.
fn is_idle(handles: &Arc<RouteMetrics>) -> bool {
    Arc::strong_count(handles) == 1
        && handles.connections_open.get() == 0
        && handles.backend_connections_open.get() == 0
}

/// The labels of all series.
fn series<T: MetricVecBuilder>(metric: &MetricVec<T>) -> Vec<HashMap<String, String>> {
    let labels = |metric: &prometheus::proto::Metric| {
        metric.get_label().iter().map(|pair| (pair.name().into(), pair.value().into())).collect()
    };
    metric.collect().iter().flat_map(|family| family.get_metric()).map(labels).collect()
}

fn route_of(labels: &HashMap<String, String>) -> Option<(String, String)> {
    Some((labels.get(NAMESPACE)?.clone(), labels.get(ROUTE)?.clone()))
}

fn prune<T: MetricVecBuilder>(metric: &MetricVec<T>, gone: &Routes) {
    for labels in series(metric) {
        if route_of(&labels).is_some_and(|route| gone.contains(&route)) {
            let labels: HashMap<_, _> =
                labels.iter().map(|(name, value)| (name.as_str(), value)).collect();
            // It was there a moment ago; who removed it meant the same.
            let _ = metric.remove(&labels);
        }
    }
}
