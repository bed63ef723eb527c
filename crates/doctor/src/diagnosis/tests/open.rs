//! What is wrong with a 101, and after it.

use super::*;

/// Each row: its name, what was seen, what it means.
pub(super) fn rows() -> Vec<Row> {
    let faulty = || UpgradeSeen {
        answer: Some(answer(101, &[])),
        faults: vec!["it lacks Sec-WebSocket-Accept".into()],
        ..no_answer(Outcome::Done)
    };
    let silence = || MessagesSeen { error: Some("no pong".into()), ..MessagesSeen::default() };
    let tls = |seen| scene("wss://gw.example/ws").tls(DIRECT, 443, seen);
    vec![
        (
            "a 101 without Accept",
            tls(good()).upgrade(DIRECT, true, 443, faulty()),
            vec![(Code::BadAccept, Culprit::Server)],
        ),
        (
            "a cached 101 in clear text",
            scene("ws://gw.example/ws")
                .upgrade(DIRECT, false, 80, faulty())
                .tls(DIRECT, 443, good())
                .answers(DIRECT, true, 443, granted()),
            vec![(Code::BadAccept, Culprit::TransparentProxy)],
        ),
        (
            "a subprotocol that was not offered",
            over_tls(answer(101, &[("sec-websocket-protocol", "mqtt")])),
            vec![(Code::BadAccept, Culprit::Server)],
        ),
        (
            "a subprotocol is chosen",
            scene("wss://gw.example/ws").offering("mqtt").tls(DIRECT, 443, good()).answers(
                DIRECT,
                true,
                443,
                answer(101, &[("sec-websocket-protocol", "mqtt")]),
            ),
            vec![],
        ),
        (
            "no subprotocol is chosen",
            scene("wss://gw.example/ws").offering("mqtt").tls(DIRECT, 443, good()).answers(
                DIRECT,
                true,
                443,
                granted(),
            ),
            vec![(Code::SubprotocolLost, Culprit::Backend)],
        ),
        (
            "a subprotocol is lost in clear text",
            scene("ws://gw.example/ws")
                .offering("mqtt")
                .answers(DIRECT, false, 80, granted())
                .answers(DIRECT, true, 443, and(granted(), "sec-websocket-protocol", "mqtt")),
            vec![(Code::SubprotocolLost, Culprit::TransparentProxy)],
        ),
        (
            "a reason of a newer gateway",
            over_tls(refusal(400, "of_the_future")),
            vec![(Code::UpgradeRefused, Culprit::Gateway)],
        ),
        (
            "the routes of the path are for other subprotocols",
            over_tls(Answer {
                body:
                    "This path is served to WebSocket clients that offer one of these subprotocols \
                       (Sec-WebSocket-Protocol): mqtt. This one offers none."
                        .to_owned(),
                ..refusal(404, "no_route")
            }),
            vec![(Code::SubprotocolDenied, Culprit::Gateway)],
        ),
        (
            "granted without the subprotocol only",
            over_tls(answer(400, &[])).upgrade(
                DIRECT,
                true,
                443,
                UpgradeSeen {
                    retry: true,
                    answer: Some(answer(101, &[])),
                    ..no_answer(Outcome::Done)
                },
            ),
            vec![(Code::SubprotocolDenied, Culprit::Server)],
        ),
        (
            "no pong, and nothing to compare",
            tls(good())
                .upgrade(
                    DIRECT,
                    true,
                    443,
                    UpgradeSeen { answer: Some(granted()), ..no_answer(Outcome::Done) },
                )
                .messages(DIRECT, true, 443, silence()),
            vec![(Code::NoMessages, Culprit::Unknown)],
        ),
        (
            "no pong in clear text alone",
            scene("ws://gw.example/ws")
                .upgrade(
                    DIRECT,
                    false,
                    80,
                    UpgradeSeen { answer: Some(granted()), ..no_answer(Outcome::Done) },
                )
                .messages(DIRECT, false, 80, silence())
                .answers(DIRECT, true, 443, granted()),
            vec![(Code::NoMessages, Culprit::TransparentProxy)],
        ),
        (
            "HTTP/2 that does not work",
            over_tls(granted()).on(
                DIRECT,
                true,
                443,
                Seen::Http2(Http2Seen {
                    spoken: true,
                    announced: true,
                    status: Some(400),
                    ..Http2Seen::default()
                }),
            ),
            vec![(Code::UpgradeRefused, Culprit::Server)],
        ),
        (
            "HTTP/2 without WebSockets",
            over_tls(granted()).on(
                DIRECT,
                true,
                443,
                Seen::Http2(Http2Seen { spoken: true, ..Http2Seen::default() }),
            ),
            vec![],
        ),
        ("held", over_tls(granted()).idle(IdleEnd::Held, None, None), vec![]),
        (
            "a balancer cuts",
            over_tls(granted()).idle(IdleEnd::Closed, None, Some(true)),
            vec![(Code::IdleCut, Culprit::LoadBalancer)],
        ),
        (
            "nginx cuts",
            over_tls(and(granted(), "server", "nginx")).idle(IdleEnd::Closed, None, Some(true)),
            vec![(Code::IdleCut, Culprit::ReverseProxy)],
        ),
        (
            "Cloudflare cuts",
            over_tls(and(granted(), "cf-ray", "1")).idle(IdleEnd::Reset, None, None),
            vec![(Code::IdleCut, Culprit::Cdn)],
        ),
        (
            "the gateway says goodbye",
            over_tls(granted()).idle(IdleEnd::CloseFrame, Some(1001), None),
            vec![(Code::IdleCut, Culprit::Gateway)],
        ),
        (
            "another server says goodbye",
            over_tls(answer(101, &[])).idle(IdleEnd::CloseFrame, Some(1001), None),
            vec![(Code::IdleCut, Culprit::Server)],
        ),
        (
            "a firewall forgets",
            over_tls(granted()).idle(IdleEnd::Dead, None, Some(true)),
            vec![(Code::IdleCut, Culprit::Firewall)],
        ),
        (
            "cut behind an inspection",
            inspected(granted()).idle(IdleEnd::Closed, None, None),
            vec![(Code::IdleCut, Culprit::Unknown), (Code::TlsIntercepted, Culprit::TlsInspection)],
        ),
    ]
}
