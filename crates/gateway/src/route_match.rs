//! Whether a request may go where it wants: host, certificate, route, clear text. Pure.

use std::sync::Arc;

use http::{HeaderValue, header};
use tidegate_table::{
    Plaintext, RequestFacts, RoutingTable, Rule, TlsIdentity, VirtualHost,
    path::{PathFault, RequestPath},
};

use super::{
    intermediaries::RequestTarget,
    refusal::{After, Refusal, RefusalReason},
    target::refuse_path,
};

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

/// Checks that a connection may carry requests for a host. Over TLS that is the one that it was opened for, or one that is
/// served with the very certificate and settings that the client was shown (RFC 9110 §7.4). And the settings must still be those in
/// force for the host: a connection that was opened before they were changed ends. A certificate that was only renewed ends none,
/// for the client has seen one that was good for the name.
pub fn check_host(table: &RoutingTable, arrival: &Arrival, host: &str) -> Result<(), Refusal> {
    if let Arrival::Tls { server_name, identity } = arrival
        && server_name.as_deref() != Some(host)
        && !(identity.is_some() && identity.as_ref() == table.identity(host))
    {
        let detail = if server_name.is_some() {
            "This connection was opened for another name (TLS SNI), whose certificate's route does not serve this host: connect to the host by its own name."
        } else {
            "This connection was opened without a server name (TLS SNI), so with no certificate for this host: connect by name, not by address."
        };
        return Err(Refusal::new(RefusalReason::Misdirected, detail));
    }
    if let Arrival::Tls { identity, .. } = arrival
        && let Some(now) = table.identity(host)
        // The self-made certificate goes with the defaults.
        && now.settings != identity.as_ref().map(|identity| identity.settings).unwrap_or_default()
    {
        let mut refusal = Refusal::new(
            RefusalReason::Misdirected,
            "The TLS settings of this host have changed since this connection was opened: connect again.",
        );
        refusal.after = After::Close;
        return Err(refusal);
    }
    Ok(())
}

/// The rule that takes the request.
pub fn find_rule(
    table: &RoutingTable,
    host: &str,
    request: &RequestFacts<'_>,
) -> Result<Found, Refusal> {
    let virtual_host = table.host(host).ok_or_else(|| {
        Refusal::new(RefusalReason::NoRoute, "No WebSocketRoute has this hostname.")
    })?;
    let rule = virtual_host.find(request).ok_or_else(|| no_rule(virtual_host, request))?;
    Ok(Found { hostname: Arc::clone(&virtual_host.pattern), rule: Arc::clone(rule) })
}

/// Refuses a path that servers read in different ways, unless the rule allows that and each of them would come to that very rule:
/// else what is said of one path could be stepped around by the way that another is written.
pub fn check_path(
    table: &RoutingTable,
    host: &str,
    rule: &Arc<Rule>,
    path: &RequestPath<'_>,
    request: &RequestFacts<'_>,
) -> Result<(), Refusal> {
    path.check(rule.path_allow).map_err(refuse_path)?;
    let same = |reading: &str| {
        let request = RequestFacts { path: reading, ..*request };
        let found = table.host(host).and_then(|host| host.find(&request));
        found.is_some_and(|found| Arc::ptr_eq(found, rule))
    };
    if path.all_readings(same) { Ok(()) } else { Err(refuse_path(PathFault::OtherRule)) }
}

/// What is said where the host is served and the request is not.
fn no_rule(virtual_host: &VirtualHost, request: &RequestFacts<'_>) -> Refusal {
    let wanted: Vec<&str> = virtual_host.subprotocols_wanted(request).into_iter().collect();
    if wanted.is_empty() {
        return Refusal::new(
            RefusalReason::NoRoute,
            "This host is served, but no rule of its WebSocketRoutes matches this request.",
        );
    }
    let detail = {
        // Not what it offers: some clients put a token there, and this goes into the log.
        let offers = match request.headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
            true => "others",
            false => "none",
        };
        format!(
            "This path is served to WebSocket clients that offer one of these subprotocols (Sec-WebSocket-Protocol): {}. This one offers {offers}.",
            wanted.join(", "),
        )
    };
    Refusal::new(RefusalReason::NoRoute, detail)
}

/// What a rule's policy says to a request in clear text.
///
/// A redirect leads to `wss://` whom it finds as a WebSocket client: those that follow one take no other scheme. Behind a proxy that
/// ends TLS and is not trusted there is none, for it would lead back to that proxy for ever.
pub fn check_plaintext(policy: Plaintext, asked: &RequestTarget<'_>) -> Result<(), Refusal> {
    if asked.secure || policy == Plaintext::Allow {
        return Ok(());
    }
    let url = asked.secure_url();
    if asked.claims_tls {
        let mut refusal = Refusal::new(
            RefusalReason::Plaintext,
            "This host is served over TLS only, and the proxy that says that this request came by TLS is not trusted.",
        );
        refusal.advice = Some(
            format!(
                "Whoever runs the gateway: name the proxy's address in --trusted-proxies (in the chart trustedProxies), or let the \
                 proxy pass TLS on. As a client connect to {url}."
            )
            .into(),
        );
        return Err(refusal);
    }
    let (detail, way) = if asked.websocket {
        (
            "This host is served over TLS only: connect by wss:// in place of ws://.",
            format!(
                "That is, connect to {url} in place of ws://; in a browser: new WebSocket(\"{url}\")."
            ),
        )
    } else {
        (
            "This host is served over TLS only: use https:// in place of http://.",
            format!("The same over TLS: {url}. For a WebSocket: wss:// in place of ws://."),
        )
    };
    let mut refusal = Refusal::new(RefusalReason::Plaintext, detail);
    refusal.advice = Some(
        format!(
            "{way} Clear text can be read and changed by anyone on the way, proxies on port 80 break WebSockets, and pages on https:// \
             may not open ws:// at all. Whoever runs this host could allow it: \"plaintext: Allow\" in its WebSocketRoute."
        )
        .into(),
    );
    if policy == Plaintext::Redirect {
        let target = asked.uri.path_and_query().map_or(asked.uri.path(), |target| target.as_str());
        let scheme = if asked.websocket { "wss" } else { "https" };
        refusal.location = HeaderValue::from_str(&asked.with_target(scheme, target)).ok();
    }
    Err(refusal)
}

#[cfg(test)]
mod tests;
