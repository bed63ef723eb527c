//! Every cause of an end, played over real sockets in clear text and over TLS: what each side is told, frame by frame, that
//! nothing comes behind it, and what is counted.

use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use socket2::SockRef;
use tidegate::{gateway::frames::Violation, table::FrameChecks};

use crate::support::{Frame, OpCode, Peer, Stage, Wire, eventually, send_all};

const MASK: Option<[u8; 4]> = Some([0xa1, 0xb2, 0xc3, 0xd4]);
const UP: &str = "client_to_backend";
const DOWN: &str = "backend_to_client";
const TO_CLIENT: &str = "gateway_to_client";
const TO_BACKEND: &str = "gateway_to_backend";

/// The role of a peer in a test that is played with either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Client,
    Backend,
}

impl Who {
    const BOTH: [Self; 2] = [Self::Client, Self::Backend];

    /// Itself first, then the other one.
    fn first(self, (client, server): (Peer, Peer)) -> (Peer, Peer) {
        if self == Self::Client { (client, server) } else { (server, client) }
    }

    fn mask(self) -> Option<[u8; 4]> {
        if self == Self::Client { MASK } else { None }
    }

    /// A sound frame of its own.
    fn frame(self, fin: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
        Frame::part(fin, opcode, payload, self.mask())
    }

    fn says_close(self, code: u16) -> Vec<u8> {
        self.frame(true, OpCode::Close, &code.to_be_bytes())
    }

    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }

    /// The direction label of what it sends.
    const fn sends(self) -> &'static str {
        match self {
            Self::Client => UP,
            Self::Backend => DOWN,
        }
    }

    /// The direction label of what the gateway sends to it.
    const fn is_told(self) -> &'static str {
        match self {
            Self::Client => TO_CLIENT,
            Self::Backend => TO_BACKEND,
        }
    }

    /// Reads our Close frame, which must be masked towards the backend alone, and checks its words.
    #[track_caller]
    fn hears(self, peer: &mut Peer, code: u16, reason: &str) {
        let frame = peer.frame();
        assert_eq!(frame.close(), (code, reason.to_owned()));
        assert_eq!((frame.fin, frame.masked), (true, self == Self::Backend));
    }
}

/// Both are told so; both answer; nothing else comes.
#[track_caller]
fn assert_farewell(
    (mut client, mut server): (Peer, Peer),
    to_client: (u16, &str),
    to_backend: (u16, &str),
) {
    Who::Client.hears(&mut client, to_client.0, to_client.1);
    Who::Backend.hears(&mut server, to_backend.0, to_backend.1);
    client.send(Who::Client.says_close(to_client.0));
    server.send(Who::Backend.says_close(to_backend.0));
    assert!(client.ended().is_empty() && server.ended().is_empty());
}

#[test]
fn who_closes_first_is_the_cause_and_both_close_frames_pass_unchanged() {
    for wire in Wire::BOTH {
        for who in Who::BOTH {
            let stage = Stage::new(wire, |rule| rule.timeouts.close = Duration::from_secs(60));
            let (mut first, mut second) = who.first(stage.open());
            let close = who.frame(true, OpCode::Close, b"\x0f\xa1see you");
            first.send(&close);
            assert_eq!(second.bytes(close.len()), close);
            let answer = who.other().frame(true, OpCode::Close, b"\x03\xe8");
            second.send(&answer);
            assert_eq!(first.bytes(answer.len()), answer);
            // The gateway ends the client's connection as a server does, and waits for the backend to do so.
            let (mut client, mut server) = who.first((first, second));
            assert!(client.ended().is_empty());
            drop(client);
            assert!(server.ended().is_empty());
            drop(server);
            let cause = if who == Who::Client { "client_closed" } else { "backend_closed" };
            let codes = [(who.sends(), "4xxx"), (who.other().sends(), "1000")];
            stage.assert_ended(cause, 1, &codes);
        }
    }
}

