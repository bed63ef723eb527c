//! Names and ports.

use super::{
    super::seen::{Outcome, PortOutcome, PortSeen},
    Code, Culprit, Diagnosis, marks,
    view::View,
    words,
};
use crate::networks::{self, Transport};

/// A name without an address.
pub(super) fn resolution(view: &View<'_>) -> Option<Diagnosis> {
    let seen = view.resolution()?;
    let error = seen.error.as_ref()?;
    Some(
        Diagnosis::fault(
            Code::ResolutionFailed,
            Culprit::Resolver,
            format!("The name {} has no address here.", seen.host),
        )
        .seen(error.clone())
        .mend(
            "Check the spelling, then ask another resolver (`dig NAME @1.1.1.1`). If that one knows the name, this network's \
             resolver blocks it or has an older view: its administrator can say. If none knows it, the A or AAAA record is \
             missing: add it to the zone.",
        ),
    )
}

/// Whether the URL's port can be reached.
pub(super) fn judge(view: &View<'_>) -> Vec<Diagnosis> {
    let seen: Vec<_> = view.knocks(view.first.port).collect();
    if seen.is_empty() {
        return Vec::new();
    }
    if seen.iter().any(|seen| seen.outcome == PortOutcome::Connected) {
        return some_addresses(&seen).into_iter().collect();
    }
    let mut found = closed(view, &seen);
    if view.works_on_443() {
        let url = view.settings.target.url(true, 443);
        found = found.seen(format!("{url} works"));
        found.how = format!("Use {url}, which works. {}", found.how);
    }
    vec![found]
}

fn closed(view: &View<'_>, seen: &[&PortSeen]) -> Diagnosis {
    let port = view.first.port;
    let tell = |seen: &PortSeen| words::knock(seen);
    let has = |outcome| seen.iter().any(|seen| seen.outcome == outcome);
    let elsewhere = view.answers_elsewhere();
    let evidence = seen.iter().map(|seen| tell(seen)).chain(elsewhere.map(tell));
    if let Some(found) = not_proxied(view) {
        return found.all_seen(evidence);
    }
    let open_it = format!(
        "Let clients use wss:// on port 443, which networks let through; or have TCP port {port} opened, first at the server \
         (security group, firewall rules), then in the network of the clients that hang. From another network the same \
         command tells which of both it is."
    );
    let found = if has(PortOutcome::Silent) {
        match elsewhere {
            Some(_) => Diagnosis::fault(
                Code::PortSilent,
                Culprit::Firewall,
                format!("A firewall drops connections to port {port}: the host answers on other ports, on this one nobody says a word."),
            )
            .mend(open_it),
            None => Diagnosis::fault(
                Code::PortSilent,
                Culprit::Unknown,
                format!("Nobody answers on port {port}, nor on 443 or 80."),
            )
            .by("whoever runs the server; if it can be reached from elsewhere, the administrator of this network")
            .mend(
                "The host may be down, the address an old one, or a firewall may drop everything. Compare from another network; \
                 check the address in DNS, the security group and that the server runs.",
            ),
        }
    } else if has(PortOutcome::Refused) {
        Diagnosis::fault(
            Code::PortRefused,
            Culprit::Server,
            format!("Nothing listens on port {port}: the connection is refused at once."),
        )
        .mend(format!(
            "Check the port of the URL, and that the server, the Service or the load balancer has a listener on {port}. A firewall that \
             rejects looks the same: if it is open from elsewhere, the network's administrator has to allow it."
        ))
    } else if has(PortOutcome::Reset) {
        let culprit = if elsewhere.is_some() { Culprit::Firewall } else { Culprit::Unknown };
        Diagnosis::fault(
            Code::PortReset,
            culprit,
            format!("Connections to port {port} are reset while they are being made."),
        )
        .mend(open_it)
    } else {
        unreachable(view, seen, elsewhere.is_some())
    };
    found.all_seen(evidence)
}

