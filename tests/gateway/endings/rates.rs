//! Clients that send more messages than the route lets pass in a second.

use super::*;

fn with_rate(wire: Wire, rate: u32, patience: Duration) -> Stage {
    Stage::new(wire, |rule| {
        rule.limits.messages_per_second = NonZeroU32::new(rate);
        rule.limits.patience = patience;
    })
}

fn numbered(number: usize) -> Vec<u8> {
    Who::Client.frame(true, OpCode::Text, number.to_string().as_bytes())
}

#[test]
fn a_burst_above_the_rate_arrives_whole_and_in_order_only_later() {
    for wire in Wire::BOTH {
        let stage = with_rate(wire, 50, Duration::from_secs(60));
        let begun = Instant::now();
        let (mut client, mut server) = stage.open();
        for number in 0..80 {
            client.send(numbered(number));
        }
        client.send(Who::Client.says_close(1000));
        for number in 0..80 {
            assert_eq!(server.text(), number.to_string());
        }
        // A second's worth at once, the other 30 at 50 a second.
        assert!(begun.elapsed() >= Duration::from_millis(590));
        assert_eq!(server.frame().close().0, 1000);
        server.send(Who::Backend.says_close(1000));
        assert_eq!(client.frame().close().0, 1000);
        drop((client, server));
        stage.assert_ended("client_closed", 1, &[(UP, "1000"), (DOWN, "1000")]);
    }
}

#[test]
fn a_message_that_finds_the_bucket_empty_waits_no_longer_than_for_its_token() {
    let stage = with_rate(Wire::Clear, 5, Duration::from_secs(60));
    let (mut client, mut server) = stage.open();
    // Each is sent when the one before has arrived: there is nothing held back whose timer could help.
    for number in 0..12 {
        client.send(numbered(number));
        assert_eq!(server.text(), number.to_string());
        if number >= 5 {
            // Until there is a token already when it comes.
            std::thread::park_timeout(Duration::from_millis(250));
        }
    }
}

#[test]
fn a_client_that_keeps_sending_above_the_rate_gets_1008() {
    for wire in Wire::BOTH {
        let patience = Duration::from_millis(600);
        let stage = with_rate(wire, 20, patience);
        let begun = Instant::now();
        let (mut client, mut server) = stage.open();
        // More than may pass in that time.
        client.send((0..500).flat_map(numbered).collect::<Vec<_>>());
        let mut number = 0;
        let close = loop {
            let frame = server.frame();
            if frame.opcode == OpCode::Close as u8 {
                break frame;
            }
            assert_eq!(frame.payload, number.to_string().as_bytes());
            number += 1;
        };
        assert!(begun.elapsed() >= patience);
        assert!((20..=400).contains(&number), "{number}");
        assert_eq!(
            (close.close(), close.masked),
            ((1001, "the client sent too fast".into()), true)
        );
        Who::Client.hears(&mut client, 1008, "too many messages");
        assert!(client.ended().is_empty());
        server.send(Who::Backend.says_close(1001));
        assert!(server.ended().is_empty());
        drop(client);
        let codes = [(TO_CLIENT, "1008"), (TO_BACKEND, "1001"), (DOWN, "1001")];
        stage.assert_ended("rate_limited", 1, &codes);
    }
}

#[test]
fn a_client_that_has_come_to_rest_after_a_burst_is_not_ended_for_it_later() {
    let patience = Duration::from_millis(100);
    let stage = Stage::new(Wire::Clear, |rule| {
        rule.limits.messages_per_second = NonZeroU32::new(100);
        rule.limits.patience = patience;
        rule.keepalive.client_ping = Some(patience * 4);
    });
    let (mut client, mut server) = stage.open();
    client.send((0..105).flat_map(numbered).collect::<Vec<_>>());
    for number in 0..105 {
        assert_eq!(server.text(), number.to_string());
    }
    // The next that is due: its bucket is not full again by then.
    assert_eq!(client.frame().opcode, OpCode::Ping as u8);
    client.send(numbered(105));
    assert_eq!(server.text(), "105");
}

#[test]
fn the_close_frame_of_a_client_whose_messages_wait_is_heard_at_the_end() {
    let stage = Stage::new(Wire::Clear, |rule| {
        rule.limits.messages_per_second = NonZeroU32::new(1);
        rule.timeouts.max_duration = Some(Duration::from_millis(200));
        rule.timeouts.max_duration_jitter = 0;
        rule.timeouts.close = Duration::from_secs(60);
    });
    let (mut client, mut server) = stage.open();
    client.send((0..10).flat_map(numbered).collect::<Vec<_>>());
    assert_eq!(server.text(), "0");
    Who::Client.hears(&mut client, 1012, "maximum duration reached");
    client.send(Who::Client.says_close(1012));
    Who::Backend.hears(&mut server, 1001, "maximum duration reached");
    server.send(Who::Backend.says_close(1001));
    assert!(client.ended().is_empty() && server.ended().is_empty());
    let codes = [(TO_CLIENT, "1012"), (TO_BACKEND, "1001"), (UP, "1012"), (DOWN, "1001")];
    stage.assert_ended("max_duration", 1, &codes);
}

