//! Pings of the gateway's own: when they come, where they go in, what becomes of the answers, and that nothing else of a
//! connection notices them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use socket2::SockRef;

use crate::support::{
    DEADLINE, Frame, OpCode, Peer, Stage, Wire, await_standstill, eventually, send_all,
};

const MASK: Option<[u8; 4]> = Some([0x0f, 0x1e, 0x2d, 0x3c]);
/// An interval so short that there is always a Ping soon.
const SOON: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(60);

/// Pings to the client alone.
fn pinging_clients(wire: Wire) -> Stage {
    Stage::new(wire, |rule| {
        rule.keepalive.client_ping = Some(SOON);
        rule.keepalive.pong_timeout = LONG;
    })
}

/// Pings to the backend alone.
fn pinging_backends(wire: Wire) -> Stage {
    Stage::new(wire, |rule| {
        rule.keepalive.backend_ping = Some(SOON);
        rule.keepalive.pong_timeout = LONG;
    })
}

/// Reads a Ping, which must be whole and masked as it should; its payload.
#[track_caller]
fn ping(peer: &mut Peer, masked: bool) -> Vec<u8> {
    let frame = peer.frame();
    assert_eq!((frame.fin, frame.opcode, frame.masked), (true, 9, masked), "{frame:?}");
    assert_eq!(frame.payload.len(), 8);
    frame.payload
}

/// Reads the next frame that is no Ping of ours, whose payload begins like that of all of ours on the connection.
#[track_caller]
fn but_pings(peer: &mut Peer, ours: &[u8]) -> Frame {
    loop {
        let frame = peer.frame();
        if frame.opcode != 9 || frame.payload.len() != 8 || frame.payload[..4] != ours[..4] {
            return frame;
        }
    }
}

fn pong(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    Frame::bytes(OpCode::Pong, payload, mask)
}

fn rtt_count(stage: &Stage, peer: &str) -> f64 {
    stage.gateway.metric("tidegate_ping_rtt_seconds_count", &[("peer", peer)])
}

#[test]
fn a_quiet_client_is_pinged_again_and_again_and_its_pongs_are_swallowed_and_timed() {
    for wire in Wire::BOTH {
        let stage = pinging_clients(wire);
        let begun = Instant::now();
        let (mut client, mut server) = stage.open();
        for number in 1..=5 {
            let payload = ping(&mut client, false);
            assert!(begun.elapsed() >= SOON * number);
            client.send(pong(&payload, MASK));
        }
        client.send(Frame::from_client("hello"));
        assert_eq!(server.text(), "hello", "the first that the backend hears of this client");
        // The fifth came just before the message.
        stage.gateway.await_metric("tidegate_ping_rtt_seconds_count", &[("peer", "client")], 5.0);
        assert!(rtt_count(&stage, "backend") == 0.0);
    }
}

#[test]
fn a_quiet_backend_is_pinged_with_masked_frames_and_its_pongs_are_swallowed_and_timed() {
    for wire in Wire::BOTH {
        let stage = pinging_backends(wire);
        let begun = Instant::now();
        let (mut client, mut server) = stage.open();
        for number in 1..=5 {
            let payload = ping(&mut server, true);
            assert!(begun.elapsed() >= SOON * number);
            server.send(pong(&payload, None));
        }
        server.send(Frame::from_server("hello"));
        assert_eq!(client.text(), "hello", "the first that the client hears of this backend");
        stage.gateway.await_metric("tidegate_ping_rtt_seconds_count", &[("peer", "backend")], 5.0);
        assert!(rtt_count(&stage, "client") == 0.0);
    }
}

#[test]
fn a_ping_that_waits_for_a_frame_to_end_does_not_keep_a_closing_connection() {
    let stage = Stage::new(Wire::Clear, |rule| {
        rule.keepalive.client_ping = Some(SOON);
        rule.keepalive.pong_timeout = LONG;
        rule.timeouts.close = Duration::from_millis(300);
    });
    let (mut client, mut server) = stage.open();
    let whole = Frame::bytes(OpCode::Binary, &[5; 300], None);
    server.send(&whole[..30]);
    assert_eq!(client.bytes(30), whole[..30]);
    // By then a ping is due, and cannot be put into the frame.
    let begun = Instant::now();
    eventually("the client was quiet for long enough", || begun.elapsed() > SOON * 2);
    client.send(Frame::client_close(1000, ""));
    assert_eq!(server.close().0, 1000);
    assert!(client.rest().is_empty(), "the frame never ends");
    assert!(server.ended().is_empty());
}

