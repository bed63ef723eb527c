//! The loop: changes in, tables and statuses out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tidegate_table::{ObjectRef, RoutingTable, TableCell, TableVersion};
use tidegate_telemetry::ControlMetrics;
use tokio::{sync::watch, time::Instant};

use super::{HoldOff, snapshot_writer::SnapshotWriter, stopped};
use crate::{
    source::{Change, Observed, Source, SourceState},
    translate::{Inputs, Output, RouteStatus},
};

/// What the status writer works by: what routes are to say, and what they say.
#[derive(Clone, Debug, Default)]
pub(super) struct Statuses {
    /// By translation, for the routes of our class.
    pub(super) desired: Arc<BTreeMap<ObjectRef, RouteStatus>>,
    /// As stored, for all routes.
    pub(super) observed: Arc<Observed>,
}

/// Builds a table after each change of `source`, publishes it and says what is wrong.
pub(super) struct ControlLoop<S, T> {
    source: S,
    translate: T,
    cell: Arc<TableCell>,
    metrics: ControlMetrics,
    /// When to build a table.
    hold_off: HoldOff,
    /// When the same inputs may translate to something else.
    reconsider: Option<Instant>,
    /// When to hand over statuses that have been stored: each one that we write comes back as a change.
    stored: HoldOff,
    /// Where statuses go, for sources that have some.
    statuses: Option<watch::Sender<Statuses>>,
    /// For sources that may be away at a start.
    keeper: Option<SnapshotWriter>,
    /// What is said while a snapshot serves.
    from_snapshot: Option<String>,
    /// Problems that have been told.
    told: BTreeSet<String>,
    /// Certificates that have been told.
    certificates: BTreeSet<ObjectRef>,
}

