//! What comes after the upgrade.

use super::{
    Code, Culprit, Diagnosis, marks,
    upgrade::between,
    view::View,
    words::{self, request_id},
};

/// What is wrong with the first messages.
pub(super) fn judge(view: &View<'_>) -> Option<Diagnosis> {
    let seen = view.messages(view.first).filter(|seen| !seen.is_sound())?;
    let answer = view.upgrade(view.first).and_then(|seen| seen.answer.as_ref());
    let tidegate = answer.is_some_and(marks::is_tidegate);
    let id = answer.and_then(request_id);
    if let Some(close) = &seen.close {
        // Frames pass, and one of them says no.
        let culprit = if tidegate { Culprit::Backend } else { Culprit::Server };
        return Some(
            Diagnosis::fault(
                Code::UpgradeRefused,
                culprit,
                "The upgrade is granted, and the server closes the connection at once.",
            )
            .seen(format!("it said Close {}", words::close(close)))
            .all_seen(id)
            .mend("The code and its words are the server's: often credentials, or a first message that it waits for."),
        );
    }
    let culprit = between(view).unwrap_or(Culprit::Unknown);
    let what = match culprit {
        Culprit::TransparentProxy => "A transparent proxy lets the upgrade pass, but no frames.",
        Culprit::TlsInspection => "The box that inspects TLS lets the upgrade pass, but no frames.",
        Culprit::HttpProxy => "The configured HTTP proxy lets the upgrade pass, but no frames.",
        _ => "The upgrade is granted, but no frame comes back.",
    };
    let how = match culprit {
        Culprit::TransparentProxy => "Serve over wss:// on 443: such proxies do not look into TLS.",
        Culprit::TlsInspection => {
            "Have the host exempted from TLS inspection, or WebSockets allowed by the box."
        }
        Culprit::HttpProxy => "Have the proxy tunnel this host without looking inside.",
        _ => {
            "Every endpoint has to answer a Ping (RFC 6455 §5.5.3). Either the server does not, or a box behind the one that granted the upgrade holds frames back \
              (buffering, a protocol filter). Compare from another network, and on the server itself."
        }
    };
    let found = Diagnosis::fault(Code::NoMessages, culprit, what);
    let found = found.seen("the upgrade was granted").all_seen(seen.error.clone());
    Some(found.all_seen(id).mend(how))
}

/// HTTP/2 that is announced and does not work: browsers use it where they have such a connection.
pub(super) fn http2(view: &View<'_>) -> Option<Diagnosis> {
    let seen = view.http2().filter(|seen| seen.announced && seen.pong_ms.is_none())?;
    let code = match seen.status {
        Some(200) => Code::NoMessages,
        _ => Code::UpgradeRefused,
    };
    let found = Diagnosis::warning(
        code,
        if seen.reason.is_some() { Culprit::Gateway } else { Culprit::Server },
        "WebSockets over HTTP/2 are announced, but do not work; over HTTP/1.1 they do.",
    );
    let status = seen.status.map(|status| match &seen.reason {
        Some(reason) => format!("extended CONNECT was answered with {status} ({reason})"),
        None => format!("extended CONNECT was answered with {status}"),
    });
    Some(found.all_seen(status).all_seen(seen.error.clone()).mend(
        "Switch SETTINGS_ENABLE_CONNECT_PROTOCOL off (HAProxy: `h2-workaround-bogus-websocket-clients`; Envoy: `allow_connect`), or mend extended CONNECT (RFC 8441) behind it.",
    ))
}
