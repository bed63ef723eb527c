//! What the steps mean: which box is to blame, who can mend it and how. Pure: no I/O, no clock.
//!
//! A box is blamed only where what was seen fits no other one; else it is `unknown`, and the sentences say what could be.

mod marks;
mod messages;
mod port;
mod proxy;
mod refusal;
mod tls;
mod upgrade;
mod view;
mod words;

use serde::Serialize;

use self::view::View;
use super::{
    Settings,
    seen::{IdleEnd, IdleSeen, Step},
};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The name has no address, or the resolver did not say.
    ResolutionFailed,
    /// The proxy cannot be reached.
    ProxyUnreachable,
    /// The proxy refuses the tunnel.
    ProxyRefused,
    /// The proxy wants other credentials.
    ProxyAuth,
    /// A SYN is answered with RST.
    PortRefused,
    /// The connection is reset before anything was said.
    PortReset,
    /// A SYN is not answered.
    PortSilent,
    /// The cloud in front does not pass this port on.
    PortNotProxied,
    /// The certificate is over, or not begun.
    TlsExpired,
    /// The certificate is for other names.
    TlsWrongName,
    /// Nobody known vouches for the certificate.
    TlsUntrusted,
    /// There is no TLS to be had.
    TlsFailed,
    /// A box in between has its own certificate for this name.
    TlsIntercepted,
    /// The server or the gateway says no.
    UpgradeRefused,
    /// A box took the upgrade out of the request.
    UpgradeStripped,
    /// A box made it HTTP/1.0.
    UpgradeHttp10,
    /// A box answered in the server's place, or cut the connection.
    UpgradeBlocked,
    /// The 101 is not one that a client may take.
    BadAccept,
    /// None of the subprotocols is taken.
    SubprotocolDenied,
    /// The 101 names no subprotocol although some were offered.
    SubprotocolLost,
    /// The upgrade is granted, but frames do not pass.
    NoMessages,
    /// A quiet socket is cut.
    IdleCut,
}

impl Code {
    /// Every code, for tests and docs.
    pub const ALL: [Self; 22] = [
        Self::ResolutionFailed,
        Self::ProxyUnreachable,
        Self::ProxyRefused,
        Self::ProxyAuth,
        Self::PortRefused,
        Self::PortReset,
        Self::PortSilent,
        Self::PortNotProxied,
        Self::TlsExpired,
        Self::TlsWrongName,
        Self::TlsUntrusted,
        Self::TlsFailed,
        Self::TlsIntercepted,
        Self::UpgradeRefused,
        Self::UpgradeStripped,
        Self::UpgradeHttp10,
        Self::UpgradeBlocked,
        Self::BadAccept,
        Self::SubprotocolDenied,
        Self::SubprotocolLost,
        Self::NoMessages,
        Self::IdleCut,
    ];

    /// The word in `--json` and in the docs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ResolutionFailed => "resolution_failed",
            Self::ProxyUnreachable => "proxy_unreachable",
            Self::ProxyRefused => "proxy_refused",
            Self::ProxyAuth => "proxy_auth",
            Self::PortRefused => "port_refused",
            Self::PortReset => "port_reset",
            Self::PortSilent => "port_silent",
            Self::PortNotProxied => "port_not_proxied",
            Self::TlsExpired => "tls_expired",
            Self::TlsWrongName => "tls_wrong_name",
            Self::TlsUntrusted => "tls_untrusted",
            Self::TlsFailed => "tls_failed",
            Self::TlsIntercepted => "tls_intercepted",
            Self::UpgradeRefused => "upgrade_refused",
            Self::UpgradeStripped => "upgrade_stripped",
            Self::UpgradeHttp10 => "upgrade_http10",
            Self::UpgradeBlocked => "upgrade_blocked",
            Self::BadAccept => "bad_accept",
            Self::SubprotocolDenied => "subprotocol_denied",
            Self::SubprotocolLost => "subprotocol_lost",
            Self::NoMessages => "no_messages",
            Self::IdleCut => "idle_cut",
        }
    }

    /// The exit code of its class.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::ResolutionFailed => 10,
            Self::PortRefused | Self::PortReset | Self::PortSilent | Self::PortNotProxied => 11,
            Self::TlsExpired | Self::TlsWrongName | Self::TlsUntrusted | Self::TlsFailed => 12,
            Self::TlsIntercepted => 13,
            Self::UpgradeRefused => 14,
            Self::UpgradeStripped
            | Self::UpgradeHttp10
            | Self::UpgradeBlocked
            | Self::BadAccept => 15,
            Self::SubprotocolDenied | Self::SubprotocolLost => 16,
            Self::NoMessages => 17,
            Self::IdleCut => 18,
            Self::ProxyUnreachable | Self::ProxyRefused | Self::ProxyAuth => 19,
        }
    }
}

