//! The steps, looked up by attempt.

use super::super::{
    Settings,
    seen::{
        Anchor, Answer, Attempt, Http2Seen, IdleSeen, MessagesSeen, Outcome, PortOutcome, PortSeen,
        ProxySeen, Resolution, Seen, Step, TlsSeen, UpgradeSeen, Way,
    },
};
use super::marks;

/// What was asked, and what was seen.
pub(super) struct View<'a> {
    pub(super) settings: &'a Settings,
    steps: &'a [Step],
    /// The way of clients on this machine.
    pub(super) first: Attempt,
}

impl<'a> View<'a> {
    pub(super) fn new(settings: &'a Settings, steps: &'a [Step]) -> Self {
        let way = if settings.proxy.is_some() { Way::Proxy } else { Way::Direct };
        let first = Attempt { way, secure: settings.target.secure, port: settings.target.port };
        Self { settings, steps, first }
    }

    pub(super) fn proxied(&self) -> bool {
        self.first.way == Way::Proxy
    }

    /// The same without the proxy.
    pub(super) fn direct(&self) -> Attempt {
        Attempt { way: Way::Direct, ..self.first }
    }

    /// The comparison over TLS on 443.
    pub(super) fn on_443(&self) -> Attempt {
        Attempt { secure: true, port: 443, ..self.first }
    }

    fn of<T>(&self, attempt: Attempt, pick: impl Fn(&'a Seen) -> Option<&'a T>) -> Option<&'a T> {
        let steps = self.steps.iter().filter(|step| step.attempt == Some(attempt));
        steps.filter_map(|step| pick(&step.seen)).next()
    }

