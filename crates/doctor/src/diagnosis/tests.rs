//! What is seen, and what it means: one row for each box, and rows where nobody may be blamed.

mod answers;
mod certificates;
mod open;
mod ports;

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use super::{
    super::{
        Trust,
        seen::{
            Anchor, Answer, Attempt, CertificateSeen, CloseSeen, GetSeen, Http2Seen, MessagesSeen,
            Outcome, PingedSeen, PortOutcome, PortSeen, ProxySeen, Resolution, Seen, TlsSeen,
            UpgradeSeen, Way,
        },
    },
    *,
};

const ADDRESS: &str = "192.0.2.7";
const ID: &str = "0123456789abcdef0123456789abcdef";
const DIRECT: Way = Way::Direct;
const PROXY: Way = Way::Proxy;

/// What was seen on the ways to a URL.
struct Scene {
    settings: Settings,
    steps: Vec<Step>,
}

fn scene(url: &str) -> Scene {
    let settings = Settings {
        target: url.parse().unwrap(),
        proxy: None,
        trust: Trust::default(),
        subprotocols: Vec::new(),
        headers: Vec::new(),
        origin: None,
        send: None,
        idle: None,
        patience: Duration::from_secs(5),
    };
    Scene { settings, steps: Vec::new() }
}

fn proxied(url: &str) -> Scene {
    let mut scene = scene(url);
    scene.settings.proxy = Some("http://proxy.example:3128".parse().unwrap());
    scene
}

/// `wss://gw.example/ws` with a good certificate, and the answer to the upgrade.
fn over_tls(answer: Answer) -> Scene {
    scene("wss://gw.example/ws").tls(DIRECT, 443, good()).answers(DIRECT, true, 443, answer)
}

/// `ws://gw.example/ws` with the answer in clear text, and one over TLS for comparison.
fn in_clear(answer: Answer, on_443: Answer) -> Scene {
    let scene = scene("ws://gw.example/ws").answers(DIRECT, false, 80, answer);
    scene.tls(DIRECT, 443, good()).answers(DIRECT, true, 443, on_443)
}

/// The same through the eyes of a box that opens TLS.
fn inspected(answer: Answer) -> Scene {
    scene("wss://gw.example/ws").tls(DIRECT, 443, inspection()).answers(DIRECT, true, 443, answer)
}

impl Scene {
    fn step(mut self, attempt: Option<Attempt>, seen: Seen) -> Self {
        self.steps.push(Step { attempt, ms: 1, seen });
        self
    }

    fn on(self, way: Way, secure: bool, port: u16, seen: Seen) -> Self {
        self.step(Some(Attempt { way, secure, port }), seen)
    }

    fn knock(self, port: u16, outcome: PortOutcome) -> Self {
        self.knock_at(ADDRESS, port, outcome)
    }

    fn knock_at(self, address: &str, port: u16, outcome: PortOutcome) -> Self {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        let error = (outcome == PortOutcome::Unreachable).then(|| "Network is unreachable".into());
        self.step(None, Seen::Connect(PortSeen { address, outcome, error }))
    }

    fn tls(self, way: Way, port: u16, seen: TlsSeen) -> Self {
        self.on(way, true, port, Seen::Tls(seen))
    }

    fn tunnel(self, port: u16, status: Option<u16>) -> Self {
        let secure = self.settings.target.secure;
        let error = status.is_none().then(|| "Connection refused".into());
        let proxy = "proxy.example:3128".into();
        let seen = ProxySeen { proxy, error, status, marks: Vec::new() };
        self.on(PROXY, secure, port, Seen::Proxy(seen))
    }

    /// The answer to the upgrade. After a sound 101 the pong comes.
    fn answers(self, way: Way, secure: bool, port: u16, answer: Answer) -> Self {
        let sound = answer.status == 101;
        let chosen = answer.header("sec-websocket-protocol").map(str::to_owned);
        let offered = self.settings.subprotocols.clone();
        let seen =
            UpgradeSeen { answer: Some(answer), chosen, offered, ..no_answer(Outcome::Done) };
        let scene = self.on(way, secure, port, Seen::Upgrade(seen));
        if sound { scene.messages(way, secure, port, pong()) } else { scene }
    }

    fn messages(self, way: Way, secure: bool, port: u16, seen: MessagesSeen) -> Self {
        self.on(way, secure, port, Seen::Messages(seen))
    }

    fn upgrade(self, way: Way, secure: bool, port: u16, seen: UpgradeSeen) -> Self {
        self.on(way, secure, port, Seen::Upgrade(seen))
    }

    fn gets(self, secure: bool, port: u16, answer: Answer) -> Self {
        let seen = GetSeen { outcome: Outcome::Done, answer: Some(answer) };
        self.on(DIRECT, secure, port, Seen::Get(seen))
    }

    fn offering(mut self, subprotocol: &str) -> Self {
        self.settings.subprotocols = vec![subprotocol.into()];
        self
    }

