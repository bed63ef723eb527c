//! `http: Forward`: plain HTTP on the same paths as the WebSockets.

use std::net::TcpListener;

use tidegate::table::{HttpMode, Rule};

use crate::support::{
    Backend, Frame, Harness, Peer, eventually, host, open_over, rule, upgrade_request,
};

fn forwarding(backend: &Backend) -> Harness {
    let rule = Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) };
    Harness::start(vec![host("a.test", rule)])
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_get_reaches_the_backend_with_its_target_and_headers_and_the_answer_comes_back() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("GET /a%20b?x=1&y HTTP/1.1\r\nHost: A.test:80\r\nAccept: text/plain\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n");
    let (_server, asked) = backend.answer("HTTP/1.1 418 I'm a teapot\r\nX-A: b\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 3\r\n\r\ntea");
    assert_eq!(asked.start, "GET /a%20b?x=1&y HTTP/1.1");
    assert_eq!(asked.get("host"), Some("a.test:80"));
    assert_eq!(asked.get("accept"), Some("text/plain"));
    assert_eq!(asked.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(asked.get("x-forwarded-proto"), Some("http"));
    let (head, body) = client.answer();
    assert_eq!((head.status(), &*body), (418, "tea"));
    assert_eq!(head.get("x-a"), Some("b"));
    assert_eq!(head.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(head.get("tidegate-reason"), None);
    gateway.await_metric("tidegate_http_requests_total", &[("code", "4xx")], 1.0);
}

#[test]
fn a_backend_that_varies_its_status_adds_no_series() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    for status in 200..800 {
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        backend.answer(format!("HTTP/1.1 {status} As it likes\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(client.head().status(), status);
    }
    gateway.await_metric("tidegate_http_requests_total", &[("code", "other")], 200.0);
    let series = gateway.series("tidegate_http_requests_total");
    assert!(series.len() <= 35, "{series:?}");
    assert!(series.iter().any(|line| line.contains("code=\"404\"")), "{series:?}");
}

#[test]
fn a_body_of_known_length_reaches_the_backend() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello");
    let mut server = backend.accept();
    assert_eq!(server.head().get("content-length"), Some("5"));
    assert_eq!(server.bytes(5), b"hello");
    server.send(OK);
    assert_eq!(client.answer().1, "ok");
}

#[test]
fn a_chunked_body_reaches_the_backend_piece_by_piece() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut server = backend.accept();
    assert_eq!(server.head().get("transfer-encoding"), Some("chunked"));
    for _ in 0..3 {
        client.send("5\r\nhello\r\n");
        assert_eq!(server.bytes(10), b"5\r\nhello\r\n");
    }
    client.send("0\r\n\r\n");
    assert_eq!(server.bytes(5), b"0\r\n\r\n");
    server.send(OK);
    assert_eq!(client.answer().1, "ok");
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    );
    let mut server = backend.accept();
    assert_eq!(server.head().get("expect"), None);
    assert_eq!(client.head().status(), 100);
    client.send("hello");
    assert_eq!(server.bytes(5), b"hello");
    server.send(OK);
    assert_eq!(client.answer().1, "ok");
}

#[test]
fn an_answer_that_is_still_streaming_is_waited_for_when_the_gateway_shuts_down() {
    let backend = Backend::bind();
    let forward = Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) };
    let mut gateway = Harness::start(vec![host("a.test", forward), host("b.test", rule(&[]))]);
    let mut client = gateway.client();
    client.send("GET /download HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (mut server, _) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf ");
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.bytes(5), b"half ");
    let running = gateway.take_gateway();
    let down = std::thread::spawn(move || running.shut_down());
    eventually("upgrades are refused", || {
        gateway.ask(upgrade_request("b.test")).0.get("tidegate-reason") == Some("draining")
    });
    assert!(!down.is_finished(), "the answer has not ended");
    server.send("whole");
    assert_eq!(client.bytes(5), b"whole");
    drop(client);
    down.join().unwrap();
}

