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
    gateway::forwarded,
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
    /// Serve WebSocketRoutes: the controller and the gateway in one process
    Serve(Box<ServeArgs>),
    /// Try it on a laptop: sample route, self-made certificate, built-in echo backend
    Dev(DevArgs),
    /// Judge manifests without a cluster: what the API server and the conditions of routes would say
    Check(CheckArgs),
    /// Find out why a WebSocket does not come about, and which box on the way is to blame
    Doctor(Box<DoctorArgs>),
    /// Make WebSocketRoutes of nginx.conf or of Ingresses, with a note for all that has no counterpart
    Import(ImportArgs),
    /// Print the CustomResourceDefinition of WebSocketRoute
    Crd,
    /// A backend that echoes every message, for tests and demonstrations
    #[command(hide = true)]
    EchoBackend(EchoArgs),
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where routes come from: "kubernetes", or a folder of manifests (reloaded when they change)
    #[arg(
        long,
        env = "TIDEGATE_SOURCE",
        default_value = "kubernetes",
        value_name = "kubernetes|DIR"
    )]
    pub source: String,

    /// Address for wss:// and https://; repeatable, or "off"
    #[arg(
        long,
        env = "TIDEGATE_HTTPS_LISTEN",
        default_value = "[::]:443",
        value_delimiter = ',',
        value_name = "ADDR:PORT"
    )]
    pub https_listen: Vec<Listen>,

    /// Address for ws:// and http://; repeatable, or "off"
    #[arg(
        long,
        env = "TIDEGATE_HTTP_LISTEN",
        default_value = "[::]:80",
        value_delimiter = ',',
        value_name = "ADDR:PORT"
    )]
    pub http_listen: Vec<Listen>,

    /// Address for health, metrics and debugging; repeatable, or "off"
    #[arg(
        long,
        env = "TIDEGATE_ADMIN_LISTEN",
        default_value = "[::]:9090",
        value_delimiter = ',',
        value_name = "ADDR:PORT"
    )]
    pub admin_listen: Vec<Listen>,

    /// Whom the admin port answers.
    #[command(flatten)]
    pub admin: AdminArgs,

    /// The port at which clients reach the TLS listener, for redirects and messages
    #[arg(long, env = "TIDEGATE_PUBLIC_HTTPS_PORT", default_value_t = 443, value_name = "PORT")]
    pub public_https_port: u16,

    /// Take ACME's HTTP-01 challenges to the Services that are labelled as cert-manager's solvers
    #[arg(
        long,
        env = "TIDEGATE_ACME_HTTP01",
        default_value_t = true,
        action = ArgAction::Set,
        value_name = "true|false"
    )]
    pub acme_http01: bool,

    /// Which namespaces may claim which hostnames (YAML, read again when it changes) [default: a contest of evidence]
    #[arg(long, env = "TIDEGATE_HOSTNAME_POLICY", value_name = "FILE")]
    pub hostname_policy: Option<PathBuf>,

    /// Serve the routes with this spec.className
    #[arg(long, env = "TIDEGATE_CLASS", default_value = DEFAULT_CLASS, value_name = "NAME")]
    pub class: String,

    /// The zone that this process runs in: endpoints whose hints (EndpointSlice) are for it are preferred
    #[arg(long, env = "TIDEGATE_ZONE", value_name = "NAME")]
    pub zone: Option<String>,

    /// Take connections to loopback addresses too, at other ports than our own [default: true with --source DIR, else false]
    #[arg(long, env = "TIDEGATE_ALLOW_LOOPBACK_ENDPOINTS", value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    pub allow_loopback_endpoints: Option<bool>,

    /// What a namespace may take.
    #[command(flatten)]
    pub budgets: BudgetArgs,

    /// Read objects of this namespace alone, for which rights in it are enough; repeatable [default: all]
    #[arg(long, env = "TIDEGATE_WATCH_NAMESPACE", value_delimiter = ',', value_name = "NAMESPACE", value_parser = parse_namespace)]
    pub watch_namespace: Vec<String>,

    /// Which Secrets to read: "all" of type kubernetes.io/tls, or those "referenced" by routes, by name, each with a right of its own
    #[arg(long, env = "TIDEGATE_SECRETS", value_enum, default_value_t = SecretsArg::All, value_name = "all|referenced")]
    pub secrets: SecretsArg,

    /// Of all Secrets, read those with these labels alone: key=value, key, !key, key in (a,b); several after commas
    #[arg(long, env = "TIDEGATE_SECRET_SELECTOR", value_name = "SELECTOR", value_parser = parse_selector)]
    pub secret_selector: Option<String>,

    /// Most Secrets to read by name, of one namespace's routes a tenth of it
    #[arg(long, env = "TIDEGATE_MAX_REFERENCED_SECRETS", default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub max_referenced_secrets: u32,

    /// Keep what was read last in this folder, and serve it after a start while the API server is away
    #[arg(long, env = "TIDEGATE_SNAPSHOT", value_name = "DIR")]
    pub snapshot: Option<PathBuf>,

    /// Keep private keys there too, in clear text; without them certificates cannot be served from it
    #[arg(long, env = "TIDEGATE_SNAPSHOT_SECRETS", requires = "snapshot")]
    pub snapshot_secrets: bool,

    /// The Service by which clients reach the gateway: routes name its addresses in their status
    #[arg(long, env = "TIDEGATE_PUBLISH_SERVICE", value_name = "NAMESPACE/NAME", value_parser = parse_object)]
    pub publish_service: Option<ObjectRef>,

    /// An address or hostname to name there instead; repeatable
    #[arg(long, env = "TIDEGATE_PUBLISH_ADDRESS", value_delimiter = ',', value_name = "ADDRESS", value_parser = parse_address)]
    #[arg(conflicts_with = "publish_service")]
    pub publish_address: Vec<RouteAddress>,

    /// Worker threads [default: one for each CPU]
    #[arg(long, env = "TIDEGATE_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,

    /// Proxies whose X-Forwarded-For and X-Forwarded-Proto count; repeatable
    #[arg(long, env = "TIDEGATE_TRUSTED_PROXIES", value_delimiter = ',', value_name = "CIDR", value_parser = parse_cidr)]
    pub trusted_proxies: Vec<IpNet>,

    /// Further headers about the client that these proxies set, and clients cannot: they pass as they are; repeatable
    #[arg(long, env = "TIDEGATE_TRUSTED_PROXY_HEADERS", value_delimiter = ',', value_name = "HEADER", value_parser = parse_claim)]
    #[arg(requires = "trusted_proxies")]
    pub trusted_proxy_headers: Vec<HeaderName>,
    /// Limits on connections without a request.
    #[command(flatten)]
    pub pending: PendingArgs,

    /// After SIGTERM: go on as before for so long, but not ready, so that load balancers look elsewhere
    #[arg(long, env = "TIDEGATE_DRAIN_DELAY", default_value = "5s", value_name = "DURATION")]
    pub drain_delay: Duration,

    /// Then: spread the Close frames over so long, so that clients do not all come back at once
    #[arg(long, env = "TIDEGATE_DRAIN_SPREAD", default_value = "45s", value_name = "DURATION")]
    pub drain_spread: Duration,

    /// Cut what is left so long after the delay; above --drain-spread
    #[arg(long, env = "TIDEGATE_DRAIN_TIMEOUT", default_value = "60s", value_name = "DURATION")]
    pub drain_timeout: Duration,

    /// A kubeconfig file [default: the pod's ServiceAccount, else $KUBECONFIG]
    #[arg(long, env = "TIDEGATE_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Namespace of the Lease that decides which replica writes status [default: the pod's]
    #[arg(long, env = "TIDEGATE_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// Name of that Lease [default: tidegate-CLASS]
    #[arg(long, env = "TIDEGATE_LEASE_NAME", value_name = "NAME")]
    pub lease_name: Option<String>,

    /// How this replica calls itself in the Lease [default: $POD_NAME, else the host name]
    #[arg(long, env = "TIDEGATE_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,

    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Arguments of `dev`.
