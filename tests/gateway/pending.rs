//! Connections without a request: bounded in number, by client and in memory, and none of them for ever.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use tidegate::gateway::PendingLimits;

use crate::support::{
    Authority, Backend, Frame, Harness, Peer, client_config, host, open_over, rule, tls_host,
};

const EVICTED: &str = "tidegate_pending_connections_evicted_total";
const PENDING: &str = "tidegate_pending_connections";
const FAILURES: &str = "tidegate_tls_handshake_failures_total";

fn limited(backend: &Backend, limits: PendingLimits) -> Harness {
    let hosts = vec![host("a.test", rule(&[backend.address()]))];
    Harness::with(hosts, |settings| settings.limits.pending = limits)
}

/// The record of a ClientHello that says it has so many bytes, with no more than its begin.
fn hello(length: u32) -> Vec<u8> {
    let [_, high, middle, low] = length.to_be_bytes();
    [&[22, 3, 1, 0x20, 0, 1, high, middle, low, 3, 3][..], &[7; 4000]].concat()
}

#[test]
fn beyond_the_limit_the_longest_silence_ends_and_an_upgrade_comes_through() {
    let backend = Backend::bind();
    let limits = PendingLimits { connections: Some(4), ..PendingLimits::default() };
    let gateway = limited(&backend, PendingLimits { per_client: Some(9), ..limits });
    let mut silent: Vec<_> = (0..4).map(|_| gateway.client()).collect();
    gateway.await_metric(PENDING, &[], 4.0);
    let (client, server) = gateway.open(&backend);
    assert!(silent.remove(0).rest().is_empty(), "the first one has ended");
    gateway.await_metric(EVICTED, &[("reason", "connections")], 1.0);
    // Those that are open are none of them.
    gateway.await_metric(PENDING, &[], 3.0);
    silent.push(gateway.client());
    gateway.await_metric(PENDING, &[], 4.0);
    gateway.await_metric(EVICTED, &[], 1.0);
    drop((client, server));
}

#[test]
fn a_client_has_a_limit_of_its_own() {
    let backend = Backend::bind();
    let limits = PendingLimits { per_client: Some(2), ..PendingLimits::default() };
    let gateway = limited(&backend, limits);
    let mut silent = Vec::new();
    crate::support::eventually("the first one has ended", || {
        silent.push(gateway.client());
        gateway.metric(EVICTED, &[("reason", "client")]) >= 1.0
    });
    assert!(silent[0].rest().is_empty());
}

#[test]
fn a_trusted_proxy_is_not_held_to_the_limit_of_a_client() {
    let backend = Backend::bind();
    let hosts = vec![host("a.test", rule(&[backend.address()]))];
    let gateway = Harness::with(hosts, |settings| {
        settings.limits.pending.per_client = Some(2);
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let _silent: Vec<_> = (0..5).map(|_| gateway.client()).collect();
    gateway.await_metric(PENDING, &[], 5.0);
    gateway.await_metric(EVICTED, &[], 0.0);
}

#[test]
fn memory_that_unfinished_hellos_and_heads_hold_is_bounded() {
    let backend = Backend::bind();
    let limits = PendingLimits { memory: Some(40_000), ..PendingLimits::default() };
    let gateway = limited(&backend, limits);
    let mut begun = Vec::new();
    for _ in 0..5 {
        let mut client = gateway.client();
        client.send(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(5000)));
        let mut under_tls = Peer::connect(gateway.https);
        under_tls.send(hello(8000));
        begun.extend([client, under_tls]);
    }
    crate::support::eventually("some have ended", || {
        gateway.metric(EVICTED, &[("reason", "memory")]) >= 3.0
    });
    drop(begun);
    gateway.await_metric(PENDING, &[], 0.0);
    gateway.open(&backend);
}

#[test]
fn memory_that_kept_connections_may_hold_of_their_next_heads_is_bounded() {
    let backend = Backend::bind();
    let limits = PendingLimits { memory: Some(1), ..PendingLimits::default() };
    let gateway = limited(&backend, limits);
    let mut client = gateway.client();
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer().0.status(), 426);
    assert!(client.rest().is_empty());
    gateway.await_metric(EVICTED, &[("reason", "memory")], 1.0);
    gateway.open(&backend);
}

