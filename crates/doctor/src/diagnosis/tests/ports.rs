//! Names, ports and proxies.

use super::*;

/// Each row: its name, what was seen, what it means.
pub(super) fn rows() -> Vec<Row> {
    use PortOutcome::{Connected, Refused, Reset, Silent, Unreachable};
    let unresolved = |scene: Scene| {
        let error = Some("Name or service not known".to_owned());
        let host = "gw.example".to_owned();
        scene.step(None, Seen::Resolve(Resolution { host, addresses: Vec::new(), error }))
    };
    let on_3000 = || scene("wss://gw.example:3000/ws");
    let tls = |seen| scene("wss://gw.example/ws").tls(DIRECT, 443, seen);
    vec![
        ("all is well", over_tls(granted()).knock(443, Connected), vec![]),
        (
            "no such name",
            unresolved(scene("wss://gw.example/ws")),
            vec![(Code::ResolutionFailed, Culprit::Resolver)],
        ),
        (
            "a name that only the proxy knows",
            unresolved(proxied("wss://gw.example/ws"))
                .tunnel(443, Some(200))
                .tls(PROXY, 443, good())
                .answers(PROXY, true, 443, granted()),
            vec![],
        ),
        (
            "a firewall that passes web ports",
            on_3000().knock(3000, Silent).knock(443, Connected).knock(80, Connected),
            vec![(Code::PortSilent, Culprit::Firewall)],
        ),
        (
            "a port that is dropped beside refused ones",
            on_3000().knock(3000, Silent).knock(443, Refused).knock(80, Silent),
            vec![(Code::PortSilent, Culprit::Firewall)],
        ),
        (
            "nobody answers at all",
            on_3000().knock(3000, Silent).knock(443, Silent).knock(80, Silent),
            vec![(Code::PortSilent, Culprit::Unknown)],
        ),
        (
            "443 alone is silent, and 80 too",
            scene("wss://gw.example/ws").knock(443, Silent).knock(80, Silent),
            vec![(Code::PortSilent, Culprit::Unknown)],
        ),
        (
            "nothing listens",
            on_3000().knock(3000, Refused).knock(443, Connected),
            vec![(Code::PortRefused, Culprit::Server)],
        ),
        (
            "a firewall that rejects",
            on_3000().knock(3000, Unreachable).knock(443, Connected),
            vec![(Code::PortRefused, Culprit::Firewall)],
        ),
        (
            "no route",
            on_3000().knock(3000, Unreachable).knock(443, Unreachable),
            vec![(Code::PortRefused, Culprit::Client)],
        ),
        (
            "reset while connecting",
            on_3000().knock(3000, Reset).knock(443, Connected),
            vec![(Code::PortReset, Culprit::Firewall)],
        ),
        (
            "reset at the ClientHello",
            on_3000().knock(3000, Connected).tls(DIRECT, 3000, no_tls(Outcome::Reset)).tls(
                DIRECT,
                443,
                good(),
            ),
            vec![(Code::PortReset, Culprit::Firewall)],
        ),
        (
            "reset at the ClientHello on 443",
            tls(no_tls(Outcome::Reset)),
            vec![(Code::PortReset, Culprit::Unknown)],
        ),
        (
            "Cloudflare and port 3000",
            on_3000().knock(3000, Silent).knock(443, Connected).tls(DIRECT, 443, good()).answers(
                DIRECT,
                true,
                443,
                answer(404, &[("server", "cloudflare")]),
            ),
            vec![(Code::PortNotProxied, Culprit::Cdn)],
        ),
        (
            "Cloudflare, known by its address",
            on_3000().knock_at("104.16.0.9", 3000, Silent),
            vec![(Code::PortNotProxied, Culprit::Cdn)],
        ),
        (
            "a port that Cloudflare passes",
            scene("wss://gw.example:8443/ws")
                .knock_at("104.16.0.9", 8443, Silent)
                .knock(443, Connected),
            vec![(Code::PortSilent, Culprit::Firewall)],
        ),
        (
            "one address of two is dead",
            over_tls(granted()).knock(443, Connected).knock_at("192.0.2.8", 443, Silent),
            vec![(Code::PortSilent, Culprit::Unknown)],
        ),
        (
            "no IPv6 on this machine",
            over_tls(granted()).knock(443, Connected).knock_at("2001:db8::7", 443, Unreachable),
            vec![],
        ),
        (
            "the proxy works",
            proxied("wss://gw.example/ws")
                .tunnel(443, Some(200))
                .tls(PROXY, 443, good())
                .answers(PROXY, true, 443, granted())
                .knock(443, Silent),
            vec![],
        ),
        (
            "the proxy is down",
            proxied("wss://gw.example/ws").tunnel(443, None).tls(DIRECT, 443, good()).answers(
                DIRECT,
                true,
                443,
                granted(),
            ),
            vec![(Code::ProxyUnreachable, Culprit::HttpProxy)],
        ),
        (
            "the proxy wants a login",
            proxied("wss://gw.example/ws").tunnel(443, Some(407)),
            vec![(Code::ProxyAuth, Culprit::HttpProxy)],
        ),
        (
            "the proxy passes 443 only",
            proxied("ws://gw.example/ws").tunnel(80, Some(403)),
            vec![(Code::ProxyRefused, Culprit::HttpProxy)],
        ),
    ]
}
