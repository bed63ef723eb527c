//! Arguments, as typed. What they mean together is resolved in each command.

mod admin;
mod doctor;
mod limits;

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use http::HeaderName;
use ipnet::IpNet;

use super::dev::Upstream;
use crate::{
    api::{AddressType, DEFAULT_CLASS, Duration, RouteAddress},
    gateway::headers,
    table::ObjectRef,
    telemetry::LogFormat,
};

pub use self::{
    admin::AdminArgs,
    doctor::DoctorArgs,
    limits::{BudgetArgs, PendingArgs},
};

/// The WebSocket gateway for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, max_term_width = 100)]
#[command(after_help = "Try it without a cluster: tidegate dev")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve WebSocketRoutes: run the controller and the gateway in one process
    Serve(Box<ServeArgs>),
    /// Try it on a laptop: sample route, self-signed certificate, built-in echo backend
    Dev(DevArgs),
    /// Validate manifests without a cluster: what the API server would refuse, and the conditions of each route
    Check(CheckArgs),
    /// Diagnose why a WebSocket connection fails, and which intermediary causes it
    Doctor(Box<DoctorArgs>),
    /// Convert nginx.conf or Ingresses to WebSocketRoutes, with a note for every line that has no counterpart
    Import(ImportArgs),
    /// Print the CustomResourceDefinition of WebSocketRoute
    Crd,
    /// Run a backend that echoes every message, for tests and demonstrations
    #[command(hide = true)]
    EchoBackend(EchoArgs),
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Read routes from "kubernetes", or from a folder of manifests (reloaded when they change)
    #[arg(
        long,
        env = "TIDEGATE_SOURCE",
        default_value = "kubernetes",
        value_name = "kubernetes|DIR"
    )]
    pub source: String,

    /// Listen on this address for wss:// and https://; repeatable, or "off"
    #[arg(
        long,
        env = "TIDEGATE_HTTPS_LISTEN",
        default_value = "[::]:443",
        value_delimiter = ',',
        value_name = "ADDR:PORT"
    )]
    pub https_listen: Vec<Listen>,

    /// Listen on this address for ws:// and http://; repeatable, or "off"
    #[arg(
        long,
        env = "TIDEGATE_HTTP_LISTEN",
        default_value = "[::]:80",
        value_delimiter = ',',
        value_name = "ADDR:PORT"
    )]
    pub http_listen: Vec<Listen>,

    /// Listen on this address for health, metrics and debugging; repeatable, or "off"
    #[arg(
        long,
        env = "TIDEGATE_ADMIN_LISTEN",
        default_value = "[::]:9090",
        value_delimiter = ',',
        value_name = "ADDR:PORT"
    )]
    pub admin_listen: Vec<Listen>,

    /// Settings of the admin port.
    #[command(flatten)]
    pub admin: AdminArgs,

    /// Port at which clients reach the TLS listener, used in redirects and messages
    #[arg(long, env = "TIDEGATE_PUBLIC_HTTPS_PORT", default_value_t = 443, value_name = "PORT")]
    pub public_https_port: u16,

    /// Forward ACME HTTP-01 challenges to the Services that have the labels of cert-manager's solvers
    #[arg(
        long,
        env = "TIDEGATE_ACME_HTTP01",
        default_value_t = true,
        action = ArgAction::Set,
        value_name = "true|false"
    )]
    pub acme_http01: bool,

    /// YAML file that says which namespaces may claim which hostnames, reloaded on change [default: evidence decides]
    #[arg(long, env = "TIDEGATE_HOSTNAME_POLICY", value_name = "FILE")]
    pub hostname_policy: Option<PathBuf>,

    /// Serve the routes with this spec.className
    #[arg(long, env = "TIDEGATE_CLASS", default_value = DEFAULT_CLASS, value_name = "NAME")]
    pub class: String,

    /// Prefer endpoints with topology hints (EndpointSlice) for this zone, the one that this process runs in
    #[arg(long, env = "TIDEGATE_ZONE", value_name = "NAME")]
    pub zone: Option<String>,

    /// Permit loopback endpoints, except on the gateway's own ports [default: true with --source DIR, else false]
    #[arg(long, env = "TIDEGATE_ALLOW_LOOPBACK_ENDPOINTS", value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    pub allow_loopback_endpoints: Option<bool>,

    /// Budgets of a namespace.
    #[command(flatten)]
    pub budgets: BudgetArgs,

    /// Read objects in this namespace only, so that rights in it are enough; repeatable [default: all namespaces]
    #[arg(long, env = "TIDEGATE_WATCH_NAMESPACE", value_delimiter = ',', value_name = "NAMESPACE", value_parser = parse_namespace)]
    pub watch_namespace: Vec<String>,

    /// Read "all" kubernetes.io/tls Secrets, or only those "referenced" by routes, which RBAC can permit by name
    #[arg(long, env = "TIDEGATE_SECRETS", value_enum, default_value_t = SecretsArg::All, value_name = "all|referenced")]
    pub secrets: SecretsArg,

    /// Label selector for --secrets all: key=value, key, !key or key in (a,b); separate several with commas
    #[arg(long, env = "TIDEGATE_SECRET_SELECTOR", value_name = "SELECTOR", value_parser = parse_selector)]
    pub secret_selector: Option<String>,

    /// Maximum number of Secrets to read by name; the routes of one namespace get at most a tenth of it
    #[arg(long, env = "TIDEGATE_MAX_REFERENCED_SECRETS", default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub max_referenced_secrets: u32,

    /// Keep a copy of what was last read in this folder, and serve it if the API server is down at startup
    #[arg(long, env = "TIDEGATE_SNAPSHOT", value_name = "DIR")]
    pub snapshot: Option<PathBuf>,

    /// Keep private keys in the snapshot too, in clear text; without them, it cannot serve certificates
    #[arg(long, env = "TIDEGATE_SNAPSHOT_SECRETS", requires = "snapshot")]
    pub snapshot_secrets: bool,

    /// Service through which clients reach the gateway: routes list its addresses in their status
    #[arg(long, env = "TIDEGATE_PUBLISH_SERVICE", value_name = "NAMESPACE/NAME", value_parser = parse_object)]
    pub publish_service: Option<ObjectRef>,

    /// IP address or hostname that routes list in their status, instead of those of a Service; repeatable
    #[arg(long, env = "TIDEGATE_PUBLISH_ADDRESS", value_delimiter = ',', value_name = "ADDRESS", value_parser = parse_address)]
    #[arg(conflicts_with = "publish_service")]
    pub publish_address: Vec<RouteAddress>,

    /// Number of worker threads [default: one for each CPU]
    #[arg(long, env = "TIDEGATE_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,

    /// Trust X-Forwarded-For and X-Forwarded-Proto from the proxies in this network; repeatable
    #[arg(long, env = "TIDEGATE_TRUSTED_PROXIES", value_delimiter = ',', value_name = "CIDR", value_parser = parse_cidr)]
    pub trusted_proxies: Vec<IpNet>,

    /// Also pass this header from trusted proxies unchanged; they must overwrite what clients send; repeatable
    #[arg(long, env = "TIDEGATE_TRUSTED_PROXY_HEADERS", value_delimiter = ',', value_name = "HEADER", value_parser = parse_claim)]
    #[arg(requires = "trusted_proxies")]
    pub trusted_proxy_headers: Vec<HeaderName>,
    /// Limits on connections without a request.
    #[command(flatten)]
    pub pending: PendingArgs,

    /// After SIGTERM, report not ready but serve as before for this long, so that load balancers send clients elsewhere
    #[arg(long, env = "TIDEGATE_DRAIN_DELAY", default_value = "5s", value_name = "DURATION")]
    pub drain_delay: Duration,

    /// After that delay, spread the Close frames over this long, so that clients do not all reconnect at once
    #[arg(long, env = "TIDEGATE_DRAIN_SPREAD", default_value = "45s", value_name = "DURATION")]
    pub drain_spread: Duration,

    /// Cut connections that are still open this long after the delay; must be longer than --drain-spread
    #[arg(long, env = "TIDEGATE_DRAIN_TIMEOUT", default_value = "60s", value_name = "DURATION")]
    pub drain_timeout: Duration,

    /// Kubeconfig file [default: the pod's ServiceAccount, else $KUBECONFIG]
    #[arg(long, env = "TIDEGATE_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Namespace of the leader election Lease: its holder writes the status of routes [default: the pod's]
    #[arg(long, env = "TIDEGATE_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// Name of the leader election Lease [default: tidegate-CLASS]
    #[arg(long, env = "TIDEGATE_LEASE_NAME", value_name = "NAME")]
    pub lease_name: Option<String>,

    /// Name of this replica in the Lease [default: $POD_NAME, else the host name]
    #[arg(long, env = "TIDEGATE_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,

    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Arguments of `dev`.
