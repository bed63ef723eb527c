use kube::core::cel::validate_cel;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[test]
fn durations_are_those_of_gep_2257() {
    // From the tables of GEP-2257, and the edges between them.
    let millis = [
        ("0h", 0),
        ("0s", 0),
        ("0h0m0s", 0),
        ("1h", 3_600_000),
        ("30m", 1_800_000),
        ("10s", 10_000),
        ("500ms", 500),
        ("2h30m", 9_000_000),
        ("150m", 9_000_000),
        ("7230s", 7_230_000),
        ("1h30m10s", 5_410_000),
        ("10s30m1h", 5_410_000),
        ("100ms200ms300ms", 600),
        ("1s1s1s1s", 4_000),
        ("99999h99999m99999s99999ms", 99_999 * (3_600_000 + 60_000 + 1_000 + 1)),
    ];
    for (text, expected) in millis {
        assert_eq!(parse(text).map(|duration| duration.get().as_millis()), Ok(expected), "{text}");
    }
}

#[test]
fn what_gep_2257_refuses_is_no_duration() {
    let refused = [
        "",
        "1",
        "1d",
        "1h30m10s20ms50h",
        "999999h",
        "1.5h",
        "-15m",
        "+1s",
        " 1s",
        "1s ",
        "1 s",
        "1us",
        "1S",
        "h",
        "ms",
        "1h30",
        "1m1",
        "٣s",
        "1sm",
        "0",
    ];
    for text in refused {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains("1h30m, 10s or 500ms"), "{text}: {error}");
    }
}

#[test]
fn an_endless_text_is_not_echoed_whole() {
    let error = parse(&"x".repeat(100_000)).expect_err("no duration").to_string();
    assert!(error.len() < 300, "{} bytes", error.len());
}

#[test]
fn durations_are_written_short() {
    let shown =
        [("90m", "1h30m"), ("0h", "0s"), ("1500ms", "1s500ms"), ("61s", "1m1s"), ("24h", "24h")];
    for (text, expected) in shown {
        assert_eq!(parse(text).map(|duration| duration.to_string()), Ok(expected.to_owned()));
    }
    assert_eq!(parse("0s").map(Duration::limit), Ok(None));
}

proptest! {
    /// Whatever is read is written so that it is read as the same length.
    #[test]
    fn durations_survive_being_written(groups in prop::collection::vec(("[0-9]{1,5}", "h|m|s|ms"), 1..=4)) {
        let text: String = groups.iter().map(|(digits, unit)| format!("{digits}{unit}")).collect();
        let duration = parse(&text).expect("follows the pattern");
        let json = serde_json::to_value(duration).expect("a string");
        // Adding up can carry hours beyond five digits, which only the written form then cannot hold.
        if duration.get().as_secs() / 3600 <= 99_999 {
            prop_assert_eq!(serde_json::from_value::<Duration>(json).ok(), Some(duration));
        }
    }

    /// What is read is what the CRD's pattern lets through: no more, no less.
    #[test]
    fn durations_follow_the_pattern_of_the_crd(
        text in prop_oneof![
            "[0-9]{0,6}(h|m|s|ms|d)?([0-9]{0,6}(h|m|s|ms)?){0,4}",
            "([0-9]{1,5}(h|m|s|ms)){1,6}",
        ]
    ) {
        let mut rest = text.as_str();
        let mut groups = 0;
        while let Some((head, tail)) = group(rest) {
            prop_assert!(!head.is_empty());
            (rest, groups) = (tail, groups + 1);
        }
        let follows = rest.is_empty() && (1..=4).contains(&groups);
        prop_assert_eq!(parse(&text).is_ok(), follows, "{}", text);
    }
}

/// One group of the pattern, and what follows it.
fn group(text: &str) -> Option<(&str, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let unit = ["ms", "h", "m", "s"].into_iter().find(|unit| text[digits..].starts_with(unit))?;
    (1..=5).contains(&digits).then(|| text.split_at(digits + unit.len()))
}

