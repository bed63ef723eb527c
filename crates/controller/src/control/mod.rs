//! The control plane: follows a source, publishes tables, writes statuses, tells of their changes by Events.
//!
//! It runs on one thread of its own with its own runtime, and shares nothing with the gateway but the
//! [`TableCell`]. Architecture invariant: whatever happens here, the gateway keeps serving the last
//! table. Nothing here looks at a connection.

mod events;
mod hold_off;
mod lease;
mod run;
mod snapshot_writer;
mod status;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::{runtime::Runtime, sync::watch, time::Instant};

pub use hold_off::HoldOff;
pub use lease::{LEASE_DURATION, RENEW_DEADLINE, RETRY_PERIOD};

pub use crate::{
    source::{
        kubernetes::{PublishedAddresses, Scope, SecretScope},
        snapshot::SnapshotFolder,
    },
    translate::{Budgets, EndpointPolicy},
};

use tidegate_table::TableCell;
use tidegate_telemetry::ControlMetrics;

use crate::{
    source::{
        files::{FilesError, FilesSource},
        hostname_policy::{Governed, PolicyError, PolicyFile},
        kubernetes::{self, ConnectError, KubernetesSource},
    },
    translate::{Inputs, Translator},
};
use lease::{Candidate, LeaseName};
use run::{ControlLoop, Statuses};
use snapshot_writer::SnapshotWriter;
use status::StatusWriter;

/// What the control plane is to do.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    /// Where objects come from.
    pub source: SourceSettings,
    /// The class of routes that is served.
    pub class: String,
    /// The zone that this process runs in, as the hints of EndpointSlices call it.
    pub zone: Option<String>,
    /// Whether challenges of ACME go to the Services that are labelled as solvers.
    pub acme_http01: bool,
    /// The file that says which namespaces may claim which hostnames.
    pub hostname_policy: Option<PathBuf>,
    /// What each namespace may take of this process.
    pub budgets: Budgets,
    /// Which addresses may be dialled.
    pub endpoints: EndpointPolicy,
}

/// Where objects come from.
#[derive(Clone, Debug)]
pub enum SourceSettings {
    /// The Kubernetes API. Statuses are written there by the process that holds the Lease.
    Kubernetes {
        /// A kubeconfig; without it the one of `KUBECONFIG`, `~/.kube/config` or the pod's ServiceAccount.
        kubeconfig: Option<PathBuf>,
        /// Namespace of the Lease; without it the ServiceAccount's or, outside of a cluster, the
        /// kubeconfig's.
        lease_namespace: Option<String>,
        /// Name of the Lease: the same for all processes that serve the class.
        lease_name: String,
        /// What is read.
        scope: Box<Scope>,
        /// Where the last good inputs are kept, for a start while the API server is away.
        snapshot: Option<SnapshotFolder>,
        /// Who this process is among them: must differ from process to process.
        identity: String,
    },
    /// A folder of YAML.
    Files(PathBuf),
}

/// Why the control plane cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The folder cannot be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// There is no sound hostname policy where there is to be one.
    #[error(transparent)]
    HostnamePolicy(#[from] PolicyError),
    /// No configuration to reach a cluster with. A cluster that does not answer is no error: it is tried
    /// again for ever.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The operating system gives no thread or no event queue.
    #[error("cannot start the control plane: {0}")]
    Start(#[from] std::io::Error),
    /// A bug; it has been logged.
    #[error("the control plane ended before it began")]
    Ended,
}

/// The running control plane.
#[derive(Debug)]
pub struct ControlHandle {
    thread: thread::JoinHandle<()>,
    ended: mpsc::Receiver<()>,
}

impl ControlHandle {
    /// Waits until the control plane has ended, the Lease released; at most `deadline`. Whether it has.
    /// Blocks: call it where nothing else has to run. It ends only once `shutdown` is true.
    pub fn join(self, deadline: Duration) -> bool {
        // Nothing is ever sent: the thread drops its end.
        match self.ended.recv_timeout(deadline) {
            Err(mpsc::RecvTimeoutError::Timeout) => false,
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => self.thread.join().is_ok(),
        }
    }
}

/// Starts the control plane on a thread of its own. Returns once it is sure that there is something to
/// follow, which takes no request to an API server; tables appear in `cell` later. It runs until
/// `shutdown` becomes true, or its sender is dropped.
pub fn spawn(
    settings: ControlSettings,
    cell: Arc<TableCell>,
    metrics: ControlMetrics,
    shutdown: watch::Receiver<bool>,
) -> Result<ControlHandle, ControlError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (started, start) = mpsc::sync_channel(1);
    let (end, ended) = mpsc::channel();
    let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
        let _end = end;
        supervise(&runtime, shutdown.clone(), || {
            let (cell, metrics) = (Arc::clone(&cell), metrics.clone());
            run(settings.clone(), cell, metrics, shutdown.clone(), started.clone())
        });
    })?;
    start.recv().map_err(|_| ControlError::Ended)??;
    Ok(ControlHandle { thread, ended })
}

/// How long the control plane rests after a panic.
const RESTART: Duration = Duration::from_secs(5);

