//! What keeps an upgrade from being a hole through the gateway. Each rule was broken by a proxy before.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tidegate::table::{HttpMode, Rule, Timeouts};

use crate::support::{
    ACCEPT, Backend, Frame, Harness, KEY, OpCode, Peer, await_standstill, host, rule, send_all,
    switching, upgrade_request, upgrade_with,
};

const EARLY: &[u8] = b"GET /secret HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[test]
fn bytes_behind_the_request_never_reach_a_backend_that_refuses() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send([upgrade_request("a.test").as_bytes(), EARLY].concat());
    let mut server = backend.accept();
    server.head();
    server.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!(client.answer().0.status(), 403);
    assert_eq!(String::from_utf8_lossy(&server.rest()), "");
}

#[test]
fn bytes_behind_the_request_arrive_first_once_the_backend_has_switched() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let early = Frame::bytes(OpCode::Text, b"early", Some([9, 8, 7, 6]));
    let mut client = gateway.client();
    client.send([upgrade_request("a.test").as_bytes(), &early].concat());
    let mut server = backend.accept();
    server.head();
    // Sent later than the request, but still before the 101.
    let second = Frame::bytes(OpCode::Text, b"second", Some([5, 5, 5, 5]));
    client.send(&second);
    server.send(switching(""));
    assert_eq!(client.head().status(), 101);
    let third = Frame::bytes(OpCode::Text, b"third", Some([4, 4, 4, 4]));
    client.send(&third);
    let expected = [early, second, third].concat();
    assert_eq!(server.bytes(expected.len()), expected);
}

/// The backend answers `http1_head` with bytes behind it; the client must get a 502 and none of them.
#[track_caller]
fn assert_bad_101(head: &str, detail: &str) {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_with("a.test", "Sec-WebSocket-Protocol: chat, graphql-ws\r\n"));
    let (mut server, _) = backend.answer(format!("{head}SMUGGLED"));
    let (answer, body) = client.answer();
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert_eq!(answer.get("tidegate-reason"), Some("backend_bad_handshake"));
    assert!(body.contains(detail), "{body}");
    client.finish();
    let rest = client.rest();
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    assert!(server.rest().is_empty());
    let labels = [("reason", "backend_bad_handshake"), ("route", "route")];
    gateway.await_metric("tidegate_upgrade_failures_total", &labels, 1.0);
}

#[test]
fn a_101_without_upgrade_is_no_handshake() {
    assert_bad_101(
        &format!(
            "HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        ),
        "lacks \"Upgrade: websocket\"",
    );
}

#[test]
fn a_101_to_another_protocol_is_no_handshake() {
    let head = switching("").replace("Upgrade: websocket", "Upgrade: h2c");
    assert_bad_101(&head, "lacks \"Upgrade: websocket\"");
}

#[test]
fn a_101_without_connection_upgrade_is_no_handshake() {
    let head = switching("").replace("Connection: Upgrade\r\n", "");
    assert_bad_101(&head, "lacks \"Connection: Upgrade\"");
}

#[test]
fn a_101_without_accept_is_no_handshake() {
    let head = switching("").replace(&format!("Sec-WebSocket-Accept: {ACCEPT}\r\n"), "");
    assert_bad_101(&head, "lacks Sec-WebSocket-Accept");
}

#[test]
fn a_101_with_the_accept_of_another_key_is_no_handshake() {
    assert_bad_101(&switching("").replace(ACCEPT, "HSmrc0sMlYUkAGmm5OPpG2HaGWk="), "does not fit");
}

#[test]
fn a_101_with_two_accepts_is_no_handshake() {
    assert_bad_101(&switching(&format!("Sec-WebSocket-Accept: {ACCEPT}\r\n")), "does not fit");
}

#[test]
fn a_101_with_a_subprotocol_that_was_not_offered_is_no_handshake() {
    assert_bad_101(&switching("Sec-WebSocket-Protocol: mqtt\r\n"), "subprotocol");
}

#[test]
fn a_101_with_two_subprotocols_is_no_handshake() {
    let lines = "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: graphql-ws\r\n";
    assert_bad_101(&switching(lines), "subprotocol");
}

#[test]
fn a_101_with_an_extension_that_was_not_offered_is_no_handshake() {
    let lines = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    assert_bad_101(&switching(lines), "extension");
}

#[test]
fn an_answer_that_is_no_http_is_no_handshake() {
    assert_bad_101("SSH-2.0-OpenSSH_9.6\r\n\r\n", "not HTTP");
}

#[test]
fn the_subprotocol_and_extension_that_the_backend_chose_reach_the_client() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    let offers = "Sec-WebSocket-Protocol: chat, graphql-ws\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    client.send(upgrade_with("a.test", offers));
    let choice = "Sec-WebSocket-Protocol: graphql-ws\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
    let (_server, asked) = backend.answer(switching(choice));
    assert_eq!(asked.get("sec-websocket-protocol"), Some("chat, graphql-ws"));
    let head = client.head();
    assert_eq!(head.status(), 101);
    assert_eq!(head.get("sec-websocket-protocol"), Some("graphql-ws"));
    let extension = "permessage-deflate; server_no_context_takeover";
    assert_eq!(head.get("sec-websocket-extensions"), Some(extension));
}

