//! Whether a request may go where it wants: host, certificate, route, clear text. Pure.

use std::sync::Arc;

use http::{HeaderValue, Uri};

use super::refuse::{Refusal, RefusalReason};
use crate::table::{Plaintext, RequestFacts, RoutingTable, Rule};

/// How a request came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Over TLS, with this server name (SNI), lower case.
    Tls(Option<String>),
    /// In clear text.
    Plain,
}

/// The rule that takes the request (RFC 9110 §7.4: not if the certificate shown is not for its host).
pub fn find_rule(
    table: &RoutingTable,
    arrival: &Arrival,
    host: &str,
    request: &RequestFacts<'_>,
) -> Result<Arc<Rule>, Refusal> {
    if let Arrival::Tls(server_name) = arrival
        && !covers(table, server_name.as_deref(), host)
    {
        let detail = match server_name {
            Some(name) => format!(
                "This connection was opened for {name}, whose certificate's route does not serve {host}: connect to {host} by its own name."
            ),
            None => format!(
                "This connection was opened without a server name (TLS SNI), so with no certificate for {host}: connect by name, not by address."
            ),
        };
        return Err(Refusal::new(RefusalReason::Misdirected, detail));
    }
    let virtual_host = table.host(host).ok_or_else(|| {
        Refusal::new(RefusalReason::NoRoute, format!("No WebSocketRoute has the hostname {host}."))
    })?;
    virtual_host.find(request).cloned().ok_or_else(|| {
        Refusal::new(
            RefusalReason::NoRoute,
            format!("{host} is served, but no rule of its WebSocketRoutes matches this request."),
        )
    })
}

/// Whether a connection opened for `server_name` may carry requests for `host`: the same name, or one that
/// is served with the same certificate and settings.
fn covers(table: &RoutingTable, server_name: Option<&str>, host: &str) -> bool {
    let Some(server_name) = server_name else { return false };
    if server_name == host {
        return true;
    }
    let identity = |name| table.host(name).and_then(|host| host.tls.as_ref());
    match (identity(server_name), identity(host)) {
        (Some(shown), Some(wanted)) => shown == wanted,
        _ => false,
    }
}

/// What the rule says to a request in clear text.
pub fn check_plaintext(
    rule: &Rule,
    secure: bool,
    host: &str,
    uri: &Uri,
    https_port: u16,
) -> Result<(), Refusal> {
    if secure || rule.plaintext == Plaintext::Allow {
        return Ok(());
    }
    let port = if https_port == 443 { String::new() } else { format!(":{https_port}") };
    let path = uri.path();
    let mut refusal = Refusal::new(
        RefusalReason::Plaintext,
        format!("This is served over TLS only: use wss://{host}{port}{path} in place of ws://."),
    );
    if rule.plaintext == Plaintext::Redirect {
        let target = uri.path_and_query().map_or(path, |target| target.as_str());
        refusal.location = HeaderValue::from_str(&format!("https://{host}{port}{target}")).ok();
    }
    Err(refusal)
}

#[cfg(test)]
mod tests;