#[derive(Debug, Args)]
#[command(
    after_help = "Environment: PORT (ws://), TLS_PORT (wss://), ADMIN_PORT choose the ports to begin with; where one is taken, the next free one is used. No .env file is read."
)]
pub struct DevArgs {
    /// A folder of manifests to serve, reloaded when they change [default: a sample route to a built-in echo]
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Serve https://NAME.localhost and wss:// from a server that runs here, such as app=127.0.0.1:3000; repeatable
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
    after_help = "Exit code: 0 all is well, 1 something is wrong, 2 something could not be read, or these arguments make no sense."
)]
pub struct CheckArgs {
    /// Files, folders (all *.yaml, *.yml and *.json below them), or "-" for standard input
    #[arg(required = true, value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,

    /// Judge the routes with this spec.className only [default: each by the class that it names]
    #[arg(long, env = "TIDEGATE_CHECK_CLASS", value_name = "NAME")]
    pub class: Option<String>,

    /// The hostname policy of the gateway that is to serve them
    #[arg(long, env = "TIDEGATE_CHECK_HOSTNAME_POLICY", value_name = "FILE")]
    pub hostname_policy: Option<PathBuf>,

    /// Take nothing for granted: what is referred to must be among the files, and a note is a failure
    #[arg(long, env = "TIDEGATE_CHECK_STRICT")]
    pub strict: bool,

