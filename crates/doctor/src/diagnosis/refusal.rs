//! Refusals: of the gateway, which names its reason, and of other servers.

use tidegate_core::RefusalReason;

use super::{
    super::seen::Answer,
    Code, Culprit, Diagnosis, marks,
    view::View,
    words::{request_id, told, without_query},
};

/// A refusal of Tidegate's, by the word of its reason.
pub(super) fn by_gateway(view: &View<'_>, answer: &Answer, word: &str) -> Diagnosis {
    let reason = word.parse();
    let (code, culprit, how) = match reason {
        // Only where nothing but the subprotocol is wrong does its sentence name that header.
        Ok(RefusalReason::NoRoute) if answer.body.contains("Sec-WebSocket-Protocol") => (
            Code::SubprotocolDenied,
            Culprit::Gateway,
            "Offer a subprotocol that the sentence names (--subprotocol), or give the route a rule without `subprotocols` for all others.",
        ),
        Ok(RefusalReason::Plaintext) if view.first.secure => (
            Code::UpgradeRefused,
            Culprit::Gateway,
            "TLS ended at a proxy that the gateway does not trust: name its addresses in `--trusted-proxies` (chart: `trustedProxies`), or let it pass TLS on.",
        ),
        Ok(reason) => {
            let (culprit, how) = of_reason(reason);
            (Code::UpgradeRefused, culprit, how)
        }
        // Of a gateway that is newer than this doctor.
        Err(_) => (
            Code::UpgradeRefused,
            Culprit::Gateway,
            "docs/refusals.md explains each reason; the gateway's log has a line for this request.",
        ),
    };
    let who = match reason {
        Ok(RefusalReason::BackendRefused) => "The backend behind the gateway",
        _ => "The gateway",
    };
    let retry = answer.header("retry-after").map(|after| format!("Retry-After: {after}"));
    Diagnosis::fault(code, culprit, format!("{who} refuses the upgrade: {word}."))
        .seen(told(answer))
        .all_seen(retry)
        .all_seen(request_id(answer))
        .mend(how)
}

/// Whose it is, and what to do about it.
const fn of_reason(reason: RefusalReason) -> (Culprit, &'static str) {
    use Culprit::{Backend, Gateway, Unknown};
    match reason {
        RefusalReason::NoRoute => (
            Gateway,
            "Compare host and path with `kubectl get wsr -A`; `Accepted` and `Programmed` of the route say whether it is served.",
        ),
        RefusalReason::NotWebsocket | RefusalReason::UpgradeStripped => (
            Unknown,
            "The gateway received a plain HTTP request: look at what stands between this machine and the gateway, which has to pass `Upgrade` and `Connection`.",
        ),
        RefusalReason::BadVersion | RefusalReason::BadHandshake => (
            Unknown,
            "The sentence says which part of the request is wrong. If --header, --origin or --subprotocol did not set it, something between this machine and the gateway changed it.",
        ),
        RefusalReason::BadPath => (
            Gateway,
            "The sentence says what in the path servers read in different ways: write the URL without it. Unless it speaks of another rule, `path.allow` in the route's rule accepts it.",
        ),
        RefusalReason::TransferCoding => (
            Unknown,
            "The request came with a transfer coding other than chunked, which a WebSocket client does not send: look at what stands between this machine and the gateway.",
        ),
        RefusalReason::LoopDetected => (
            Gateway,
            "An endpoint of the route leads back to the gateway, or more than eight gateways stand in a row: look at what the Service's selector takes, and at its EndpointSlices.",
        ),
        RefusalReason::BodyTimeout => (
            Unknown,
            "The request announced a body that did not come in time, which a WebSocket client does not do: look at what stands between this machine and the gateway.",
        ),
        RefusalReason::Misdirected => (
            Unknown,
            "The connection that reached the gateway was opened for another name, or without one: what ends TLS in front has to send this host as SNI (nginx: `proxy_ssl_server_name on; proxy_ssl_name $host;`). If the URL has an IP address, use the name. If the sentence says that TLS settings changed, try again.",
        ),
        RefusalReason::Plaintext => (
            Gateway,
            "The route wants TLS: use wss://. Where clients cannot, `plaintext: Allow` of the route.",
        ),
        RefusalReason::NoEndpoints => (
            Backend,
            "No pod of the backend is ready: `kubectl get endpointslices`, and the readiness of the pods.",
        ),
        RefusalReason::BackendConnect | RefusalReason::BackendTimeout => (
            Backend,
            "The gateway's log line of this request names the endpoint and the error: a wrong targetPort, a NetworkPolicy, or a pod that hangs.",
        ),
        RefusalReason::BackendRefused => {
            (Backend, "The backend itself said so; its log knows why: login, path, origin.")
        }
        RefusalReason::BackendBadHandshake => (
            Backend,
            "The port may not be a WebSocket's; the sentence says which part of its answer is wrong.",
        ),
        RefusalReason::LimitFiles => (
            Gateway,
            "The gateway has as many connections as it may have: raise its limit on open files, or add replicas.",
        ),
        RefusalReason::Draining => (
            Gateway,
            "This replica is shutting down: try again. If it stays so, look whether the load balancer still sends to pods that are not ready.",
        ),
        RefusalReason::ClientGone => (
            Unknown,
            "The gateway saw the client leave before it was answered: something between this machine and the gateway cut the connection.",
        ),
    }
}

