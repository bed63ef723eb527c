//! Arguments, as typed. What they mean together is resolved in each command.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::{
    api::{DEFAULT_CLASS, Duration},
    telemetry::LogFormat,
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

    /// The port at which clients reach the TLS listener, for redirects and messages
    #[arg(long, env = "TIDEGATE_PUBLIC_HTTPS_PORT", default_value_t = 443, value_name = "PORT")]
    pub public_https_port: u16,

    /// Serve the routes with this spec.className
    #[arg(long, env = "TIDEGATE_CLASS", default_value = DEFAULT_CLASS, value_name = "NAME")]
    pub class: String,

    /// The zone that this process runs in: endpoints whose hints (EndpointSlice) are for it are preferred
    #[arg(long, env = "TIDEGATE_ZONE", value_name = "NAME")]
    pub zone: Option<String>,

    /// Worker threads [default: one for each CPU]
    #[arg(long, env = "TIDEGATE_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,

    /// Proxies whose X-Forwarded-* headers count; repeatable
    #[arg(long, env = "TIDEGATE_TRUSTED_PROXIES", value_delimiter = ',', value_name = "CIDR", value_parser = parse_cidr)]
    pub trusted_proxies: Vec<IpNet>,

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
    after_help = "Environment: PORT (ws://), TLS_PORT (wss://), ADMIN_PORT choose the ports to begin with; where one is taken, the next free one is used."
)]
pub struct DevArgs {
    /// A folder of manifests to serve, reloaded when they change [default: a sample route to a built-in echo]
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Port for ws:// and http://
    #[arg(long, env = "PORT", default_value_t = 8080)]
    pub port: u16,

    /// Port for wss:// and https://
    #[arg(long, env = "TLS_PORT", default_value_t = 8443)]
    pub tls_port: u16,

    /// Port for health and metrics
    #[arg(long, env = "ADMIN_PORT", default_value_t = 9090)]
    pub admin_port: u16,

    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
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

/// A network, or one address.
fn parse_cidr(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from)).map_err(
        |_| "expected a network in CIDR notation, such as 10.0.0.0/8, or one address".to_owned(),
    )
}

impl From<LogFormatArg> for LogFormat {
    fn from(format: LogFormatArg) -> Self {
        match format {
            LogFormatArg::Text => Self::Text,
            LogFormatArg::Json => Self::Json,
        }
    }
}
