use http::{Request, Uri, header};
use proptest::prelude::*;

use super::*;

const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
const VERSION: (&str, &str) = ("sec-websocket-version", "13");
const UPGRADE: (&str, &str) = ("upgrade", "WebSocket");
const CONNECTION: (&str, &str) = ("connection", "keep-alive, Upgrade");
const ORIGIN: (&str, &str) = ("origin", "https://a.test");

fn way(version: Version, lines: &[(&str, &str)]) -> IntermediaryTrace {
    let mut request = Request::get("/ws").version(version);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    IntermediaryTrace::of(&request.body(()).unwrap().into_parts().0)
}

fn check(way: &IntermediaryTrace, only_websockets: bool, secure: bool) -> Result<(), Refusal> {
    let uri: Uri = "/ws?token=1".parse().unwrap();
    let asked = RequestTarget {
        secure,
        claims_tls: false,
        websocket: way.wants_websocket(),
        host: "a.test",
        uri: &uri,
        https_port: 443,
    };
    way.check(only_websockets, &asked)
}

/// What is said of a request over HTTP/1.1 to a rule that takes plain HTTP as well; empty if nothing.
fn said(lines: &[(&str, &str)]) -> String {
    check(&way(Version::HTTP_11, lines), false, true)
        .err()
        .map(|refusal| refusal.detail.into_owned())
        .unwrap_or_default()
}

#[test]
fn a_whole_upgrade_is_none_that_was_stripped() {
    assert_eq!(said(&[UPGRADE, CONNECTION, KEY, VERSION]), "");
    // That the key is missing is the handshake's to say.
    assert_eq!(said(&[UPGRADE, CONNECTION]), "");
}

#[test]
fn every_mark_of_a_websocket_client_gives_a_stripped_upgrade_away() {
    for mark in [
        KEY,
        VERSION,
        ("sec-websocket-extensions", "permessage-deflate"),
        ("sec-websocket-protocol", "mqtt"),
        ("sec-fetch-mode", "websocket"),
    ] {
        let said = said(&[mark, ("connection", "keep-alive")]);
        assert!(said.contains("without \"Upgrade: websocket\" and without"), "{mark:?}: {said}");
    }
    let only_upgrade = said(&[UPGRADE, ("connection", "close")]);
    assert!(only_upgrade.contains("came without \"Connection: Upgrade\":"), "{only_upgrade}");
    let only_connection = said(&[CONNECTION, KEY]);
    assert!(only_connection.contains("came without \"Upgrade: websocket\":"), "{only_connection}");
}

#[test]
fn plain_requests_bear_no_mark() {
    for lines in [
        &[][..],
        &[ORIGIN],
        &[("upgrade", "h2c"), ("connection", "upgrade, http2-settings")],
        &[("sec-fetch-mode", "cors"), ORIGIN],
        &[("via", "1.1 squid")],
    ] {
        assert_eq!(said(lines), "", "{lines:?}");
    }
    let (mut post, ()) = Request::post("/").header(KEY.0, KEY.1).body(()).unwrap().into_parts();
    post.version = Version::HTTP_10;
    assert!(
        check(&IntermediaryTrace::of(&post), true, true).is_ok(),
        "only a GET becomes a WebSocket"
    );
}

#[test]
fn an_origin_is_a_mark_only_where_nothing_but_websockets_is_served_and_the_page_says_nothing_else()
{
    let from_page = way(Version::HTTP_11, &[ORIGIN]);
    assert!(check(&from_page, false, true).is_ok());
    let refusal = check(&from_page, true, true).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::UpgradeStripped);
    let fetched = way(Version::HTTP_11, &[ORIGIN, ("sec-fetch-mode", "cors")]);
    assert!(check(&fetched, true, true).is_ok());
}

#[test]
fn http_1_0_carries_no_upgrade_however_whole_it_looks() {
    let old = way(Version::HTTP_10, &[UPGRADE, CONNECTION, KEY, VERSION]);
    let refusal = check(&old, false, true).unwrap_err();
    assert!(refusal.detail.contains("came over HTTP/1.0:"), "{}", refusal.detail);
    assert!(check(&way(Version::HTTP_10, &[]), true, true).is_ok(), "plain HTTP/1.0 is plain");
}

#[test]
fn the_advice_is_for_the_one_who_can_do_something() {
    let stripped = way(Version::HTTP_11, &[KEY]);
    let advice = |secure| check(&stripped, false, secure).unwrap_err().advice.unwrap();
    assert!(advice(false).contains("connect to wss://a.test/ws,"), "{}", advice(false));
    assert!(advice(true).contains("TLS inspection"), "{}", advice(true));
    assert!(!advice(true).contains("wss://"), "it came that way: {}", advice(true));
}

#[test]
fn what_was_seen_is_told_in_one_line() {
    let seen =
        |version, lines: &[(&str, &str)]| way(version, lines).seen().to_str().unwrap().to_owned();
    assert_eq!(seen(Version::HTTP_11, &[UPGRADE, CONNECTION, KEY, VERSION]), "http=1.1");
    let lines = [
        KEY,
        VERSION,
        ("via", "1.0 fred, 1.1 \"p\\nowhere\""),
        ("via", "1.1 squid (squid/5.7)"),
        ("x-forwarded-for", "192.0.2.1, 192.0.2.2"),
        ("proxy-connection", "keep-alive"),
        ("x-bluecoat-via", "0123456789abcdef"),
    ];
    assert_eq!(
        seen(Version::HTTP_10, &lines),
        "http=1.0; missing=upgrade,connection; via=\"1.0 fred, 1.1 ?p?nowhere?, 1.1 squid (squid/5.7)\"; \
         forwarded-for=2; proxies=proxy-connection,x-forwarded-for,x-bluecoat-via"
    );
}

proptest! {
    /// Whatever a peer writes into `Via`, the line keeps its shape and its length.
    #[test]
    fn nothing_in_via_breaks_out_of_its_quotes(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12)) {
        let (mut parts, ()) = Request::get("/").body(()).unwrap().into_parts();
        // What no header's value may have (RFC 9110 §5.5) stands for what ends a quoted string.
        let allowed = |byte: u8| if byte < 0x20 || byte == 0x7f { b'"' } else { byte };
        for line in lines {
            let line: Vec<u8> = line.into_iter().map(allowed).collect();
            parts.headers.append(header::VIA, HeaderValue::from_bytes(&line).unwrap());
        }
        let seen = IntermediaryTrace::of(&parts).seen();
        let text = seen.to_str().unwrap();
        prop_assert!(matches!(text.matches('"').count(), 0 | 2), "{text}");
        prop_assert!(!text.contains('\\') && text.len() < 300, "{text}");
    }
}