impl<S, T> ControlLoop<S, T>
where
    S: Source,
    T: FnMut(&Inputs) -> Output,
{
    pub(super) fn new(
        source: S,
        translate: T,
        cell: Arc<TableCell>,
        metrics: ControlMetrics,
        statuses: Option<watch::Sender<Statuses>>,
    ) -> Self {
        Self {
            source,
            translate,
            cell,
            metrics,
            hold_off: HoldOff::default(),
            reconsider: None,
            stored: HoldOff::default(),
            statuses,
            keeper: None,
            from_snapshot: None,
            told: BTreeSet::new(),
            certificates: BTreeSet::new(),
        }
    }

    /// Keeps the inputs by this, and serves what it has kept when the source does not come in time.
    pub(super) fn with_keeper(self, keeper: Option<SnapshotWriter>) -> Self {
        Self { keeper, ..self }
    }

    /// Runs until `shutdown` is true.
    pub(super) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        self.show_synced();
        // A folder has been read by now.
        self.hold_off.changed(Instant::now());
        loop {
            let keeper = self.keeper.as_ref();
            let (grace, keep) =
                keeper.map_or((None, None), |keeper| (keeper.grace, keeper.pause.due()));
            tokio::select! {
                () = stopped(&mut shutdown) => return,
                () = until(grace) => self.serve_kept(),
                () = until(keep) => self.keep().await,
                () = until(self.hold_off.due()) => {
                    self.hold_off.built();
                    self.build();
                }
                () = until(self.reconsider) => self.build(),
                () = until(self.stored.due()) => self.hand_over(None),
                change = self.source.changed() => {
                    self.show_synced();
                    match change {
                        Change::Inputs => self.hold_off.changed(Instant::now()),
                        Change::Status => self.stored.changed(Instant::now()),
                        Change::Sync => {}
                    }
                }
            }
        }
    }

    fn show_synced(&self) {
        for (kind, synced) in self.source.synced() {
            self.metrics.source_synced.with_label_values(&[kind]).set(i64::from(synced));
        }
        let faults = self.source.faults().into_iter().chain(self.from_snapshot.clone());
        self.metrics.source_faults.set(faults.collect());
    }

    /// From what the source has now to a published table.
    fn build(&mut self) {
        self.reconsider = None;
        let Some(snapshot) = self.source.snapshot() else {
            return;
        };
        if let Some(keeper) = &mut self.keeper {
            keeper.source_has_come(Instant::now());
        }
        if self.from_snapshot.take().is_some() {
            tracing::info!("the source has been read: no snapshot serves any more");
            self.metrics.snapshot_serving.set(0);
            self.show_synced();
        }
        let statuses = self.serve(snapshot);
        self.hand_over(Some(statuses));
    }

    /// The source has not come in time: what was kept of it serves. Nothing of that is told in statuses.
    fn serve_kept(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        let Some((mut inputs, kept)) = keeper.load() else { return };
        self.source.complete(&mut inputs);
        let sentence = format!("a snapshot of {kept:.0} serves until the source has been read");
        tracing::warn!("{sentence}");
        self.metrics.snapshot_serving.set(1);
        self.from_snapshot = Some(sentence);
        self.show_synced();
        self.serve(SourceState { inputs, problems: Vec::new() });
    }

    async fn keep(&mut self) {
        let inputs = self.source.snapshot().map(|snapshot| snapshot.inputs);
        if let (Some(keeper), Some(inputs)) = (&mut self.keeper, inputs) {
            keeper.keep(inputs, Instant::now()).await;
        }
    }

    /// Publishes what the inputs say; what routes are to say.
    fn serve(&mut self, mut snapshot: SourceState) -> BTreeMap<ObjectRef, RouteStatus> {
        let now = Timestamp::now().as_second();
        snapshot.inputs.now = Some(now);
        let timer = self.metrics.table_build_duration_seconds.start_timer();
        let Output { table, statuses, problems: faults, next_change } =
            (self.translate)(&snapshot.inputs);
        self.reconsider = next_change.map(|then| Instant::now() + wait(now, then));
        let published = self.cell.publish(table);
        timer.observe_duration();
        if let Some(TableVersion { generation, table }) = published.as_deref() {
            self.metrics.table_generation.set(i64::try_from(*generation).unwrap_or(i64::MAX));
            let (hosts, routes) = (table.hosts().len(), count_routes(table));
            tracing::info!(generation, hosts, routes, "table published");
            self.show_expiries(expiries(table));
        }
        let problems = snapshot.problems.iter().map(ToString::to_string);
        self.tell(problems.chain(faults.iter().map(ToString::to_string)).collect());
        statuses
    }

    /// Says what is newly wrong, and what no longer is. How many there were of each.
    fn tell(&mut self, problems: BTreeSet<String>) -> (usize, usize) {
        let (mut new, mut gone) = (0, 0);
        for problem in problems.difference(&self.told) {
            tracing::warn!("{problem}");
            new += 1;
        }
        for problem in self.told.difference(&problems) {
            tracing::info!("no longer: {problem}");
            gone += 1;
        }
        self.told = problems;
        (new, gone)
    }

    fn show_expiries(&mut self, expiries: BTreeMap<ObjectRef, i64>) {
        let gauge = &self.metrics.certificate_expiry;
        for gone in self.certificates.iter().filter(|secret| !expiries.contains_key(secret)) {
            // It is there: it was set.
            let _ = gauge.remove_label_values(&[&gone.namespace, &gone.name]);
        }
        for (secret, expiry) in &expiries {
            gauge.with_label_values(&[&secret.namespace, &secret.name]).set(*expiry);
        }
        self.certificates = expiries.into_keys().collect();
    }

    /// Gives the status writer what routes say now and, if it has changed, what they are to say.
    fn hand_over(&mut self, desired: Option<BTreeMap<ObjectRef, RouteStatus>>) {
        self.stored.built();
        if let Some(statuses) = &self.statuses {
            let observed = Arc::new(self.source.observed());
            statuses.send_modify(|statuses| {
                statuses.observed = observed;
                if let Some(desired) = desired {
                    statuses.desired = Arc::new(desired);
                }
            });
        }
    }
}

/// How long from `now` to `then`, both in seconds since 1970. Never so long that a clock that is set
/// meanwhile would matter, never so short that it would keep the processor busy.
fn wait(now: i64, then: i64) -> Duration {
    Duration::from_secs(u64::try_from(then.saturating_sub(now)).unwrap_or(0).clamp(1, 3600))
}

/// At `due`, or never.
pub(super) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn count_routes(table: &RoutingTable) -> usize {
    let hosts = table.hosts();
    let routes: BTreeSet<_> =
        hosts.iter().flat_map(|host| host.entries()).map(|entry| &entry.rule.route).collect();
    routes.len()
}

/// The end of validity of every certificate in the table.
fn expiries(table: &RoutingTable) -> BTreeMap<ObjectRef, i64> {
    let hosts = table.hosts();
    let identities = hosts.iter().filter_map(|host| host.tls.as_ref());
    identities.map(|tls| (tls.secret.clone(), tls.not_after)).collect()
}

#[cfg(test)]
mod tests;