    pub(super) fn resolution(&self) -> Option<&'a Resolution> {
        self.steps.iter().find_map(|step| match &step.seen {
            Seen::Resolve(seen) => Some(seen),
            _ => None,
        })
    }

    pub(super) fn knocks(&self, port: u16) -> impl Iterator<Item = &'a PortSeen> {
        self.steps.iter().filter_map(move |step| match &step.seen {
            Seen::Connect(seen) if seen.address.port() == port => Some(seen),
            _ => None,
        })
    }

    /// Whether no address of the host said a word on this port.
    pub(super) fn is_silent(&self, port: u16) -> bool {
        let mut seen = self.knocks(port).peekable();
        seen.peek().is_some() && seen.all(|seen| seen.outcome == PortOutcome::Silent)
    }

    /// Whether the host gave any answer on another port than the URL's.
    pub(super) fn answers_elsewhere(&self) -> Option<&'a PortSeen> {
        let others = [443, 80].into_iter().filter(|port| *port != self.first.port);
        let seen: Vec<_> = others.flat_map(|port| self.knocks(port)).collect();
        let with = |outcome| seen.iter().copied().find(|seen| seen.outcome == outcome);
        with(PortOutcome::Connected).or_else(|| with(PortOutcome::Refused))
    }

    pub(super) fn proxy(&self, attempt: Attempt) -> Option<&'a ProxySeen> {
        self.of(attempt, |seen| match seen {
            Seen::Proxy(seen) => Some(seen),
            _ => None,
        })
    }

    pub(super) fn tls(&self, attempt: Attempt) -> Option<&'a TlsSeen> {
        self.of(attempt, |seen| match seen {
            Seen::Tls(seen) => Some(seen),
            _ => None,
        })
    }

    pub(super) fn upgrade(&self, attempt: Attempt) -> Option<&'a UpgradeSeen> {
        self.of(attempt, |seen| match seen {
            Seen::Upgrade(seen) if !seen.retry => Some(seen),
            _ => None,
        })
    }

    /// The same without subprotocols.
    pub(super) fn retry(&self, attempt: Attempt) -> Option<&'a UpgradeSeen> {
        self.of(attempt, |seen| match seen {
            Seen::Upgrade(seen) if seen.retry => Some(seen),
            _ => None,
        })
    }

    /// The same path, asked for without an upgrade.
    pub(super) fn get(&self, attempt: Attempt) -> Option<&'a Answer> {
        let seen = self.of(attempt, |seen| match seen {
            Seen::Get(seen) => Some(seen),
            _ => None,
        });
        seen.and_then(|seen| seen.answer.as_ref())
    }

    pub(super) fn messages(&self, attempt: Attempt) -> Option<&'a MessagesSeen> {
        self.of(attempt, |seen| match seen {
            Seen::Messages(seen) => Some(seen),
            _ => None,
        })
    }

    pub(super) fn http2(&self) -> Option<&'a Http2Seen> {
        self.of(self.first, |seen| match seen {
            Seen::Http2(seen) => Some(seen),
            _ => None,
        })
    }

    pub(super) fn idle(&self) -> Option<&'a IdleSeen> {
        self.of(self.first, |seen| match seen {
            Seen::Idle(seen) => Some(seen),
            _ => None,
        })
    }

    /// Whether everything on this way went well, up to the first messages.
    pub(super) fn is_sound(&self, attempt: Attempt) -> bool {
        self.upgrade(attempt).is_some_and(UpgradeSeen::is_sound)
            && self.messages(attempt).is_some_and(MessagesSeen::is_sound)
    }

    /// Whether another attempt than the first is known to work.
    pub(super) fn works_on_443(&self) -> bool {
        self.first != self.on_443() && self.is_sound(self.on_443())
    }

    /// Whether it works without the proxy.
    pub(super) fn works_directly(&self) -> bool {
        self.proxied() && self.is_sound(self.direct())
    }

    /// What says that somebody in between has opened TLS; empty where nothing does.
    pub(super) fn interception(&self, attempt: Attempt) -> Vec<String> {
        let Some(seen) = self.tls(attempt).filter(|seen| !seen.chain.is_empty()) else {
            return Vec::new();
        };
        let mut evidence = Vec::new();
        let issuer = seen.chain.last().map_or("", |last| &last.issuer);
        if seen.issuer_expected == Some(false) {
            evidence.push(format!("no issuer has the expected text, the last one is {issuer:?}"));
        }
        if seen.pinned == Some(false) {
            evidence.push(format!(
                "the chain does not have the pinned certificate; the server's is {}",
                seen.chain[0].sha256
            ));
        }
        if !matches!(seen.anchor, Anchor::Public | Anchor::Given) {
            let product = seen.chain.iter().find_map(|seen| marks::inspector(&seen.issuer));
            if let Some(product) = product {
                evidence.push(format!("the issuer is {issuer:?}, which is how {product} signs"));
            } else if seen.anchor == Anchor::System {
                evidence.push(format!(
                    "the issuer {issuer:?} is trusted by this machine, but is in no public list"
                ));
            }
            if let Some(other) = self.other_certificate(attempt, seen) {
                evidence.push(other);
            }
        }
        evidence
    }

    pub(super) fn is_intercepted(&self, attempt: Attempt) -> bool {
        !self.interception(attempt).is_empty()
    }

    /// A certificate of better standing that the same port shows on the other way.
    fn other_certificate(&self, attempt: Attempt, seen: &TlsSeen) -> Option<String> {
        let other_way = match attempt.way {
            Way::Direct => Way::Proxy,
            Way::Proxy => Way::Direct,
        };
        let other = self.tls(Attempt { way: other_way, ..attempt })?;
        let first = other.chain.first().filter(|_| other.outcome == Outcome::Done)?;
        let better = matches!(other.anchor, Anchor::Public | Anchor::Given);
        let same = seen.chain.first().is_some_and(|own| own.sha256 == first.sha256);
        let how = if other_way == Way::Direct { "without the proxy" } else { "through the proxy" };
        (better && !same)
            .then(|| format!("{how} the certificate is another one, issued by {:?}", first.issuer))
    }
}
