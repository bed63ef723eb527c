//! The upgrade: granted, refused, or lost on the way.

use super::{
    super::seen::{Answer, Attempt, Outcome, UpgradeSeen},
    Code, Culprit, Diagnosis,
    marks::{self, GatewaySaw},
    refusal,
    view::View,
    words::{self, request_id, told, without_query},
};

/// What is wrong with the upgrade on the first way.
pub(super) fn judge(view: &View<'_>) -> Option<Diagnosis> {
    let seen = view.upgrade(view.first)?;
    let found = match &seen.answer {
        None => no_answer(view, seen),
        Some(answer) if answer.status == 101 => granted(view, seen)?,
        Some(answer) => refused(view, answer),
    };
    Some(with_comparison(view, found))
}

/// Adds what works instead.
fn with_comparison(view: &View<'_>, mut found: Diagnosis) -> Diagnosis {
    if view.works_on_443() {
        let url = view.settings.target.url(true, 443);
        found = found.seen(format!("{url} works"));
        found.how = format!("Use {url}, which works. {}", found.how);
    }
    if view.works_directly() {
        found = found.seen("without the proxy it works");
        let host = &view.settings.target.host;
        found.how +=
            &format!(" NO_PROXY={host} spares clients the proxy where they can do without.");
    }
    found
}

/// Who is in between and can have done something to the request, by what the other ways show; `None` where nothing tells.
pub(super) fn between(view: &View<'_>) -> Option<Culprit> {
    if view.works_directly() {
        Some(Culprit::HttpProxy)
    } else if view.first.secure {
        view.is_intercepted(view.first).then_some(Culprit::TlsInspection)
    } else if view.works_on_443() {
        Some(Culprit::TransparentProxy)
    } else {
        None
    }
}

/// Who took the upgrade out of a request that a server got as plain HTTP.
fn stripper(view: &View<'_>, answer: &Answer, saw: Option<&GatewaySaw>) -> Culprit {
    let mark = marks::middle(answer).map(|mark| mark.culprit);
    // The same proxy in front of both ports is the server's own, even where only 443 is configured well.
    if mark == Some(Culprit::ReverseProxy) && !view.first.secure && same_front(view, answer) {
        return Culprit::ReverseProxy;
    }
    if let Some(culprit) = between(view) {
        return culprit;
    }
    let named = saw.is_some_and(|saw| saw.via.is_some()) || marks::via(answer).is_some();
    let also_on_443 = view.upgrade(view.on_443()).filter(|_| view.first != view.on_443());
    let everywhere = also_on_443.is_some_and(|seen| {
        seen.answer.as_ref().is_some_and(|answer| is_stripped(answer, view).is_some())
    });
    match mark {
        Some(culprit) if culprit != Culprit::TransparentProxy => culprit,
        // TLS that nobody opened: only who has the certificate can have read the request.
        _ if view.first.secure || everywhere => Culprit::ReverseProxy,
        Some(culprit) => culprit,
        None if named => Culprit::TransparentProxy,
        None if saw.is_some() => Culprit::ReverseProxy,
        None => Culprit::Unknown,
    }
}

/// Whether the answer on 443 names the same server in front.
fn same_front(view: &View<'_>, answer: &Answer) -> bool {
    let other = view.upgrade(view.on_443()).and_then(|seen| seen.answer.as_ref());
    let via = |answer: &Answer| marks::via(answer).map(str::to_owned);
    other.is_some_and(|other| {
        other.header("server") == answer.header("server") && via(other) == via(answer)
    })
}