#[test]
fn who_ends_without_a_close_frame_is_the_cause_and_the_other_side_is_told() {
    for wire in Wire::BOTH {
        for who in Who::BOTH {
            let stage = Stage::new(wire, |_| {});
            let (mut first, mut second) = who.first(stage.open());
            first.send(who.frame(true, OpCode::Text, b"last words"));
            drop(first);
            assert_eq!(second.text(), "last words");
            let (cause, code, reason) = match who {
                Who::Client => ("client_closed", 1001, "the client has gone"),
                Who::Backend => ("backend_closed", 1012, "the backend has gone: connect again"),
            };
            who.other().hears(&mut second, code, reason);
            second.send(who.other().says_close(code));
            assert!(second.ended().is_empty());
            drop(second);
            let code = code.to_string();
            stage.assert_ended(
                cause,
                1,
                &[(who.other().is_told(), &code), (who.other().sends(), &code)],
            );
        }
    }
}

#[test]
fn a_close_frame_that_was_not_answered_is_answered_by_the_gateway() {
    for who in Who::BOTH {
        let stage = Stage::new(Wire::Clear, |_| {});
        let (mut first, mut second) = who.first(stage.open());
        first.send(who.says_close(4001));
        assert_eq!(second.frame().close().0, 4001);
        drop(second);
        who.hears(&mut first, 4001, "");
        assert!(first.ended().is_empty());
        drop(first);
        let cause = if who == Who::Client { "client_closed" } else { "backend_closed" };
        stage.assert_ended(cause, 1, &[(who.sends(), "4xxx"), (who.is_told(), "4xxx")]);
    }
}

#[test]
fn a_code_that_may_not_be_sent_passes_unchecked_but_is_not_sent_back() {
    for who in Who::BOTH {
        let stage = Stage::new(Wire::Clear, |rule| rule.frames = FrameChecks::PassThrough);
        let (mut first, mut second) = who.first(stage.open());
        first.send(who.says_close(1006));
        assert_eq!(second.frame().close().0, 1006);
        drop(second);
        assert_eq!((first.frame().payload, first.ended()), (Vec::new(), Vec::new()));
        drop(first);
        let cause = if who == Who::Client { "client_closed" } else { "backend_closed" };
        stage.assert_ended(cause, 1, &[(who.sends(), "invalid"), (who.is_told(), "none")]);
    }
}

#[test]
fn a_silent_connection_ends_as_idle() {
    for wire in Wire::BOTH {
        let idle = Duration::from_millis(100);
        let stage = Stage::new(wire, |rule| rule.timeouts.idle = Some(idle));
        let begun = Instant::now();
        let pair = stage.open();
        assert_farewell(pair, (1001, "idle timeout"), (1001, "idle timeout"));
        assert!(begun.elapsed() >= idle);
        let codes = [(TO_CLIENT, "1001"), (TO_BACKEND, "1001"), (UP, "1001"), (DOWN, "1001")];
        stage.assert_ended("idle", 1, &codes);
    }
}

#[test]
fn a_connection_ends_at_its_maximum_duration_however_busy_it_is() {
    for wire in Wire::BOTH {
        let limit = Duration::from_millis(200);
        let stage = Stage::new(wire, |rule| {
            rule.timeouts.max_duration = Some(limit);
            rule.timeouts.max_duration_jitter = 0;
            rule.drain.close_code = 4999;
        });
        let begun = Instant::now();
        let (mut client, mut server) = stage.open();
        let to_client = loop {
            server.send(Frame::from_server("tick"));
            let frame = client.frame();
            if frame.opcode == OpCode::Close as u8 {
                break frame;
            }
        };
        assert!(begun.elapsed() >= limit);
        assert_eq!(to_client.close(), (4999, "maximum duration reached".into()));
        Who::Backend.hears(&mut server, 1001, "maximum duration reached");
        client.send(Who::Client.says_close(1000));
        server.send(Who::Backend.says_close(1000));
        assert!(client.ended().is_empty() && server.ended().is_empty());
        let codes = [(TO_CLIENT, "4xxx"), (TO_BACKEND, "1001"), (UP, "1000"), (DOWN, "1000")];
        stage.assert_ended("max_duration", 1, &codes);
    }
}