    fn idle(self, end: IdleEnd, close: Option<u16>, pinged: Option<bool>) -> Self {
        let port = self.settings.target.port;
        let seen = IdleSeen {
            limit_ms: 300_000,
            end,
            after_ms: 60_040,
            close: close.map(|code| CloseSeen { code: Some(code), reason: String::new() }),
            frames: 0,
            pinged: pinged.map(|held| PingedSeen { every_ms: 30_000, after_ms: 1, held }),
        };
        self.on(DIRECT, true, port, Seen::Idle(seen))
    }

    fn verdict(&self) -> Verdict {
        diagnose(&self.settings, &self.steps)
    }

    /// Code, box and severity of each diagnosis.
    fn found(&self) -> Vec<(Code, Culprit, Severity)> {
        let verdict = self.verdict();
        for found in &verdict.diagnoses {
            let texts = [&found.summary, &found.who, &found.how];
            assert!(texts.iter().all(|text| !text.is_empty()), "{found:#?}");
            assert!(!found.evidence.is_empty(), "{found:#?}");
        }
        verdict.diagnoses.iter().map(|it| (it.code, it.culprit, it.severity)).collect()
    }
}

fn no_answer(outcome: Outcome) -> UpgradeSeen {
    UpgradeSeen {
        outcome,
        error: None,
        answer: None,
        faults: Vec::new(),
        offered: Vec::new(),
        chosen: None,
        retry: false,
        withheld: false,
    }
}

fn pong() -> MessagesSeen {
    MessagesSeen { pong_ms: Some(1), ..MessagesSeen::default() }
}

fn certificate(issuer: &str) -> CertificateSeen {
    let subject = "CN=gw.example".to_owned();
    let sha256 = format!("of {issuer}");
    CertificateSeen {
        subject,
        issuer: issuer.into(),
        not_before: 0,
        not_after: 4_000_000_000,
        sha256,
    }
}

fn good() -> TlsSeen {
    TlsSeen {
        outcome: Outcome::Done,
        error: None,
        version: Some("TLSv1_3".into()),
        alpn: None,
        chain: vec![certificate("CN=R11, O=Let's Encrypt")],
        names: vec!["gw.example".into()],
        anchor: Anchor::Public,
        name_fits: true,
        out_of_date: None,
        issuer_expected: None,
        pinned: None,
    }
}

/// A corporate root that this machine trusts.
fn inspection() -> TlsSeen {
    TlsSeen {
        anchor: Anchor::System,
        chain: vec![certificate("CN=Example Corp Network Inspection Root")],
        ..good()
    }
}

fn no_tls(outcome: Outcome) -> TlsSeen {
    let error = (outcome != Outcome::Closed).then(|| "what the library says".into());
    TlsSeen {
        outcome,
        error,
        chain: Vec::new(),
        anchor: Anchor::Nobody,
        name_fits: false,
        ..good()
    }
}

fn answer(status: u16, headers: &[(&str, &str)]) -> Answer {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let headers = headers.iter().map(own).collect();
    Answer { minor: 1, status, headers, body: String::new() }
}

fn says(status: u16, body: &str) -> Answer {
    Answer { body: body.into(), ..answer(status, &[]) }
}

fn granted() -> Answer {
    answer(101, &[("x-request-id", ID)])
}

/// A refusal of the gateway.
fn refusal(status: u16, reason: &str) -> Answer {
    answer(status, &[("tidegate-reason", reason), ("x-request-id", ID)])
}

/// The gateway got the request without its upgrade, and tells what it saw.
fn stripped(seen: &str) -> Answer {
    let mut answer = refusal(426, "upgrade_stripped");
    answer.headers.push(("tidegate-seen".into(), seen.into()));
    answer
}

fn and(mut answer: Answer, name: &str, value: &str) -> Answer {
    answer.headers.push((name.into(), value.into()));
    answer
}

/// The gateway got neither header.
const GONE: &str = "http=1.1; missing=upgrade,connection";

/// A row of the table: its name, what was seen, and what it means; nothing where nobody is to blame.
type Row = (&'static str, Scene, Vec<(Code, Culprit)>);

fn rows() -> Vec<Row> {
    let parts = [ports::rows(), certificates::rows(), answers::rows(), open::rows()];
    parts.into_iter().flatten().collect()
}

#[test]
fn each_row_has_its_verdict_and_blames_nobody_else() {
    for (name, scene, wanted) in rows() {
        let found: Vec<_> =
            scene.found().into_iter().map(|(code, culprit, _)| (code, culprit)).collect();
        assert_eq!(found, wanted, "{name}\n{:#?}", scene.verdict());
    }
}

#[test]
fn every_code_and_every_box_has_a_row() {
    let rows = rows();
    let all: Vec<_> = rows.iter().flat_map(|(_, _, wanted)| wanted).collect();
    let codes: BTreeSet<_> = all.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(codes, Code::ALL.iter().map(|code| code.as_str()).collect());
    let boxes: BTreeSet<_> = all.iter().map(|(_, culprit)| culprit.as_str()).collect();
    assert_eq!(boxes, Culprit::ALL.iter().map(|culprit| culprit.as_str()).collect());
}

#[test]
fn words_are_those_of_the_json() {
    for code in Code::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
    }
    for culprit in Culprit::ALL {
        assert_eq!(serde_json::to_value(culprit).unwrap(), culprit.as_str());
    }
}

