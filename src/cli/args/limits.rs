//! What `serve` bounds: the share of a namespace, and connections without a request.

use clap::Args;

use crate::gateway::PendingLimits;

/// What one namespace may take of the gateway. Routes beyond it are not served, and say so.
#[derive(Debug, Args)]
pub struct BudgetArgs {
    /// Maximum number of matches in the routes of a namespace; each counts once for each hostname of its route
    #[arg(
        long,
        env = "TIDEGATE_MAX_MATCHES_PER_NAMESPACE",
        default_value_t = 16_384,
        value_name = "N"
    )]
    pub max_matches_per_namespace: u32,

    /// Maximum number of endpoints of the Services that the routes of a namespace refer to
    #[arg(
        long,
        env = "TIDEGATE_MAX_ENDPOINTS_PER_NAMESPACE",
        default_value_t = 32_768,
        value_name = "N"
    )]
    pub max_endpoints_per_namespace: u32,

    /// Maximum bytes of certificates and keys that the routes of a namespace use; each counts 2 KiB plus its text
    #[arg(
        long,
        env = "TIDEGATE_MAX_CERTIFICATE_BYTES_PER_NAMESPACE",
        default_value_t = 32 * 1024 * 1024,
        value_name = "BYTES"
    )]
    pub max_certificate_bytes_per_namespace: u32,
}

/// Limits on connections without a request.
#[derive(Clone, Copy, Debug, Args)]
pub struct PendingArgs {
    /// Maximum number of pending connections: they have sent no request yet, or wait for the next one. Beyond it, those
    /// that have waited longest are closed [default: half of the file descriptors for clients, at most 16384]
    #[arg(long, env = "TIDEGATE_MAX_PENDING_CONNECTIONS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_pending_connections: Option<u32>,

    /// Maximum number of them per IPv4 address or IPv6 /64; trusted proxies are exempt [default: half of the total]
    #[arg(long, env = "TIDEGATE_MAX_PENDING_PER_CLIENT", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_pending_per_client: Option<u32>,

    /// Maximum memory that all pending connections use together, in MiB
    #[arg(long, env = "TIDEGATE_MAX_PENDING_MEMORY", default_value_t = 64, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub max_pending_memory: u32,
}

impl From<PendingArgs> for PendingLimits {
    fn from(args: PendingArgs) -> Self {
        let count = |given: Option<u32>| given.map(|given| given as usize);
        Self {
            connections: count(args.max_pending_connections),
            per_client: count(args.max_pending_per_client),
            memory: Some(args.max_pending_memory as usize * 1024 * 1024),
        }
    }
}