#[test]
fn jitter_spreads_the_ends_of_what_opened_together() {
    let limit = Duration::from_millis(1200);
    let stage = Stage::new(Wire::Clear, |rule| {
        rule.timeouts.max_duration = Some(limit);
        rule.timeouts.max_duration_jitter = 75;
    });
    let begun = Instant::now();
    let pairs: Vec<_> = (0..24).map(|_| stage.open()).collect();
    let ends: Vec<_> = pairs
        .into_iter()
        .map(|(mut client, server)| {
            std::thread::spawn(move || {
                let close = client.close();
                drop(server);
                (begun.elapsed(), close)
            })
        })
        .collect();
    let ends: Vec<_> = ends.into_iter().map(|end| end.join().unwrap()).collect();
    assert!(ends.iter().all(|(_, (code, _))| *code == 1012), "{ends:?}");
    // None before a quarter of the time; and not all at one end of what is left.
    assert!(ends.iter().all(|(at, _)| *at >= limit / 4), "{ends:?}");
    let (first, last) = (ends.iter().min().unwrap().0, ends.iter().max().unwrap().0);
    assert!(last - first > limit / 5, "{ends:?}");
    stage.gateway.await_metric(
        "tidegate_connections_closed_total",
        &[("cause", "max_duration")],
        24.0,
    );
}

#[test]
fn a_peer_that_answers_no_ping_is_given_up_and_the_other_is_told() {
    for wire in Wire::BOTH {
        for who in Who::BOTH {
            let (ping, pong) = (Duration::from_millis(30), Duration::from_millis(60));
            let stage = Stage::new(wire, |rule| {
                match who {
                    Who::Client => rule.keepalive.client_ping = Some(ping),
                    Who::Backend => rule.keepalive.backend_ping = Some(ping),
                }
                rule.keepalive.pong_timeout = pong;
            });
            let begun = Instant::now();
            let (mut mute, mut other) = who.first(stage.open());
            let frame = mute.frame();
            assert_eq!((frame.opcode, frame.masked), (9, who == Who::Backend));
            who.hears(&mut mute, 1001, "no answer to a ping");
            assert!(begun.elapsed() >= ping + pong);
            // What it says now is too late.
            mute.send(who.frame(true, OpCode::Text, b"late"));
            assert!(mute.ended().is_empty());
            let (code, reason) = match who {
                Who::Client => (1001, "the client does not answer"),
                Who::Backend => (1012, "the backend does not answer: connect again"),
            };
            who.other().hears(&mut other, code, reason);
            other.send(who.other().says_close(code));
            assert!(other.ended().is_empty());
            drop(mute);
            let code = code.to_string();
            let codes = [
                (who.is_told(), "1001"),
                (who.other().is_told(), &*code),
                (who.other().sends(), &*code),
            ];
            stage.assert_ended("pong_timeout", 1, &codes);
        }
    }
}

#[test]
fn a_peer_that_never_reads_is_reset_and_the_other_is_told() {
    for wire in Wire::BOTH {
        for who in Who::BOTH {
            let stage = Stage::new(wire, |rule| {
                rule.timeouts.write_stall = Some(Duration::from_millis(200));
            });
            let (stuck, talker) = who.first(stage.open());
            let mut socket = Peer::over(&stuck.socket);
            let frame = who.other().frame(true, OpCode::Binary, &vec![7; 64 * 1024]);
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = Arc::clone(&stop);
            let talking = std::thread::spawn(move || {
                let mut talker = talker;
                // What is sent after the end is thrown away: it never blocks for good.
                while !stopped.load(Relaxed) {
                    talker.send(&frame);
                    if talker.has_input() {
                        break;
                    }
                }
                let (code, reason) = match who {
                    Who::Client => (1001, "the client takes nothing"),
                    Who::Backend => (1013, "the backend takes nothing"),
                };
                who.other().hears(&mut talker, code, reason);
                talker.send(who.other().says_close(code));
                assert!(talker.ended().is_empty());
            });
            let closed = "tidegate_connections_closed_total";
            eventually("it has ended", || stage.gateway.metric(closed, &[]) > 0.0);
            stop.store(true, Relaxed);
            talking.join().unwrap();
            // What it finds now ends in a reset, not in an orderly end.
            assert!(socket.is_reset(), "the stalled socket is not reset");
            drop(stuck);
            let code = if who == Who::Client { "1001" } else { "1013" };
            let codes = [(who.other().is_told(), code), (who.other().sends(), code)];
            stage.assert_ended("write_stall", 1, &codes);
        }
    }
}