#[test]
fn a_warning_is_no_fault_and_the_first_fault_decides() {
    let exit_code = |scene: Scene| scene.verdict().exit_code();
    assert_eq!(exit_code(inspected(granted())), 0);
    assert_eq!(exit_code(inspected(stripped("http=1.1; missing=upgrade"))), 15);
    let wrong = TlsSeen { name_fits: false, anchor: Anchor::Nobody, ..good() };
    let refused = |seen: &TlsSeen| {
        let scene = scene("wss://gw.example/ws").tls(DIRECT, 443, seen.clone());
        scene.answers(DIRECT, true, 443, refusal(404, "no_route"))
    };
    assert_eq!(exit_code(refused(&wrong)), 12);
    let mut insecure = refused(&wrong);
    insecure.settings.trust.insecure = true;
    assert_eq!(exit_code(insecure), 14);
    assert_eq!(
        exit_code(
            over_tls(granted())
                .knock_at("192.0.2.8", 443, PortOutcome::Refused)
                .knock(443, PortOutcome::Connected)
        ),
        0
    );
}

#[test]
fn what_works_instead_is_said() {
    let how = |scene: Scene| scene.verdict().diagnoses[0].how.clone();
    let clear = how(in_clear(stripped("http=1.1; missing=upgrade"), granted()));
    assert!(clear.starts_with("Use wss://gw.example/ws, which works."), "{clear}");
    let nginx = how(over_tls(and(stripped("http=1.0; missing="), "server", "nginx")));
    assert!(nginx.contains("proxy_http_version 1.1;"), "{nginx}");
    let proxy = how(proxied("wss://gw.example/ws")
        .tunnel(443, None)
        .tls(DIRECT, 443, good())
        .answers(DIRECT, true, 443, granted()));
    assert!(proxy.contains("NO_PROXY=gw.example"), "{proxy}");
    let pings = how(over_tls(granted()).idle(IdleEnd::Closed, None, Some(true)));
    assert!(pings.contains("one every 30 s") && pings.contains("clientPing"), "{pings}");
    let life = how(over_tls(granted()).idle(IdleEnd::Closed, None, Some(false)));
    assert!(life.contains("whole life") && life.contains("timeoutSec"), "{life}");
}

#[test]
fn the_evidence_names_the_request_and_whose_default_a_time_is() {
    let evidence = |scene: Scene| scene.verdict().diagnoses[0].evidence.join("\n");
    let refused = evidence(over_tls(refusal(404, "no_route")));
    assert!(refused.contains(&format!("request_id {ID}")), "{refused}");
    let idle = evidence(over_tls(granted()).idle(IdleEnd::Closed, None, Some(true)));
    assert!(idle.contains("60 s is the default of AWS Application Load Balancer"), "{idle}");
    let added = evidence(in_clear(and(says(403, "No."), "x-cache", "MISS"), granted()));
    assert!(added.contains("not there over TLS: x-cache"), "{added}");
}

/// Answers of the sorts that boxes give, and arbitrary ones.
fn any_answer() -> impl proptest::strategy::Strategy<Value = Answer> {
    use proptest::{collection::vec, prelude::*};
    let name = prop_oneof![
        Just("via".to_owned()),
        Just("server".to_owned()),
        Just("location".to_owned()),
        Just("tidegate-reason".to_owned()),
        Just("tidegate-seen".to_owned()),
        "[a-z-]{1,12}",
    ];
    let value = prop_oneof![
        ".{0,40}",
        "http=1.[01]; missing=[a-z,]{0,9}; via=\"?.{0,9}",
        "https?://[a-z\\[\\]:./?]{0,20}"
    ];
    let status =
        prop_oneof![Just(101_u16), Just(200), Just(302), Just(400), Just(426), 100_u16..1000];
    (status, 0..2_u8, vec((name, value), 0..6), ".{0,30}")
        .prop_map(|(status, minor, headers, body)| Answer { minor, status, headers, body })
}

proptest::proptest! {
    #[test]
    fn whatever_is_answered_has_at_most_one_fault_with_evidence(
        first in any_answer(),
        second in any_answer(),
        got in any_answer(),
        secure: bool,
    ) {
        let url = if secure { "wss://gw.example:8443/" } else { "ws://gw.example/" };
        let scene = scene(url);
        let port = scene.settings.target.port;
        let scene = scene.tls(DIRECT, 8443, inspection()).answers(DIRECT, secure, port, first);
        let scene = scene.answers(DIRECT, true, 443, second).gets(secure, port, got);
        let found = scene.found();
        let faults = found.iter().filter(|(_, _, severity)| *severity == Severity::Fault).count();
        proptest::prop_assert!(faults <= 1);
    }
}
