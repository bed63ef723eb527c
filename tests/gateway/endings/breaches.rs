//! Peers that break the protocol or a limit of size, and what becomes of what they said before.

use super::*;

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