#[derive(Debug, Args)]
#[command(
    after_help = "Environment: PORT (ws://), TLS_PORT (wss://) and ADMIN_PORT set the first port to try. If it is in use, the next free port is used. No .env file is read."
)]
pub struct DevArgs {
    /// Folder of manifests to serve, reloaded when they change [default: a sample route to a built-in echo backend]
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Serve https://NAME.localhost and wss:// from a server on this machine, such as app=127.0.0.1:3000; repeatable
    #[arg(
        long,
        env = "TIDEGATE_UPSTREAM",
        value_delimiter = ',',
        value_name = "NAME=ADDR:PORT",
        conflicts_with = "dir"
    )]
    pub upstream: Vec<Upstream>,

    /// Port for ws:// and http://
    #[arg(long, env = "PORT", default_value = "8080", value_parser = parse_port)]
    pub port: u16,

    /// Port for wss:// and https://
    #[arg(long, env = "TLS_PORT", default_value = "8443", value_parser = parse_port)]
    pub tls_port: u16,

    /// Port for health and metrics
    #[arg(long, env = "ADMIN_PORT", default_value = "9090", value_parser = parse_port)]
    pub admin_port: u16,

    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 no problem found, 1 a problem found (with --strict: or a note), 2 a file or folder could not be read, or the arguments are not valid."
)]
pub struct CheckArgs {
    /// Files, folders (all *.yaml, *.yml and *.json below them), or "-" for standard input
    #[arg(required = true, value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,