/// Whether an answer says that the request came without its upgrade: the code and what says so.
fn is_stripped(answer: &Answer, view: &View<'_>) -> Option<(Code, Vec<String>)> {
    let saw = marks::gateway_saw(answer);
    let reason = answer.header("tidegate-reason");
    let mut evidence = Vec::new();
    if let Some(saw) = &saw {
        if saw.http.as_deref() == Some("1.0") {
            evidence.push("the gateway saw the request as HTTP/1.0".to_owned());
        }
        if !saw.missing.is_empty() {
            evidence.push(format!("the gateway saw it without {}", saw.missing.join(" and ")));
        }
        if let Some(via) = &saw.via {
            evidence.push(format!("on the way to the gateway it passed {via:?}"));
        }
        if let Some(proxies) = &saw.proxies {
            evidence.push(format!("the gateway saw headers that only proxies add: {proxies}"));
        }
    }
    let http10 = saw.as_ref().is_some_and(|saw| saw.http.as_deref() == Some("1.0"));
    let missing = saw.as_ref().is_some_and(|saw| !saw.missing.is_empty());
    // The request was a sound one, so whoever says that it lacks something did not get it as it was.
    let said = match reason {
        Some("upgrade_stripped" | "not_websocket") => true,
        Some("bad_version") => missing,
        Some("bad_handshake") => missing || http10 || answer.body.contains("a proxy on the way"),
        Some(_) => return None,
        None => {
            matches!(answer.status, 426)
                || answer.status == 400 && answer.body.to_lowercase().contains("upgrade")
        }
    };
    if said {
        match reason {
            Some(reason) => {
                evidence.insert(0, format!("the gateway answered {reason}: {}", answer.body));
            }
            None => evidence.insert(0, told(answer)),
        }
        let http10 = http10
            || reason == Some("bad_handshake") && !missing && answer.body.contains("HTTP/1.0");
        let code = if http10 { Code::UpgradeHttp10 } else { Code::UpgradeStripped };
        return Some((code, evidence));
    }
    if reason.is_none() && (200..300).contains(&answer.status) {
        return Some((Code::UpgradeStripped, vec![format!("{}, as to a plain GET", told(answer))]));
    }
    // Whoever answers in HTTP/1.0 has no upgrades; servers that do are few, proxies that do are many.
    if reason.is_none() && answer.minor == 0 && !view.first.secure && marks::via(answer).is_some() {
        return Some((Code::UpgradeHttp10, vec![format!("{}, in HTTP/1.0", told(answer))]));
    }
    None
}

fn refused(view: &View<'_>, answer: &Answer) -> Diagnosis {
    if let Some((code, evidence)) = is_stripped(answer, view) {
        return stripped(view, answer, code, evidence);
    }
    if let Some(reason) = answer.header("tidegate-reason") {
        return refusal::by_gateway(view, answer, reason);
    }
    if view.retry(view.first).is_some_and(UpgradeSeen::is_sound) {
        return Diagnosis::fault(
            Code::SubprotocolDenied,
            if marks::is_tidegate(answer) { Culprit::Backend } else { Culprit::Server },
            "The server takes none of the subprotocols.",
        )
        .seen(told(answer))
        .seen("without subprotocols the upgrade is granted")
        .mend("Offer a subprotocol that the server speaks: graphql-transport-ws and graphql-ws, or mqtt and mqttv3.1, are different names.");
    }
    if let Some(found) = blocked(view, answer) {
        return found;
    }
    refusal::by_server(view, answer)
}

fn stripped(view: &View<'_>, answer: &Answer, code: Code, evidence: Vec<String>) -> Diagnosis {
    let saw = marks::gateway_saw(answer);
    let culprit = stripper(view, answer, saw.as_ref());
    let what = match code {
        Code::UpgradeHttp10 => "sent the request on as HTTP/1.0, which knows no upgrade",
        _ => "took the upgrade out of the request",
    };
    let summary = match culprit {
        Culprit::TransparentProxy => format!("A transparent proxy on the way {what}."),
        Culprit::TlsInspection => format!("The box that inspects TLS {what}."),
        Culprit::HttpProxy => format!("The configured HTTP proxy {what}."),
        Culprit::ReverseProxy => format!("A proxy in front of the server {what}."),
        Culprit::LoadBalancer => format!("The load balancer in front of the server {what}."),
        Culprit::Cdn => format!("The CDN in front of the server {what}."),
        _ => "The request was answered as if it had asked for no upgrade.".to_owned(),
    };
    let plain = (200..300).contains(&answer.status);
    let how = match culprit {
        Culprit::TransparentProxy => {
            "Serve over wss:// on 443: such proxies do not look into TLS. On port 80 only the network's administrator can exempt the host.".to_owned()
        }
        Culprit::TlsInspection => {
            "Have the host exempted from TLS inspection, or WebSockets allowed by the box.".to_owned()
        }
        Culprit::HttpProxy => "Have the proxy tunnel this host without looking inside.".to_owned(),
        Culprit::Cdn => "Switch WebSockets on for this host with the CDN (Cloudflare: Network, WebSockets).".to_owned(),
        Culprit::LoadBalancer => {
            "Make the backend protocol HTTP/1.1 (not HTTP/2 or gRPC), and switch WebSockets on where the balancer has a switch.".to_owned()
        }
        _ if plain => format!(
            "If this path serves no WebSocket, correct the URL. Else a proxy in front drops Upgrade and Connection. {}",
            words::NGINX
        ),
        _ => words::NGINX.to_owned(),
    };
    let mark = marks::middle(answer).map(|mark| mark.evidence);
    let via = marks::via(answer).map(|via| format!("the answer passed {via:?}"));
    let found = Diagnosis::fault(code, culprit, summary).all_seen(evidence);
    let found = found.all_seen(mark.or(via)).all_seen(appeared(view, answer));
    found.all_seen(request_id(answer)).mend(how)
}

