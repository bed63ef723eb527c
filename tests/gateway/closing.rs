//! How connections end: each end of it is passed on, and counted under its cause.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::support::{
    Authority, Backend, Frame, Harness, OpCode, Peer, client_config, eventually, host, open_over,
    rule, switching, tls_host, upgrade_request,
};

const MASK: Option<[u8; 4]> = Some([9, 9, 9, 9]);

#[test]
fn a_client_that_has_finished_sending_still_gets_what_the_backend_sends() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (mut client, mut server) = gateway.open(&backend);
    client.send(Frame::from_client("last words"));
    client.finish();
    assert_eq!(server.text(), "last words");
    assert_eq!(server.close(), (1001, "the client has gone".into()));
    server.send(Frame::from_server("an answer")).send(Frame::server_close(1001, ""));
    assert_eq!(client.text(), "an answer");
    assert_eq!(client.close().0, 1001);
    server.finish();
    assert!(client.rest().is_empty());
    gateway.await_cause("client_closed");
}

#[test]
fn a_backend_that_has_finished_sending_still_gets_what_the_client_sends() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (mut client, mut server) = gateway.open(&backend);
    server.send(Frame::from_server("last words"));
    server.finish();
    assert_eq!(client.text(), "last words");
    assert_eq!(client.close(), (1012, "the backend has gone: connect again".into()));
    assert!(client.rest().is_empty());
    client.send(Frame::from_client("an answer"));
    assert_eq!(server.text(), "an answer");
    client.finish();
    assert_eq!(server.close().0, 1001);
    assert!(server.rest().is_empty());
    gateway.await_cause("backend_closed");
}

#[test]
fn a_tls_client_that_ends_without_close_notify_has_ended_all_the_same() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let identity = authority.certify("a.test").identity("a", false);
    let gateway = Harness::start(vec![tls_host("a.test", &identity, rule(&[backend.address()]))]);
    let mut client = gateway.tls_client(&client_config(&authority.pem), "a.test");
    let mut server = open_over(&mut client, &backend);
    client.send(Frame::from_client("last words"));
    client.finish();
    assert_eq!(server.text(), "last words");
    assert_eq!(server.close(), (1001, "the client has gone".into()));
    server.send(Frame::from_server("an answer")).send(Frame::server_close(1001, ""));
    assert_eq!(client.text(), "an answer");
    assert_eq!(client.close().0, 1001);
    server.finish();
    assert!(client.rest().is_empty());
    gateway.await_cause("client_closed");
}

#[test]
fn a_bad_tls_record_ends_the_connection_as_tls_error() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let identity = authority.certify("a.test").identity("a", false);
    let gateway = Harness::start(vec![tls_host("a.test", &identity, rule(&[backend.address()]))]);
    let mut client = gateway.tls_client(&client_config(&authority.pem), "a.test");
    let mut server = open_over(&mut client, &backend);
    // A record of application data that no key has made, past the TLS of our own end.
    let forged = [&[23, 3, 3, 0, 32][..], &[0; 32]].concat();
    Peer::over(&client.socket).send(forged);
    assert_eq!(server.close(), (1001, "the client has gone".into()));
    assert!(server.ended().is_empty());
    drop(server);
    gateway.await_cause("tls_error");
}

#[test]
fn a_reset_by_the_client_ends_the_backends_side_as_reset() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (client, mut server) = gateway.open(&backend);
    client.reset();
    assert_eq!(server.close(), (1001, "the client has gone".into()));
    assert!(server.ended().is_empty());
    drop(server);
    gateway.await_cause("reset");
}

#[test]
fn a_reset_by_the_backend_ends_the_clients_side_as_reset() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (mut client, server) = gateway.open(&backend);
    server.reset();
    assert_eq!(client.close(), (1012, "the backend has gone: connect again".into()));
    assert!(client.rest().is_empty());
    drop(client);
    gateway.await_cause("reset");
}

#[test]
fn a_client_that_leaves_before_the_101_frees_the_backend() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let mut server = backend.accept();
    server.head();
    client.reset();
    assert!(server.rest().is_empty());
    gateway.await_metric("tidegate_backend_connections_open", &[], 0.0);
}