/// No way there, as the system or a router says. That counts among the refused: somebody said no.
fn unreachable(view: &View<'_>, seen: &[&PortSeen], elsewhere: bool) -> Diagnosis {
    let port = view.first.port;
    let no_route = |seen: &&PortSeen| {
        seen.error.as_deref().is_some_and(|error| error.contains("Network is unreachable"))
    };
    let (culprit, summary) = if elsewhere {
        (Culprit::Firewall, format!("A firewall rejects connections to port {port}."))
    } else if seen.iter().all(no_route) {
        (Culprit::Client, "This machine has no route to the server's addresses.".to_owned())
    } else {
        (Culprit::Unknown, "There is no way to the server's addresses.".to_owned())
    };
    Diagnosis::fault(Code::PortRefused, culprit, summary).mend(
        "Check the network of this machine (`ip route`, VPN), and whether the addresses are private ones of another network. Where only \
         IPv6 addresses are found and this network has none, the server needs an A record.",
    )
}

/// A cloud in front that does not pass this port on.
fn not_proxied(view: &View<'_>) -> Option<Diagnosis> {
    let answer = view.upgrade(view.on_443()).and_then(|seen| seen.answer.as_ref());
    let marked =
        answer.and_then(marks::middle).and_then(|mark| Some((mark.network?, mark.evidence)));
    let addresses = view.knocks(view.first.port).map(|seen| seen.address.ip());
    let (network, evidence) = marked.or_else(|| {
        let known = |address| networks::by_address(address).map(|network| (address, network));
        let (address, network) = addresses.into_iter().find_map(known)?;
        Some((network, format!("{address} is an address of {}", network.title)))
    })?;
    let port = view.first.port;
    let passes = |transport| network.passes(transport, port);
    if passes(Transport::Tls) || passes(Transport::Plain) {
        return None;
    }
    Some(
        Diagnosis::fault(
            Code::PortNotProxied,
            marks::culprit_of(network),
            format!("{} stands in front, and does not pass port {port} on.", network.title),
        )
        .seen(evidence)
        .mend(format!(
            "Serve on 443. {} passes {} over TLS and {} in clear text. {}",
            network.title,
            network.ports_in_words(Transport::Tls),
            network.ports_in_words(Transport::Plain),
            network.notes.iter().find(|note| note.contains("ports")).map_or("", |note| note),
        )),
    )
}

/// Some addresses are open and others are not. Where this machine has no way to an address at all that says nothing.
fn some_addresses(seen: &[&PortSeen]) -> Option<Diagnosis> {
    let shut = [PortOutcome::Silent, PortOutcome::Refused, PortOutcome::Reset];
    let closed: Vec<_> = seen.iter().filter(|seen| shut.contains(&seen.outcome)).collect();
    let first = closed.first()?;
    let (code, what) = match first.outcome {
        PortOutcome::Silent => (Code::PortSilent, "does not answer"),
        PortOutcome::Reset => (Code::PortReset, "resets connections"),
        _ => (Code::PortRefused, "refuses connections"),
    };
    Some(
        Diagnosis::warning(
            code,
            Culprit::Unknown,
            format!("One of the host's addresses {what}: clients that take it wait, or fail."),
        )
        .all_seen(closed.iter().map(|seen| words::knock(seen)))
        .by("whoever runs the server, or its DNS records")
        .mend("Take the address out of DNS, or make the server listen there. For an IPv6 address, check its firewall as well: it has rules of its own."),
    )
}

/// A connection that was made and then reset at the first bytes: some firewalls look at the protocol before they decide.
pub(super) fn reset_at_tls(view: &View<'_>) -> Diagnosis {
    let port = view.first.port;
    let elsewhere = view.on_443() != view.first
        && view.tls(view.on_443()).is_some_and(|seen| seen.outcome == Outcome::Done);
    let culprit = if elsewhere { Culprit::Firewall } else { Culprit::Unknown };
    Diagnosis::fault(
        Code::PortReset,
        culprit,
        format!("The connection to port {port} is reset as soon as TLS begins."),
    )
    .seen("the connection was made, and reset after the ClientHello")
    .mend(
        "Compare from another network. If it works there, a firewall on this one resets it, for its port or for the name in the ClientHello: \
         its administrator can allow the host. If not, look at what listens on the port.",
    )
}
