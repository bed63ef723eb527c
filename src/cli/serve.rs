//! `tidegate serve`: settings resolved, everything bound, then both planes until a signal comes.

use std::{
    net::TcpListener,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{CommandFactory, error::ErrorKind};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{
    args::{Cli, Listen, LogArgs, SecretsArg, ServeArgs},
    interfaces, ports, print,
};
use crate::{
    admin::{self, AdminSettings, AdminState},
    control::{
        self, Budgets, ControlSettings, EndpointPolicy, PublishedAddresses, Scope, SecretScope,
        SnapshotFolder, SourceSettings,
    },
    gateway::{
        DrainSettings, FallbackCertificate, Gateway, GatewaySettings, ListenerKind,
        OpenConnections, RequestLimits, scrape,
    },
    table::TableCell,
    telemetry::{self, ControlMetrics, GatewayMetrics, Log, LogSettings},
};

/// The `--source` that is no folder.
const KUBERNETES: &str = "kubernetes";
/// Between two log lines about an end that takes long.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// How long the lease's release may take at the end.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs `tidegate serve`.
pub(super) fn run(args: ServeArgs) -> Result<()> {
    let drain = drain(&args)?;
    check_secrets(&args)?;
    let budgets = budgets(&args);
    let log = start_log(&args.log)?;
    let mut data = Vec::new();
    for (kind, flag, addresses) in [
        (ListenerKind::Https, "--https-listen", &args.https_listen),
        (ListenerKind::Http, "--http-listen", &args.http_listen),
    ] {
        for listener in bind_all(flag, addresses)? {
            data.push((kind, listener));
        }
    }
    if data.is_empty() {
        bail!("--https-listen and --http-listen are both off: there is nothing to serve");
    }
    let admin = bind_all("--admin-listen", &args.admin_listen)?;
    let admin_settings = args.admin.settings();
    let workers = match args.workers {
        Some(workers) => usize::from(workers),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let allow_loopback = match args.allow_loopback_endpoints {
        Some(allow) => allow,
        // Whoever writes the folder is the operator, and its servers are often on this machine.
        None => args.source != KUBERNETES,
    };
    let setup = Setup {
        gateway: GatewaySettings {
            workers,
            trusted_proxies: args.trusted_proxies,
            trusted_proxy_headers: args.trusted_proxy_headers,
            instance: fastrand::u64(..),
            fallback: FallbackCertificate::self_signed()?,
            public_https_port: args.public_https_port,
            limits: RequestLimits { pending: args.pending.into(), ..RequestLimits::default() },
            drain,
            name_endpoints: false,
            reserved_files: usize::from(admin_settings.connections),
        },
        control: ControlSettings {
            source: match args.source.as_str() {
                KUBERNETES => SourceSettings::Kubernetes {
                    kubeconfig: args.kubeconfig,
                    lease_namespace: args.lease_namespace.or_else(|| variable("POD_NAMESPACE")),
                    lease_name: args
                        .lease_name
                        .unwrap_or_else(|| format!("tidegate-{}", args.class)),
                    snapshot: args
                        .snapshot
                        .map(|folder| SnapshotFolder { folder, secrets: args.snapshot_secrets }),
                    scope: Box::new(Scope {
                        secrets: match (args.secrets, args.secret_selector) {
                            (SecretsArg::Referenced, _) => SecretScope::Referenced {
                                class: args.class.clone(),
                                budgets: Box::new(budgets),
                            },
                            (SecretsArg::All, Some(selector)) => SecretScope::Labelled(selector),
                            (SecretsArg::All, None) => SecretScope::All,
                        },
                        namespaces: args.watch_namespace.into_iter().collect(),
                        published: match args.publish_service {
                            Some(service) => PublishedAddresses::Service(service),
                            None => PublishedAddresses::Addresses(args.publish_address),
                        },
                    }),
                    identity: args
                        .identity
                        .or_else(|| variable("POD_NAME"))
                        .unwrap_or_else(host_name),
                },
                folder => SourceSettings::Files(PathBuf::from(folder)),
            },
            class: args.class,
            // The chart takes it from a label that the pod may not have.
            zone: args.zone.filter(|zone| !zone.is_empty()),
            acme_http01: args.acme_http01,
            hostname_policy: args.hostname_policy.filter(|file| !file.as_os_str().is_empty()),
            budgets,
            endpoints: EndpointPolicy {
                allow_loopback,
                namespace: variable("POD_NAMESPACE"),
                ..EndpointPolicy::default()
            },
        },
        data,
        admin,
        admin_settings,
    };
    setup.run(&log, true)
}

/// Labels choose among all Secrets, so that they mean nothing where those are read by name. An error is one of usage.
fn check_secrets(args: &ServeArgs) -> Result<(), clap::Error> {
    if args.secrets == SecretsArg::Referenced && args.secret_selector.is_some() {
        let message = "--secret-selector goes with --secrets all: Secrets that are read by name are not chosen by labels";
        return Err(Cli::command().error(ErrorKind::ArgumentConflict, message));
    }
    Ok(())
}

fn budgets(args: &ServeArgs) -> Budgets {
    let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let named_secrets = size(args.max_referenced_secrets);
    let args = &args.budgets;
    Budgets {
        matches_per_namespace: size(args.max_matches_per_namespace),
        endpoints_per_namespace: size(args.max_endpoints_per_namespace),
        certificate_bytes_per_namespace: size(args.max_certificate_bytes_per_namespace),
        named_secrets,
        named_secrets_per_namespace: named_secrets / 10,
        ..Budgets::default()
    }
}

/// How to end. An error is one of usage.
fn drain(args: &ServeArgs) -> Result<DrainSettings, clap::Error> {
    let (spread, timeout) = (args.drain_spread, args.drain_timeout);
    if spread >= timeout {
        let message = format!(
            "--drain-spread ({spread}) must be shorter than --drain-timeout ({timeout}): the connections whose Close \
             frame comes last need time to answer it"
        );
        return Err(Cli::command().error(ErrorKind::ValueValidation, message));
    }
    Ok(DrainSettings {
        delay: args.drain_delay.get(),
        spread: spread.get(),
        timeout: timeout.get(),
    })
}

/// An environment variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// This machine's name, with the process's number: two processes of a machine must differ.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = if name.trim().is_empty() { "tidegate" } else { name.trim() };
    format!("{name}-{}", std::process::id())
}

/// What the first table waits for, in a sentence.
fn waiting_for(metrics: &ControlMetrics) -> String {
    match metrics.not_synced() {
        kinds if kinds.is_empty() => "the first table is being built".to_owned(),
        kinds => format!("still to be read: {}", kinds.join(", ")),
    }
}

/// Starts the log as the arguments say.
pub(super) fn start_log(args: &LogArgs) -> Result<Log> {
    let settings = LogSettings { format: args.log_format.into(), filter: args.log_level.clone() };
    telemetry::init_log(&settings).map_err(anyhow::Error::msg)
}

fn bind_all(flag: &str, addresses: &[Listen]) -> Result<Vec<TcpListener>> {
    let wanted = addresses.iter().filter_map(|listen| match listen {
        Listen::Off => None,
        Listen::At(address) => Some(ports::bind_exactly(*address, flag)),
    });
    wanted.collect()
}

/// Everything resolved and bound.
pub(super) struct Setup {
    pub(super) gateway: GatewaySettings,
    pub(super) control: ControlSettings,
    pub(super) data: Vec<(ListenerKind, TcpListener)>,
    pub(super) admin: Vec<TcpListener>,
    pub(super) admin_settings: AdminSettings,
}

impl Setup {
    /// Runs both planes until a signal comes. `announce` prints the addresses and the line `ready`.
    pub(super) fn run(mut self, log: &Log, announce: bool) -> Result<()> {
        self.know_ourselves()?;
        raise_file_limit();
        self.spare_files();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(self.serve(log, announce));
        // After a second signal a thread may still be waiting for connections to say goodbye.
        runtime.shutdown_background();
        result
    }

    /// No route may lead back to a port of ours, whatever it was bound as.
    fn know_ourselves(&mut self) -> Result<()> {
        let listeners = self.data.iter().map(|(_, listener)| listener).chain(&self.admin);
        let endpoints = &mut self.control.endpoints;
        endpoints.listeners = listeners.map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        endpoints.interfaces = interfaces::addresses();
        Ok(())
    }

    /// Where files are few, most are for the data plane: the admin port takes no more than one of sixteen.
    fn spare_files(&mut self) {
        let files = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
        let most = u16::try_from(files / 16).unwrap_or(u16::MAX).max(2);
        let connections = self.admin_settings.connections.min(most);
        if connections < self.admin_settings.connections {
            tracing::warn!(
                files,
                connections,
                "few files may be open: the admin port takes fewer connections"
            );
        }
        self.admin_settings.connections = connections;
        self.gateway.reserved_files = usize::from(connections);
    }

    async fn serve(self, log: &Log, announce: bool) -> Result<()> {
        // Before anything that takes long: a signal that comes early must not be lost.
        let mut stop = StopSignals::new()?;
        if announce {
            self.print_addresses()?;
        }
        let registry = telemetry::registry();
        registry.register(Box::new(log.dropped_lines()))?;
        let metrics = Arc::new(GatewayMetrics::register(&registry)?);
        let control_metrics = ControlMetrics::register(&registry)?;
        let table = Arc::new(TableCell::default());
        let (shutdown, shut_down) = watch::channel(false);
        let sync = control_metrics.clone();
        let faults = control_metrics.source_faults.clone();
        let control = control::spawn(self.control, Arc::clone(&table), control_metrics, shut_down)?;
        let progress = Arc::new(DrainProgress::default());
        let draining = Arc::clone(&progress);
        let (served, counted) = (Arc::clone(&table), Arc::clone(&metrics));
        let admin_state = Arc::new(AdminState {
            table: Arc::clone(&table),
            metrics: Box::new(move || scrape(&registry, &served, &counted)),
            draining: Box::new(move || draining.describe()),
            waiting_for: Box::new(move || waiting_for(&sync)),
            faults: Box::new(move || faults.list()),
        });
        let (end_admin, admin_end) = watch::channel(false);
        let settings = self.admin_settings;
        let admin = admin::spawn(self.admin, Arc::clone(&admin_state), settings, admin_end)
            .context("the admin port could not be started")?;
        let mut generation = table.subscribe();
        let mut gateway = None;
        tokio::select! {
            biased;
            () = stop.next() => {}
            () = first_table(&mut generation) => {
                let started = Gateway::start(self.gateway, self.data, Arc::clone(&table), Arc::clone(&metrics));
                gateway = Some(started.context("the gateway could not be started")?);
                tracing::info!("ready");
                if announce {
                    print("ready\n")?;
                }
                stop.next().await;
            }
        }
        progress.begin(gateway.as_ref().map(Gateway::open_connections).unwrap_or_default());
        tracing::info!(connections = progress.left(), "shutting down");
        metrics.draining.set(1);
        shutdown.send_replace(true);
        let goodbye = tokio::task::spawn_blocking(move || {
            if let Some(gateway) = gateway {
                gateway.shut_down();
            }
            control.join(RELEASE_TIMEOUT);
        });
        tokio::select! {
            _ = goodbye => {}
            () = progress.report() => {}
            () = stop.next() => bail!("ended at once by a second signal; connections were cut"),
        }
        tracing::info!("shut down");
        end_admin.send_replace(true);
        let _ = admin.join();
        Ok(())
    }

    fn print_addresses(&self) -> Result<()> {
        let data = self.data.iter().map(|(kind, listener)| (kind.as_str(), listener));
        for (kind, listener) in data.chain(self.admin.iter().map(|listener| ("admin", listener))) {
            print(&format!("{kind} {}\n", listener.local_addr()?))?;
        }
        Ok(())
    }
}

/// How far the end has come, for the log and for `/readyz`.
#[derive(Default)]
struct DrainProgress {
    /// The connections, and how many there were when the end began.
    begun: OnceLock<(OpenConnections, usize)>,
}

impl DrainProgress {
    fn begin(&self, open: OpenConnections) {
        let count = open.count();
        // It begins once.
        let _ = self.begun.set((open, count));
    }

    fn left(&self) -> usize {
        self.begun.get().map_or(0, |(open, _)| open.count())
    }

    /// A sentence, once it has begun.
    fn describe(&self) -> Option<String> {
        let (open, count) = self.begun.get()?;
        Some(format!("shutting down, {} of {count} connections left", open.count()))
    }

    /// Writes a line from time to time, for ever.
    async fn report(&self) {
        let mut time = tokio::time::interval(REPORT_INTERVAL);
        time.tick().await;
        loop {
            time.tick().await;
            tracing::info!(connections = self.left(), "still shutting down");
        }
    }
}

/// Every connection needs two files: as many are taken as the system lets us have.
fn raise_file_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => tracing::debug!(files, "limit on open files"),
        Err(error) => tracing::warn!(%error, "the limit on open files could not be raised"),
    }
}

/// Waits for the first table, and lets go of the channel's lock before it returns.
async fn first_table(generation: &mut watch::Receiver<u64>) {
    // The cell lives in the caller: there is no error to come.
    let _ = generation.wait_for(|generation| *generation > 0).await;
}

/// SIGTERM and SIGINT.
struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for SIGTERM or SIGINT.
pub(super) async fn stop_signal() {
    match StopSignals::new() {
        Ok(mut signals) => signals.next().await,
        Err(error) => {
            tracing::error!(%error, "signals cannot be received");
            std::future::pending::<()>().await;
        }
    }
}