#[test]
fn a_client_that_reads_slowly_but_steadily_does_not_stall() {
    for wire in Wire::BOTH {
        let stall = Duration::from_secs(1);
        let stage = Stage::new(wire, |rule| rule.timeouts.write_stall = Some(stall));
        let (mut client, server) = stage.open();
        SockRef::from(&client.socket).set_recv_buffer_size(16 * 1024).unwrap();
        let payload = vec![7; 32 * 1024];
        send_all(server, Frame::bytes(OpCode::Binary, &payload, None), 10_000);
        let begin = Instant::now();
        // Less than 200 KiB a second: the kernel tells of no progress for longer than the time to stall.
        while begin.elapsed() < stall * 3 {
            client.bytes(4096);
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert_eq!(stage.gateway.metric("tidegate_connections_closed_total", &[]), 0.0);
    }
}

#[test]
fn a_gateway_that_shuts_down_says_so_to_both() {
    for wire in Wire::BOTH {
        let mut stage = Stage::new(wire, |rule| rule.drain.close_code = 3000);
        let pair = stage.open();
        let running = stage.gateway.take_gateway();
        let down = std::thread::spawn(move || running.shut_down());
        let words = "gateway is shutting down";
        assert_farewell(pair, (3000, words), (1001, words));
        down.join().unwrap();
        let codes = [(TO_CLIENT, "3xxx"), (TO_BACKEND, "1001"), (UP, "3xxx"), (DOWN, "1001")];
        stage.assert_ended("drain", 1, &codes);
    }
}

/// Frames that break a rule, and those that must come before; none where this peer cannot break it.
fn breaches(violation: Violation, who: Who) -> Vec<(Vec<u8>, Vec<u8>)> {
    let frame = |fin, opcode, payload: &[u8]| who.frame(fin, opcode, payload);
    let first = |byte: u8| {
        let mut frame = frame(true, OpCode::Text, b"bad");
        frame[0] = byte;
        frame
    };
    let close = |payload: &[u8]| frame(true, OpCode::Close, payload);
    let bad = match violation {
        Violation::ReservedBits => vec![first(0xc1), first(0xa1), first(0x91), first(0xc9)],
        Violation::UnknownOpcode => vec![first(0x83), first(0x87), first(0x8b), first(0x8f)],
        Violation::NotMasked if who == Who::Client => {
            vec![Who::Backend.frame(true, OpCode::Text, b"bad"), Who::Backend.says_close(1000)]
        }
        Violation::Masked if who == Who::Backend => {
            vec![Who::Client.frame(true, OpCode::Text, b"bad"), Who::Client.says_close(1000)]
        }
        Violation::NotMasked | Violation::Masked => vec![],
        Violation::BadLength => {
            let mask = who.mask();
            let flag = if mask.is_some() { 0x80 } else { 0 };
            let long = |lengths: &[u8]| [&[0x82], lengths, &mask.unwrap_or_default()].concat();
            vec![
                long(&[flag | 126, 0, 5]),
                long(&[flag | 127, 0, 0, 0, 0, 0, 0, 255, 255]),
                long(&[flag | 127, 128, 0, 0, 0, 0, 1, 0, 0]),
            ]
        }
        Violation::LongControlFrame => {
            vec![frame(true, OpCode::Ping, &[1; 126]), frame(true, OpCode::Close, &[b'a'; 126])]
        }
        Violation::FragmentedControlFrame => {
            vec![frame(false, OpCode::Ping, b"bad"), frame(false, OpCode::Close, b"\x03\xe8")]
        }
        Violation::UnexpectedContinuation => {
            vec![frame(true, OpCode::Continuation, b"bad"), frame(false, OpCode::Continuation, b"")]
        }
        Violation::InterruptedMessage => {
            let begun = frame(false, OpCode::Text, b"begun");
            let bad = [frame(true, OpCode::Text, b"bad"), frame(false, OpCode::Binary, b"bad")];
            return bad.map(|bad| (begun.clone(), bad)).into();
        }
        Violation::BadClose => vec![
            close(b"\x03"),
            close(b"\x03\xed"),
            close(b"\x03\xee"),
            close(b"\x03\xf7"),
            close(b"\x00\x00"),
            close(b"\x13\x88"),
            close(b"\x03\xe8\xff\xfe"),
        ],
    };
    bad.into_iter().map(|bad| (Vec::new(), bad)).collect()
}

#[test]
fn who_breaks_the_protocol_gets_1002_and_the_other_only_what_came_before() {
    for wire in Wire::BOTH {
        for who in Who::BOTH {
            let stage = Stage::new(wire, |_| {});
            let mut count = 0;
            for violation in Violation::ALL {
                for (before, bad) in breaches(violation, who) {
                    count += 1;
                    let (mut offender, mut victim) = who.first(stage.open());
                    let text = who.frame(true, OpCode::Text, b"sound");
                    let sound = [text.clone(), before].concat();
                    offender.send([&sound[..], &bad, &text].concat());
                    assert_eq!(victim.bytes(sound.len()), sound, "{violation:?}");
                    let (code, reason) = match who {
                        Who::Client => (1011, "the client broke the protocol"),
                        Who::Backend => (1014, "the backend broke the protocol"),
                    };
                    who.other().hears(&mut victim, code, reason);
                    victim.send(who.other().says_close(code));
                    who.hears(&mut offender, 1002, violation.as_str());
                    assert!(offender.ended().is_empty(), "{violation:?}");
                    drop(offender);
                    assert!(victim.ended().is_empty(), "{violation:?} {bad:?}");
                }
            }
            let code = if who == Who::Client { "1011" } else { "1014" };
            let codes = [
                (who.is_told(), "1002"),
                (who.other().is_told(), code),
                (who.other().sends(), code),
            ];
            stage.assert_ended("protocol_error", count, &codes);
        }
    }
}

#[test]
fn who_broke_a_rule_gets_the_answers_to_what_it_said_before_and_is_told_then() {
    for who in Who::BOTH {
        let stage = Stage::new(Wire::Clear, |rule| rule.timeouts.close = Duration::from_secs(60));
        let (mut offender, mut other) = who.first(stage.open());
        offender.send([&who.frame(true, OpCode::Text, b"question")[..], &[0xff; 14]].concat());
        assert_eq!(other.text(), "question");
        assert_eq!(other.frame().opcode, OpCode::Close as u8);
        let answer = who.other().frame(true, OpCode::Text, b"answer");
        other.send([answer, who.other().says_close(1000)].concat());
        assert_eq!(offender.text(), "answer");
        assert_eq!(offender.close().0, 1002);
        assert!(offender.ended().is_empty());
        // One that never answers does not keep the offender for long.
        let (mut offender, mut mute) = who.first(stage.open());
        offender.send([0xff; 14]);
        assert_eq!(mute.frame().opcode, OpCode::Close as u8);
        assert_eq!(offender.close().0, 1002);
    }
}

#[test]
fn unchecked_frames_that_break_rules_pass_unchanged() {
    for who in Who::BOTH {
        let stage = Stage::new(Wire::Clear, |rule| rule.frames = FrameChecks::PassThrough);
        let (mut offender, mut other) = who.first(stage.open());
        let (mut closes, mut count) = (Vec::new(), 0);
        for violation in Violation::ALL {
            for (before, bad) in breaches(violation, who) {
                if bad[0] & 0x0f == OpCode::Close as u8 {
                    // Checked or not, it is the last of its direction.
                    closes.push(bad);
                    continue;
                }
                if violation == Violation::BadLength {
                    // Whole frames: their payload belongs to them.
                    if bad[2] == 0 && bad.len() < 10 {
                        let whole = [&bad[..], b"12345"].concat();
                        offender.send(&whole);
                        assert_eq!(other.bytes(whole.len()), whole);
                    }
                    continue;
                }
                let all = [before, bad].concat();
                offender.send(&all);
                assert_eq!(other.bytes(all.len()), all, "{violation:?}");
                count += 1;
            }
        }
        assert!(count > 10);
        for close in closes {
            let (mut offender, mut other) = who.first(stage.open());
            offender.send(&close);
            assert_eq!(other.bytes(close.len()), close);
            drop((offender, other));
        }
        drop((offender, other));
        let closed = "tidegate_connections_closed_total";
        stage.gateway.await_metric("tidegate_connections_open", &[], 0.0);
        assert_eq!(stage.gateway.metric(closed, &[("cause", "protocol_error")]), 0.0);
    }
}

#[test]
fn who_sends_too_long_a_message_gets_1009_in_one_frame_or_in_several() {
    for wire in Wire::BOTH {
        for who in Who::BOTH {
            let stage =
                Stage::new(wire, |rule| rule.limits.max_message_bytes = NonZeroU64::new(1000));
            let part = |fin, opcode, length| who.frame(fin, opcode, &vec![b'x'; length]);
            let whole = part(true, OpCode::Text, 1000);
            let begun =
                [part(false, OpCode::Text, 400), part(false, OpCode::Continuation, 600)].concat();
            let cases = [
                (whole.clone(), part(true, OpCode::Text, 1001)),
                (Vec::new(), part(true, OpCode::Binary, 70_000)),
                (begun.clone(), part(true, OpCode::Continuation, 1)),
                // A message that is long enough ends, and the next one counts anew.
                (
                    [begun, part(true, OpCode::Continuation, 0), whole].concat(),
                    part(false, OpCode::Text, 1001),
                ),
            ];
            let count = cases.len();
            for (sound, bad) in cases {
                let (mut offender, mut victim) = who.first(stage.open());
                offender.send([&sound[..], &bad].concat());
                assert_eq!(victim.bytes(sound.len()), sound);
                let (code, reason) = match who {
                    Who::Client => (1011, "the client's message is too big"),
                    Who::Backend => (1014, "the backend's message is too big"),
                };
                who.other().hears(&mut victim, code, reason);
                victim.send(who.other().says_close(code));
                who.hears(&mut offender, 1009, "message too big");
                assert!(offender.ended().is_empty());
                drop(offender);
                assert!(victim.ended().is_empty());
            }
            let code = if who == Who::Client { "1011" } else { "1014" };
            let codes = [
                (who.is_told(), "1009"),
                (who.other().is_told(), code),
                (who.other().sends(), code),
            ];
            stage.assert_ended("message_too_big", count, &codes);
        }
    }
}

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
            ((1001, "the client sent too many messages".into()), true)
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
fn a_reset_of_either_side_is_told_to_the_other() {
    for wire in Wire::BOTH {
        for who in Who::BOTH {
            let stage = Stage::new(wire, |_| {});
            let (gone, mut other) = who.first(stage.open());
            gone.reset();
            let (code, reason) = match who {
                Who::Client => (1001, "the client has gone"),
                Who::Backend => (1012, "the backend has gone: connect again"),
            };
            who.other().hears(&mut other, code, reason);
            assert!(other.ended().is_empty());
            drop(other);
            stage.assert_ended("reset", 1, &[(who.other().is_told(), &code.to_string())]);
        }
    }
}

#[test]
fn broken_tls_of_either_side_is_told_to_the_other() {
    for who in Who::BOTH {
        let stage = Stage::new(Wire::Tls, |_| {});
        let (broken, mut other) = who.first(stage.open());
        // A record of application data that no key has made, past the TLS of that peer.
        let forged = [&[23, 3, 3, 0, 32][..], &[0; 32]].concat();
        Peer::over(&broken.socket).send(forged);
        let (code, reason) = match who {
            Who::Client => (1001, "the client has gone"),
            Who::Backend => (1012, "the backend has gone: connect again"),
        };
        who.other().hears(&mut other, code, reason);
        assert!(other.ended().is_empty());
        drop((broken, other));
        stage.assert_ended("tls_error", 1, &[(who.other().is_told(), &code.to_string())]);
    }
}
