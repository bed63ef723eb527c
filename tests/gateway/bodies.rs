//! Forwarded bodies: who is waited for in the midst of one has a time, and both sides end with it.

use std::time::Duration;

use tidegate::table::{HttpMode, Rule};

use crate::support::{Backend, DEADLINE, Harness, Peer, eventually, host, rule, upgrade_request};

const FAILURES: &str = "tidegate_upgrade_failures_total";
const POST: &str = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n";

/// A gateway that waits half a second in the midst of a body.
fn hasty(backend: &Backend) -> Harness {
    let mut rule = Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) };
    rule.timeouts.request_body = Some(Duration::from_millis(500));
    Harness::start(vec![host("a.test", rule)])
}

#[track_caller]
fn assert_told_late(gateway: &Harness, client: &mut Peer) {
    let (head, _) = client.answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (408, Some("body_timeout")));
    assert!(client.rest().is_empty(), "the client's connection ends");
    gateway.await_metric(FAILURES, &[("reason", "body_timeout"), ("route", "route")], 1.0);
    gateway.await_metric("tidegate_backend_connections_open", &[], 0.0);
}

#[test]
fn a_body_that_is_never_sent_ends_both_sides() {
    let backend = Backend::bind();
    let gateway = hasty(&backend);
    let mut client = gateway.client();
    client.send(POST);
    let mut server = backend.accept();
    server.head();
    assert_told_late(&gateway, &mut client);
    assert!(server.rest().is_empty());
}

#[test]
fn a_body_that_trickles_ends_both_sides() {
    let backend = Backend::bind();
    let gateway = hasty(&backend);
    let mut client = gateway.client();
    client.send(POST);
    let mut server = backend.accept();
    server.head();
    // Each byte comes well within the time, and buys none.
    let socket = client.socket.try_clone().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let bytes = (0..250).take_while(|_| {
        client.send("x");
        socket.peek(&mut [0]).is_err()
    });
    assert!(bytes.count() < 250, "the gateway waits on");
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_told_late(&gateway, &mut client);
    server.rest();
}

#[test]
fn a_body_that_breaks_off_behind_an_early_answer_ends_both_sides() {
    let backend = Backend::bind();
    let gateway = hasty(&backend);
    let mut client = gateway.client();
    client.send(POST);
    let (mut server, _) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf ");
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.rest(), b"half ");
    server.rest();
    gateway.await_metric(FAILURES, &[("reason", "body_timeout")], 1.0);
    gateway.await_metric("tidegate_backend_connections_open", &[], 0.0);
}

#[test]
fn an_answer_whose_body_stops_ends_both_sides() {
    let backend = Backend::bind();
    let mut rule = Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) };
    rule.timeouts.idle = Some(Duration::from_millis(500));
    let gateway = Harness::start(vec![host("a.test", rule)]);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (mut server, _) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf ");
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.rest(), b"half ");
    assert!(server.rest().is_empty());
    gateway.await_metric(FAILURES, &[("reason", "backend_timeout")], 1.0);
}

#[test]
fn interim_answers_without_end_are_an_end() {
    let plain = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned();
    for request in [plain, upgrade_request("a.test")] {
        let backend = Backend::bind();
        let rule = Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) };
        let gateway = Harness::start(vec![host("a.test", rule)]);
        let mut client = gateway.client();
        client.send(&request);
        let mut server = backend.accept();
        server.head();
        // One by one, as a backend does that wants to be waited for; at the bound it is not.
        let flood = std::thread::spawn(move || {
            let interim = b"HTTP/1.1 102 Processing\r\n\r\n";
            let sent = (0..1_000_000).take_while(|_| server.try_send(interim).is_ok()).count();
            assert!(sent < 1_000_000, "the gateway has read them all");
        });
        let (head, _) = client.answer();
        assert_eq!(
            (head.status(), head.get("tidegate-reason")),
            (502, Some("backend_bad_handshake"))
        );
        flood.join().unwrap();
        gateway.await_metric("tidegate_backend_connections_open", &[], 0.0);
    }
}

#[test]
fn some_interim_answers_are_passed_over() {
    let backend = Backend::bind();
    let rule = Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) };
    let gateway = Harness::start(vec![host("a.test", rule)]);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(32);
    let (_server, _) = backend.answer(interim + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.answer().1, "ok");
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_ends_both_sides() {
    let backend = Backend::bind();
    let rule = Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) };
    let gateway = Harness::with(vec![host("a.test", rule)], |settings| {
        settings.limits.answer_timeout = Duration::from_millis(500);
    });
    let mut client = Peer::narrow(gateway.http);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (mut server, _) = backend.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    let sending = std::thread::spawn(move || {
        let sent = (0..100_000).take_while(|_| server.try_send(chunk.as_bytes()).is_ok()).count();
        assert!(sent < 100_000);
    });
    gateway.await_metric(FAILURES, &[("reason", "client_gone")], 1.0);
    sending.join().unwrap();
    eventually("the backend's connection is closed", || {
        gateway.metric("tidegate_backend_connections_open", &[]).total_cmp(&0.0).is_eq()
    });
}
