//! The control plane's metrics.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{
    Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};

use super::names;

/// What the control plane counts. Cheap to clone: all clones count in the same place.
#[derive(Clone, Debug)]
pub struct ControlMetrics {
    /// Number of the table in service.
    pub table_generation: IntGauge,
    /// Seconds from inputs to a published table.
    pub table_build_duration_seconds: Histogram,
    /// By kind.
    pub source_synced: IntGaugeVec,
    /// Why not, in words.
    pub source_faults: SourceFaults,
    /// Whether a snapshot serves.
    pub snapshot_serving: IntGauge,
    /// Whether this process writes statuses.
    pub leader: IntGauge,
    /// By namespace and name of the Secret, seconds since 1970.
    pub certificate_expiry: IntGaugeVec,
    /// By result: `success` or `error`.
    pub status_writes_total: IntCounterVec,
}

impl ControlMetrics {
    /// Makes them known to `registry`, which must not have them yet.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
        Ok(Self {
            table_generation: known(
                registry,
                IntGauge::new(
                    names::TABLE_GENERATION,
                    "Number of the table in service; 0 before the first.",
                )?,
            )?,
            table_build_duration_seconds: known(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        names::TABLE_BUILD_DURATION_SECONDS,
                        "Time from the objects as read to a published table.",
                    )
                    .buckets(buckets),
                )?,
            )?,
            source_synced: known(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        names::SOURCE_SYNCED,
                        "1 while what is known of a kind of object is up to date.",
                    ),
                    &[names::KIND],
                )?,
            )?,
            source_faults: SourceFaults::default(),
            snapshot_serving: known(
                registry,
                IntGauge::new(
                    names::SNAPSHOT_SERVING,
                    "1 while a snapshot serves, because the source has not been read since the start.",
                )?,
            )?,
            leader: known(
                registry,
                IntGauge::new(
                    names::LEADER,
                    "1 while this process holds the lease and writes statuses.",
                )?,
            )?,
            certificate_expiry: known(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        names::CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS,
                        "End of validity of the certificates in the table, seconds since 1970.",
                    ),
                    &[names::NAMESPACE, names::SECRET],
                )?,
            )?,
            status_writes_total: known(
                registry,
                IntCounterVec::new(
                    Opts::new(names::STATUS_WRITES_TOTAL, "Statuses written."),
                    &[names::RESULT],
                )?,
            )?,
        })
    }

    /// The kinds of object that are not up to date.
    pub fn not_synced(&self) -> Vec<String> {
        let families = self.source_synced.collect();
        let metrics = families.iter().flat_map(|family| family.get_metric());
        let behind = metrics.filter(|metric| metric.get_gauge().get_value() == 0.0);
        behind.flat_map(|metric| metric.get_label()).map(|label| label.value().to_owned()).collect()
    }
}

/// Why what is known is not up to date, for who asks whether the gateway is ready. Cheap to clone: all clones hold the same.
#[derive(Clone, Debug, Default)]
pub struct SourceFaults(Arc<Mutex<Vec<String>>>);

impl SourceFaults {
    /// These faults, a sentence each, take the place of those before.
    pub fn set(&self, faults: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// The faults of now.
    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn known<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
