//! The HTTP proxy that clients are configured for.

use super::{Code, Culprit, Diagnosis, view::View};

/// Whether it makes the tunnel.
pub(super) fn judge(view: &View<'_>) -> Option<Diagnosis> {
    let seen = view.proxy(view.first)?;
    let port = view.first.port;
    let host = &view.settings.target.host;
    let marks = seen.marks.iter().map(|(name, value)| format!("it said \"{name}: {value}\""));
    let found = match (seen.status, &seen.error) {
        (Some(200..=299), None) => return None,
        (None, Some(error)) => Diagnosis::fault(
            Code::ProxyUnreachable,
            Culprit::HttpProxy,
            format!("The proxy {} cannot be used.", seen.proxy),
        )
        .seen(error.clone())
        .mend(
            "Check HTTPS_PROXY, HTTP_PROXY or --proxy: name, port and that it is an HTTP proxy. If it is right, the proxy is down \
             or a firewall is in between.",
        ),
        (Some(407), _) => Diagnosis::fault(
            Code::ProxyAuth,
            Culprit::HttpProxy,
            format!("The proxy {} wants credentials.", seen.proxy),
        )
        .seen("it answered CONNECT with 407")
        .by("whoever set up the proxy on this machine")
        .mend(
            "Put user and password into the proxy's URL (http://USER:PASSWORD@HOST:PORT; Basic is what this command speaks). Clients that cannot log in \
             to a proxy need an exception for this host.",
        ),
        (status, error) => {
            let status = status.unwrap_or_default();
            let answer = match error {
                Some(error) => error.clone(),
                None => format!("it answered CONNECT {host}:{port} with {status}"),
            };
            let how = match port {
                443 => format!("Have the proxy allow CONNECT to {host}:443."),
                _ => format!(
                    "Most proxies allow CONNECT to 443 only: serve over wss:// on port 443, or have the proxy allow {host}:{port} (squid: SSL_ports)."
                ),
            };
            let summary = match status {
                502..=504 => format!("The proxy {} cannot reach the server.", seen.proxy),
                _ => format!("The proxy {} refuses a tunnel to port {port}.", seen.proxy),
            };
            Diagnosis::fault(Code::ProxyRefused, Culprit::HttpProxy, summary).seen(answer).mend(how)
        }
    };
    let mut found = found.all_seen(marks);
    if view.works_directly() {
        found = found.seen("without the proxy it works");
        found.how +=
            &format!(" Without the proxy it works from here: NO_PROXY={host} spares clients it.");
    } else if view.works_on_443() {
        let url = view.settings.target.url(true, 443);
        found = found.seen(format!("{url} works through the same proxy"));
        found.how = format!("Use {url}, which works. {}", found.how);
    }
    Some(found)
}
