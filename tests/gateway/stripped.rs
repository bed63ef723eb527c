//! Upgrades that a box on the way has stripped: what the client is told, what the operator can count, and that plain HTTP goes on.

use tidegate::table::{HttpMode, Rule};

use crate::support::{
    Authority, Backend, Harness, KEY, client_config, host, open_over, rule, tls_host,
    upgrade_request, upgrade_with,
};

/// What is left of a browser's upgrade behind a proxy that knows nothing of WebSockets: hop-by-hop headers are gone (RFC 9110
/// §7.6.1), the proxy's own have come.
fn stripped(version: &str) -> String {
    format!(
        "GET /ws HTTP/{version}\r\nHost: a.test\r\nOrigin: https://a.test\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nVia: 1.1 squid\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: keep-alive\r\n\r\n"
    )
}

#[track_caller]
fn assert_stripped(gateway: &Harness, request: &str, seen: &str) -> String {
    let before = gateway.metric("tidegate_upgrade_failures_total", &[]);
    let (head, body) = gateway.ask(request);
    assert_eq!((head.status(), head.get("tidegate-reason")), (426, Some("upgrade_stripped")));
    assert_eq!(head.get("upgrade"), Some("websocket"));
    // To a client of HTTP/1.0 hyper adds keep-alive.
    assert!(head.get("connection").is_some_and(|value| value.starts_with("upgrade")));
    assert_eq!(head.get("tidegate-seen"), Some(seen));
    assert_eq!(head.get("x-request-id").map(str::len), Some(32));
    let labels = [("reason", "upgrade_stripped"), ("route", "route"), ("listener", "http")];
    gateway.await_metric("tidegate_upgrade_failures_total", &labels, before + 1.0);
    body
}

#[test]
fn an_upgrade_without_its_headers_is_known_by_its_marks() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let seen = "http=1.1; missing=upgrade,connection; via=\"1.1 squid\"; forwarded-for=1; proxies=x-forwarded-for";
    let body = assert_stripped(&gateway, &stripped("1.1"), seen);
    assert!(body.contains("without \"Upgrade: websocket\" and without"), "{body}");
    assert!(body.contains("connect to wss://a.test/ws"), "{body}");
    assert_stripped(&gateway, &stripped("1.0"), &seen.replace("1.1; m", "1.0; m"));
    let by_page = "GET / HTTP/1.1\r\nHost: a.test\r\nOrigin: https://a.test\r\n\r\n";
    let all = "http=1.1; missing=upgrade,connection,sec-websocket-key,sec-websocket-version";
    assert_stripped(&gateway, by_page, all);
    let half = upgrade_request("a.test").replace("Connection: Upgrade", "Connection: close");
    assert_stripped(&gateway, &half, "http=1.1; missing=connection");
    backend.assert_untouched();
}

#[test]
fn where_plain_http_is_forwarded_a_stripped_upgrade_is_not() {
    let backend = Backend::bind();
    let rule = Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) };
    let gateway = Harness::start(vec![host("a.test", rule)]);
    let (head, _) = gateway.ask(stripped("1.1"));
    assert_eq!((head.status(), head.get("tidegate-reason")), (426, Some("upgrade_stripped")));
    // Long polling from a page, on the same connection as the upgrade before it that was stripped.
    let mut client = gateway.client();
    assert_eq!(client.send(stripped("1.1")).answer().0.status(), 426);
    client.send("GET /poll HTTP/1.1\r\nHost: a.test\r\nOrigin: https://a.test\r\n\r\n");
    let (_server, asked) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(asked.start, "GET /poll HTTP/1.1");
    let (head, body) = client.answer();
    assert_eq!((head.status(), &*body, head.get("tidegate-seen")), (200, "ok", None));
}

#[test]
fn over_tls_the_advice_is_for_whoever_ends_it() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let identity = authority.certify("a.test").identity("a", false);
    let gateway = Harness::start(vec![tls_host("a.test", &identity, rule(&[backend.address()]))]);
    let mut client = gateway.tls_client(&client_config(&authority.pem), "a.test");
    let (head, body) = client.send(stripped("1.1")).answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (426, Some("upgrade_stripped")));
    assert!(body.contains("proxy_http_version 1.1") && body.contains("TLS inspection"), "{body}");
    open_over(&mut client, &backend);
}

#[test]
fn other_refusals_that_the_way_may_be_to_blame_for_tell_what_was_seen_of_it() {
    let gateway = Harness::to(&Backend::bind());
    for (request, reason, seen) in [
        (upgrade_request("b.test"), "no_route", "http=1.1"),
        (upgrade_request("a.test").replace("13", "8"), "bad_version", "http=1.1"),
        (
            upgrade_request("a.test").replace("Sec-WebSocket-Key", "X-Key"),
            "bad_handshake",
            "http=1.1; missing=sec-websocket-key",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a.test\r\nVia: 1.1 cache\r\n\r\n".to_owned(),
            "not_websocket",
            "http=1.1; missing=upgrade,connection,sec-websocket-key,sec-websocket-version; via=\"1.1 cache\"",
        ),
    ] {
        let (head, body) = gateway.ask(request);
        assert_eq!(head.get("tidegate-reason"), Some(reason), "{body}");
        assert_eq!(head.get("tidegate-seen"), Some(seen), "{reason}");
    }
}

#[test]
fn a_granted_upgrade_and_one_that_the_backend_refuses_bear_the_request_s_id_and_nothing_of_the_way()
{
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_with("a.test", "Via: 1.1 squid\r\n"));
    let (_server, asked) = backend.answer(crate::support::switching("X-Request-Id: backend\r\n"));
    let id = asked.get("x-request-id").expect("the backend is told the id").to_owned();
    let head = client.head();
    assert_eq!((head.status(), head.get("x-request-id")), (101, Some(&*id)));
    assert_eq!(head.get("tidegate-seen"), None);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    drop(backend.answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"));
    let (head, _) = client.answer();
    assert_eq!(head.get("x-request-id").map(str::len), Some(32));
}
