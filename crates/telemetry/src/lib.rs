//! What the program says of itself: metrics, log lines, and the names used in them.
//!
//! Knows nothing of routes, sockets or Kubernetes; other rooms hand it names and numbers.

mod control;
mod gateway;
mod log;
pub mod names;
mod traffic;

use prometheus::{IntGaugeVec, Opts, Registry, TextEncoder};

pub use control::{ControlMetrics, SourceFaults};
pub use gateway::{GatewayMetrics, OpenGauge, RouteMetrics};
pub use log::{DroppedLines, Log, LogFormat, LogSettings, bounded, init_log};
pub use traffic::{Traffic, TrafficShard};

/// A registry that already tells which build this is.
pub fn registry() -> Registry {
    let registry = Registry::new();
    let build = IntGaugeVec::new(
        Opts::new(names::BUILD_INFO, "Always 1; the labels tell the version of the program."),
        &[names::VERSION],
    )
    .expect("a constant name is valid");
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(build)).expect("the registry is empty");
    registry
}

/// All metrics in Prometheus' text format, version 0.0.4.
pub fn render(registry: &Registry) -> String {
    let mut text = String::new();
    // Fails only where a family is empty or a label is not UTF-8, neither of which we make.
    if let Err(error) = TextEncoder::new().encode_utf8(&registry.gather(), &mut text) {
        tracing::error!(%error, "metrics could not be rendered");
    }
    text
}