fn parse(text: &str) -> Result<Duration, DurationError> {
    text.parse()
}

#[test]
fn a_minimal_route_gets_all_defaults() {
    let route = route(&minimal());
    assert_eq!(route.spec.class_name, DEFAULT_CLASS);
    assert_eq!(route.spec.plaintext, Plaintext::Refuse);
    let rule = &route.spec.rules[0];
    assert_eq!(rule.matches, [RouteMatch::default()]);
    assert_eq!(rule.matches[0].path, PathMatch { kind: PathMatchType::Prefix, value: "/".into() });
    assert_eq!(rule.backend_refs[0].weight, 1);
    assert_eq!(rule.http, HttpMode::Refuse);
    let seconds = |duration: Duration| duration.get().as_secs();
    let Timeouts {
        connect,
        upgrade,
        request_body,
        idle,
        max_duration,
        max_duration_jitter,
        write_stall,
        close,
    } = rule.timeouts.clone();
    assert_eq!([connect, upgrade, request_body, idle].map(seconds), [5, 10, 60, 3600]);
    assert_eq!(rule.path, PathPolicy { allow: Vec::new() });
    assert_eq!([max_duration, write_stall, close].map(seconds), [0, 30, 5]);
    assert_eq!(max_duration_jitter, 10);
    let Keepalive { client_ping, backend_ping, pong_timeout } = rule.keepalive.clone();
    assert_eq!(client_ping, None);
    assert_eq!([backend_ping, pong_timeout].map(seconds), [0, 20]);
    assert_eq!(rule.frames, FrameChecks::Strict);
    let Limits { max_message_bytes, messages_per_second, frames_per_second } = rule.limits.clone();
    assert_eq!((max_message_bytes, messages_per_second, frames_per_second), (None, None, 20_000));
    let LoadBalancing { policy, hash_on, slow_start, rebalance } = rule.load_balancing.clone();
    assert_eq!((policy, hash_on), (LoadBalancingPolicy::LeastConnections, None));
    assert_eq!((seconds(slow_start), rebalance.max_percent_per_minute), (30, 0));
    assert_eq!(rule.retry.connect_attempts, 3);
    let Drain { close_code, on_route_removed, on_endpoint_terminating, spread } =
        rule.drain.clone();
    assert_eq!((close_code, seconds(spread)), (1012, 20));
    assert_eq!((on_route_removed, on_endpoint_terminating), (OnChange::Keep, OnChange::Keep));
}

#[test]
fn the_crd_tells_the_same_defaults() {
    let crd = serde_json::to_value(crd()).expect("plain data");
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    assert_eq!(spec["className"]["default"], json!("tidegate"));
    let rule = &spec["rules"]["items"]["properties"];
    assert_eq!(
        rule["timeouts"]["default"],
        json!({
            "connect": "5s", "upgrade": "10s", "idle": "1h",
            "maxDuration": "0s", "maxDurationJitter": 10, "requestBody": "1m", "writeStall": "30s", "close": "5s",
        })
    );
    assert_eq!(
        rule["keepalive"]["default"],
        json!({"backendPing": "0s", "pongTimeout": "20s"}),
        "clientPing depends on timeouts.idle"
    );
    assert_eq!(rule["frames"]["default"], json!("Strict"));
    assert_eq!(rule["limits"]["default"], json!({"framesPerSecond": 20_000}));
    assert_eq!(
        rule["loadBalancing"]["default"],
        json!({
            "policy": "LeastConnections", "slowStart": "30s", "rebalance": {"maxPercentPerMinute": 0},
        })
    );
    assert_eq!(rule["retry"]["default"], json!({"connectAttempts": 3}));
    assert_eq!(
        rule["drain"]["default"],
        json!({
            "closeCode": 1012,
            "onRouteRemoved": "Keep", "onEndpointTerminating": "Keep", "spread": "20s",
        })
    );
    assert_eq!(rule["matches"]["default"], json!([{"path": {"type": "Prefix", "value": "/"}}]));
    assert_eq!(rule["backendRefs"]["items"]["properties"]["weight"]["default"], json!(1));
}

