//! Idle means idle: silence in both directions for the rule's time, and nothing else.

use std::time::{Duration, Instant};

use tidegate::table::{Rule, Timeouts};

use crate::support::{Backend, Frame, Harness, OpCode, Peer, eventually, host, rule};

const MASK: Option<[u8; 4]> = Some([7, 7, 7, 7]);

fn with_idle(backend: &Backend, idle: Duration) -> Harness {
    let base = rule(&[backend.address()]);
    let timeouts = Timeouts { idle: Some(idle), ..base.timeouts };
    Harness::start(vec![host("a.test", Rule { timeouts, ..base })])
}

#[test]
fn a_silent_connection_ends_with_1001_on_both_sides_and_is_counted_as_idle() {
    let backend = Backend::bind();
    let idle = Duration::from_millis(300);
    let gateway = with_idle(&backend, idle);
    let started = Instant::now();
    let (mut client, mut server) = gateway.open(&backend);
    let (to_client, to_server) = (client.frame(), server.frame());
    assert!(started.elapsed() >= idle);
    assert_eq!(to_client.close(), (1001, "idle timeout".into()));
    assert_eq!(to_server.close(), (1001, "idle timeout".into()));
    assert!(!to_client.masked && to_server.masked);
    client.send(Frame::client_close(1001, ""));
    server.send(Frame::server_close(1001, ""));
    assert!(client.rest().is_empty() && server.ended().is_empty());
    gateway.await_cause("idle");
}

