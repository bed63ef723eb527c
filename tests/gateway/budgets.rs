//! Everything before the 101 has a deadline and a byte budget.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use tidegate::table::{BackendTls, HttpMode, Rule, Timeouts};

use crate::support::{
    Backend, DEADLINE, Frame, Harness, Peer, host, rule, upgrade_request, upgrade_with,
};

const SHORT: Duration = Duration::from_millis(200);

fn hurried(backend: &Backend) -> Harness {
    Harness::with(vec![host("a.test", rule(&[backend.address()]))], |settings| {
        settings.limits.head_timeout = SHORT;
        settings.limits.tls_timeout = SHORT;
    })
}

#[test]
fn a_head_that_does_not_end_in_time_ends_its_connection() {
    let backend = Backend::bind();
    let gateway = hurried(&backend);
    let mut client = gateway.client();
    let started = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a.te");
    let said = client.rest();
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408"), "{said:?}");
    assert!(started.elapsed() >= SHORT);
}

#[test]
fn a_head_that_dribbles_in_does_not_get_more_time_for_each_byte() {
    let backend = Backend::bind();
    let gateway = hurried(&backend);
    let socket = TcpStream::connect(gateway.http).unwrap();
    let started = Instant::now();
    (&socket).write_all(b"GET / HTTP/1.1\r\nX-Slow: ").unwrap();
    while (&socket).write_all(b"x").is_ok() {
        assert!(started.elapsed() < DEADLINE, "the connection is still open");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn a_head_that_is_read_in_two_places_has_one_deadline() {
    let backend = Backend::bind();
    let hosts = vec![host("a.test", rule(&[backend.address()]))];
    let gateway = Harness::with(hosts, |settings| {
        settings.limits.head_timeout = Duration::from_secs(2);
        settings.limits.head_bytes = 64 * 1024;
    });
    let mut first = gateway.client();
    first.send("GET / HTTP/1.1\r\n");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let mut second = gateway.client();
    second.send("GET / HTTP/1.1\r\n");
    // As much as is read of a head before hyper is there for it.
    first.send(format!("X: {}", "x".repeat(20 * 1024)));
    first.rest();
    second.send("Host: a.test\r\n\r\n");
    assert_eq!(second.answer().0.status(), 426, "it began later");
    gateway.await_metric("tidegate_request_head_timeouts_total", &[], 1.0);
}

#[test]
fn a_connection_without_a_request_ends_in_time() {
    let backend = Backend::bind();
    let gateway = hurried(&backend);
    assert!(gateway.client().rest().is_empty());
}

#[test]
fn a_connection_that_is_kept_alive_without_another_request_ends_in_time() {
    let backend = Backend::bind();
    let gateway = hurried(&backend);
    let mut client = gateway.client();
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer().0.status(), 426);
    assert!(client.rest().is_empty());
}

#[test]
fn the_deadline_of_the_head_does_not_end_an_open_connection() {
    let backend = Backend::bind();
    let gateway = hurried(&backend);
    let (mut client, mut server) = gateway.open(&backend);
    // A connection that came later has met its deadline meanwhile.
    assert!(gateway.client().rest().is_empty());
    client.send(Frame::from_client("ping"));
    assert_eq!(server.text(), "ping");
    server.send(Frame::from_server("pong"));
    assert_eq!(client.text(), "pong");
}

#[test]
fn a_tls_handshake_that_does_not_end_in_time_ends_its_connection_and_is_counted() {
    let backend = Backend::bind();
    let gateway = hurried(&backend);
    // The start of a handshake record, and no more.
    let mut client = Peer::connect(gateway.https);
    client.send([22, 3, 1, 2, 0, 1, 0]);
    client.rest();
    let failures = "tidegate_tls_handshake_failures_total";
    gateway.await_metric(failures, &[("reason", "timeout")], 1.0);
}

#[test]
fn a_head_beyond_its_budget_is_answered_431() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let line = format!("X-Long: {}\r\n", "x".repeat(64 * 1024));
    let (head, _) = gateway.ask(upgrade_with("a.test", &line));
    assert_eq!(head.status(), 431);
    backend.assert_untouched();
    let labels = [("reason", "bad_handshake"), ("listener", "http")];
    gateway.await_metric("tidegate_upgrade_failures_total", &labels, 1.0);
}

#[test]
fn a_head_with_too_many_headers_is_answered_431() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (head, _) = gateway.ask(upgrade_with("a.test", &"X: y\r\n".repeat(101)));
    assert_eq!(head.status(), 431);
    backend.assert_untouched();
}

#[test]
fn a_head_within_its_budget_is_served() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    let line = format!("X-Long: {}\r\n", "x".repeat(12 * 1024));
    client.send(upgrade_with("a.test", &line));
    let (_server, asked) = backend.answer(crate::support::switching(""));
    assert_eq!(asked.get("x-long").map(str::len), Some(12 * 1024));
    assert_eq!(client.head().status(), 101);
}

#[test]
fn a_host_of_ten_thousand_bytes_is_refused_and_disturbs_nobody() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (mut other, mut server) = gateway.open(&backend);
    let (head, body) = gateway.ask(upgrade_request(&"a".repeat(10_000)));
    assert_eq!((head.status(), head.get("tidegate-reason")), (400, Some("bad_handshake")));
    assert!(body.contains("longer than a host name"), "{body}");
    other.send(Frame::from_client("still"));
    assert_eq!(server.text(), "still");
}

#[test]
fn a_tls_backend_that_never_answers_is_given_up_at_the_connect_timeout() {
    let backend = Backend::bind();
    let mut rule = rule(&[backend.address()]);
    rule.timeouts = Timeouts { connect: SHORT, ..rule.timeouts };
    rule.backends[0].tls = Some(BackendTls::unverified("backend.test").unwrap().into());
    let gateway = Harness::start(vec![host("a.test", Rule { ..rule })]);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let _silent = backend.accept();
    let (head, body) = client.answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (504, Some("backend_timeout")));
    assert!(body.contains("timeouts.connect"), "{body}");
}

#[test]
fn a_refused_request_is_answered_without_waiting_for_its_body() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\nbegun");
    assert_eq!(client.answer().0.status(), 426);
    assert!(client.rest().is_empty(), "nor is it read from a connection that is kept");
}

#[test]
fn the_deadline_of_the_head_does_not_end_an_answer_that_takes_longer() {
    let backend = Backend::bind();
    let rule = Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) };
    let gateway = Harness::with(vec![host("a.test", rule)], |settings| {
        settings.limits.head_timeout = SHORT;
    });
    let mut client = gateway.client();
    client.send("GET /poll HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let mut server = backend.accept();
    server.head();
    // A connection that came later has met its deadline meanwhile.
    assert!(gateway.client().rest().is_empty());
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
    assert_eq!(client.answer().1, "late");
}

#[test]
fn http_2_without_being_asked_for_is_refused_and_counted() {
    let gateway = Harness::to(&Backend::bind());
    let mut client = gateway.client();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.rest();
    let labels = [("reason", "bad_handshake")];
    gateway.await_metric("tidegate_upgrade_failures_total", &labels, 1.0);
}
