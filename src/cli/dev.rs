//! `tidegate dev`: the whole program on a laptop, with nothing to prepare.

mod certificate;
mod manifests;
mod upstream;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use clap::{CommandFactory, error::ErrorKind};

use self::{
    certificate::{Certificate, Certificates, NAMES, Origin, quoted},
    manifests::Folder,
};
use tidegate_core::escape;

use super::{
    args::{Cli, DevArgs},
    ports::{self, Found},
    print,
    serve::{Setup, start_log},
};
use crate::{
    admin::{AdminSettings, DEFAULT_CONNECTIONS, DebugEndpoints},
    api::DEFAULT_CLASS,
    control::{Budgets, ControlSettings, EndpointPolicy, SourceSettings},
    gateway::{DrainSettings, FallbackCertificate, GatewaySettings, ListenerKind, RequestLimits},
};

pub use upstream::Upstream;

/// Nothing in front of a laptop looks at readiness, and whoever types Ctrl-C does not want to wait.
const DRAIN: DrainSettings = DrainSettings {
    delay: Duration::ZERO,
    spread: Duration::ZERO,
    timeout: Duration::from_secs(5),
};

/// What is served.
enum Served<'a> {
    /// The developer's own folder.
    Own,
    /// A route to an echo backend.
    Sample,
    /// Servers that the developer runs.
    Upstreams(Vec<(&'a Upstream, Certificate)>),
}

/// The ports that were found.
struct Ports {
    tls: Found,
    http: Found,
    admin: Found,
}

/// Runs `tidegate dev`.
pub(super) fn run(args: &DevArgs) -> Result<()> {
    check_names(&args.upstream)?;
    let log = start_log(&args.log)?;
    let ports = Ports::find(args)?;
    let certificates = Certificates::open()?;
    let certificate = certificates.of(&NAMES)?;
    let (served, made) = if args.dir.is_some() {
        (Served::Own, None)
    } else if args.upstream.is_empty() {
        (Served::Sample, Some(Folder::of_sample(&certificate)?))
    } else {
        let upstreams = args.upstream.iter().map(|upstream| {
            certificates.of(&[&upstream.hostname()]).map(|certificate| (upstream, certificate))
        });
        let upstreams = upstreams.collect::<Result<Vec<_>>>()?;
        let folder = Folder::of_upstreams(&upstreams)?;
        (Served::Upstreams(upstreams), Some(folder))
    };
    let folder = args.dir.clone().or_else(|| made.as_ref().map(|made| made.path().to_owned()));
    let folder = folder.context("a folder was given or made")?;
    // From here on nothing is written there.
    drop(certificates);
    let greeting = greeting(&served, &quoted(&folder), &certificate, &ports);
    print(&escape::lines(&greeting))?;
    let data = [(ListenerKind::Https, ports.tls), (ListenerKind::Http, ports.http)];
    let setup = Setup {
        gateway: GatewaySettings {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            trusted_proxies: Vec::new(),
            trusted_proxy_headers: Vec::new(),
            instance: fastrand::u64(..),
            fallback: FallbackCertificate::from_pem(
                certificate.chain.as_bytes(),
                certificate.key.as_bytes(),
            )?,
            public_https_port: data[0].1.port,
            limits: RequestLimits::default(),
            drain: DRAIN,
            name_endpoints: true,
            reserved_files: usize::from(DEFAULT_CONNECTIONS),
        },
        control: ControlSettings {
            source: SourceSettings::Files(folder),
            class: DEFAULT_CLASS.to_owned(),
            zone: None,
            acme_http01: true,
            hostname_policy: None,
            budgets: Budgets::default(),
            // The servers of a laptop listen there.
            endpoints: EndpointPolicy { allow_loopback: true, ..EndpointPolicy::default() },
        },
        data: data
            .into_iter()
            .flat_map(|(kind, found)| {
                found.listeners.into_iter().map(move |listener| (kind, listener))
            })
            .collect(),
        admin: ports.admin.listeners,
        // It listens on loopback, for whoever is at this machine.
        admin_settings: AdminSettings {
            connections: DEFAULT_CONNECTIONS,
            hosts: Vec::new(),
            debug: DebugEndpoints::On,
        },
    };
    setup.run(&log, false)
}

/// Each upstream has a name of its own. An error is one of usage.
fn check_names(upstreams: &[Upstream]) -> Result<(), clap::Error> {
    let mut seen = BTreeSet::new();
    match upstreams.iter().find(|upstream| !seen.insert(upstream.name())) {
        None => Ok(()),
        Some(upstream) => {
            let message = format!(
                "--upstream {}=… is there twice: give each server a name of its own",
                upstream.name()
            );
            Err(Cli::command().error(ErrorKind::ValueValidation, message))
        }
    }
}

impl Ports {
    fn find(args: &DevArgs) -> Result<Self> {
        // A server that is started after us needs its port all the same.
        let owner = |port| {
            let mut upstreams = args.upstream.iter();
            let upstream = upstreams.find(|upstream| upstream.local_port() == Some(port))?;
            Some(format!("the upstream {}", upstream.name()))
        };
        Ok(Self {
            tls: ports::bind_or_next(args.tls_port, "TLS_PORT", &owner)?,
            http: ports::bind_or_next(args.port, "PORT", &owner)?,
            admin: ports::bind_or_next(args.admin_port, "ADMIN_PORT", &owner)?,
        })
    }
}

fn greeting(served: &Served<'_>, folder: &str, certificate: &Certificate, ports: &Ports) -> String {
    let mut text = format!("Tidegate {}, development mode\n\n", env!("CARGO_PKG_VERSION"));
    let notes = [&ports.tls, &ports.http, &ports.admin];
    let notes: Vec<&String> = notes.iter().filter_map(|found| found.note.as_ref()).collect();
    for note in &notes {
        text += &format!("  {note}\n");
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    let (tls, http, admin) = (ports.tls.port, ports.http.port, ports.admin.port);
    match served {
        Served::Own => {
            text += &format!(
                "  wss://localhost:{tls}/    the routes of the folder below\n  \
                 ws://localhost:{http}/     in clear text, where a route allows it\n"
            );
        }
        Served::Sample => {
            text += &format!(
                "  wss://localhost:{tls}/    echoes every message\n  \
                 ws://localhost:{http}/     the same in clear text\n"
            );
        }
        Served::Upstreams(upstreams) => {
            for (upstream, _) in upstreams {
                let (host, written) = (upstream.hostname(), upstream.written());
                text += &format!(
                    "  https://{host}:{tls}/    and wss://, to {written}\n  \
                     http://{host}:{http}/     the same in clear text\n"
                );
            }
        }
    }
    text += &format!("  http://localhost:{admin}/   health and metrics\n\n");
    match served {
        Served::Upstreams(upstreams) => {
            for (upstream, certificate) in upstreams {
                text += &about(certificate, &upstream.hostname());
            }
        }
        Served::Own | Served::Sample => text += &about(certificate, &NAMES.join(", ")),
    }
    text += &format!(
        "Manifests    {folder}\n             \
         edit and save: changes are served at once, and no open socket is touched\n"
    );
    text += &commands(served, certificate, tls);
    text + "\nCtrl-C ends it.\n\n"
}

/// Whose certificate it is, and what clients do about it.
fn about(certificate: &Certificate, names: &str) -> String {
    let path = quoted(&certificate.path);
    let mut text = format!("Certificate  {path}\n             ");
    match &certificate.origin {
        Origin::Trusted => {
            text += "made by mkcert: browsers trust it once mkcert -install was run\n";
        }
        Origin::SelfMade { mkcert } => {
            text += &format!("self-made for {names}: give it to clients as their CA\n");
            if let Some(command) = mkcert {
                text += &format!(
                    "             for one that browsers trust (after mkcert -install) run this, then start again:\n             {command}\n"
                );
            }
        }
    }
    text
}

/// What to type next.
fn commands(served: &Served<'_>, certificate: &Certificate, tls: u16) -> String {
    let ca = quoted(&certificate.ca);
    match served {
        Served::Own => String::new(),
        Served::Sample => format!(
            "\nTry it from another terminal; what you type comes back:\n  npx wscat --ca {ca} --connect wss://localhost:{tls}/\n\
             or look at the handshake alone:\n  curl --http1.1 --include --max-time 2 --cacert {ca} -H 'Connection: Upgrade' -H 'Upgrade: websocket' \\\n    -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' https://localhost:{tls}/\n",
        ),
        Served::Upstreams(upstreams) => {
            let mut text = "\nTry it from another terminal:\n".to_owned();
            for (upstream, certificate) in upstreams {
                let (host, ca) = (upstream.hostname(), quoted(&certificate.ca));
                // Not every resolver knows names under localhost (RFC 6761 §6.3); browsers do.
                text += &format!(
                    "  curl --cacert {ca} --resolve {host}:{tls}:127.0.0.1 https://{host}:{tls}/\n"
                );
            }
            text
        }
    }
}
