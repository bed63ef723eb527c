use proptest::prelude::*;

use super::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn request(lines: &[(&str, &str)]) -> (HeaderMap, HopByHop) {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let hop = HopByHop::take(&mut headers);
    (headers, hop)
}

fn check(lines: &[(&str, &str)]) -> Result<Upgrade, Refusal> {
    let (headers, hop) = request(lines);
    check_request(&Method::GET, Version::HTTP_11, &headers, &hop)
}

fn good() -> Vec<(&'static str, &'static str)> {
    vec![
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ]
}

fn with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut lines: Vec<_> = good().into_iter().filter(|(other, _)| *other != name).collect();
    lines.push((name, value));
    lines
}

#[test]
fn the_example_of_the_rfc_is_accepted() {
    assert_eq!(check(&good()).unwrap().accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn unsound_upgrades_are_refused_with_their_reason() {
    type Case = (Vec<(&'static str, &'static str)>, RefusalReason, &'static str);
    let cases: &[Case] = &[
        (with("connection", "keep-alive"), RefusalReason::BadHandshake, "Connection header lacks"),
        (with("sec-websocket-version", "8"), RefusalReason::BadVersion, "version 13"),
        (with("sec-websocket-key", "c2hvcnQ="), RefusalReason::BadHandshake, "16 bytes"),
        (
            with("sec-websocket-key", "not base64 at all!!!!!!!"),
            RefusalReason::BadHandshake,
            "16 bytes",
        ),
        (with("content-length", "5"), RefusalReason::BadHandshake, "no body"),
        (with("transfer-encoding", "chunked"), RefusalReason::BadHandshake, "Transfer-Encoding"),
        (
            with("sec-websocket-protocol", "ok, secret token"),
            RefusalReason::BadHandshake,
            "number 2 of its list, that is not a token",
        ),
        (
            [good(), vec![("sec-websocket-key", KEY)]].concat(),
            RefusalReason::BadHandshake,
            "more than once",
        ),
        (
            [good(), vec![("sec-websocket-version", "13")]].concat(),
            RefusalReason::BadHandshake,
            "more than once",
        ),
        (
            with("connection", "upgrade, sec-websocket-key"),
            RefusalReason::BadHandshake,
            "named in Connection",
        ),
    ];
    for (lines, reason, words) in cases {
        let refusal = check(lines).unwrap_err();
        assert_eq!(refusal.reason, *reason, "{lines:?}");
        assert!(refusal.detail.contains(words), "{lines:?}: {}", refusal.detail);
    }
    for gone in ["sec-websocket-key", "sec-websocket-version"] {
        let lines: Vec<_> = good().into_iter().filter(|(name, _)| *name != gone).collect();
        assert_eq!(check(&lines).unwrap_err().reason, RefusalReason::BadHandshake);
    }
    let (headers, hop) = request(&good());
    for (method, version) in [(Method::POST, Version::HTTP_11), (Method::GET, Version::HTTP_10)] {
        assert_eq!(
            check_request(&method, version, &headers, &hop).unwrap_err().reason,
            RefusalReason::BadHandshake
        );
    }
}

#[test]
fn a_content_length_of_zero_is_no_body() {
    assert!(check(&with("content-length", "0")).is_ok());
}

fn answer(lines: &[(&str, &str)], offered: &[(&str, &str)]) -> Result<(), AnswerFault> {
    let (headers, hop) = request(lines);
    check_response(&headers, &hop, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", &request(offered).0)
}

#[test]
fn a_101_needs_all_that_makes_it_one() {
    let sound = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ];
    assert_eq!(answer(&sound, &[]), Ok(()));
    let faults = [AnswerFault::NoConnection, AnswerFault::NoUpgrade, AnswerFault::NoAccept];
    for (left_out, fault) in faults.into_iter().enumerate() {
        let mut lines = sound.to_vec();
        lines.remove(left_out);
        assert_eq!(answer(&lines, &[]), Err(fault), "without {}", sound[left_out].0);
    }
    let other = [sound[0], sound[1], ("sec-websocket-accept", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=")];
    assert_eq!(answer(&other, &[]), Err(AnswerFault::WrongAccept));
    assert_eq!(answer(&[&sound[..], &other[2..]].concat(), &[]), Err(AnswerFault::WrongAccept));
}

#[test]
fn a_101_may_choose_only_what_was_offered() {
    let sound = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ];
    let offered = [
        ("sec-websocket-protocol", "mqtt, graphql-ws"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
    ];
    let choose = |name, value| answer(&[&sound[..], &[(name, value)]].concat(), &offered);
    assert_eq!(choose("sec-websocket-protocol", "graphql-ws"), Ok(()));
    assert_eq!(choose("sec-websocket-protocol", "wamp"), Err(AnswerFault::Subprotocol));
    assert_eq!(
        choose("sec-websocket-extensions", "permessage-deflate; server_no_context_takeover"),
        Ok(())
    );
    assert_eq!(choose("sec-websocket-extensions", "x-other"), Err(AnswerFault::Extension));
}

proptest! {
    #[test]
    fn no_headers_make_the_check_panic(lines in prop::collection::vec(("[a-z-]{1,24}", "[ -~]{0,40}"), 0..12)) {
        let sound = |name: &str| HeaderName::from_bytes(name.as_bytes()).is_ok();
        let lines: Vec<_> =
            lines.iter().map(|(name, value)| (name.as_str(), value.as_str())).filter(|(name, _)| sound(name)).collect();
        let _ = check(&lines);
        let _ = check(&[good(), lines].concat());
    }
}

#[test]
fn our_101_has_our_accept_and_what_the_backend_chose_but_no_length() {
    let upgrade = check(&good()).unwrap();
    let (chosen, _) = request(&[
        ("sec-websocket-protocol", "graphql-ws"),
        ("sec-websocket-accept", "somebody else's"),
        ("content-length", "0"),
    ]);
    let answer = switching(chosen, &upgrade);
    assert_eq!(answer.status(), 101);
    let get = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap());
    assert_eq!(get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(get("sec-websocket-protocol"), Some("graphql-ws"));
    assert_eq!((get("upgrade"), get("connection")), (Some("websocket"), Some("Upgrade")));
    assert_eq!(get("content-length"), None);
    assert_eq!(answer.headers().get_all("sec-websocket-accept").iter().count(), 1);
}
