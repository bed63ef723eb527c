//! Bytes both ways, unchanged, at whatever pace, and counted.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use rustls::ClientConfig;
use socket2::SockRef;
use tidegate::table::RoutingTable;

use crate::support::{
    Authority, Backend, Frame, Harness, OpCode, Peer, await_standstill, client_config,
    echo_backend, host, only_tls12, open_over, rule, send_all, switching, tls_host,
    upgrade_request,
};

const MASK: Option<[u8; 4]> = Some([0x11, 0x22, 0x33, 0x44]);

/// Bytes that repeat only after a long time.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Echoes every kind of message over an upgraded connection.
fn assert_echoes(mut client: Peer) {
    client.send(upgrade_request("a.test"));
    assert_eq!(client.head().status(), 101);
    let mebibyte = noise(1 << 20);
    for (opcode, payload) in [
        (OpCode::Text, &b"h\xc3\xa9llo"[..]),
        (OpCode::Text, b""),
        (OpCode::Binary, &noise(300)),
        (OpCode::Binary, &noise(70_000)),
        (OpCode::Binary, &mebibyte),
    ] {
        client.send(Frame::bytes(opcode, payload, MASK));
        let echo = client.frame();
        assert_eq!((echo.opcode, echo.masked), (opcode as u8, false));
        assert!(echo.payload == payload, "{} bytes came back changed", payload.len());
    }
    client.send(Frame::part(false, OpCode::Text, b"in ", MASK));
    client.send(Frame::bytes(OpCode::Ping, b"between", MASK));
    client.send(Frame::part(false, OpCode::Continuation, b"three ", MASK));
    client.send(Frame::part(true, OpCode::Continuation, b"parts", MASK));
    let pong = client.frame();
    assert_eq!((pong.opcode, &*pong.payload), (10, &b"between"[..]));
    assert_eq!(client.frame().payload, b"in three parts");
    client.send(Frame::client_close(1000, "done"));
    assert_eq!(client.frame().close(), (1000, "done".into()));
    assert!(client.rest().is_empty());
}

#[test]
fn messages_are_echoed_in_clear_text() {
    let gateway = Harness::start(vec![host("a.test", rule(&[echo_backend()]))]);
    assert_echoes(gateway.client());
    gateway.await_cause("client_closed");
}

fn assert_echoes_over_tls(config: impl FnOnce(&str) -> Arc<ClientConfig>) {
    let authority = Authority::new();
    let identity = authority.certify("a.test").identity("a", false);
    let gateway = Harness::start(vec![tls_host("a.test", &identity, rule(&[echo_backend()]))]);
    assert_echoes(gateway.tls_client(&config(&authority.pem), "a.test"));
    gateway.await_cause("client_closed");
}

#[test]
fn messages_are_echoed_over_tls_1_3() {
    assert_echoes_over_tls(client_config);
}

#[test]
fn messages_are_echoed_over_tls_1_2() {
    assert_echoes_over_tls(only_tls12);
}

#[test]
fn a_byte_of_payload_goes_through_without_waiting_for_the_next_one() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (mut client, mut server) = gateway.open(&backend);
    let up = Frame::bytes(OpCode::Text, b"one by one", MASK);
    let down = Frame::bytes(OpCode::Binary, &noise(130), None);
    // Headers come whole: two bytes and the mask, two bytes and two of length.
    for (bytes, header) in [(up, 6), (down, 4)] {
        let masked = header == 6;
        let (from, to) =
            if masked { (&mut client, &mut server) } else { (&mut server, &mut client) };
        for byte in &bytes[..header] {
            from.send([*byte]);
        }
        assert_eq!(to.bytes(header), bytes[..header]);
        for byte in &bytes[header..] {
            from.send([*byte]);
            assert_eq!(to.bytes(1), [*byte]);
        }
    }
}

#[test]
fn a_handshake_that_dribbles_in_on_both_sides_is_made() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    for byte in upgrade_request("a.test").bytes() {
        client.send([byte]);
    }
    let mut server = backend.accept();
    server.head();
    let frame = Frame::bytes(OpCode::Text, b"early", None);
    for byte in switching("").bytes().chain(frame) {
        server.send([byte]);
    }
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.frame().payload, b"early");
}