#[test]
fn the_rules_of_the_crd_accept_what_makes_sense() {
    let good = [
        (
            "/hostnames",
            json!(["*.example.com", "localhost", "a-b.example.com", "xn--bcher-kva.example"]),
        ),
        ("/tls", json!({"secretName": "chat-tls"})),
        ("/tls", json!({"secretRef": {"name": "a", "namespace": "b"}, "minVersion": "1.3"})),
        ("/rules/0/matches", json!([{"path": {"type": "Exact", "value": "/ws/.well-known/a..b"}}])),
        ("/rules/0/timeouts", json!({"connect": "1ms", "upgrade": "1h30m", "idle": "0s"})),
        (
            "/rules/0/timeouts",
            json!({"maxDuration": "0s", "maxDurationJitter": 0, "writeStall": "0s", "close": "1ms"}),
        ),
        // The pings that are sent by default are not held against it.
        ("/rules/0/timeouts", json!({"idle": "1s"})),
        (
            "/rules/0/keepalive",
            json!({"clientPing": "59m59s", "backendPing": "59m", "pongTimeout": "2h"}),
        ),
        ("/rules/0/keepalive", json!({"clientPing": "0s", "backendPing": "0s"})),
        ("/rules", json!([pinging("2h", "3h", "0s")])),
        ("/rules", json!([pinging("0s", "0h", "1ms")])),
        ("/rules/0/limits", json!({"maxMessageBytes": 1, "messagesPerSecond": 1})),
        ("/rules/0/limits", json!({"framesPerSecond": 0})),
        ("/rules/0/limits", json!({"framesPerSecond": i32::MAX})),
        ("/rules/0/frames", json!("PassThrough")),
        ("/rules/0/loadBalancing", json!({"policy": "RoundRobin", "slowStart": "0s"})),
        ("/rules/0/loadBalancing", json!({"policy": "ConsistentHash", "slowStart": "1h"})),
        ("/rules/0/loadBalancing", hash_on(&json!({"source": "ClientIP"}))),
        ("/rules/0/loadBalancing", hash_on(&json!({"source": "Header", "name": "X-Tenant"}))),
        ("/rules/0/loadBalancing", hash_on(&json!({"source": "Cookie", "name": "sid"}))),
        ("/rules/0/loadBalancing", hash_on(&json!({"source": "QueryParam", "name": "room id"}))),
        ("/rules/0/loadBalancing", json!({"rebalance": {"maxPercentPerMinute": 100}})),
        ("/rules/0/retry", json!({"connectAttempts": 1})),
        ("/rules/0/drain", json!({"closeCode": 1000})),
        ("/rules/0/drain", json!({"closeCode": 1001})),
        ("/rules/0/drain", json!({"closeCode": 1013})),
        ("/rules/0/drain", json!({"closeCode": 3000})),
        ("/rules/0/drain", json!({"closeCode": 4999})),
        (
            "/rules/0/drain",
            json!({"onRouteRemoved": "Close", "onEndpointTerminating": "Keep", "spread": "0s"}),
        ),
        ("/rules/0/backendRefs", json!([backend(0), backend(1)])),
        (
            "/rules",
            json!([named("a"), named("b"), {"backendRefs": [backend(1)]}, {"backendRefs": [backend(1)]}]),
        ),
        (
            "/rules/0/backendRefs/0/tls",
            json!({"insecureSkipVerify": true, "hostname": "a.example.com"}),
        ),
        (
            "/rules/0/backendRefs/0/tls",
            json!({"caCertificateRef": {"kind": "Secret", "name": "ca"}}),
        ),
    ];
    for (field, value) in good {
        let verdict = validate_cel(&with(field, &value));
        assert!(verdict.is_ok(), "{field} {value}: {verdict:?}");
    }
}