#[test]
fn a_backend_that_has_granted_is_told_that_the_client_did_not_get_its_101() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    // What comes behind the request is left unread until the 101, and so is the client's end.
    let early = [upgrade_request("a.test").into_bytes(), Frame::from_client("early")].concat();
    client.send(early);
    let mut server = backend.accept();
    server.head();
    client.reset();
    server.send(switching(""));
    let frame = server.frame();
    assert_eq!(frame.close(), (1001, "the client has gone".into()));
    assert!(frame.masked);
    assert!(server.ended().is_empty());
    gateway.await_cause("reset");
    let told = [("direction", "gateway_to_backend"), ("code", "1001")];
    gateway.await_metric("tidegate_close_codes_total", &told, 1.0);
    gateway.await_metric("tidegate_connections_open", &[], 0.0);
    gateway.await_metric("tidegate_backend_connections_open", &[], 0.0);
}

#[test]
fn the_close_codes_and_reasons_of_both_peers_pass_unchanged_client_first() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (mut client, mut server) = gateway.open(&backend);
    client.send(Frame::client_close(4001, "my reason"));
    let frame = server.frame();
    assert_eq!((frame.close(), frame.masked), ((4001, "my reason".into()), true));
    server.send(Frame::server_close(4002, "mine"));
    let frame = client.frame();
    assert_eq!((frame.close(), frame.masked), ((4002, "mine".into()), false));
    server.finish();
    assert!(client.rest().is_empty());
    client.finish();
    assert!(server.rest().is_empty());
    gateway.await_cause("client_closed");
}

#[test]
fn the_close_codes_and_reasons_of_both_peers_pass_unchanged_backend_first() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (mut client, mut server) = gateway.open(&backend);
    server.send(Frame::server_close(1013, "try again later"));
    assert_eq!(client.frame().close(), (1013, "try again later".into()));
    client.send(Frame::client_close(1013, ""));
    assert_eq!(server.frame().close(), (1013, String::new()));
    drop(server);
    assert!(client.rest().is_empty());
    drop(client);
    gateway.await_cause("backend_closed");
}

#[test]
fn a_close_frame_without_a_code_passes_unchanged() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (mut client, mut server) = gateway.open(&backend);
    let close = Frame::bytes(OpCode::Close, b"", MASK);
    client.send(&close);
    assert_eq!(server.bytes(close.len()), close);
}

#[test]
fn a_reset_after_both_have_said_close_counts_as_the_close_that_it_was() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (mut client, mut server) = gateway.open(&backend);
    server.send(Frame::server_close(1000, ""));
    client.frame();
    client.send(Frame::client_close(1000, ""));
    server.frame();
    client.reset();
    assert!(server.ended().is_empty());
    gateway.await_cause("backend_closed");
}

#[test]
fn shutting_down_says_goodbye_to_both_sides_and_waits_for_them() {
    let backend = Backend::bind();
    let mut gateway = Harness::to(&backend);
    let (mut client, mut server) = gateway.open(&backend);
    let running = gateway.take_gateway();
    let down = std::thread::spawn(move || running.shut_down());
    let (to_client, to_server) = (client.frame(), server.frame());
    assert_eq!(to_client.close(), (1012, "gateway is shutting down".into()));
    assert_eq!(to_server.close(), (1001, "gateway is shutting down".into()));
    assert!(!to_client.masked && to_server.masked);
    server.send(Frame::server_close(1001, ""));
    assert!(server.ended().is_empty());
    assert!(!down.is_finished(), "the client has not said goodbye yet");
    client.send(Frame::client_close(1001, ""));
    assert!(client.rest().is_empty());
    down.join().unwrap();
    gateway.await_cause("drain");
    TcpStream::connect(gateway.http).unwrap_err();
    TcpStream::connect(gateway.https).unwrap_err();
}