#[test]
fn what_the_backend_sends_together_with_its_101_arrives() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let early = Frame::bytes(OpCode::Text, b"welcome", None);
    let (mut server, _) = backend.answer([switching("").as_bytes(), &early].concat());
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.frame().payload, b"welcome");
    server.send(Frame::bytes(OpCode::Text, b"next", None));
    assert_eq!(client.frame().payload, b"next");
}

#[test]
fn a_client_that_begins_to_read_late_holds_the_backend_up_and_gets_everything() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (mut client, server) = gateway.open(&backend);
    SockRef::from(&client.socket).set_recv_buffer_size(64 * 1024).unwrap();
    let payload = noise(64 * 1024);
    // 24 MiB: far more than the kernel may take.
    let frames = 384;
    let sent = send_all(server, Frame::bytes(OpCode::Binary, &payload, None), frames);
    await_standstill(&sent);
    assert!(sent.load(Relaxed) < frames, "the backend could send all: it is held somewhere");
    for _ in 0..frames {
        assert!(client.frame().payload == payload);
    }
    // `send_all` has ended without a Close frame.
    assert_eq!(client.close().0, 1012);
    client.finish();
    assert!(client.rest().is_empty());
    gateway.await_cause("backend_closed");
    let messages = [("direction", "backend_to_client")];
    gateway.await_metric("tidegate_messages_total", &messages, frames as f64);
}

/// What a peer can send to one that never reads, in bytes: all that the kernel and the gateway hold for the two.
fn held_for_a_deaf_peer(from: Peer, deaf: &Peer, mask: Option<[u8; 4]>) -> usize {
    SockRef::from(&deaf.socket).set_recv_buffer_size(64 * 1024).unwrap();
    let frame = Frame::bytes(OpCode::Binary, &[0; 16 * 1024], mask);
    let length = frame.len();
    // Ten times more than the bound of the tests.
    let sent = send_all(from, frame, 20 * 1024 * 1024 / length);
    await_standstill(&sent);
    sent.load(Relaxed) * length
}

#[test]
fn a_client_that_never_reads_pins_little_memory() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let (client, server) = gateway.open(&backend);
    let held = held_for_a_deaf_peer(server, &client, None);
    assert!(held < 2 * 1024 * 1024, "{held} bytes");
}

#[test]
fn a_tls_client_that_begins_to_read_late_gets_everything() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let identity = authority.certify("a.test").identity("a", false);
    let gateway = Harness::start(vec![tls_host("a.test", &identity, rule(&[backend.address()]))]);
    let mut client = gateway.tls_client(&client_config(&authority.pem), "a.test");
    SockRef::from(&client.socket).set_recv_buffer_size(64 * 1024).unwrap();
    let server = open_over(&mut client, &backend);
    let payload = noise(64 * 1024);
    let frames = 128;
    let sent = send_all(server, Frame::bytes(OpCode::Binary, &payload, None), frames);
    await_standstill(&sent);
    for _ in 0..frames {
        assert!(client.frame().payload == payload);
    }
    assert_eq!(client.close().0, 1012);
    assert!(client.rest().is_empty());
}

#[test]
fn a_backend_that_begins_to_read_late_gets_everything_while_the_other_direction_goes_on() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    let mut server = open_over(&mut client, &backend);
    SockRef::from(&server.socket).set_recv_buffer_size(64 * 1024).unwrap();
    let payload = noise(64 * 1024);
    let frames = 128;
    let mut reader = Peer::over(&client.socket);
    let sent = send_all(client, Frame::bytes(OpCode::Binary, &payload, MASK), frames);
    await_standstill(&sent);
    server.send(Frame::bytes(OpCode::Text, b"the other way", None));
    assert_eq!(reader.frame().payload, b"the other way");
    for _ in 0..frames {
        let frame = server.frame();
        assert!(frame.masked && frame.payload == payload);
    }
}

