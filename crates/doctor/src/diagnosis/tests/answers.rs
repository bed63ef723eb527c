//! Refusals, and upgrades that were lost on the way.

use super::*;

/// Each row: its name, what was seen, what it means.
pub(super) fn rows() -> Vec<Row> {
    let tls = |seen| scene("wss://gw.example/ws").tls(DIRECT, 443, seen);
    vec![
        (
            "no route",
            over_tls(refusal(404, "no_route")),
            vec![(Code::UpgradeRefused, Culprit::Gateway)],
        ),
        (
            "no endpoints, in clear text too",
            in_clear(refusal(503, "no_endpoints"), refusal(503, "no_endpoints")),
            vec![(Code::UpgradeRefused, Culprit::Backend)],
        ),
        (
            "no files",
            over_tls(refusal(503, "limit_files")),
            vec![(Code::UpgradeRefused, Culprit::Gateway)],
        ),
        (
            "ws:// where the route wants TLS",
            in_clear(refusal(403, "plaintext"), granted()),
            vec![(Code::UpgradeRefused, Culprit::Gateway)],
        ),
        (
            "a bad handshake of ours",
            over_tls(and(refusal(400, "bad_handshake"), "tidegate-seen", "http=1.1; missing=")),
            vec![(Code::UpgradeRefused, Culprit::Unknown)],
        ),
        (
            "a server's 404",
            over_tls(answer(404, &[])).gets(true, 443, answer(404, &[])),
            vec![(Code::UpgradeRefused, Culprit::Server)],
        ),
        (
            "a server's 401 in clear text",
            in_clear(answer(401, &[]), answer(401, &[])),
            vec![(Code::UpgradeRefused, Culprit::Server)],
        ),
        (
            "a server that sends to TLS",
            in_clear(answer(301, &[("location", "https://gw.example/ws")]), answer(101, &[])),
            vec![(Code::UpgradeRefused, Culprit::Server)],
        ),
        (
            "an ALB without targets",
            over_tls(answer(503, &[("server", "awselb/2.0")])),
            vec![(Code::UpgradeRefused, Culprit::LoadBalancer)],
        ),
        (
            "Cloudflare without origin",
            over_tls(answer(522, &[("cf-ray", "8a-FRA")])),
            vec![(Code::UpgradeRefused, Culprit::Cdn)],
        ),
        (
            "nginx without backend",
            over_tls(answer(502, &[("server", "nginx/1.22")])),
            vec![(Code::UpgradeRefused, Culprit::ReverseProxy)],
        ),
        (
            "a Close at once",
            tls(good())
                .upgrade(
                    DIRECT,
                    true,
                    443,
                    UpgradeSeen { answer: Some(answer(101, &[])), ..no_answer(Outcome::Done) },
                )
                .messages(
                    DIRECT,
                    true,
                    443,
                    MessagesSeen {
                        close: Some(CloseSeen { code: Some(1008), reason: "token".into() }),
                        ..MessagesSeen::default()
                    },
                ),
            vec![(Code::UpgradeRefused, Culprit::Server)],
        ),
        (
            "squid on port 80",
            in_clear(
                stripped("http=1.1; missing=upgrade,connection; via=\"1.1 squid\""),
                granted(),
            ),
            vec![(Code::UpgradeStripped, Culprit::TransparentProxy)],
        ),
        (
            "a proxy on port 80 that leaves no trace",
            in_clear(stripped(GONE), granted()),
            vec![(Code::UpgradeStripped, Culprit::TransparentProxy)],
        ),
        (
            "squid, and no TLS to compare",
            scene("ws://gw.example/ws").answers(
                DIRECT,
                false,
                80,
                stripped("http=1.1; missing=upgrade; via=\"1.1 squid\""),
            ),
            vec![(Code::UpgradeStripped, Culprit::TransparentProxy)],
        ),
        (
            "no trace, and no TLS to compare",
            scene("ws://gw.example/ws").answers(DIRECT, false, 80, stripped(GONE)),
            vec![(Code::UpgradeStripped, Culprit::ReverseProxy)],
        ),
        (
            "stripped in clear text and over TLS",
            in_clear(stripped(GONE), stripped(GONE)),
            vec![(Code::UpgradeStripped, Culprit::ReverseProxy)],
        ),
        (
            "nginx in front of both ports, wrong on 80",
            in_clear(and(stripped(GONE), "server", "nginx"), and(granted(), "server", "nginx")),
            vec![(Code::UpgradeStripped, Culprit::ReverseProxy)],
        ),
        (
            "nginx without the two headers",
            over_tls(and(stripped(GONE), "server", "nginx")),
            vec![(Code::UpgradeStripped, Culprit::ReverseProxy)],
        ),
        (
            "nginx without proxy_http_version",
            over_tls(and(stripped("http=1.0; missing="), "server", "nginx")),
            vec![(Code::UpgradeHttp10, Culprit::ReverseProxy)],
        ),
        (
            "a gateway that calls it no WebSocket",
            over_tls(refusal(426, "not_websocket")),
            vec![(Code::UpgradeStripped, Culprit::ReverseProxy)],
        ),
        (
            "a load balancer that strips",
            over_tls(and(stripped(GONE), "via", "1.1 google")),
            vec![(Code::UpgradeStripped, Culprit::LoadBalancer)],
        ),
        (
            "a CDN that strips",
            over_tls(and(stripped(GONE), "cf-ray", "8a-FRA")),
            vec![(Code::UpgradeStripped, Culprit::Cdn)],
        ),
        (
            "another server that misses the upgrade",
            over_tls(says(400, "Can \"Upgrade\" only to \"WebSocket\".")),
            vec![(Code::UpgradeStripped, Culprit::ReverseProxy)],
        ),
        (
            "a page instead of a WebSocket, in clear text alone",
            scene("ws://gw.example/ws").answers(DIRECT, false, 80, answer(200, &[])),
            vec![(Code::UpgradeStripped, Culprit::Unknown)],
        ),
        (
            "a proxy of HTTP/1.0 in clear text",
            in_clear(Answer { minor: 0, ..answer(400, &[("via", "1.0 cache")]) }, granted()),
            vec![(Code::UpgradeHttp10, Culprit::TransparentProxy)],
        ),
        (
            "the configured proxy looks into tunnels",
            proxied("ws://gw.example/ws")
                .tunnel(80, Some(200))
                .answers(PROXY, false, 80, stripped(GONE))
                .answers(DIRECT, false, 80, granted()),
            vec![(Code::UpgradeStripped, Culprit::HttpProxy)],
        ),
        (
            "a proxy on port 80 that answers",
            in_clear(says(403, "Blocked by policy"), granted()),
            vec![(Code::UpgradeBlocked, Culprit::TransparentProxy)],
        ),
        (
            "a login page",
            in_clear(
                answer(302, &[("location", "http://login.hotel.example/?to=x")]),
                answer(101, &[]),
            ),
            vec![(Code::UpgradeBlocked, Culprit::TransparentProxy)],
        ),
        (
            "a login page, and nothing else to be had",
            scene("ws://gw.example/ws")
                .knock(80, PortOutcome::Connected)
                .knock(443, PortOutcome::Silent)
                .answers(
                    DIRECT,
                    false,
                    80,
                    answer(302, &[("location", "http://login.hotel.example/")]),
                ),
            vec![(Code::UpgradeBlocked, Culprit::Unknown)],
        ),
        (
            "a redirect of a server without TLS",
            scene("ws://gw.example/ws")
                .knock(80, PortOutcome::Connected)
                .knock(443, PortOutcome::Refused)
                .answers(DIRECT, false, 80, answer(302, &[("location", "http://www.gw.example/")])),
            vec![(Code::UpgradeRefused, Culprit::Server)],
        ),
        (
            "cut in clear text alone",
            scene("ws://gw.example/ws")
                .upgrade(DIRECT, false, 80, no_answer(Outcome::Reset))
                .tls(DIRECT, 443, good())
                .answers(DIRECT, true, 443, granted()),
            vec![(Code::UpgradeBlocked, Culprit::TransparentProxy)],
        ),
        (
            "a 403 of a box in front of the gateway",
            over_tls(answer(403, &[])).gets(true, 443, refusal(426, "not_websocket")),
            vec![(Code::UpgradeBlocked, Culprit::ReverseProxy)],
        ),
        (
            "no answer, and nothing to compare",
            tls(good()).upgrade(DIRECT, true, 443, no_answer(Outcome::Silent)),
            vec![(Code::UpgradeBlocked, Culprit::Unknown)],
        ),
        (
            "not HTTP",
            scene("ws://gw.example:22/").upgrade(DIRECT, false, 22, no_answer(Outcome::Garbled)),
            vec![(Code::UpgradeBlocked, Culprit::Server)],
        ),
    ]
}