#[test]
fn shutting_down_puts_no_close_frame_into_a_frame_that_is_under_way() {
    let backend = Backend::bind();
    let mut gateway = Harness::to(&backend);
    let (mut client, mut server) = gateway.open(&backend);
    let whole = Frame::bytes(OpCode::Text, b"never finished", MASK);
    client.send(&whole[..10]);
    assert_eq!(server.bytes(10), whole[..10]);
    let running = gateway.take_gateway();
    let down = std::thread::spawn(move || running.shut_down());
    assert_eq!(client.close().0, 1012);
    // In one piece: between two, the gateway's own Close frame would come first.
    client.send([&whole[10..], &Frame::client_close(1012, "")].concat());
    assert_eq!(server.bytes(whole.len() - 10), whole[10..], "nothing is put into the frame");
    assert_eq!(server.close(), (1012, String::new()), "the client's own, no second one");
    server.send(Frame::server_close(1001, ""));
    server.finish();
    assert!(client.rest().is_empty());
    down.join().unwrap();
    gateway.await_cause("drain");
}

#[test]
fn shutting_down_without_connections_is_done_at_once() {
    let mut gateway = Harness::to(&Backend::bind());
    gateway.take_gateway().shut_down();
    TcpStream::connect(gateway.http).unwrap_err();
}

#[test]
fn an_upgrade_that_is_under_way_when_the_gateway_shuts_down_is_still_answered() {
    let backend = Backend::bind();
    let hosts = vec![host("a.test", rule(&[backend.address()])), host("b.test", rule(&[]))];
    let mut gateway = Harness::start(hosts);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let mut server = backend.accept();
    server.head();
    let running = gateway.take_gateway();
    let down = std::thread::spawn(move || running.shut_down());
    eventually("upgrades are refused", || {
        gateway.ask(upgrade_request("b.test")).0.get("tidegate-reason") == Some("draining")
    });
    server.send(switching(""));
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.close().0, 1012);
    assert_eq!(server.close().0, 1001);
    server.send(Frame::server_close(1001, ""));
    server.finish();
    client.send(Frame::client_close(1001, ""));
    down.join().unwrap();
    gateway.await_cause("drain");
}

/// Whose end of the one connection to an endpoint is kept in TIME_WAIT, so that its pair of ports is not free yet.
fn waiting_end(endpoint: SocketAddr) -> Option<&'static str> {
    // proc(5): local address, remote address, state, in hexadecimal.
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", endpoint.port());
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        match (fields[1].ends_with(&port), fields[2].ends_with(&port), fields[3]) {
            (true, _, "06") => Some("backend"),
            (_, true, "06") => Some("gateway"),
            _ => None,
        }
    })
}

#[test]
fn the_backend_ends_its_connection_first_whoever_said_goodbye() {
    for client_first in [true, false] {
        let backend = Backend::bind();
        let mut rule = rule(&[backend.address()]);
        rule.timeouts.close = Duration::from_secs(60);
        rule.timeouts.idle = (!client_first).then_some(Duration::from_millis(50));
        let gateway = Harness::start(vec![host("a.test", rule)]);
        let (mut client, mut server) = gateway.open(&backend);
        if client_first {
            // It is gone with its last word.
            client.send(Frame::client_close(1001, ""));
            client.finish();
            assert_eq!(server.close().0, 1001);
            server.send(Frame::server_close(1001, ""));
        } else {
            assert_eq!((client.close().0, server.close().0), (1001, 1001));
            server.send(Frame::server_close(1001, ""));
            client.send(Frame::client_close(1001, ""));
        }
        client.rest();
        drop(client);
        assert!(!server.has_input(), "the gateway has ended it");
        drop(server);
        eventually("one end is kept", || waiting_end(backend.address()).is_some());
        assert_eq!(waiting_end(backend.address()), Some("backend"));
        gateway.await_metric("tidegate_connections_open", &[], 0.0);
    }
}

#[test]
fn a_backend_that_does_not_end_its_connection_is_waited_for_no_longer_than_the_time_to_close() {
    let backend = Backend::bind();
    let mut rule = rule(&[backend.address()]);
    rule.timeouts.close = Duration::from_millis(100);
    let gateway = Harness::start(vec![host("a.test", rule)]);
    let (mut client, mut server) = gateway.open(&backend);
    client.send(Frame::client_close(1001, ""));
    assert_eq!(server.close().0, 1001);
    server.send(Frame::server_close(1001, ""));
    assert_eq!(client.close().0, 1001);
    assert!(client.rest().is_empty() && server.rest().is_empty());
    gateway.await_cause("client_closed");
}