/// Sends a message from one end to the other every few milliseconds, for longer than the idle timeout; then neither
/// end does, and the timeout must come.
#[track_caller]
fn assert_kept_open_by(send: impl Fn(&mut Peer, &mut Peer)) {
    let backend = Backend::bind();
    let idle = Duration::from_millis(600);
    let gateway = with_idle(&backend, idle);
    let (mut client, mut server) = gateway.open(&backend);
    let started = Instant::now();
    let mut last = started;
    while started.elapsed() < idle * 2 {
        last = Instant::now();
        send(&mut client, &mut server);
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(client.frame().close().0, 1001);
    assert!(last.elapsed() >= idle, "the time counts from the last message");
    assert_eq!(server.frame().close().0, 1001);
}

#[test]
fn messages_of_the_client_alone_keep_it_open() {
    assert_kept_open_by(|client, server| {
        client.send(Frame::bytes(OpCode::Text, b"tick", MASK));
        assert_eq!(server.frame().payload, b"tick");
    });
}

#[test]
fn messages_of_the_backend_alone_keep_it_open() {
    assert_kept_open_by(|client, server| {
        server.send(Frame::bytes(OpCode::Text, b"tock", None));
        assert_eq!(client.frame().payload, b"tock");
    });
}

#[test]
fn the_close_frame_follows_the_frame_that_the_client_was_sending() {
    let backend = Backend::bind();
    let gateway = with_idle(&backend, Duration::from_millis(200));
    let (mut client, mut server) = gateway.open(&backend);
    let whole = Frame::bytes(OpCode::Text, b"never finished", MASK);
    client.send(&whole[..9]);
    assert_eq!(client.close(), (1001, "idle timeout".into()));
    // In one piece: between two, the gateway's own Close frame would come first.
    client.send([&whole[9..], &Frame::client_close(1001, "")].concat());
    assert_eq!(server.bytes(whole.len()), whole, "nothing is put into the frame");
    assert_eq!(server.close(), (1001, String::new()), "the client's own, no second one");
    server.send(Frame::server_close(1001, ""));
    assert!(server.rest().is_empty() && client.rest().is_empty());
    gateway.await_cause("idle");
}

#[test]
fn a_frame_that_never_ends_is_cut_off_without_a_close_frame_in_it() {
    let backend = Backend::bind();
    let gateway = with_idle(&backend, Duration::from_millis(200));
    let (mut client, mut server) = gateway.open(&backend);
    let whole = Frame::bytes(OpCode::Binary, &[5; 300], None);
    server.send(&whole[..30]);
    assert_eq!(client.rest(), whole[..30]);
    assert_eq!(server.close(), (1001, "idle timeout".into()));
    gateway.await_cause("idle");
}

#[test]
fn the_close_frame_may_come_in_place_of_a_frame_whose_header_is_not_whole() {
    let backend = Backend::bind();
    let gateway = with_idle(&backend, Duration::from_millis(200));
    let (mut client, mut server) = gateway.open(&backend);
    let whole = Frame::bytes(OpCode::Binary, &[5; 300], None);
    server.send(&whole[..3]);
    assert_eq!(client.close(), (1001, "idle timeout".into()));
    client.send(Frame::client_close(1001, ""));
    server.finish();
    assert!(client.rest().is_empty());
    gateway.await_cause("idle");
}

#[test]
fn a_fragmented_message_may_be_interrupted_by_the_close_frame() {
    let backend = Backend::bind();
    let gateway = with_idle(&backend, Duration::from_millis(200));
    let (mut client, mut server) = gateway.open(&backend);
    client.send(Frame::part(false, OpCode::Text, b"more to come", MASK));
    assert_eq!(server.frame().payload, b"more to come");
    assert_eq!(server.frame().close().0, 1001);
    assert_eq!(client.frame().close().0, 1001);
}

#[test]
fn a_close_frame_that_the_backend_never_answers_is_answered_after_the_time_to_close() {
    let backend = Backend::bind();
    let gateway = with_idle(&backend, Duration::from_millis(200));
    let (mut client, mut server) = gateway.open(&backend);
    client.send(Frame::client_close(4000, ""));
    assert_eq!(server.frame().close().0, 4000);
    // With its own code, and not as idle.
    assert_eq!(client.close(), (4000, String::new()));
    assert!(client.rest().is_empty());
    drop(client);
    assert!(server.ended().is_empty(), "it was told before");
    gateway.await_cause("client_closed");
}

#[test]
fn without_an_idle_timeout_silence_is_no_reason_to_end() {
    let backend = Backend::bind();
    let short = with_idle(&backend, Duration::from_millis(300));
    let forever = Harness::to(&backend);
    let (mut client, mut server) = forever.open(&backend);
    let (mut other, _held) = short.open(&backend);
    assert_eq!(other.frame().close().0, 1001);
    client.send(Frame::from_client("still"));
    assert_eq!(server.text(), "still");
}

/// When the kernel is going to ask the quiet peers of sockets at a port whether they are there, in hundredths of a second from now.
fn keepalives(port: u16) -> Vec<u64> {
    // proc(5): local address, remote address, state, queues, timer and when it fires, in hexadecimal.
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let timers = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let established = fields[1].ends_with(&port) && fields[3] == "01";
        let when = fields[5].strip_prefix("02:").filter(|_| established)?;
        Some(u64::from_str_radix(when, 16).unwrap())
    });
    timers.collect()
}

#[test]
fn quiet_clients_that_are_sent_no_pings_are_not_asked_in_step() {
    let count = 16;
    for pings in [None, Some(Duration::from_secs(30))] {
        let backend = Backend::bind();
        let mut rule = rule(&[backend.address()]);
        rule.keepalive.client_ping = pings;
        let gateway = Harness::start(vec![host("a.test", rule)]);
        let _open: Vec<_> = (0..count).map(|_| gateway.open(&backend)).collect();
        let mut timers = Vec::new();
        eventually("all that was sent is acknowledged", || {
            timers = keepalives(gateway.http.port());
            timers.len() == count
        });
        let spread = timers.iter().max().unwrap() - timers.iter().min().unwrap();
        // Pings come first, one after the other, where there are some.
        assert_eq!(spread > 400, pings.is_none(), "{timers:?}");
    }
}