#[track_caller]
fn assert_refused_untouched(request: &str, status: u16, reason: &str) {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (head, body) = gateway.ask(request);
    assert_eq!((head.status(), head.get("tidegate-reason")), (status, Some(reason)), "{body}");
    backend.assert_untouched();
    gateway.await_metric("tidegate_upgrade_failures_total", &[("reason", reason)], 1.0);
}

#[test]
fn an_upgrade_to_h2c_is_not_made() {
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert_refused_untouched(request, 426, "not_websocket");
}

#[test]
fn an_upgrade_to_tls_is_not_made() {
    let request =
        "OPTIONS / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: TLS/1.0\r\n\r\n";
    assert_refused_untouched(request, 426, "not_websocket");
}

#[test]
fn of_several_upgrades_only_websocket_is_passed_on() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test").replace("Upgrade: websocket", "Upgrade: h2c, websocket"));
    let (_server, asked) = backend.answer(switching(""));
    assert_eq!(asked.get("upgrade"), Some("websocket"));
    assert_eq!(client.head().status(), 101);
}

#[test]
fn an_upgrade_with_a_body_is_refused() {
    let request = upgrade_with("a.test", "Content-Length: 5\r\n") + "hello";
    assert_refused_untouched(&request, 400, "bad_handshake");
}

#[test]
fn an_upgrade_with_transfer_encoding_is_refused() {
    let request =
        upgrade_with("a.test", "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n";
    assert_refused_untouched(&request, 400, "bad_handshake");
}

#[test]
fn an_upgrade_by_post_is_refused() {
    let request = upgrade_request("a.test").replace("GET", "POST");
    assert_refused_untouched(&request, 400, "bad_handshake");
}

#[test]
fn an_upgrade_over_http_1_0_is_refused() {
    let request = upgrade_request("a.test").replace("HTTP/1.1", "HTTP/1.0");
    assert_refused_untouched(&request, 426, "upgrade_stripped");
}

#[test]
fn an_upgrade_that_connection_does_not_name_is_refused() {
    let request =
        upgrade_request("a.test").replace("Connection: Upgrade", "Connection: keep-alive");
    assert_refused_untouched(&request, 426, "upgrade_stripped");
}

#[test]
fn an_upgrade_without_a_sound_key_is_refused() {
    for key in ["c2hvcnQ=", "not base64 at all", ""] {
        let request = upgrade_request("a.test").replace(KEY, key);
        assert_refused_untouched(&request, 400, "bad_handshake");
    }
}

#[test]
fn hop_by_hop_headers_of_the_client_do_not_reach_the_backend_but_its_own_headers_do() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    let lines = "Connection: Authorization, X-Internal-User\r\nconnection: cookie\r\nAuthorization: Bearer t\r\nX-Internal-User: root\r\nCookie: a=b\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\nTrailer: X-T\r\nExpect: x\r\nX-Kept: yes\r\nOrigin: https://a.test\r\n";
    client.send(upgrade_with("a.test", lines));
    let (_server, asked) = backend.answer(switching(""));
    let mut names: Vec<_> = asked.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "cdn-loop",
        "connection",
        "host",
        "origin",
        "sec-websocket-key",
        "sec-websocket-version",
        "upgrade",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-kept",
        "x-real-ip",
        "x-request-id",
    ];
    assert_eq!(names, expected);
}

#[test]
fn the_host_cannot_be_removed_by_naming_it_in_connection() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_with("a.test:80", "Connection: Host\r\n"));
    let (_server, asked) = backend.answer(switching(""));
    assert_eq!(asked.get("host"), Some("a.test:80"));
}

#[test]
fn what_we_say_of_the_client_cannot_be_removed_by_naming_it_in_connection() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_with("a.test", "Connection: X-Forwarded-For, X-Forwarded-Proto\r\n"));
    let (_server, asked) = backend.answer(switching(""));
    assert_eq!(asked.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(asked.get("x-forwarded-proto"), Some("http"));
}

#[test]
fn the_backend_sees_exactly_one_connection_and_one_upgrade_header_of_ours() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    let lines = "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    client.send(upgrade_with("a.test", lines));
    let (_server, asked) = backend.answer(switching(""));
    assert_eq!(asked.all("connection"), ["Upgrade"]);
    assert_eq!(asked.all("upgrade"), ["websocket"]);
}

#[test]
fn hop_by_hop_headers_of_the_backend_do_not_reach_the_client_but_its_own_headers_do() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let lines = "Connection: X-Pod\r\nX-Pod: 10.0.0.1\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\nProxy-Authenticate: Basic\r\nSet-Cookie: a=b\r\n";
    let (_server, _) = backend.answer(switching(lines));
    let head = client.head();
    let mut names: Vec<_> = head.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let expected =
        ["connection", "date", "sec-websocket-accept", "set-cookie", "upgrade", "x-request-id"];
    assert_eq!(names, expected);
    assert_eq!(head.get("connection"), Some("Upgrade"));
}