#[test]
fn one_message_a_second_is_a_limit_that_ends_who_keeps_sending_more() {
    let patience = Duration::from_millis(2500);
    let stage = with_rate(Wire::Clear, 1, patience);
    let (mut client, mut server) = stage.open();
    let begun = Instant::now();
    client.send((0..50).flat_map(numbered).collect::<Vec<_>>());
    let mut number = 0;
    let close = loop {
        let frame = server.frame();
        if frame.opcode == OpCode::Close as u8 {
            break frame;
        }
        assert_eq!(frame.payload, number.to_string().as_bytes());
        number += 1;
    };
    assert!(begun.elapsed() >= patience && (1..=5).contains(&number), "{number}");
    assert_eq!(close.close(), (1001, "the client sent too fast".into()));
    Who::Client.hears(&mut client, 1008, "too many messages");
    drop((client, server));
    stage.gateway.await_cause("rate_limited");
}

#[test]
fn empty_fragments_and_pings_count_as_frames_from_either_side_and_end_who_keeps_sending_them() {
    for wire in Wire::BOTH {
        for who in Who::BOTH {
            let attacks = [
                ("empty fragments", who.frame(false, OpCode::Continuation, b"")),
                ("pings", who.frame(true, OpCode::Ping, b"12345678")),
                ("pongs", who.frame(true, OpCode::Pong, b"")),
            ];
            for (what, frame) in attacks {
                let stage = Stage::new(wire, |rule| {
                    rule.limits.frames_per_second = NonZeroU32::new(1000);
                    rule.limits.patience = Duration::from_millis(500);
                });
                let begun = Instant::now();
                // A message that never ends, where fragments are to follow.
                let mut frames = if what == "empty fragments" {
                    who.frame(false, OpCode::Text, b"")
                } else {
                    Vec::new()
                };
                frames.extend(frame.repeat(20_000));
                let (mut attacker, mut victim) = who.first(stage.open());
                attacker.send(&frames);
                let mut passed = 0_u32;
                let close = loop {
                    let frame = victim.frame();
                    if frame.opcode == OpCode::Close as u8 {
                        break frame.close();
                    }
                    passed += 1;
                };
                let most = 1000.0 * (1.0 + begun.elapsed().as_secs_f64()) + 1.0;
                assert!(f64::from(passed) <= most && passed >= 1000, "{what}: {passed}");
                let (code, reason) = match who {
                    Who::Client => (1001, "the client sent too fast"),
                    Who::Backend => (1014, "the backend sent too fast"),
                };
                assert_eq!(close, (code, reason.into()), "{what}");
                who.hears(&mut attacker, 1008, "too many frames");
                drop((attacker, victim));
                stage.gateway.await_cause("rate_limited");
            }
        }
    }
}

#[test]
fn frames_below_the_limit_pass_at_once_and_a_close_frame_does_not_wait() {
    let stage = Stage::new(Wire::Clear, |rule| {
        rule.limits.frames_per_second = NonZeroU32::new(50);
        rule.limits.patience = Duration::from_secs(60);
    });
    let (mut client, mut server) = stage.open();
    client.send((0..50).flat_map(numbered).collect::<Vec<_>>());
    client.send(Who::Client.says_close(1000));
    for number in 0..50 {
        assert_eq!(server.text(), number.to_string());
    }
    assert_eq!(server.frame().close().0, 1000);
    server.send(Who::Backend.says_close(1000));
    assert_eq!(client.frame().close().0, 1000);
}

#[test]
fn a_route_may_have_no_limit_of_frames() {
    let stage = Stage::new(Wire::Clear, |rule| rule.limits.frames_per_second = None);
    let (mut client, mut server) = stage.open();
    let sending = std::thread::spawn(move || {
        client.send(Who::Client.frame(true, OpCode::Ping, b"").repeat(60_000));
        client
    });
    for _ in 0..60_000 {
        assert_eq!(server.frame().opcode, OpCode::Ping as u8);
    }
    drop(sending.join().expect("all of it was taken"));
}

#[test]
fn a_backend_is_not_ended_for_many_frames_because_its_client_reads_slowly() {
    let patience = Duration::from_millis(500);
    let stage = Stage::new(Wire::Clear, |rule| {
        rule.limits.frames_per_second = NonZeroU32::new(8192);
        rule.limits.patience = patience;
    });
    let (mut client, server) = stage.open_narrow(b"");
    let frames = Who::Backend.frame(true, OpCode::Text, &[b'x'; 20]).repeat(30_000);
    send_all(server, frames, 1);
    let begun = Instant::now();
    // Some 3,700 frames a second, below the limit.
    while begun.elapsed() < patience * 5 {
        client.bytes(2048);
        std::thread::park_timeout(Duration::from_millis(25));
    }
    assert_eq!(stage.gateway.metric("tidegate_connections_closed_total", &[]), 0.0);
}