#[test]
fn pings_and_pongs_of_the_peers_pass_untouched_while_ours_are_not_answered() {
    let stage = Stage::new(Wire::Clear, |rule| {
        rule.keepalive.client_ping = Some(SOON);
        rule.keepalive.backend_ping = Some(SOON);
        rule.keepalive.pong_timeout = LONG;
    });
    let (mut client, mut server) = stage.open();
    let (to_client, to_server) = (ping(&mut client, false), ping(&mut server, true));
    let near = |payload: &[u8]| {
        let mut other = payload.to_vec();
        other[0] ^= 1;
        [
            b"".to_vec(),
            b"their own".to_vec(),
            payload[..7].to_vec(),
            [payload, b"!"].concat(),
            other,
        ]
    };
    for payload in near(&to_client) {
        for opcode in [OpCode::Pong, OpCode::Ping] {
            client.send(Frame::bytes(opcode, &payload, MASK));
            let frame = but_pings(&mut server, &to_server);
            assert_eq!(
                (frame.opcode, frame.payload, frame.masked),
                (opcode as u8, payload.clone(), true)
            );
        }
    }
    for payload in near(&to_server) {
        for opcode in [OpCode::Pong, OpCode::Ping] {
            server.send(Frame::bytes(opcode, &payload, None));
            let frame = but_pings(&mut client, &to_client);
            assert_eq!(
                (frame.opcode, frame.payload, frame.masked),
                (opcode as u8, payload.clone(), false)
            );
        }
    }
    // Ours are still known.
    client.send(pong(&to_client, MASK)).send(Frame::from_client("up"));
    server.send(pong(&to_server, None)).send(Frame::from_server("down"));
    assert_eq!(but_pings(&mut server, &to_server).payload, b"up");
    assert_eq!(but_pings(&mut client, &to_client).payload, b"down");
}

#[test]
fn a_ping_goes_in_between_each_two_fragments_of_a_message() {
    for wire in Wire::BOTH {
        let stage = pinging_clients(wire);
        let (mut client, mut server) = stage.open();
        let mut payload = ping(&mut client, false);
        let mut message = Vec::new();
        for number in 0..20 {
            // Only one that has answered is pinged again.
            client.send(pong(&payload, MASK));
            let opcode = if number == 0 { OpCode::Text } else { OpCode::Continuation };
            let fragment = format!("part {number}, ");
            server.send(Frame::part(number == 19, opcode, fragment.as_bytes(), None));
            let mut frame = client.frame();
            if frame.opcode == 9 {
                // It was faster than the fragment.
                client.send(pong(&frame.payload, MASK));
                frame = client.frame();
            }
            assert_eq!((frame.opcode, frame.fin), (opcode as u8, number == 19));
            message.extend(frame.payload);
            let last = std::mem::replace(&mut payload, ping(&mut client, false));
            assert_ne!(payload, last);
        }
        let expected: String = (0..20).map(|number| format!("part {number}, ")).collect();
        assert_eq!(String::from_utf8(message).unwrap(), expected);
    }
}

#[test]
fn a_masked_ping_goes_in_between_each_two_fragments_of_a_clients_message() {
    let stage = pinging_backends(Wire::Clear);
    let (mut client, mut server) = stage.open();
    let mut payload = ping(&mut server, true);
    for number in 0..20 {
        server.send(pong(&payload, None));
        let opcode = if number == 0 { OpCode::Binary } else { OpCode::Continuation };
        client.send(Frame::part(number == 19, opcode, &[number; 300], MASK));
        let mut frame = server.frame();
        if frame.opcode == 9 {
            server.send(pong(&frame.payload, None));
            frame = server.frame();
        }
        assert_eq!(
            (frame.opcode, frame.fin, frame.payload),
            (opcode as u8, number == 19, vec![number; 300])
        );
        payload = ping(&mut server, true);
    }
}

#[test]
fn a_ping_waits_for_the_end_of_a_long_frame() {
    for wire in Wire::BOTH {
        let stage = pinging_clients(wire);
        let (mut client, mut server) = stage.open();
        let payload = ping(&mut client, false);
        let frame = Frame::bytes(OpCode::Binary, &[7; 16 * 1024], None);
        let (begin, end) = frame.split_at(9000);
        server.send(begin);
        assert_eq!(client.bytes(begin.len()), begin);
        client.send(pong(&payload, MASK));
        // One that opened later is pinged meanwhile, so this one is due as well.
        let (mut other, _held) = stage.open();
        ping(&mut other, false);
        assert!(!client.has_input(), "something came into the frame");
        server.send(end);
        assert_eq!(client.bytes(end.len()), end);
        assert_ne!(ping(&mut client, false), payload);
    }
}