#[test]
fn an_answer_streams_to_the_client_piece_by_piece() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("GET /events HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (mut server, _) = backend.answer(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n",
    );
    let head = client.head();
    assert_eq!(head.get("transfer-encoding"), Some("chunked"));
    assert_eq!(head.get("content-type"), Some("text/event-stream"));
    for _ in 0..3 {
        server.send("5\r\nevent\r\n");
        assert_eq!(client.bytes(10), b"5\r\nevent\r\n");
    }
    server.send("0\r\n\r\n");
    assert_eq!(client.bytes(5), b"0\r\n\r\n");
}

#[test]
fn an_answer_that_ends_with_its_connection_ends_well_for_the_client() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    drop(backend.answer("HTTP/1.0 200 OK\r\n\r\nto the end"));
    assert_eq!(client.head().get("transfer-encoding"), Some("chunked"));
    assert_eq!(client.bytes(20), b"A\r\nto the end\r\n0\r\n\r\n");
}

#[test]
fn an_answer_that_breaks_off_breaks_off_for_the_client() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    drop(backend.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"));
    client.head();
    let rest = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&rest));
}

#[test]
fn the_answer_to_head_keeps_its_length_and_has_no_body() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (_server, asked) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    assert_eq!(asked.start, "HEAD / HTTP/1.1");
    assert_eq!(client.head().get("content-length"), Some("1000"));
    assert_next_request_is_served(&backend, &mut client);
}

#[test]
fn answers_without_a_body_have_none() {
    for status in ["204 No Content", "304 Not Modified"] {
        let backend = Backend::bind();
        let gateway = forwarding(&backend);
        let mut client = gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let (_server, _) = backend.answer(format!("HTTP/1.1 {status}\r\nETag: \"x\"\r\n\r\n"));
        let head = client.head();
        assert_eq!(head.start, format!("HTTP/1.1 {status}"));
        assert_eq!(head.get("etag"), Some("\"x\""));
        assert_next_request_is_served(&backend, &mut client);
    }
}

#[track_caller]
fn assert_next_request_is_served(backend: &Backend, client: &mut Peer) {
    client.send("GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (_server, asked) = backend.answer(OK);
    assert_eq!(asked.start, "GET /next HTTP/1.1");
    assert_eq!(client.answer().1, "ok");
}

#[test]
fn several_requests_of_one_connection_are_served_and_then_an_upgrade() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_next_request_is_served(&backend, &mut client);
    }
    let mut server = open_over(&mut client, &backend);
    client.send(Frame::from_client("now frames"));
    assert_eq!(server.text(), "now frames");
    gateway.await_metric("tidegate_http_requests_total", &[("code", "200")], 3.0);
}

#[test]
fn hop_by_hop_headers_end_here_in_both_directions() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: X-Secret, keep-alive\r\nX-Secret: 1\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nTE: trailers\r\nProxy-Authorization: Basic eA==\r\nX-Kept: 1\r\n\r\n");
    let (_server, asked) = backend.answer("HTTP/1.1 200 OK\r\nConnection: X-Pod\r\nX-Pod: 1\r\nKeep-Alive: timeout=1\r\nUpgrade: h2c\r\nX-Kept: 2\r\nContent-Length: 0\r\n\r\n");
    for name in ["connection", "x-secret", "upgrade", "http2-settings", "te", "proxy-authorization"]
    {
        assert_eq!(asked.get(name), None, "{name}");
    }
    assert_eq!(asked.get("x-kept"), Some("1"));
    let (head, _) = client.answer();
    for name in ["connection", "x-pod", "keep-alive", "upgrade"] {
        assert_eq!(head.get(name), None, "{name}");
    }
    assert_eq!(head.get("x-kept"), Some("2"));
}

#[test]
fn a_backend_that_is_gone_is_answered_502() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rule = Rule { http: HttpMode::Forward, ..rule(&[gone]) };
    let gateway = Harness::start(vec![host("a.test", rule)]);
    let (head, _) = gateway.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!((head.status(), head.get("tidegate-reason")), (502, Some("backend_connect")));
}

#[test]
fn a_backend_that_hangs_up_without_an_answer_is_answered_502() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    backend.accept().head();
    let (head, _) = client.answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (502, Some("backend_bad_handshake")));
}

#[test]
fn a_client_that_leaves_frees_the_backend() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let mut server = backend.accept();
    server.head();
    client.reset();
    assert!(server.rest().is_empty());
}