#[test]
fn a_backend_connection_whose_upgrade_was_refused_is_never_reused() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send(upgrade_request("a.test"));
        let (mut server, _) = backend.answer(
            "HTTP/1.1 401 Unauthorized\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
        );
        assert_eq!(client.answer().0.status(), 401);
        assert!(server.ended().is_empty(), "it ends without another request");
    }
}

#[test]
fn a_backend_connection_whose_upgrade_was_granted_is_never_reused() {
    let backend = Backend::bind();
    let rule = Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) };
    let gateway = Harness::start(vec![host("a.test", rule)]);
    let (mut client, mut server) = gateway.open(&backend);
    client.send(Frame::client_close(1000, ""));
    server.frame();
    server.send(Frame::server_close(1000, ""));
    client.frame();
    client.finish();
    let mut next = gateway.client();
    next.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (_again, _) = backend.answer("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(next.answer().0.status(), 204);
    assert!(server.ended().is_empty());
}

#[test]
fn a_backend_that_never_answers_is_given_up_at_the_upgrade_timeout() {
    let backend = Backend::bind();
    let base = rule(&[backend.address()]);
    let timeouts = Timeouts { upgrade: Duration::from_millis(200), ..base.timeouts };
    let gateway = Harness::start(vec![host("a.test", Rule { timeouts, ..base })]);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let mut server = backend.accept();
    server.head();
    let (head, body) = client.answer();
    assert_eq!(head.status(), 504);
    assert_eq!(head.get("tidegate-reason"), Some("backend_timeout"));
    assert!(body.contains("timeouts.upgrade"), "{body}");
    assert!(server.rest().is_empty(), "the backend is let go");
}

#[test]
fn a_backend_whose_head_never_ends_is_given_up_at_the_upgrade_timeout() {
    let backend = Backend::bind();
    let base = rule(&[backend.address()]);
    let timeouts = Timeouts { upgrade: Duration::from_millis(200), ..base.timeouts };
    let gateway = Harness::start(vec![host("a.test", Rule { timeouts, ..base })]);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let (_server, _) = backend.answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: web");
    assert_eq!(client.answer().0.get("tidegate-reason"), Some("backend_timeout"));
}

#[test]
fn a_backend_whose_head_is_too_long_is_refused() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let line = format!("X-Long: {}\r\n", "x".repeat(32 * 1024));
    let (_server, _) = backend.answer(switching(&line));
    let (head, body) = client.answer();
    assert_eq!(head.status(), 502);
    assert_eq!(head.get("tidegate-reason"), Some("backend_bad_handshake"));
    assert!(body.contains("too long"), "{body}");
}

#[test]
fn more_early_bytes_than_the_budget_wait_with_the_client_and_arrive_whole_after_the_101() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let mut server = backend.accept();
    server.head();
    let mut reader = Peer::over(&client.socket);
    let frame = Frame::bytes(OpCode::Binary, &[0x5a; 64 * 1024], Some([1, 2, 3, 4]));
    // 16 MiB: more than the kernel takes for itself.
    let frames = 256;
    let sent = send_all(client, frame.clone(), frames);
    await_standstill(&sent);
    assert!(sent.load(Relaxed) < frames, "the gateway has taken all of it");
    server.send(switching(""));
    assert_eq!(reader.head().status(), 101);
    for _ in 0..frames {
        assert!(server.bytes(frame.len()) == frame);
    }
    assert_eq!(server.close().0, 1001);
    assert!(server.ended().is_empty());
}

#[test]
fn interim_answers_before_the_101_are_passed_over() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let (mut server, _) = backend.answer(early.to_owned() + &switching(""));
    assert_eq!(client.head().status(), 101);
    client.send(Frame::from_client("up"));
    assert_eq!(server.text(), "up");
}

#[test]
fn a_content_length_of_zero_is_no_body() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_with("a.test", "Content-Length: 0\r\n"));
    let (mut server, _) = backend.answer(switching(""));
    assert_eq!(client.head().status(), 101);
    client.send(Frame::from_client("up"));
    assert_eq!(server.text(), "up");
}

#[test]
fn the_host_is_compared_without_case_port_and_last_dot() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    for host in ["A.Test", "a.test:8080", "a.test.", "A.TEST.:80"] {
        let mut client = gateway.client();
        client.send(upgrade_request(host));
        let (_server, asked) = backend.answer(switching(""));
        let (name, port) =
            host.split_once(':').map_or((host, ""), |(name, _)| (name, &host[name.len()..]));
        let normal = name.trim_end_matches('.').to_lowercase() + port;
        assert_eq!(asked.get("host"), Some(&*normal), "it goes on as it was matched");
        assert_eq!(client.head().status(), 101);
    }
}