#[test]
fn pings_find_the_boundaries_in_a_stream_of_frames_without_a_pause() {
    for wire in Wire::BOTH {
        let stage = pinging_clients(wire);
        let (mut client, server) = stage.open();
        // A Ping comes behind what is under way: let that be little.
        SockRef::from(&client.socket).set_recv_buffer_size(32 * 1024).unwrap();
        SockRef::from(&server.socket).set_send_buffer_size(32 * 1024).unwrap();
        // Reads end anywhere in such frames: they are no multiple of a buffer or a TLS record.
        let frame = Frame::bytes(OpCode::Binary, &[0xee; 16 * 1024 + 37], None);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let streaming = std::thread::spawn(move || {
            let mut server = server;
            while !stopped.load(Relaxed) {
                server.send(&frame);
            }
            server.send(Frame::server_close(1000, ""));
        });
        let (mut pings, mut frames, begun) = (0, 0, Instant::now());
        while pings < 5 {
            assert!(begun.elapsed() < DEADLINE, "{pings} pings in {frames} frames");
            let frame = client.frame();
            if frame.opcode == 9 {
                pings += 1;
                client.send(pong(&frame.payload, MASK));
            } else {
                frames += 1;
                assert!(frame.payload.len() == 16 * 1024 + 37);
                assert!(
                    frame.payload.iter().all(|byte| *byte == 0xee),
                    "something came into a frame"
                );
            }
        }
        assert!(frames >= 5, "{frames}");
        stop.store(true, Relaxed);
        loop {
            let frame = client.frame();
            match frame.opcode {
                8 => break,
                9 => {}
                _ => assert!(frame.payload.iter().all(|byte| *byte == 0xee)),
            }
        }
        streaming.join().unwrap();
    }
}

#[test]
fn answers_to_our_pings_are_no_activity() {
    let idle = Duration::from_millis(150);
    let stage = Stage::new(Wire::Clear, |rule| {
        rule.keepalive.client_ping = Some(SOON);
        rule.timeouts.idle = Some(idle);
    });
    let begun = Instant::now();
    let (mut client, _server) = stage.open();
    let mut pings = 0;
    let close = loop {
        let frame = client.frame();
        if frame.opcode == 8 {
            break frame.close();
        }
        pings += 1;
        assert!(begun.elapsed() < DEADLINE, "{pings} pings, and not idle yet");
        client.send(pong(&frame.payload, MASK));
    };
    assert_eq!(close, (1001, "idle timeout".into()));
    assert!(begun.elapsed() >= idle && pings > 1, "{pings}");
}

