//! Whether a request may go where it wants: host, certificate, route, clear text. Pure.

use std::sync::Arc;

use http::{HeaderValue, Uri, header};

use super::refuse::{Refusal, RefusalReason};
use crate::table::{Plaintext, RequestFacts, RoutingTable, Rule, TlsIdentity, VirtualHost};

/// How a request came in.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// Over TLS.
    Tls {
        /// The server name (SNI) that the client sent, lower case.
        server_name: Option<String>,
        /// The certificate that it was shown; `None`: the self-made one.
        identity: Option<Arc<TlsIdentity>>,
    },
    /// In clear text.
    Plain,
}

/// Who takes a request.
#[derive(Clone, Debug)]
pub struct Found {
    /// The hostname of the table, or its wildcard.
    pub hostname: Arc<str>,
    /// The rule.
    pub rule: Arc<Rule>,
}

/// The rule that takes the request. Over TLS the host is the one that the connection was opened for, or one that is served
/// with the very certificate and settings that the client was shown (RFC 9110 §7.4).
pub fn find_rule(
    table: &RoutingTable,
    arrival: &Arrival,
    host: &str,
    request: &RequestFacts<'_>,
) -> Result<Found, Refusal> {
    if let Arrival::Tls { server_name, identity } = arrival
        && server_name.as_deref() != Some(host)
        && !(identity.is_some() && identity.as_ref() == table.identity(host))
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
    let rule = virtual_host.find(request).ok_or_else(|| no_rule(virtual_host, host, request))?;
    Ok(Found { hostname: Arc::clone(&virtual_host.pattern), rule: Arc::clone(rule) })
}

/// What is said where the host is served and the request is not.
fn no_rule(virtual_host: &VirtualHost, host: &str, request: &RequestFacts<'_>) -> Refusal {
    let wanted: Vec<&str> = virtual_host.subprotocols_wanted(request).into_iter().collect();
    let detail = if wanted.is_empty() {
        format!("{host} is served, but no rule of its WebSocketRoutes matches this request.")
    } else {
        // Not what it offers: some clients put a token there, and this goes into the log.
        let offers = match request.headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
            true => "others",
            false => "none",
        };
        format!(
            "{host} serves {} to WebSocket clients that offer one of these subprotocols (Sec-WebSocket-Protocol): {}. This one offers {offers}.",
            request.path,
            wanted.join(", "),
        )
    };
    Refusal::new(RefusalReason::NoRoute, detail)
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
