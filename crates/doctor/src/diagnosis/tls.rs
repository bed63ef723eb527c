//! Certificates, and who opens TLS on the way.

use super::{
    super::seen::{Anchor, Outcome, TlsSeen},
    Code, Culprit, Diagnosis, Severity, port,
    view::View,
};

/// What is wrong with TLS on the first way.
pub(super) fn judge(view: &View<'_>) -> Vec<Diagnosis> {
    let Some(seen) = view.tls(view.first) else { return Vec::new() };
    if seen.outcome != Outcome::Done {
        return vec![no_handshake(view, seen)];
    }
    let interception = view.interception(view.first);
    if !interception.is_empty() {
        return vec![intercepted(seen, interception)];
    }
    let mut found: Vec<_> =
        [expired(seen), wrong_name(view, seen), untrusted(seen)].into_iter().flatten().collect();
    if view.settings.trust.insecure {
        // As asked for.
        found.iter_mut().for_each(|found| found.severity = Severity::Warning);
    }
    found
}

fn no_handshake(view: &View<'_>, seen: &TlsSeen) -> Diagnosis {
    let error = seen.error.clone().unwrap_or_default();
    let port = view.first.port;
    let fault = |culprit, summary: String| Diagnosis::fault(Code::TlsFailed, culprit, summary);
    let found = match seen.outcome {
        Outcome::Reset if seen.chain.is_empty() => return port::reset_at_tls(view),
        Outcome::Garbled => {
            fault(Culprit::Server, format!("What answers on port {port} does not speak TLS.")).mend(
                "If the port is meant for clear text, use ws:// (on private networks only); else configure the certificate on this listener. \
                 Where a load balancer ends TLS, its backend protocol must not be TLS too, nor clear text where the backend wants TLS.",
            )
        }
        Outcome::Silent => fault(
            Culprit::Unknown,
            format!("Port {port} takes connections, but nobody answers the TLS handshake."),
        )
        .by("whoever runs the server; if it works from elsewhere, the administrator of this network")
        .mend(
            "Some box accepts the connection and passes nothing on: a load balancer without a backend, or a firewall that looks inside. Compare \
             from another network.",
        ),
        Outcome::Closed | Outcome::Reset => fault(
            Culprit::Unknown,
            format!("The connection to port {port} is ended during the TLS handshake."),
        )
        .by("whoever runs the server; if it works from elsewhere, the administrator of this network")
        .mend(
            "Compare from another network. If it fails there too, look at the server's log: a listener without a certificate, or one that serves \
             known names (SNI) only. If not, a box on this network forbids the name.",
        ),
        _ => fault(Culprit::Server, "The TLS handshake fails.".to_owned()).mend(
            "The error says what the server objects to: \"protocol version\" means that it knows nothing newer than TLS 1.1, \"unrecognised name\" that it has \
             no certificate for this host, \"certificate required\" that it wants one of the client.",
        ),
    };
    if error.is_empty() { found } else { found.seen(error) }
}

fn intercepted(seen: &TlsSeen, evidence: Vec<String>) -> Diagnosis {
    // Clients that trust the box go on, unless this one was told what to expect.
    let stops = !seen.is_verified();
    let summary = "Something opens TLS on the way: the certificate is not the server's own.";
    let found = if stops {
        Diagnosis::fault(Code::TlsIntercepted, Culprit::TlsInspection, summary)
    } else {
        Diagnosis::warning(
            Code::TlsIntercepted,
            Culprit::TlsInspection,
            "TLS is probably opened on the way: the certificate is of an authority that only this machine trusts.",
        )
    };
    let how = if stops {
        "Have the host exempted from TLS inspection, and WebSockets with it. Clients that are to work through the box need its root certificate; if this is your own \
         private authority and no box, name it with --ca FILE."
    } else {
        "It works as long as the box passes upgrades and frames; where connections fail now and then, have the host exempted from TLS inspection. If this is your own private \
         authority and no box, name it with --ca FILE."
    };
    found.all_seen(evidence).mend(how)
}

fn expired(seen: &TlsSeen) -> Option<Diagnosis> {
    let why = seen.out_of_date.clone()?;
    Some(
        Diagnosis::fault(Code::TlsExpired, Culprit::Server, "The certificate is out of date.")
            .seen(why)
            .mend(
                "Renew it; with cert-manager, `kubectl describe certificate` says why it was not renewed. If the date is right, look at the clock of this \
                 machine.",
            ),
    )
}

fn wrong_name(view: &View<'_>, seen: &TlsSeen) -> Option<Diagnosis> {
    if seen.name_fits || seen.chain.is_empty() {
        return None;
    }
    let host = &view.settings.target.host;
    let names = match seen.names.len() {
        0 => "no name at all (clients look at subjectAltName only)".to_owned(),
        1..=8 => seen.names.join(", "),
        more => format!("{} and {} more", seen.names[..8].join(", "), more - 8),
    };
    Some(
        Diagnosis::fault(
            Code::TlsWrongName,
            Culprit::Server,
            format!("The certificate is not for {host}."),
        )
        .seen(format!("it is for {names}"))
        .mend(format!(
            "Connect by a name that it is for, or have a certificate made for {host}. A default certificate means that no certificate is configured for \
             this name: with Tidegate, `kubectl get wsr` and the route's hostnames and tls.secretName."
        )),
    )
}

/// A certificate of nobody known. Unless it is signed by itself it may be of a box in between as well as of the server's own
/// authority.
fn untrusted(seen: &TlsSeen) -> Option<Diagnosis> {
    if seen.anchor != Anchor::Nobody {
        return None;
    }
    let leaf = seen.chain.first();
    let self_signed = leaf.is_some_and(|leaf| leaf.subject == leaf.issuer);
    let found = Diagnosis::fault(
        Code::TlsUntrusted,
        if self_signed { Culprit::Server } else { Culprit::Unknown },
        "Nobody that this machine knows vouches for the certificate.",
    );
    let found = match leaf {
        Some(_) if self_signed => found.seen("it is signed by itself"),
        Some(leaf) => found.seen(format!("it is issued by {:?}", leaf.issuer)),
        None => found,
    };
    let alone = if seen.chain.len() == 1 {
        " If it is a public intermediate, the server sends its own certificate alone: put the full chain (fullchain.pem) into the Secret."
    } else {
        ""
    };
    let how = if self_signed {
        "Serve a certificate of a public authority (cert-manager with Let's Encrypt), or give clients this one as their CA; here: --ca FILE.".to_owned()
    } else {
        format!(
            "Look at the issuer. If it is the server's own private authority, give clients its root; here: --ca FILE.{alone} If it is nobody you know, something opens TLS on \
             the way: compare from another network, and have the host exempted from TLS inspection."
        )
    };
    Some(found.mend(how))
}