/// A refusal of a server, or of a box in front that names itself.
pub(super) fn by_server(view: &View<'_>, answer: &Answer) -> Diagnosis {
    let mark = marks::middle(answer);
    let (status, host) = (answer.status, &view.settings.target.host);
    let location = answer.header("location").unwrap_or_default();
    let to_tls = location.starts_with("https:") || location.starts_with("wss:");
    let behind = "what stands in front cannot reach its backend, or the backend fails: look at its log, the backend's health and its protocol";
    let culprit = match (&mark, status) {
        // A gateway error is said by who stands in front.
        (Some(mark), 460 | 502..=504 | 520..=527) => mark.culprit,
        _ => Culprit::Server,
    };
    let how = match status {
        300..=399 if to_tls && !view.first.secure => {
            format!("The server sends clear text to TLS: use wss://{host}. WebSocket clients do not follow redirects.")
        }
        300..=399 => format!(
            "WebSocket clients do not follow redirects: use the place it leads to ({}), or log in first.",
            without_query(location)
        ),
        401 => "Send credentials as the client does: --header 'Authorization: …' or 'Cookie: …'.".to_owned(),
        403 => "Often the origin (--origin https://PAGE) or credentials (--header); else a rule of the server or of a firewall for web applications.".to_owned(),
        404 => "Check the path of the URL, and that the proxy in front routes it to the WebSocket server.".to_owned(),
        429 => "Too many attempts: wait, or have the limit raised.".to_owned(),
        460 | 502..=504 | 520..=527 => format!("{}{}.", behind[..1].to_uppercase(), &behind[1..]),
        500..=599 => "The server fails: its log knows why.".to_owned(),
        _ => "The server's log knows why; compare with --header, --origin and --subprotocol as the client sends them.".to_owned(),
    };
    let named = mark.as_ref().filter(|mark| mark.culprit == culprit).map(|mark| mark.name);
    let summary = match named {
        Some(name) => format!("{}{} answers {status}.", name[..1].to_uppercase(), &name[1..]),
        None => format!("The server refuses the upgrade with {status}."),
    };
    Diagnosis::fault(Code::UpgradeRefused, culprit, summary)
        .seen(told(answer))
        .all_seen(
            (!location.is_empty()).then(|| format!("it leads to {}", without_query(location))),
        )
        .all_seen(mark.map(|mark| mark.evidence))
        .all_seen(request_id(answer))
        .mend(how)
}