/// A box answered in the server's place.
fn blocked(view: &View<'_>, answer: &Answer) -> Option<Diagnosis> {
    if marks::is_tidegate(answer) {
        return None;
    }
    let location = answer.header("location").unwrap_or_default();
    let redirected = (300..400).contains(&answer.status);
    let elsewhere = redirected && !goes_to(location, &view.settings.target.host);
    let usual_of_boxes = matches!(answer.status, 400 | 405 | 407 | 501..=504 | 511);
    let other = view.upgrade(view.on_443()).and_then(|seen| seen.answer.as_ref());
    let squid = marks::middle(answer).is_some_and(|mark| mark.culprit == Culprit::TransparentProxy);
    let only_here = marks::via(answer).is_some()
        && other.is_some_and(|other| marks::via(other) != marks::via(answer));
    // Every answer of Tidegate has its mark, a redirect to TLS too.
    let not_tidegates = view.get(view.first).or(other).is_some_and(marks::is_tidegate);
    let culprit = match between(view) {
        Some(Culprit::TransparentProxy)
            if squid || only_here || not_tidegates || usual_of_boxes || elsewhere =>
        {
            Culprit::TransparentProxy
        }
        Some(Culprit::TlsInspection) if squid || not_tidegates || usual_of_boxes => {
            Culprit::TlsInspection
        }
        Some(Culprit::HttpProxy) => Culprit::HttpProxy,
        // Nobody opens TLS: it is a box of the server's own.
        None if not_tidegates && view.first.secure => marks::middle(answer)
            .map(|mark| mark.culprit)
            .filter(|culprit| *culprit != Culprit::TransparentProxy)
            .unwrap_or(Culprit::ReverseProxy),
        None if not_tidegates => Culprit::Unknown,
        // A login page, mostly; but a server without TLS may redirect as well.
        None if elsewhere && !view.first.secure && view.is_silent(443) => Culprit::Unknown,
        _ => return None,
    };
    let what = match culprit {
        Culprit::TransparentProxy if elsewhere => {
            "This network sends clear text to a page of its own (a login page, or a block)."
        }
        Culprit::TransparentProxy => "A transparent proxy answered in the server's place.",
        Culprit::TlsInspection => "The box that inspects TLS answered in the server's place.",
        Culprit::HttpProxy => "The configured HTTP proxy answered in the server's place.",
        Culprit::Unknown if elsewhere => {
            "Clear text is sent to another host and port 443 is silent, as networks do before one has logged in."
        }
        Culprit::Unknown => "A box on the way answered in the gateway's place.",
        _ => "A box in front of the gateway answered in its place.",
    };
    let got = view.get(view.first).filter(|got| marks::is_tidegate(got));
    let found =
        Diagnosis::fault(Code::UpgradeBlocked, culprit, what)
            .seen(told(answer))
            .all_seen(elsewhere.then(|| format!("it leads to {}", without_query(location))))
            .all_seen(marks::middle(answer).map(|mark| mark.evidence))
            .all_seen(marks::via(answer).map(|via| format!("the answer passed {via:?}")))
            .all_seen(got.map(|got| {
                format!("a plain GET is answered by the gateway itself ({})", got.status)
            }))
            .all_seen(appeared(view, answer));
    Some(found.mend(match culprit {
        Culprit::Unknown if elsewhere => {
            "Open that place in a browser: if it is this network's login page, log in. If it is the server's own, connect there; and have it serve wss:// on 443."
        }
        Culprit::Unknown | Culprit::ReverseProxy | Culprit::LoadBalancer | Culprit::Cdn => {
            "Have WebSockets allowed by the box that answers so: its log, or its page, says which one it is. Compare from another network to tell a box of this network \
             from one in front of the server."
        }
        Culprit::TlsInspection => "Have the host exempted from TLS inspection, or WebSockets allowed by the box.",
        Culprit::HttpProxy => "Have the proxy tunnel this host without looking inside.",
        _ => "Serve over wss:// on 443: such proxies do not look into TLS. On a network with a login page, log in first.",
    }))
}

/// Headers that this answer has and the one over TLS has not: what a box in between has added.
fn appeared(view: &View<'_>, answer: &Answer) -> Option<String> {
    let other = view.upgrade(view.on_443()).filter(|_| view.first != view.on_443())?;
    let other = other.answer.as_ref()?;
    let added = |name: &str| {
        let usual = name.starts_with("content-") || name.starts_with("tidegate-");
        !usual && name != "date" && name != "connection" && other.header(name).is_none()
    };
    let names: Vec<&str> =
        answer.headers.iter().map(|(name, _)| &**name).filter(|name| added(name)).collect();
    (!names.is_empty())
        .then(|| format!("headers that are not there over TLS: {}", names.join(", ")))
}