    /// How to say it
    #[arg(long, short, env = "TIDEGATE_CHECK_OUTPUT", value_enum, default_value_t = OutputArg::Text)]
    pub output: OutputArg,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Manifests go to standard output, notes to standard error. A whole configuration of nginx in one go: nginx -T | tidegate import -\n\nExit code: 0 all is well, 1 something could not be read, 2 these arguments make no sense, 3 with --strict: something has no counterpart."
)]
pub struct ImportArgs {
    /// nginx.conf, the output of `nginx -T`, Ingresses with their Services (YAML or JSON), or "-" for standard input
    #[arg(required = true, value_name = "FILE|-")]
    pub files: Vec<PathBuf>,

    /// Namespace of what is made of nginx.conf, and of Ingresses that name none
    #[arg(long, short, env = "TIDEGATE_IMPORT_NAMESPACE", default_value = "default", value_name = "NAMESPACE", value_parser = parse_namespace)]
    pub namespace: String,

    /// Write this spec.className [default: none, for the class "tidegate"]
    #[arg(long, env = "TIDEGATE_IMPORT_CLASS", value_name = "NAME")]
    pub class: Option<String>,

    /// Hostname of servers and Ingress rules that have none; repeatable
    #[arg(long, env = "TIDEGATE_IMPORT_HOSTNAME", value_delimiter = ',', value_name = "NAME", value_parser = parse_hostname)]
    pub hostname: Vec<String>,

    /// Read the certificates and private keys that nginx.conf names, and write them as Secrets
    #[arg(long, env = "TIDEGATE_IMPORT_SECRETS")]
    pub secrets: bool,

    /// Write routes.yaml, services.yaml and secrets.yaml into this folder; files that are there stay, and are an error
    #[arg(long, short, env = "TIDEGATE_IMPORT_OUTPUT", value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Fail where something has no counterpart
    #[arg(long, env = "TIDEGATE_IMPORT_STRICT")]
    pub strict: bool,
}

/// Which Secrets are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SecretsArg {
    /// All of the type kubernetes.io/tls, or those of them that --secret-selector chooses
    All,
    /// Those that routes refer to
    Referenced,
}

/// Forms of a report.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OutputArg {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// Arguments about the log, of every command that has one.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// How log lines look
    #[arg(long, env = "TIDEGATE_LOG_FORMAT", value_enum, default_value_t = LogFormatArg::Text)]
    pub log_format: LogFormatArg,

    /// error, warn, info, debug, trace, or directives: info,tidegate::access=off
    #[arg(long, env = "TIDEGATE_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
}

/// Log formats.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormatArg {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Arguments of `echo-backend`.
#[derive(Debug, Args)]
pub struct EchoArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8080")]
    pub listen: SocketAddr,
    /// Certificate chain (PEM), to speak TLS
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM)
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Serve on for so long after SIGTERM, then tell sockets Close 1001 (going away); without, end at once
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

/// A port to begin with.
fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| {
        "expected a port number, 1 to 65535, or 0 for any free one; the environment can set it too (PORT, TLS_PORT, ADMIN_PORT)"
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
    if crate::import::draft::is_hostname(text) {
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

/// Whether it can be a hostname or an object's name: lower-case DNS labels (RFC 1123 §2.1). What has digits and dots alone
/// is a mistyped address.
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
    let name = HeaderName::from_str(text.trim()).ok().filter(forwarded::is_claim);
    let name = name.ok_or(
        "expected X-Real-IP, Forwarded, X-Original-URL, X-Rewrite-URL or a header that begins with X-Forwarded-: all others pass anyway",
    )?;
    match name.as_str() {
        "x-forwarded-for" | "x-forwarded-proto" => {
            Err("this one counts already, with --trusted-proxies".into())
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