    /// Check only the routes with this spec.className [default: all routes, each in its own class]
    #[arg(long, env = "TIDEGATE_CHECK_CLASS", value_name = "NAME")]
    pub class: Option<String>,

    /// Hostname policy of the gateway that will serve the routes
    #[arg(long, env = "TIDEGATE_CHECK_HOSTNAME_POLICY", value_name = "FILE")]
    pub hostname_policy: Option<PathBuf>,

    /// Assume nothing: referenced objects must be among the files, and any note is a failure
    #[arg(long, env = "TIDEGATE_CHECK_STRICT")]
    pub strict: bool,

    /// Format of the report
    #[arg(long, short, env = "TIDEGATE_CHECK_OUTPUT", value_enum, default_value_t = OutputArg::Text)]
    pub output: OutputArg,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Manifests go to standard output, notes to standard error. To import a whole nginx configuration: nginx -T | tidegate import -\n\nExit code: 0 success, 1 a file could not be read or nothing was imported, 2 the arguments are not valid, 3 with --strict: something has no counterpart."
)]
pub struct ImportArgs {
    /// nginx.conf, the output of `nginx -T`, Ingresses with their Services (YAML or JSON), or "-" for standard input
    #[arg(required = true, value_name = "FILE|-")]
    pub files: Vec<PathBuf>,

    /// Namespace of objects made from nginx.conf, and from Ingresses that name none
    #[arg(long, short, env = "TIDEGATE_IMPORT_NAMESPACE", default_value = "default", value_name = "NAMESPACE", value_parser = parse_namespace)]
    pub namespace: String,

    /// Set this spec.className in the routes [default: none, which means the class "tidegate"]
    #[arg(long, env = "TIDEGATE_IMPORT_CLASS", value_name = "NAME")]
    pub class: Option<String>,

    /// Hostname for servers and Ingress rules that have none; repeatable
    #[arg(long, env = "TIDEGATE_IMPORT_HOSTNAME", value_delimiter = ',', value_name = "NAME", value_parser = parse_hostname)]
    pub hostname: Vec<String>,

    /// Read the certificates and private keys that nginx.conf names, and write them as Secrets
    #[arg(long, env = "TIDEGATE_IMPORT_SECRETS")]
    pub secrets: bool,

    /// Write routes.yaml, services.yaml and secrets.yaml to this folder; fail if one of these files exists there
    #[arg(long, short, env = "TIDEGATE_IMPORT_OUTPUT", value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Fail if something has no counterpart
    #[arg(long, env = "TIDEGATE_IMPORT_STRICT")]
    pub strict: bool,
}

/// Which Secrets are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SecretsArg {
    /// All of type kubernetes.io/tls, or those of them that match --secret-selector
    All,
    /// Only those that routes reference
    Referenced,
}