#[test]
fn bytes_and_messages_are_counted_by_direction_headers_and_early_bytes_included() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    // 6 bytes of header, and the payload.
    let up = |payload: &[u8]| Frame::bytes(OpCode::Text, payload, MASK);
    client.send([upgrade_request("a.test").into_bytes(), up(b"early")].concat());
    let down = Frame::bytes(OpCode::Text, b"early too", None);
    let (mut server, _) = backend.answer([switching("").into_bytes(), down].concat());
    client.head();
    client.frame();
    client.send(Frame::part(false, OpCode::Text, b"half ", MASK));
    client.send(Frame::bytes(OpCode::Ping, b"", MASK));
    client.send(Frame::part(true, OpCode::Continuation, b"whole", MASK));
    client.send(Frame::client_close(1000, ""));
    for _ in 0..5 {
        server.frame();
    }
    server.send(Frame::server_close(1000, ""));
    client.frame();
    drop((client, server));
    gateway.await_cause("client_closed");
    let total =
        |name, direction| gateway.metric(name, &[("route", "route"), ("direction", direction)]);
    let (bytes, messages) = ("tidegate_bytes_total", "tidegate_messages_total");
    assert_eq!(total(bytes, "client_to_backend"), f64::from(11 + 11 + 6 + 11 + 8));
    assert_eq!(total(messages, "client_to_backend"), 2.0);
    assert_eq!(total(bytes, "backend_to_client"), f64::from(11 + 4));
    assert_eq!(total(messages, "backend_to_client"), 1.0);
}

#[test]
fn connections_are_counted_while_open_and_once_ended() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let labels = [("namespace", "test"), ("route", "route")];
    let pairs = [0; 3].map(|_| gateway.open(&backend));
    gateway.await_metric("tidegate_connections_open", &labels, 3.0);
    gateway.await_metric("tidegate_backend_connections_open", &labels, 3.0);
    gateway.await_metric("tidegate_connections_total", &labels, 3.0);
    gateway.await_metric("tidegate_upgrade_duration_seconds_count", &labels, 3.0);
    gateway.await_metric("tidegate_backend_connect_duration_seconds_count", &labels, 3.0);
    gateway.await_metric("tidegate_connections_closed_total", &labels, 0.0);
    drop(pairs);
    gateway.await_metric("tidegate_connections_open", &labels, 0.0);
    gateway.await_metric("tidegate_backend_connections_open", &labels, 0.0);
    gateway.await_metric("tidegate_connections_closed_total", &labels, 3.0);
    gateway.await_metric("tidegate_connection_duration_seconds_count", &labels, 3.0);
}

#[test]
fn a_new_table_cuts_no_open_connection_and_serves_all_new_ones() {
    let (old, new) = (Backend::bind(), Backend::bind());
    let gateway = Harness::to(&old);
    let (mut client, mut server) = gateway.open(&old);
    gateway.table.publish(RoutingTable::new([host("a.test", rule(&[new.address()]))])).unwrap();
    let (_other, _) = gateway.open(&new);
    client.send(Frame::from_client("still"));
    assert_eq!(server.text(), "still");
    gateway.table.publish(RoutingTable::default()).unwrap();
    assert_eq!(gateway.ask(upgrade_request("a.test")).0.status(), 404);
    server.send(Frame::from_server("there"));
    assert_eq!(client.text(), "there");
    old.assert_untouched();
}

#[test]
fn a_request_on_a_kept_connection_is_served_by_the_table_of_its_own_time() {
    let backend = Backend::bind();
    let gateway = Harness::start(Vec::new());
    let mut client = gateway.client();
    assert_eq!(client.send(upgrade_request("a.test")).answer().0.status(), 404);
    let hosts = [host("a.test", rule(&[backend.address()]))];
    gateway.table.publish(RoutingTable::new(hosts)).unwrap();
    open_over(&mut client, &backend);
}

/// Of a few workers the first accepts, beside more of them a thread of its own.
#[test]
fn connections_are_spread_over_the_workers_and_all_are_served() {
    for workers in [3, 5] {
        expect_all_served(workers);
    }
}

fn expect_all_served(workers: usize) {
    let gateway = Harness::with(vec![host("a.test", rule(&[echo_backend()]))], |settings| {
        settings.workers = workers;
    });
    let mut clients = [0; 9].map(|_| {
        let mut client = gateway.client();
        client.send(upgrade_request("a.test"));
        assert_eq!(client.head().status(), 101);
        client
    });
    for client in &mut clients {
        client.send(Frame::bytes(OpCode::Text, b"hello", MASK));
        assert_eq!(client.frame().payload, b"hello");
    }
    gateway.await_metric("tidegate_connections_open", &[], 9.0);
    gateway.await_metric("tidegate_messages_total", &[("direction", "client_to_backend")], 9.0);
}