/// Whether a redirect stays with the host.
fn goes_to(location: &str, host: &str) -> bool {
    let Some((_, rest)) = location.split_once("://") else { return true };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let name = authority.trim_start_matches('[').split([']', ':']).next().unwrap_or_default();
    name.eq_ignore_ascii_case(host) || authority.trim_matches(['[', ']']).eq_ignore_ascii_case(host)
}

/// The request was sent, and nothing came that is HTTP.
fn no_answer(view: &View<'_>, seen: &UpgradeSeen) -> Diagnosis {
    let culprit = between(view).unwrap_or(match seen.outcome {
        Outcome::Garbled => Culprit::Server,
        _ => Culprit::Unknown,
    });
    let did = match seen.outcome {
        Outcome::Reset => "the connection was reset after the request",
        Outcome::Closed => "the connection was ended after the request, without an answer",
        Outcome::Silent => "the request was not answered",
        _ => "the answer is not HTTP",
    };
    let what = match culprit {
        Culprit::TransparentProxy => {
            "A transparent proxy cuts connections that ask for an upgrade."
        }
        Culprit::TlsInspection => {
            "The box that inspects TLS cuts connections that ask for an upgrade."
        }
        Culprit::HttpProxy => "The configured HTTP proxy cuts connections that ask for an upgrade.",
        Culprit::Server => "What answers on this port does not speak HTTP.",
        _ => "The connection stands, but the upgrade is not answered.",
    };
    let how = match culprit {
        Culprit::TransparentProxy => "Serve over wss:// on 443: such proxies do not look into TLS.",
        Culprit::TlsInspection => {
            "Have the host exempted from TLS inspection, or WebSockets allowed by the box."
        }
        Culprit::HttpProxy => "Have the proxy tunnel this host without looking inside.",
        Culprit::Server if !view.first.secure => "Check the port. If it speaks TLS, use wss://.",
        Culprit::Server => "Check the port, and what listens there.",
        _ => {
            "Compare from another network. If it fails there too, the server hangs or ends such requests: its log knows. If not, a box on this network cuts them: \
              use wss:// on 443."
        }
    };
    let words = seen.error.clone().filter(|_| seen.outcome != Outcome::Garbled);
    let got =
        view.get(view.first).map(|got| format!("a plain GET is answered with {}", got.status));
    Diagnosis::fault(Code::UpgradeBlocked, culprit, what)
        .seen(did)
        .all_seen(words)
        .all_seen(got)
        .mend(how)
}

/// A 101, which may be one that no client takes.
fn granted(view: &View<'_>, seen: &UpgradeSeen) -> Option<Diagnosis> {
    let answer = seen.answer.as_ref()?;
    let unasked = seen.chosen.as_ref().filter(|chosen| !seen.offered.contains(chosen));
    if !seen.faults.is_empty() || unasked.is_some() {
        let culprit = between(view).unwrap_or(Culprit::Server);
        let unasked = unasked.map(|chosen| format!("it chooses {chosen:?}, which was not offered"));
        return Some(
            Diagnosis::fault(
                Code::BadAccept,
                culprit,
                "The answer is a 101, but not one that a client may take (RFC 6455 §4.1).",
            )
            .all_seen(seen.faults.iter().cloned().chain(unasked))
            .all_seen(marks::middle(answer).map(|mark| mark.evidence))
            .mend(match culprit {
                Culprit::Server => {
                    "Mend the server, or the proxy in front of it: the answer has to have Upgrade, Connection and the Sec-WebSocket-Accept of this very request. A cache \
                     must not answer an upgrade."
                }
                Culprit::TransparentProxy => "Serve over wss:// on 443: such proxies do not look into TLS.",
                _ => "Have the host exempted from the box, or WebSockets allowed by it.",
            }),
        );
    }
    if seen.offered.is_empty() || seen.chosen.is_some() {
        return None;
    }
    let chosen_at = |attempt: Attempt| {
        view.upgrade(attempt)
            .filter(|_| attempt != view.first)
            .is_some_and(|seen| seen.chosen.is_some())
    };
    let culprit = if view.proxied() && chosen_at(view.direct()) {
        Culprit::HttpProxy
    } else if !view.first.secure && chosen_at(view.on_443()) {
        Culprit::TransparentProxy
    } else if marks::is_tidegate(answer) {
        Culprit::Backend
    } else {
        Culprit::Server
    };
    Some(
        Diagnosis::fault(
            Code::SubprotocolLost,
            culprit,
            "The upgrade is granted without a subprotocol, although some were offered: browsers end such a connection.",
        )
        .seen(format!("offered: {}; the answer has no Sec-WebSocket-Protocol", seen.offered.join(", ")))
        .mend(
            "Have the server choose one of them. If it does already, a proxy in front loses Sec-WebSocket-Protocol from the request or the answer: it \
             has to pass it both ways. A subprotocol has nothing to do with ports.",
        ),
    )
}