/// The box that is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Culprit {
    /// Name resolution.
    Resolver,
    /// What drops packets.
    Firewall,
    /// A proxy that nobody configured, in the way of clear text.
    TransparentProxy,
    /// A proxy that opens TLS with a certificate of its own.
    TlsInspection,
    /// The proxy that clients are configured for.
    HttpProxy,
    /// A proxy in front of the server, such as nginx.
    ReverseProxy,
    /// The cloud's balancer.
    LoadBalancer,
    /// A content delivery network.
    Cdn,
    /// Tidegate.
    Gateway,
    /// What is behind the gateway.
    Backend,
    /// The server, where nothing is known of its parts.
    Server,
    /// This machine, or what was asked.
    Client,
    /// More than one could be it.
    Unknown,
}

impl Culprit {
    /// Every box, for tests and docs.
    pub const ALL: [Self; 13] = [
        Self::Resolver,
        Self::Firewall,
        Self::TransparentProxy,
        Self::TlsInspection,
        Self::HttpProxy,
        Self::ReverseProxy,
        Self::LoadBalancer,
        Self::Cdn,
        Self::Gateway,
        Self::Backend,
        Self::Server,
        Self::Client,
        Self::Unknown,
    ];

    /// The word in `--json` and in the docs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolver => "resolver",
            Self::Firewall => "firewall",
            Self::TransparentProxy => "transparent_proxy",
            Self::TlsInspection => "tls_inspection",
            Self::HttpProxy => "http_proxy",
            Self::ReverseProxy => "reverse_proxy",
            Self::LoadBalancer => "load_balancer",
            Self::Cdn => "cdn",
            Self::Gateway => "gateway",
            Self::Backend => "backend",
            Self::Server => "server",
            Self::Client => "client",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether clients are kept from working.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// They are; it decides the exit code.
    Fault,
    /// Not by it alone.
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnosis {
    /// What is wrong.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// Which box does it.
    #[serde(rename = "box")]
    pub culprit: Culprit,
    /// One sentence.
    pub summary: String,
    /// What was seen that says so.
    pub evidence: Vec<String>,
    /// Who can mend it.
    pub who: String,
    /// And how.
    pub how: String,
}

impl Diagnosis {
    fn fault(code: Code, culprit: Culprit, summary: impl Into<String>) -> Self {
        let (summary, evidence) = (summary.into(), Vec::new());
        let (who, how) = (words::who(culprit).to_owned(), String::new());
        Self { code, severity: Severity::Fault, culprit, summary, evidence, who, how }
    }

    fn warning(code: Code, culprit: Culprit, summary: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::fault(code, culprit, summary) }
    }