/// Runs what `begin` makes until it ends as it should (`true`). A panic is a bug, and has been logged with its place: the
/// control plane begins anew, for else the gateway would serve the last table for ever.
fn supervise<F: Future<Output = bool>>(
    runtime: &Runtime,
    mut shutdown: watch::Receiver<bool>,
    begin: impl Fn() -> F,
) {
    // What a panic leaves behind is thrown away: each round makes its own.
    while !catch_unwind(AssertUnwindSafe(|| runtime.block_on(begin()))).unwrap_or(false) {
        tracing::error!(
            "the control plane has failed; the last table stays in service, and it begins anew in {} s",
            RESTART.as_secs()
        );
        let stop =
            runtime.block_on(async { tokio::time::timeout(RESTART, stopped(&mut shutdown)).await });
        if stop.is_ok() {
            return;
        }
    }
}

type Started = mpsc::SyncSender<Result<(), ControlError>>;

/// Whether it ended as it should.
async fn run(
    settings: ControlSettings,
    cell: Arc<TableCell>,
    metrics: ControlMetrics,
    shutdown: watch::Receiver<bool>,
    started: Started,
) -> bool {
    let ControlSettings { source, class, zone, acme_http01, hostname_policy, budgets, endpoints } =
        settings;
    let policy = match hostname_policy.as_deref().map(PolicyFile::open).transpose() {
        Ok(policy) => policy,
        Err(error) => return failed(&started, error.into()),
    };
    let mut translator = Translator::in_zone(zone).with_budgets(budgets).with_endpoints(endpoints);
    if !acme_http01 {
        translator = translator.without_solvers();
    }
    let served = class.clone();
    let translate = move |inputs: &Inputs| translator.translate(inputs, &served);
    let error = match source {
        SourceSettings::Files(folder) => match FilesSource::open(&folder) {
            Ok(source) => {
                let _ = started.send(Ok(()));
                let source = Governed::new(source, policy);
                let control = ControlLoop::new(source, translate, cell, metrics, None);
                Box::pin(control.run(shutdown)).await;
                return true;
            }
            Err(error) => error.into(),
        },
        SourceSettings::Kubernetes {
            kubeconfig,
            lease_namespace,
            lease_name,
            scope,
            snapshot,
            identity,
        } => {
            match kubernetes::connect(kubeconfig).await {
                Ok((client, namespace)) => {
                    let _ = started.send(Ok(()));
                    let lease = LeaseName {
                        namespace: lease_namespace.unwrap_or(namespace),
                        name: lease_name,
                        identity,
                    };
                    let (leader, leads) = watch::channel(false);
                    let (statuses, wanted) = watch::channel(Statuses::default());
                    let source = Governed::new(KubernetesSource::new(&client, *scope), policy);
                    let keeper = snapshot.map(|folder| SnapshotWriter::new(folder, Instant::now()));
                    let control =
                        ControlLoop::new(source, translate, cell, metrics.clone(), Some(statuses))
                            .with_keeper(keeper);
                    let (herald, recorder) =
                        events::channel(client.clone(), lease.identity.clone());
                    let writer = StatusWriter::new(
                        client.clone(),
                        class,
                        wanted,
                        leads,
                        metrics.clone(),
                        herald,
                    );
                    let candidate = Candidate::new(client, lease, leader, metrics);
                    // The Lease is let go of only when no status is under way any more.
                    let (written, done) = watch::channel(false);
                    let write = async {
                        writer.run(shutdown.clone()).await;
                        written.send_replace(true);
                    };
                    let control = Box::pin(control.run(shutdown.clone()));
                    let record = Box::pin(recorder.run(shutdown.clone()));
                    let candidate = Box::pin(candidate.run(done));
                    let ((), (), (), ()) =
                        tokio::join!(control, Box::pin(write), candidate, record);
                    return true;
                }
                Err(error) => error.into(),
            }
        }
    };
    failed(&started, error)
}

/// Says why there is no beginning. Whether somebody waits for it.
fn failed(started: &Started, error: ControlError) -> bool {
    if let Err(mpsc::SendError(Err(error))) = started.send(Err(error)) {
        // Nobody waits for the beginning any more: this is a round after a panic.
        tracing::error!("the control plane cannot begin anew: {error}");
        return false;
    }
    true
}

/// Waits until `shutdown` is true. That its sender is gone means the same.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn after_a_panic_or_a_failed_begin_the_control_plane_begins_anew() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let (_shutdown, stop) = watch::channel(false);
        let rounds = Cell::new(0);
        supervise(&runtime, stop, || {
            rounds.set(rounds.get() + 1);
            let round = rounds.get();
            async move {
                assert!(round >= 2, "a panic on purpose");
                round >= 3
            }
        });
        assert_eq!(rounds.get(), 3);
    }

    #[test]
    fn a_shutdown_ends_the_rest_after_a_panic() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (shutdown, stop) = watch::channel(true);
        let rounds = Cell::new(0);
        supervise(&runtime, stop, || {
            rounds.set(rounds.get() + 1);
            async { panic!("on purpose") }
        });
        assert_eq!(rounds.get(), 1);
        drop(shutdown);
    }
}
