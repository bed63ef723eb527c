//! Sentences that more than one diagnosis has.

use super::{
    super::seen::{Answer, CloseSeen, PortOutcome, PortSeen},
    Culprit, marks,
    view::View,
};
use crate::networks::{self, Network};

/// The lines that nginx needs.
pub(super) const NGINX: &str = "In nginx, in the location: `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"Upgrade\"; \
     proxy_set_header Host $host; proxy_read_timeout 1h;`.";

/// Who can mend what a box does.
pub(super) const fn who(culprit: Culprit) -> &'static str {
    match culprit {
        Culprit::Resolver => "whoever runs this network's resolver, or the domain's zone",
        Culprit::Firewall => {
            "the administrator of the firewall: at the server, or of the network that the client is in"
        }
        Culprit::TransparentProxy => {
            "the administrator of the network that the client is in; the server's side can go round it with wss:// on 443"
        }
        Culprit::TlsInspection => "the administrator of the network that the client is in",
        Culprit::HttpProxy => "the administrator of the proxy",
        Culprit::ReverseProxy => "whoever runs the proxy in front of the server",
        Culprit::LoadBalancer => "whoever runs the load balancer in front of the server",
        Culprit::Cdn => "whoever has the account with the CDN",
        Culprit::Gateway => "the operator of the gateway, or the owner of the route",
        Culprit::Backend => "the owner of the backend behind the gateway",
        Culprit::Server => "whoever runs the server",
        Culprit::Client => "you, on this machine",
        Culprit::Unknown => {
            "not clear yet: whoever runs the server, or the administrator of the network that the client is in"
        }
    }
}

/// One connection attempt, in words.
pub(super) fn knock(seen: &PortSeen) -> String {
    let what = match seen.outcome {
        PortOutcome::Connected => "connected".to_owned(),
        PortOutcome::Refused => "refused".to_owned(),
        PortOutcome::Reset => "reset".to_owned(),
        PortOutcome::Silent => "no answer".to_owned(),
        PortOutcome::Unreachable | PortOutcome::Failed => {
            seen.error.clone().unwrap_or_else(|| "failed".to_owned())
        }
    };
    format!("{}: {what}", seen.address)
}

/// A length of time as people say it.
pub(super) fn seconds(ms: u64) -> String {
    match ms {
        0..=9_949 => format!("{}.{} s", (ms + 50) / 1000, (ms + 50) % 1000 / 100),
        9_950..=119_999 => format!("{} s", (ms + 500) / 1000),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// A Close frame, in words.
pub(super) fn close(seen: &CloseSeen) -> String {
    match (seen.code, &*seen.reason) {
        (None, _) => "without a code".to_owned(),
        (Some(code), "") => code.to_string(),
        (Some(code), reason) => format!("{code} ({reason})"),
    }
}

/// Whose default that time is, if it is one of a known cloud.
pub(super) fn usual_for(ms: u64) -> Option<String> {
    let near = |seconds: u64| {
        let usual = seconds * 1000;
        ms.abs_diff(usual) <= (usual / 20).max(1_500)
    };
    let of_cloud = |network: &'static Network| {
        let limit =
            network.idle.iter().chain(&network.lifetime).find(|limit| near(limit.default))?;
        Some((limit.default, &*network.title))
    };
    let found: Vec<_> = networks::all().iter().filter_map(of_cloud).collect();
    let (seconds, _) = found.first()?;
    let names: Vec<_> = found.iter().map(|(_, name)| *name).collect();
    Some(format!("{seconds} s is the default of {}", names.join(" and of ")))
}

/// What to do about an idle time-out, with whether pings prevented it and how often they came.
pub(super) fn mend_idle(
    culprit: Culprit,
    network: Option<&Network>,
    life: &str,
    pings: Option<(bool, &str)>,
) -> String {
    if let Some((false, _)) = pings {
        return format!(
            "Pings do not prevent it, so it is no idle time-out but a limit on the whole life of a connection: {life}. Raise it (Google Cloud: the \
             backend service's timeoutSec; Azure Application Gateway: the request time-out; nginx and HAProxy count idle time only), and let clients \
             connect again."
        );
    }
    let ping = match pings {
        Some((true, every)) => format!(
            "Pings prevent it, one every {every} or more often: with Tidegate, `keepalive.clientPing` of the route; else in the server or the client."
        ),
        _ => "Send pings more often than that: with Tidegate, `keepalive.clientPing` of the route."
            .to_owned(),
    };
    let setting = network.and_then(|network| network.idle.as_ref().or(network.lifetime.as_ref()));
    let raise = match culprit {
        _ if setting.is_some() => {
            setting.map(|limit| format!(" Or change {}.", limit.setting)).unwrap_or_default()
        }
        Culprit::Gateway => " Or raise `timeouts.idle` of the route.".to_owned(),
        Culprit::Server => " Or raise the server's own idle time-out.".to_owned(),
        Culprit::ReverseProxy => {
            " Or raise the proxy's time-out (nginx: `proxy_read_timeout 1h;`, 60 s unless set)."
                .to_owned()
        }
        Culprit::LoadBalancer => {
            " Or raise the balancer's idle time-out (AWS ALB: idle_timeout.timeout_seconds; HAProxy: `timeout tunnel`)."
                .to_owned()
        }
        Culprit::Firewall => {
            " The table of a firewall or of NAT forgets quiet connections: only its administrator can change that."
                .to_owned()
        }
        _ => String::new(),
    };
    format!("{ping}{raise}")
}

/// What is good to know and no fault.
pub(super) fn notes(view: &View<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let url = &view.settings.target;
    if view.proxied() && view.is_sound(view.first) && !view.is_sound(view.direct()) {
        notes.push(
            "It works through the proxy only: clients that do not use it cannot connect from here."
                .to_owned(),
        );
    }
    if !url.secure && view.is_sound(view.first) {
        notes.push(
            "This is clear text: pages on https:// may not open ws://, and proxies on other networks will break it. Production is wss:// on port 443."
                .to_owned(),
        );
    } else if view.is_sound(view.first) && !matches!(url.port, 80 | 443) {
        notes.push(format!(
            "Port {} is let through here, but many networks pass 443 only: for the public, serve on 443.",
            url.port
        ));
    }
    if view.upgrade(view.first).is_some_and(|seen| seen.withheld) {
        notes.push(
            "As the certificate was not verified, query and --header were not sent; --insecure sends them."
                .to_owned(),
        );
    }
    notes
}

/// The answer in words.
pub(super) fn told(answer: &Answer) -> String {
    match &*answer.body {
        "" => format!("the answer was {}", answer.status),
        body => format!("the answer was {}: {body}", answer.status),
    }
}

/// The id under which the gateway's log has the request.
pub(super) fn request_id(answer: &Answer) -> Option<String> {
    let id = answer.header("x-request-id").filter(|_| marks::is_tidegate(answer))?;
    Some(format!("the gateway's log has it as request_id {id}"))
}

/// Where a redirect leads to, without what may be secret.
pub(super) fn without_query(location: &str) -> &str {
    location.split('?').next().unwrap_or_default()
}