    fn seen(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    fn all_seen(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    fn by(mut self, who: impl Into<String>) -> Self {
        self.who = who.into();
        self
    }

    fn mend(mut self, how: impl Into<String>) -> Self {
        self.how = how.into();
        self
    }
}

/// All that the steps mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Faults in the order of the way, then warnings.
    pub diagnoses: Vec<Diagnosis>,
    /// What is good to know and no fault.
    pub notes: Vec<String>,
}

impl Verdict {
    /// That of the first fault; 0 where there is none.
    pub fn exit_code(&self) -> u8 {
        let fault = self.diagnoses.iter().find(|found| found.severity == Severity::Fault);
        fault.map_or(0, |fault| fault.code.exit_code())
    }
}

/// Says what the steps mean.
pub fn diagnose(settings: &Settings, steps: &[Step]) -> Verdict {
    let view = View::new(settings, steps);
    let mut diagnoses = Vec::new();
    if view.proxied() {
        diagnoses.extend(proxy::judge(&view));
    } else {
        diagnoses.extend(port::resolution(&view));
        diagnoses.extend(port::judge(&view));
    }
    diagnoses.extend(tls::judge(&view));
    diagnoses.extend(upgrade::judge(&view));
    diagnoses.extend(messages::judge(&view));
    diagnoses.extend(messages::http2(&view));
    diagnoses.extend(view.idle().and_then(|seen| idle(&view, seen)));
    diagnoses.sort_by_key(|found| found.severity == Severity::Warning);
    Verdict { diagnoses, notes: words::notes(&view) }
}

/// A quiet socket that was cut.
fn idle(view: &View<'_>, seen: &IdleSeen) -> Option<Diagnosis> {
    let answer = view.upgrade(view.first).and_then(|upgrade| upgrade.answer.as_ref());
    let life = words::seconds(seen.after_ms);
    let marked = answer.and_then(marks::middle);
    let culprit = match seen.end {
        // A socket that is never quiet tells nothing of those that are.
        IdleEnd::Held | IdleEnd::Flooded => return None,
        // Boxes cut; only who speaks the protocol says goodbye.
        IdleEnd::CloseFrame if answer.is_some_and(marks::is_tidegate) => Culprit::Gateway,
        IdleEnd::CloseFrame => Culprit::Server,
        IdleEnd::Dead => Culprit::Firewall,
        _ if view.proxied() || view.is_intercepted(view.first) => Culprit::Unknown,
        IdleEnd::Closed | IdleEnd::Reset => match &marked {
            Some(mark) if mark.culprit != Culprit::TransparentProxy => mark.culprit,
            _ => Culprit::LoadBalancer,
        },
    };
    let ended = match (seen.end, &seen.close) {
        (IdleEnd::CloseFrame, Some(close)) => {
            format!("after {life} it said Close {}", words::close(close))
        }
        (IdleEnd::Dead, _) => {
            format!("after {life} the socket seemed open, but a ping was not answered any more")
        }
        (IdleEnd::Reset, _) => format!("after {life} the connection was reset"),
        _ => format!("after {life} the TCP connection was ended without a Close frame"),
    };
    let summary = match seen.end {
        IdleEnd::Dead => format!("A quiet connection is forgotten within {life}."),
        _ => format!("A quiet connection is cut after {life}."),
    };
    let mut found = Diagnosis::fault(Code::IdleCut, culprit, summary).seen(ended);
    let network = marked.as_ref().and_then(|mark| mark.network);
    found = found.all_seen(marked.map(|mark| mark.evidence));
    if culprit == Culprit::LoadBalancer && network.is_none() {
        found = found.all_seen(words::usual_for(seen.after_ms));
    }
    if seen.frames > 0 {
        found = found.seen(format!("the server had sent {} frames meanwhile", seen.frames));
    }
    let prevented =
        seen.pinged.as_ref().map(|pinged| (pinged.held, words::seconds(pinged.every_ms)));
    found = match &prevented {
        Some((true, every)) => found.seen(format!("with a ping every {every} it was held")),
        Some((false, every)) => {
            found.seen(format!("with a ping every {every} it was cut all the same"))
        }
        None => found,
    };
    let how = words::mend_idle(
        culprit,
        network,
        &life,
        prevented.as_ref().map(|(held, every)| (*held, &**every)),
    );
    Some(found.mend(how))
}

#[cfg(test)]
mod tests;