#[test]
fn a_hello_that_says_it_is_too_long_is_refused_with_an_alert_at_once() {
    let gateway = Harness::to(&Backend::bind());
    let mut client = Peer::connect(gateway.https);
    client.send(hello(16 * 1024));
    assert_eq!(client.rest(), [21, 3, 3, 0, 2, 2, 47]);
    gateway.await_metric(FAILURES, &[("reason", "hello_too_long")], 1.0);
}

#[test]
fn a_hello_in_crumbs_is_answered() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let identity = authority.certify("a.test").identity("a", false);
    let gateway = Harness::start(vec![tls_host("a.test", &identity, rule(&[backend.address()]))]);
    let name = "a.test".try_into().unwrap();
    let config = client_config(&authority.pem);
    let mut tls = rustls::ClientConnection::new(config, name).unwrap();
    let mut socket = TcpStream::connect(gateway.https).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut wire = Vec::new();
    tls.write_tls(&mut wire).unwrap();
    for byte in wire {
        socket.write_all(&[byte]).unwrap();
    }
    tls.complete_io(&mut socket).unwrap();
    assert!(!tls.is_handshaking());
}

#[test]
fn a_connection_ends_with_the_last_of_many_refusals() {
    let backend = Backend::bind();
    let hosts = vec![host("a.test", rule(&[backend.address()]))];
    let gateway = Harness::with(hosts, |settings| settings.limits.refusals = 3);
    let mut client = gateway.client();
    let asked = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for last in [false, false, true] {
        let (head, _) = client.send(asked).answer();
        assert_eq!(head.status(), 426);
        let lines = head.headers.iter().filter(|(name, _)| name == "connection");
        assert_eq!(lines.clone().any(|(_, value)| value.contains("close")), last, "{head:?}");
    }
    assert!(client.rest().is_empty());
}

#[test]
fn a_connection_with_nothing_but_refusals_ends_in_time() {
    let backend = Backend::bind();
    let hosts = vec![host("a.test", rule(&[backend.address()]))];
    let gateway = Harness::with(hosts, |settings| settings.limits.refused_time = Duration::ZERO);
    let mut client = gateway.client();
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer().0.status(), 426);
    assert!(client.rest().is_empty());
}

#[test]
fn what_comes_behind_a_head_of_many_reads_reaches_the_backend() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    let line = format!("X-Long: {}\r\n", "x".repeat(9000));
    let request = crate::support::upgrade_with("a.test", &line).into_bytes();
    let (begin, end) = request.split_at(5000);
    client.send(begin);
    gateway.await_metric(PENDING, &[], 1.0);
    client.send([end, &Frame::from_client("early")].concat());
    let (mut server, _) = backend.answer(crate::support::switching(""));
    assert_eq!(client.head().status(), 101);
    assert_eq!(server.text(), "early");
}

#[test]
fn a_request_after_a_silence_is_served_and_a_kept_alive_one_too() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    gateway.await_metric(PENDING, &[], 1.0);
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer().0.status(), 426);
    // It counts again.
    gateway.await_metric(PENDING, &[], 1.0);
    let _server = open_over(&mut client, &backend);
    gateway.await_metric(PENDING, &[], 0.0);
}

#[test]
fn tls_that_speaks_to_the_port_for_clear_text_is_told_so_at_once() {
    let gateway = Harness::to(&Backend::bind());
    let mut socket = TcpStream::connect(gateway.http).unwrap();
    socket.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).unwrap();
    let mut said = String::new();
    socket.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 400 "), "{said:?}");
}