#[test]
fn the_rules_of_the_crd_refuse_what_can_never_work() {
    let bad = [
        ("/hostnames", json!(["Chat.example.com"]), "lower-case"),
        ("/hostnames", json!(["chat.example.com:443"]), "no port"),
        ("/hostnames", json!(["wss://chat.example.com"]), "no scheme"),
        ("/hostnames", json!(["*.*.example.com"]), "at most one '*'"),
        ("/hostnames", json!(["*"]), "at most one '*'"),
        ("/hostnames", json!(["a*.example.com"]), "whole leftmost label"),
        ("/hostnames", json!(["chat.example.com", "10.0.0.1"]), "IP address"),
        ("/tls", json!({"minVersion": "1.2"}), "set secretName"),
        ("/tls", json!({"secretName": "a", "secretRef": {"name": "b"}}), "not both"),
        ("/rules", json!([named("a"), named("a")]), "names of a route's rules"),
        ("/rules/0/matches", json!([{"path": {"value": "ws"}}]), "begins with '/'"),
        ("/rules/0/matches", json!([{"path": {"value": "/a//b"}}]), "no '//'"),
        ("/rules/0/matches", json!([{"path": {"value": "/a/.."}}]), "no '//'"),
        ("/rules/0/matches", json!([{"path": {"value": "/a?b"}}]), "no '//'"),
        ("/rules/0/timeouts", json!({"connect": "0s"}), "above 0s"),
        ("/rules/0/timeouts", json!({"upgrade": "0h"}), "above 0s"),
        ("/rules/0/timeouts", json!({"close": "0s"}), "close must be above 0s"),
        ("/rules/0/keepalive", json!({"pongTimeout": "0s"}), "pongTimeout must be above 0s"),
        ("/rules/0/keepalive", json!({"clientPing": "1h"}), "keepalive.clientPing must be shorter"),
        (
            "/rules/0/keepalive",
            json!({"backendPing": "2h"}),
            "keepalive.backendPing must be shorter",
        ),
        ("/rules", json!([pinging("1s", "0s", "1s")]), "keepalive.clientPing must be shorter"),
        ("/rules", json!([pinging("0s", "2s", "1s")]), "keepalive.backendPing must be shorter"),
        ("/rules/0/loadBalancing", json!({"slowStart": "1h1ms"}), "at most 1h"),
        (
            "/rules/0/loadBalancing",
            json!({"hashOn": {"source": "ClientIP"}}),
            "hashOn needs policy: ConsistentHash",
        ),
        (
            "/rules/0/loadBalancing",
            json!({"policy": "ConsistentHash", "rebalance": {"maxPercentPerMinute": 1}}),
            "rebalance does not go with",
        ),
        ("/rules/0/loadBalancing", hash_on(&json!({"source": "Header"})), "name says which"),
        (
            "/rules/0/loadBalancing",
            hash_on(&json!({"source": "ClientIP", "name": "a"})),
            "there is none",
        ),
        (
            "/rules/0/loadBalancing",
            hash_on(&json!({"source": "Cookie", "name": "a b"})),
            "no separators",
        ),
        ("/rules/0/drain", json!({"closeCode": 999}), "closeCode must be"),
        ("/rules/0/drain", json!({"closeCode": 1002}), "closeCode must be"),
        ("/rules/0/drain", json!({"closeCode": 1005}), "closeCode must be"),
        ("/rules/0/drain", json!({"closeCode": 1011}), "closeCode must be"),
        ("/rules/0/drain", json!({"closeCode": 2999}), "closeCode must be"),
        ("/rules/0/drain", json!({"closeCode": 5000}), "closeCode must be"),
        ("/rules/0/backendRefs", json!([backend(0), backend(0)]), "weight above 0"),
        ("/rules/0/backendRefs/0/tls", json!({}), "caCertificateRef"),
        (
            "/rules/0/backendRefs/0/tls",
            json!({"caCertificateRef": {"name": "ca"}, "insecureSkipVerify": true}),
            "but not both",
        ),
    ];
    for (field, value, sentence) in bad {
        let errors = validate_cel(&with(field, &value)).expect_err("to be refused").to_string();
        assert!(errors.contains(sentence), "{field} {value}: {errors}");
    }
}