/// Forms of a report.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OutputArg {
    /// Human-readable text
    Text,
    /// One JSON object
    Json,
}

/// Arguments about the log, of every command that has one.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Format of log lines
    #[arg(long, env = "TIDEGATE_LOG_FORMAT", value_enum, default_value_t = LogFormatArg::Text)]
    pub log_format: LogFormatArg,

    /// Log level: error, warn, info, debug or trace; or directives, such as info,tidegate::access=off
    #[arg(long, env = "TIDEGATE_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
}

/// Log formats.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormatArg {
    /// Human-readable text
    Text,
    /// One JSON object per line
    Json,
}

/// Arguments of `echo-backend`.
#[derive(Debug, Args)]
pub struct EchoArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8080")]
    pub listen: SocketAddr,
    /// Certificate chain (PEM), to serve TLS
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Keep serving this long after SIGTERM, then send Close 1001 (going away); without this flag, exit at once
    #[arg(long, value_name = "SECONDS")]
    pub linger: Option<u64>,
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Do not listen.
    Off,
    /// Listen here.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        // ":443" is what other programs take for all addresses.
        let full = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
        full.parse().map(Self::At).map_err(|_| {
            "expected ADDRESS:PORT, such as 0.0.0.0:443, [::]:443 or :443, or \"off\"".to_owned()
        })
    }
}

/// The first port to try.
fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| {
        "expected a port number, 1 to 65535, or 0 for any free port; you can also set it in the environment (PORT, TLS_PORT, ADMIN_PORT)"
            .to_owned()
    })
}

/// A label selector, as far as its characters go: the API server knows the rest.
fn parse_selector(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=!,() ".contains(&byte);
    if !text.trim().is_empty() && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("expected a label selector, such as tidegate.io/serve=true".to_owned())
    }
}

/// A namespace's name (RFC 1123 §2.1, one label).
fn parse_namespace(text: &str) -> Result<String, String> {
    if is_dns_name(text) && !text.contains('.') {
        Ok(text.to_owned())
    } else {
        Err("expected the name of a namespace, such as chat".to_owned())
    }
}

/// A hostname of a route, with "*." in front at most.
fn parse_hostname(text: &str) -> Result<String, String> {
    if crate::import::ir::is_hostname(text) {
        Ok(text.to_owned())
    } else {
        Err("expected a hostname in lower case, such as chat.example.com or *.example.com"
            .to_owned())
    }
}

/// An object by namespace and name.
fn parse_object(text: &str) -> Result<ObjectRef, String> {
    match text.split_once('/') {
        Some((namespace, name)) if parse_namespace(namespace).is_ok() && is_dns_name(name) => {
            Ok(ObjectRef { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("expected NAMESPACE/NAME, such as tidegate-system/tidegate".to_owned()),
    }
}

/// Where clients connect to.
fn parse_address(text: &str) -> Result<RouteAddress, String> {
    let address = RouteAddress::new(text.trim());
    match address.kind {
        AddressType::Hostname if !is_dns_name(&address.value) => Err(
            "expected an IP address or a hostname, without a port: 203.0.113.7, 2001:db8::7 or lb.example.net"
                .to_owned(),
        ),
        _ => Ok(address),
    }
}

/// Whether it can be a hostname or an object's name: lower-case DNS labels (RFC 1123 §2.1), not digits and dots alone.
fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let number =
        text.contains('.') && text.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit());
    text.len() <= 253 && text.split('.').all(label) && !number
}

/// A network, or one address.
fn parse_cidr(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from)).map_err(
        |_| "expected a network in CIDR notation, such as 10.0.0.0/8, or one address".to_owned(),
    )
}

fn parse_claim(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_str(text.trim()).ok().filter(headers::is_claim);
    let name = name.ok_or(
        "expected X-Real-IP, Forwarded, X-Original-URL, X-Rewrite-URL or a header that starts with X-Forwarded-; all other headers pass anyway",
    )?;
    match name.as_str() {
        "x-forwarded-for" | "x-forwarded-proto" => {
            Err("--trusted-proxies already covers this header".into())
        }
        _ => Ok(name),
    }
}

impl From<LogFormatArg> for LogFormat {
    fn from(format: LogFormatArg) -> Self {
        match format {
            LogFormatArg::Text => Self::Text,
            LogFormatArg::Json => Self::Json,
        }
    }
}
