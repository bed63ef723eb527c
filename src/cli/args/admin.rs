//! Arguments about the admin port.

use clap::{ArgAction, Args};

use super::is_dns_name;
use crate::admin::{AdminSettings, DEFAULT_CONNECTIONS, DebugEndpoints};

/// Whom the admin port answers, and what.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// Accept this Host on the admin port, besides IP addresses, localhost and names of Services; repeatable; "*": all
    #[arg(long, env = "TIDEGATE_ADMIN_HOST", value_delimiter = ',', value_name = "NAME", value_parser = parse_name)]
    pub admin_host: Vec<String>,

    /// Maximum number of connections to the admin port; beyond it, the one that has been idle longest is closed
    #[arg(long, env = "TIDEGATE_ADMIN_CONNECTIONS", default_value_t = DEFAULT_CONNECTIONS, value_name = "N", value_parser = clap::value_parser!(u16).range(4..=1024))]
    pub admin_connections: u16,

    /// Serve /debug/table on the admin port; it shows routes, Services and addresses of all namespaces
    #[arg(
        long,
        env = "TIDEGATE_DEBUG_ENDPOINTS",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        action = ArgAction::Set,
        value_name = "true|false"
    )]
    pub debug_endpoints: bool,
}

impl AdminArgs {
    /// As the admin port takes them.
    pub fn settings(&self) -> AdminSettings {
        AdminSettings {
            connections: self.admin_connections,
            hosts: self.admin_host.clone(),
            debug: if self.debug_endpoints { DebugEndpoints::On } else { DebugEndpoints::Off },
        }
    }
}

/// A hostname, or the star that stands for all.
fn parse_name(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    if name == "*" || is_dns_name(&name) {
        Ok(name)
    } else {
        Err("expected a hostname without a port, such as metrics.example.com, or \"*\"".to_owned())
    }
}
