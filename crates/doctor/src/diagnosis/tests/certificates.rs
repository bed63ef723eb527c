//! Certificates, and boxes that open TLS.

use super::*;

/// Each row: its name, what was seen, what it means.
pub(super) fn rows() -> Vec<Row> {
    let silence = || MessagesSeen { error: Some("no pong".into()), ..MessagesSeen::default() };
    let tls = |seen| scene("wss://gw.example/ws").tls(DIRECT, 443, seen);
    vec![
        (
            "expired",
            tls(TlsSeen { out_of_date: Some("it was valid until 2026-01-01".into()), ..good() }),
            vec![(Code::TlsExpired, Culprit::Server)],
        ),
        (
            "another name",
            tls(TlsSeen { name_fits: false, names: vec!["other.example".into()], ..good() }),
            vec![(Code::TlsWrongName, Culprit::Server)],
        ),
        (
            "an unknown authority",
            tls(TlsSeen {
                anchor: Anchor::Nobody,
                chain: vec![certificate("CN=Our CA")],
                ..good()
            }),
            vec![(Code::TlsUntrusted, Culprit::Unknown)],
        ),
        (
            "signed by itself",
            tls(TlsSeen {
                anchor: Anchor::Nobody,
                chain: vec![certificate("CN=gw.example")],
                ..good()
            }),
            vec![(Code::TlsUntrusted, Culprit::Server)],
        ),
        (
            "a private authority that was given",
            tls(TlsSeen {
                anchor: Anchor::Given,
                chain: vec![certificate("CN=Our SSL Inspection-free CA")],
                ..good()
            })
            .answers(DIRECT, true, 443, granted()),
            vec![],
        ),
        (
            "no TLS on this port",
            tls(no_tls(Outcome::Garbled)),
            vec![(Code::TlsFailed, Culprit::Server)],
        ),
        ("an alert", tls(no_tls(Outcome::Failed)), vec![(Code::TlsFailed, Culprit::Server)]),
        (
            "silence after the ClientHello",
            tls(no_tls(Outcome::Silent)),
            vec![(Code::TlsFailed, Culprit::Unknown)],
        ),
        (
            "inspection that lets everything pass",
            inspected(granted()),
            vec![(Code::TlsIntercepted, Culprit::TlsInspection)],
        ),
        (
            "an inspecting box that nobody trusts",
            tls(TlsSeen {
                anchor: Anchor::Nobody,
                chain: vec![certificate("CN=mitmproxy, O=mitmproxy")],
                ..good()
            }),
            vec![(Code::TlsIntercepted, Culprit::TlsInspection)],
        ),
        (
            "not the expected issuer",
            tls(TlsSeen { issuer_expected: Some(false), ..good() }),
            vec![(Code::TlsIntercepted, Culprit::TlsInspection)],
        ),
        (
            "not the pinned certificate",
            tls(TlsSeen { pinned: Some(false), ..good() }),
            vec![(Code::TlsIntercepted, Culprit::TlsInspection)],
        ),
        (
            "another certificate through the proxy",
            proxied("wss://gw.example/ws")
                .tunnel(443, Some(200))
                .tls(
                    PROXY,
                    443,
                    TlsSeen {
                        anchor: Anchor::Nobody,
                        chain: vec![certificate("CN=Some CA")],
                        ..good()
                    },
                )
                .tls(DIRECT, 443, good()),
            vec![(Code::TlsIntercepted, Culprit::TlsInspection)],
        ),
        (
            "inspection that strips",
            inspected(stripped(GONE)),
            vec![
                (Code::UpgradeStripped, Culprit::TlsInspection),
                (Code::TlsIntercepted, Culprit::TlsInspection),
            ],
        ),
        (
            "inspection that answers",
            inspected(says(403, "Not allowed here.")).gets(
                true,
                443,
                refusal(426, "not_websocket"),
            ),
            vec![
                (Code::UpgradeBlocked, Culprit::TlsInspection),
                (Code::TlsIntercepted, Culprit::TlsInspection),
            ],
        ),
        (
            "inspection that cuts",
            tls(inspection()).upgrade(DIRECT, true, 443, no_answer(Outcome::Closed)),
            vec![
                (Code::UpgradeBlocked, Culprit::TlsInspection),
                (Code::TlsIntercepted, Culprit::TlsInspection),
            ],
        ),
        (
            "inspection without frames",
            tls(inspection())
                .upgrade(
                    DIRECT,
                    true,
                    443,
                    UpgradeSeen { answer: Some(granted()), ..no_answer(Outcome::Done) },
                )
                .messages(DIRECT, true, 443, silence()),
            vec![
                (Code::NoMessages, Culprit::TlsInspection),
                (Code::TlsIntercepted, Culprit::TlsInspection),
            ],
        ),
        (
            "a server's own 403 behind an inspection",
            inspected(answer(403, &[])).gets(true, 443, answer(403, &[])),
            vec![
                (Code::UpgradeRefused, Culprit::Server),
                (Code::TlsIntercepted, Culprit::TlsInspection),
            ],
        ),
    ]
}