/// What no rule in CEL but the schema itself refuses.
#[test]
fn numbers_have_their_bounds_in_the_schema() {
    let crd = serde_json::to_value(crd()).expect("plain data");
    let rule = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["rules"]["items"]["properties"];
    let jitter = &rule["timeouts"]["properties"]["maxDurationJitter"];
    assert_eq!((&jitter["minimum"], &jitter["maximum"]), (&json!(0.0), &json!(100.0)), "{jitter}");
    let limits = &rule["limits"]["properties"];
    for (name, format) in [("maxMessageBytes", "int64"), ("messagesPerSecond", "int32")] {
        assert_eq!(limits[name]["minimum"], json!(1.0), "{name}");
        assert_eq!(limits[name]["format"], json!(format), "{name}");
    }
    let frames = &limits["framesPerSecond"];
    assert_eq!((&frames["minimum"], &frames["format"]), (&json!(0.0), &json!("int32")), "{frames}");
    let percent =
        &rule["loadBalancing"]["properties"]["rebalance"]["properties"]["maxPercentPerMinute"];
    assert_eq!((&percent["minimum"], &percent["maximum"]), (&json!(0.0), &json!(100.0)));
    let attempts = &rule["retry"]["properties"]["connectAttempts"];
    assert_eq!((&attempts["minimum"], &attempts["maximum"]), (&json!(1.0), &json!(10.0)));
    assert_eq!(rule["frames"]["enum"], json!(["Strict", "PassThrough"]));
    for name in ["onRouteRemoved", "onEndpointTerminating"] {
        assert_eq!(rule["drain"]["properties"][name]["enum"], json!(["Keep", "Close"]), "{name}");
    }
    let longest = "99999ms".repeat(4);
    assert!(parse(&longest).is_ok());
    assert_eq!(rule["timeouts"]["properties"]["close"]["maxLength"], json!(longest.len()));
}

/// A rule with pings and an idle timeout.
fn pinging(client: &str, backend_ping: &str, idle: &str) -> Value {
    json!({
        "backendRefs": [backend(1)],
        "keepalive": {"clientPing": client, "backendPing": backend_ping},
        "timeouts": {"idle": idle},
    })
}

/// Consistent hashing by this key.
fn hash_on(key: &Value) -> Value {
    json!({"policy": "ConsistentHash", "hashOn": key})
}

fn backend(weight: u32) -> Value {
    json!({"name": "chat", "port": 8080, "weight": weight})
}

fn named(name: &str) -> Value {
    json!({"name": name, "backendRefs": [backend(1)]})
}

/// A minimal route in which the field of the spec has this value.
fn with(field: &str, value: &Value) -> WebSocketRoute {
    let mut spec = minimal();
    let (parent, name) = field.rsplit_once('/').expect("a pointer");
    spec.pointer_mut(parent).expect("a field of the minimal route")[name] = value.clone();
    route(&spec)
}

fn minimal() -> Value {
    json!({
        "hostnames": ["chat.example.com"],
        "rules": [{"backendRefs": [{"name": "chat", "port": 8080}]}],
    })
}

fn route(spec: &Value) -> WebSocketRoute {
    serde_json::from_value(json!({
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "WebSocketRoute",
        "metadata": {"name": "chat", "namespace": "chat"},
        "spec": spec,
    }))
    .expect("a route")
}

#[test]
fn reasons_are_named_once_each() {
    let names: std::collections::BTreeSet<_> =
        Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_alphanumeric())));
}