#[test]
fn pings_and_pongs_of_the_peers_are_activity() {
    for opcode in [OpCode::Ping, OpCode::Pong] {
        let idle = Duration::from_millis(400);
        let stage = Stage::new(Wire::Clear, |rule| rule.timeouts.idle = Some(idle));
        let (mut client, mut server) = stage.open();
        let begun = Instant::now();
        while begun.elapsed() < idle * 2 {
            client.send(Frame::bytes(opcode, b"still here", MASK));
            assert_eq!(server.frame().opcode, opcode as u8);
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert_eq!(client.close(), (1001, "idle timeout".into()));
    }
}

#[test]
fn a_pong_that_comes_byte_by_byte_is_known_and_swallowed() {
    for wire in Wire::BOTH {
        let stage = pinging_clients(wire);
        let (mut client, mut server) = stage.open();
        for number in 1..=3 {
            let payload = ping(&mut client, false);
            for byte in pong(&payload, MASK) {
                client.send([byte]);
            }
            stage.gateway.await_metric(
                "tidegate_ping_rtt_seconds_count",
                &[("peer", "client")],
                f64::from(number),
            );
        }
        client.send(Frame::from_client("hello"));
        assert_eq!(server.text(), "hello");
    }
}

#[test]
fn who_sends_anything_at_all_is_alive_without_pongs() {
    let pong_timeout = Duration::from_millis(200);
    let stage = Stage::new(Wire::Clear, |rule| {
        rule.keepalive.client_ping = Some(SOON);
        rule.keepalive.pong_timeout = pong_timeout;
    });
    let (mut client, mut server) = stage.open();
    let begun = Instant::now();
    while begun.elapsed() < pong_timeout * 3 {
        client.send(Frame::from_client("busy"));
        assert_eq!(server.text(), "busy");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let mut pings = 0;
    let close = loop {
        let frame = client.frame();
        if frame.opcode == 8 {
            break frame.close();
        }
        pings += 1;
    };
    assert!(pings > 3, "{pings}");
    assert_eq!(close, (1001, "no answer to a ping".into()));
    assert_eq!(server.close(), (1001, "the client does not answer".into()));
}

#[test]
fn a_client_that_is_not_read_is_not_blamed_for_its_silence() {
    let stage = Stage::new(Wire::Clear, |rule| {
        rule.keepalive.client_ping = Some(SOON);
        rule.keepalive.pong_timeout = Duration::from_millis(50);
        rule.timeouts.write_stall = None;
        rule.timeouts.close = Duration::from_millis(50);
    });
    let (client, mut server) = stage.open();
    SockRef::from(&server.socket).set_recv_buffer_size(64 * 1024).unwrap();
    let frames = 128;
    let mut reader = Peer::over(&client.socket);
    let sent = send_all(client, Frame::bytes(OpCode::Binary, &[9; 64 * 1024], MASK), frames);
    await_standstill(&sent);
    // Its answer would be behind what the backend does not take.
    let (mut other, _held) = stage.open();
    loop {
        let frame = other.frame();
        if frame.opcode == 8 {
            assert_eq!(frame.close(), (1001, "no answer to a ping".into()));
            break;
        }
    }
    drop(other);
    stage.gateway.await_metric("tidegate_connections_open", &[], 1.0);
    assert_eq!(ping(&mut reader, false).len(), 8);
    for _ in 0..frames {
        assert!(server.frame().payload.iter().all(|byte| *byte == 9));
    }
}

/// Waits until another client, which answers no ping, has been ended for it.
#[track_caller]
fn outwait_pong_timeout(stage: &Stage) {
    let (mut other, _held) = stage.open();
    assert_eq!(ping(&mut other, false).len(), 8);
    assert_eq!(other.close(), (1001, "no answer to a ping".into()));
}

#[test]
fn a_client_whose_window_is_closed_is_not_blamed_for_a_ping_that_has_not_gone_out() {
    let stage = Stage::new(Wire::Clear, |rule| {
        rule.keepalive.client_ping = Some(SOON);
        rule.keepalive.pong_timeout = Duration::from_millis(500);
        rule.timeouts.write_stall = None;
    });
    // More than fits into the window, and less than the kernel takes: nothing waits in the gateway itself.
    let flood = Frame::bytes(OpCode::Binary, &[5; 64 * 1024], None);
    let (mut client, mut server) = stage.open_narrow(&flood);
    outwait_pong_timeout(&stage);
    outwait_pong_timeout(&stage);
    assert_eq!(client.bytes(flood.len()), flood);
    let payload = ping(&mut client, false);
    client.send(pong(&payload, MASK)).send(Frame::from_client("still here"));
    assert_eq!(server.text(), "still here");
    // Only what the next one took is told.
    let payload = ping(&mut client, false);
    client.send(pong(&payload, MASK)).send(Frame::from_client("again"));
    assert_eq!(server.text(), "again");
    assert_eq!(ping(&mut client, false).len(), 8);
    assert!(rtt_count(&stage, "client") == 1.0);
}

#[test]
fn the_answer_to_an_earlier_ping_is_swallowed_and_tells_no_time() {
    let stage = pinging_clients(Wire::Clear);
    let (mut client, mut server) = stage.open();
    let first = ping(&mut client, false);
    // A sign of life, so that there is another ping before the answer.
    client.send(Frame::from_client("busy"));
    assert_eq!(server.text(), "busy");
    let second = ping(&mut client, false);
    client.send(pong(&first, MASK));
    let third = ping(&mut client, false);
    assert!(rtt_count(&stage, "client") == 0.0, "that was not the time of the second");
    assert!(first < second && second < third);
    client.send(pong(&third, MASK)).send(Frame::from_client("done"));
    assert_eq!(server.text(), "done", "no pong has passed");
    ping(&mut client, false);
    assert!(rtt_count(&stage, "client") == 1.0);
}

#[test]
fn a_ping_that_was_held_up_has_its_whole_time_once_it_is_out() {
    let pong_timeout = Duration::from_millis(300);
    let stage = Stage::new(Wire::Clear, |rule| {
        rule.keepalive.client_ping = Some(SOON);
        rule.keepalive.pong_timeout = pong_timeout;
        rule.timeouts.write_stall = None;
    });
    let flood = Frame::bytes(OpCode::Binary, &[5; 64 * 1024], None);
    let (mut client, _server) = stage.open_narrow(&flood);
    outwait_pong_timeout(&stage);
    let reads = Instant::now();
    assert_eq!(client.bytes(flood.len()), flood);
    assert_eq!(ping(&mut client, false).len(), 8);
    assert_eq!(client.close(), (1001, "no answer to a ping".into()));
    assert!(reads.elapsed() >= pong_timeout, "{:?}", reads.elapsed());
}
