use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};
use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [1, 2, 3, 4];

/// So many messages, and any number of frames.
const fn messages(messages: u32) -> Allowance {
    Allowance { messages, ..Allowance::UNLIMITED }
}

/// So many frames, and any number of messages.
const fn frames(frames: u32) -> Allowance {
    Allowance { frames, ..Allowance::UNLIMITED }
}

/// A frame whose length is written with at least so many extra bytes, masked or not.
fn frame_with(first: u8, length: usize, extra: usize, masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match (length, extra) {
        (0..=125, 0) => bytes.push(mask | length as u8),
        (126..=65_535, 0) | (_, 2) => {
            bytes.push(mask | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend(MASK);
    }
    // Looks like Close frames.
    bytes.extend(std::iter::repeat_n(0x88, length));
    bytes
}

fn frame(first: u8, length: usize, masked: bool) -> Vec<u8> {
    frame_with(first, length, 0, masked)
}

fn scanner(role: Role, checks: FrameChecks, extensions: Extensions) -> FrameScanner {
    FrameScanner::new(role, checks, extensions, None)
}

fn strict(role: Role) -> FrameScanner {
    scanner(role, FrameChecks::Strict, Extensions::None)
}

/// What scanning some bytes to their end, in pieces as `cuts` says, gives in all: data frames' bytes, messages, control
/// frames, and what ended it.
fn follow(mut scanner: FrameScanner, stream: &[u8], cuts: &[usize]) -> (usize, u32, Vec<u8>, Stop) {
    let (mut held, mut passed, mut messages, mut controls) = (Vec::new(), 0, 0, Vec::new());
    let (mut rest, mut cuts) = (stream, cuts.iter().cycle());
    loop {
        let cut = (*cuts.next().unwrap()).min(rest.len());
        held.extend(&rest[..cut]);
        rest = &rest[cut..];
        loop {
            let scan = scanner.scan(&held, Allowance::UNLIMITED);
            passed += scan.passed;
            messages += scan.messages;
            held.drain(..scan.passed);
            match scan.stop {
                Stop::Control(control) => {
                    controls.push(control.opcode());
                    held.drain(..control.total());
                }
                Stop::End | Stop::Incomplete if !rest.is_empty() => break,
                stop => return (passed, messages, controls, stop),
            }
        }
    }
}

prop_compose! {
    fn any_frame()(
        first in any::<u8>(),
        length in prop_oneof![0_usize..200, 65_400_usize..65_700],
        masked in any::<bool>(),
    ) -> Vec<u8> {
        frame(first, length, masked)
    }
}

prop_compose! {
    /// A frame that a client may send, for most opcodes at any place.
    fn sound_frame()(
        first in prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8a, 0x88]),
        length in prop_oneof![0_usize..126, 126_usize..300, 65_530_usize..65_540],
    ) -> Vec<u8> {
        frame(first, if first & 8 == 0 { length } else { length % 126 }, true)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_split_of_any_frames_gives_the_same_as_the_whole(
        frames in prop::collection::vec(prop_oneof![any_frame(), sound_frame()], 1..6),
        cuts in prop::collection::vec(1_usize..5000, 1..40),
        checks in prop::sample::select(vec![FrameChecks::Strict, FrameChecks::PassThrough]),
    ) {
        let stream = frames.concat();
        let scanner = scanner(Role::Client, checks, Extensions::None);
        let whole = follow(scanner.clone(), &stream, &[stream.len()]);
        prop_assert_eq!(&follow(scanner.clone(), &stream, &cuts), &whole);
        prop_assert_eq!(&follow(scanner, &stream, &[1, 2, 3, 7]), &whole);
    }

    #[test]
    fn whole_frames_are_followed_to_their_end_where_nothing_is_checked(
        frames in prop::collection::vec(any_frame(), 1..6),
        cuts in prop::collection::vec(1_usize..5000, 1..40),
    ) {
        let stream = frames.concat();
        let is_data = |frame: &&Vec<u8>| frame[0] & 8 == 0;
        let messages = frames.iter().filter(is_data).filter(|frame| frame[0] & 0x80 != 0).count();
        let scanner = scanner(Role::Server, FrameChecks::PassThrough, Extensions::None);
        let (_, counted, _, stop) = follow(scanner, &stream, &cuts);
        prop_assert_eq!((counted as usize, stop), (messages, Stop::End));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        for checks in [FrameChecks::Strict, FrameChecks::PassThrough] {
            follow(scanner(Role::Client, checks, Extensions::Deflate), &bytes, &[3]);
        }
    }
}

#[test]
fn a_data_frame_is_at_its_boundary_only_when_its_last_payload_byte_has_come() {
    let bytes = frame(0x82, 300, true);
    let mut scanner = strict(Role::Client);
    assert_eq!(scanner.scan(&bytes[..7], messages(1)).stop, Stop::Incomplete);
    assert!(scanner.at_boundary(), "an incomplete header has not passed");
    let mut at = scanner.scan(&bytes[..8], messages(1)).passed;
    while at < bytes.len() {
        assert!(!scanner.at_boundary(), "byte {at}");
        at += scanner.scan(&bytes[at..=at], messages(1)).passed;
    }
    assert!(scanner.at_boundary());
}

#[test]
fn the_last_boundary_of_a_piece_is_told() {
    let stream = [frame(0x82, 10, true), frame(0x82, 20, true), frame(0x82, 300, true)].concat();
    let mut scanner = strict(Role::Client);
    assert_eq!(scanner.scan(&stream[..100], messages(9)).boundary, Some(16 + 26));
    assert_eq!(scanner.scan(&stream[100..200], messages(9)).boundary, None);
    assert_eq!(scanner.scan(&stream[200..], messages(9)).boundary, Some(stream.len() - 200));
}

#[test]
fn no_more_messages_end_than_were_asked_for() {
    let stream = [frame(0x01, 5, true), frame(0x80, 5, true), frame(0x82, 5, true)].concat();
    let scan = strict(Role::Client).scan(&stream, messages(1));
    assert_eq!((scan.passed, scan.messages, scan.stop), (22, 1, Stop::Enough(Scarce::Messages)));
}

#[test]
fn no_more_frames_begin_than_were_asked_for_whatever_they_are_but_a_close_frame_passes() {
    let stream = [frame(0x01, 0, true), frame(0x00, 0, true), frame(0x80, 9, true)].concat();
    let scan = strict(Role::Client).scan(&stream, frames(2));
    assert_eq!((scan.passed, scan.frames, scan.messages), (12, 2, 0), "empty fragments count");
    assert_eq!(scan.stop, Stop::Enough(Scarce::Frames));
    for control in [0x89, 0x8a] {
        let control = frame(control, 5, true);
        assert!(matches!(strict(Role::Client).scan(&control, frames(1)).stop, Stop::Control(_)));
        let scarce = strict(Role::Client).scan(&control, frames(0)).stop;
        assert_eq!(scarce, Stop::Enough(Scarce::Frames));
    }
    let close = strict(Role::Client).scan(&frame(0x88, 0, true), frames(0)).stop;
    assert!(matches!(close, Stop::Control(_)), "{close:?}");
    // One that is longer than any can be ends nothing, so it counts.
    let mut lenient = scanner(Role::Client, FrameChecks::PassThrough, Extensions::None);
    let long = lenient.scan(&frame(0x88, 126, true), frames(0)).stop;
    assert_eq!(long, Stop::Enough(Scarce::Frames));
}

#[test]
fn a_control_frame_that_is_not_checked_is_no_longer_than_a_message_may_be() {
    let limited =
        || FrameScanner::new(Role::Client, FrameChecks::PassThrough, Extensions::None, Some(1000));
    assert_eq!(limited().scan(&frame(0x89, 1000, true), frames(1)).stop, Stop::End);
    assert_eq!(limited().scan(&frame(0x89, 1001, true), frames(1)).stop, Stop::TooBig);
    // Limits of messages are not about control frames of a sound length.
    let mut tiny =
        FrameScanner::new(Role::Client, FrameChecks::PassThrough, Extensions::None, Some(1));
    assert!(matches!(tiny.scan(&frame(0x89, 125, true), frames(1)).stop, Stop::Control(_)));
}

#[test]
fn a_message_is_as_long_as_all_its_fragments() {
    let limited =
        || FrameScanner::new(Role::Client, FrameChecks::Strict, Extensions::None, Some(100));
    let fits = [frame(0x01, 60, true), frame(0x80, 40, true), frame(0x82, 100, true)].concat();
    assert_eq!(limited().scan(&fits, messages(9)).stop, Stop::End);
    let long = [frame(0x01, 60, true), frame(0x00, 40, true), frame(0x80, 1, true)].concat();
    let scan = limited().scan(&long, messages(9));
    assert_eq!((scan.passed, scan.stop), (66 + 46, Stop::TooBig));
    assert_eq!(limited().scan(&frame(0x82, 101, true), messages(9)).stop, Stop::TooBig);
    let mut endless = frame(0x82, 0, true);
    endless.splice(1..2, [0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(limited().scan(&endless, messages(9)).stop, Stop::TooBig);
}

/// What a strict scanner says to frames of a client; those before the last are sound.
#[track_caller]
fn assert_violates(violation: Violation, frames: &[Vec<u8>]) {
    let (_, _, _, stop) = follow(strict(Role::Client), &frames.concat(), &[1]);
    assert_eq!(stop, Stop::Violation(violation));
    let lenient = scanner(Role::Client, FrameChecks::PassThrough, Extensions::None);
    let (_, _, _, stop) = follow(lenient, &frames.concat(), &[1]);
    assert_eq!(stop, Stop::End, "nothing is checked");
}

#[test]
fn every_broken_rule_is_found_where_frames_are_checked() {
    for bit in [0x10, 0x20, 0x40] {
        assert_violates(Violation::ReservedBits, &[frame(0x81 | bit, 3, true)]);
        assert_violates(Violation::ReservedBits, &[frame(0x89 | bit, 3, true)]);
    }
    for opcode in (3..8).chain(0xb..=0xf) {
        assert_violates(Violation::UnknownOpcode, &[frame(0x80 | opcode, 3, true)]);
    }
    assert_violates(Violation::NotMasked, &[frame(0x81, 3, false)]);
    assert_violates(Violation::BadLength, &[frame_with(0x81, 125, 2, true)]);
    assert_violates(Violation::BadLength, &[frame_with(0x81, 65_535, 8, true)]);
    assert_violates(Violation::LongControlFrame, &[frame(0x89, 126, true)]);
    assert_violates(Violation::FragmentedControlFrame, &[frame(0x09, 3, true)]);
    assert_violates(Violation::UnexpectedContinuation, &[frame(0x80, 3, true)]);
    assert_violates(
        Violation::UnexpectedContinuation,
        &[frame(0x01, 3, true), frame(0x80, 3, true), frame(0x00, 3, true)],
    );
    let interrupted = [frame(0x01, 3, true), frame(0x89, 3, true), frame(0x82, 3, true)];
    assert_violates(Violation::InterruptedMessage, &interrupted);
    let masked = follow(strict(Role::Server), &frame(0x81, 3, true), &[1]);
    assert_eq!(masked.3, Stop::Violation(Violation::Masked));
}

#[test]
fn a_length_with_its_highest_bit_is_bad() {
    let bytes = [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    assert_eq!(
        strict(Role::Client).scan(&bytes, messages(1)).stop,
        Stop::Violation(Violation::BadLength)
    );
}

#[test]
fn negotiated_extensions_give_reserved_bits_a_meaning() {
    let chosen = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(value).unwrap());
        Extensions::chosen(&headers)
    };
    assert_eq!(Extensions::chosen(&HeaderMap::new()), Extensions::None);
    let deflate = chosen("permessage-deflate; server_no_context_takeover");
    assert_eq!(deflate, Extensions::Deflate);
    let unknown = chosen("permessage-deflate, x-other");
    assert_eq!(unknown, Extensions::Unknown);
    let stop = |extensions, frames: &[Vec<u8>]| {
        let scanner = scanner(Role::Client, FrameChecks::Strict, extensions);
        follow(scanner, &frames.concat(), &[1]).3
    };
    let compressed = [frame(0x41, 3, true), frame(0x80, 3, true)];
    assert_eq!(stop(deflate, &compressed), Stop::End);
    let within = [frame(0x41, 3, true), frame(0xc0, 3, true)];
    assert_eq!(stop(deflate, &within), Stop::Violation(Violation::ReservedBits));
    assert_eq!(stop(deflate, &[frame(0xa1, 3, true)]), Stop::Violation(Violation::ReservedBits));
    assert_eq!(stop(deflate, &[frame(0xc9, 3, true)]), Stop::Violation(Violation::ReservedBits));
    assert_eq!(stop(unknown, &[frame(0xf3, 3, true), frame(0xfb, 3, true)]), Stop::End);
}

#[test]
fn the_code_of_a_close_frame_is_one_that_may_be_sent_and_its_reason_is_utf8() {
    assert_eq!(close_code(&[]), Ok(None));
    assert_eq!(close_code(&[0x03, 0xe8]), Ok(Some(1000)));
    assert_eq!(close_code(b"\x0f\xa0bye"), Ok(Some(4000)));
    assert_eq!(close_code(&[3]), Err(Violation::BadClose));
    assert_eq!(close_code(&[0x03, 0xe8, 0xff]), Err(Violation::BadClose));
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        assert_eq!(close_code(&code.to_be_bytes()), Err(Violation::BadClose), "{code}");
    }
}

#[test]
fn frames_of_ours_are_sound() {
    for role in [Role::Client, Role::Server] {
        let long = "ü".repeat(100);
        for bytes in [
            close_frame(role, Some(1001), "bye"),
            close_frame(role, Some(1001), &long),
            close_frame(role, None, "not sent"),
            ping_frame(role, b"12345678"),
        ] {
            let Stop::Control(control) = strict(role).scan(&bytes, messages(0)).stop else {
                panic!("no control frame: {bytes:?}");
            };
            assert_eq!(control.total(), bytes.len());
            let mut space = [0; 125];
            let payload = control.payload(&bytes, &mut space);
            match control.opcode() {
                PING => assert_eq!(payload, b"12345678"),
                _ => assert!(close_code(payload).is_ok(), "{payload:?}"),
            }
        }
    }
    assert_eq!(
        close_frame(Role::Server, Some(1001), "bye"),
        [0x88, 5, 0x03, 0xe9, b'b', b'y', b'e']
    );
}
