use proptest::prelude::*;
use tidegate_table::FrameChecks;

use super::*;
use crate::frames::{Extensions, Role, close_frame, ping_frame};

fn filter(role: Role) -> FrameFilter {
    FrameFilter::new(FrameScanner::new(role, FrameChecks::Strict, Extensions::None, None), &[])
}

/// So many messages, and any number of frames.
const fn messages(messages: u32) -> Allowance {
    Allowance { messages, ..Allowance::UNLIMITED }
}

/// A server's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, payload.len() as u8][..], payload].concat()
}

/// All that passes when the stream comes in pieces; the findings, and how many pings were answered.
fn run(filter: &mut FrameFilter, stream: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<Finding>, usize) {
    let (mut passed, mut findings, mut answered) = (Vec::new(), Vec::new(), 0);
    let (mut rest, mut cuts) = (stream, cuts.iter().cycle());
    while !rest.is_empty() {
        let cut = (*cuts.next().unwrap()).min(rest.len());
        let mut bytes = [filter.held(), &rest[..cut]].concat();
        rest = &rest[cut..];
        let filtered = filter.apply(&mut bytes, Allowance::UNLIMITED);
        passed.extend(&bytes[..filtered.passed]);
        findings.extend(filtered.finding);
        answered += usize::from(filtered.answered);
    }
    (passed, findings, answered)
}

#[derive(Clone, Debug)]
enum Part {
    Data(Vec<u8>),
    Ping(Vec<u8>),
    ForeignPong(Vec<u8>),
    OurPong,
}

fn part() -> impl Strategy<Value = Part> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..100);
    prop_oneof![
        bytes().prop_map(Part::Data),
        bytes().prop_map(Part::Ping),
        bytes().prop_map(Part::ForeignPong),
        Just(Part::OurPong),
    ]
}

proptest! {
    #[test]
    fn what_passes_is_what_came_without_the_answers_to_our_pings(
        parts in prop::collection::vec(part(), 1..20),
        cuts in prop::collection::vec(1_usize..200, 1..20),
        fragmented in any::<bool>(),
    ) {
        let mut filter = filter(Role::Server);
        let token = filter.next_ping();
        let (mut stream, mut expected, mut begun) = (Vec::new(), Vec::new(), false);
        for part in parts {
            let (frame, passes) = match part {
                // As one message in fragments, or as one each.
                Part::Data(bytes) if fragmented => {
                    let first = if begun { 0x00 } else { 0x01 };
                    begun = true;
                    (frame(first, &bytes), true)
                }
                Part::Data(bytes) => (frame(0x82, &bytes), true),
                Part::Ping(bytes) => (frame(0x89, &bytes), true),
                Part::ForeignPong(bytes) => (frame(0x8a, &bytes), bytes != token),
                Part::OurPong => (frame(0x8a, &token), false),
            };
            stream.extend(&frame);
            if passes {
                expected.extend(frame);
            }
        }
        let (passed, findings, _) = run(&mut filter, &stream, &cuts);
        prop_assert_eq!(passed, expected);
        prop_assert!(findings.is_empty() && filter.held().is_empty());
    }

    #[test]
    fn whatever_comes_what_passes_is_part_of_it_and_what_is_held_is_short(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        cuts in prop::collection::vec(1_usize..200, 1..20),
    ) {
        for checks in [FrameChecks::Strict, FrameChecks::PassThrough] {
            let scanner = FrameScanner::new(Role::Client, checks, Extensions::None, None);
            let mut filter = FrameFilter::new(scanner, &[]);
            let (passed, findings, _) = run(&mut filter, &bytes, &cuts);
            prop_assert!(bytes.starts_with(&passed));
            prop_assert!(findings.len() <= 1);
            prop_assert!(filter.held().len() < 14 + 125);
        }
    }
}

#[test]
fn our_pong_is_swallowed_and_told_however_it_comes_in() {
    for cut in [1, 2, 5, 100] {
        let mut filter = filter(Role::Client);
        let token = filter.next_ping();
        let mut pong = ping_frame(Role::Client, &token);
        pong[0] = 0x8a;
        assert_eq!(run(&mut filter, &pong, &[cut]), (Vec::new(), Vec::new(), 1));
        assert!(filter.held.is_empty(), "nothing is held");
    }
}

#[test]
fn a_late_answer_to_an_earlier_ping_of_ours_is_swallowed_and_not_taken_for_one_to_the_last() {
    let mut filter = filter(Role::Server);
    let pings = [filter.next_ping(), filter.next_ping(), filter.next_ping()];
    for (payload, answered) in [(pings[0], 0), (pings[1], 0), (pings[2], 1), (pings[2], 1)] {
        let told = run(&mut filter, &frame(0x8a, &payload), &[100]);
        assert_eq!(told, (Vec::new(), Vec::new(), answered), "{payload:?} of {pings:?}");
    }
    // In one read.
    let both = [frame(0x8a, &pings[2]), frame(0x8a, &pings[1])].concat();
    assert_eq!(run(&mut filter, &both, &[100]), (Vec::new(), Vec::new(), 1));
    let next = (u64::from_be_bytes(pings[2]) + 1).to_be_bytes();
    let foreign = frame(0x8a, &next);
    assert_eq!(run(&mut filter, &foreign, &[100]), (foreign, Vec::new(), 0), "not sent yet");
}

#[test]
fn answers_are_known_for_as_long_as_anybody_may_take_and_not_for_ever() {
    let mut filter = filter(Role::Server);
    let first = frame(0x8a, &filter.next_ping());
    for _ in 1..REMEMBERED {
        filter.next_ping();
    }
    assert_eq!(run(&mut filter, &first, &[100]), (Vec::new(), Vec::new(), 0));
    filter.next_ping();
    assert_eq!(run(&mut filter, &first, &[100]), (first.clone(), Vec::new(), 0));
}

#[test]
fn a_pong_passes_as_long_as_we_have_not_pinged() {
    let mut filter = filter(Role::Server);
    let pong = frame(0x8a, &[0; 8]);
    assert_eq!(run(&mut filter, &pong, &[4]), (pong, Vec::new(), 0));
}

#[test]
fn half_a_header_and_half_a_control_frame_do_not_pass() {
    let mut filter = filter(Role::Server);
    let mut bytes = [frame(0x82, b"data"), vec![0x82]].concat();
    assert_eq!(filter.apply(&mut bytes, messages(1)).passed, 6);
    assert_eq!(filter.held(), [0x82]);
    assert!(filter.at_boundary());
    let mut bytes = [filter.held(), &[1, b'x', 0x89, 3, b'p']].concat();
    assert_eq!(filter.apply(&mut bytes, messages(1)).passed, 3);
    assert_eq!(filter.held(), [0x89, 3, b'p']);
}

#[test]
fn a_close_frame_is_the_last_to_pass() {
    let mut filter = filter(Role::Server);
    let close = close_frame(Role::Server, Some(4321), "so long");
    let stream = [frame(0x81, b"before"), close.clone(), frame(0x81, b"after")].concat();
    let (passed, findings, _) = run(&mut filter, &stream, &[7]);
    assert_eq!(passed, [frame(0x81, b"before"), close].concat());
    assert_eq!(findings, [Finding::Close(CloseCode(Some(4321)))]);
}

#[test]
fn a_bad_close_frame_does_not_pass_but_where_nothing_is_checked() {
    let bad = frame(0x88, &[0x03, 0xee]); // 1006
    let (passed, findings, _) = run(&mut filter(Role::Server), &bad, &[9]);
    assert_eq!((passed, findings), (vec![], vec![Finding::Violation(Violation::BadClose)]));
    let scanner = FrameScanner::new(Role::Server, FrameChecks::PassThrough, Extensions::None, None);
    let (passed, findings, _) = run(&mut FrameFilter::new(scanner, &[]), &bad, &[9]);
    assert_eq!((passed, findings), (bad, vec![Finding::Close(CloseCode(Some(1006)))]));
}

#[test]
fn what_is_one_message_too_many_waits() {
    let mut filter = filter(Role::Server);
    let (first, second) = (frame(0x81, b"first"), frame(0x81, b"second"));
    let mut bytes = [first.clone(), second.clone()].concat();
    let filtered = filter.apply(&mut bytes, messages(1));
    assert_eq!((filtered.passed, filtered.messages), (first.len(), 1));
    assert!(filter.ripe() && filter.held() == second);
    let mut bytes = filter.held().to_vec();
    assert_eq!(filter.apply(&mut bytes, messages(1)).passed, second.len());
    assert!(!filter.ripe() && filter.held().is_empty());
}

#[test]
fn what_is_one_frame_too_many_waits_also_behind_answers_to_our_pings() {
    let mut filter = filter(Role::Server);
    let pong = frame(0x8a, &filter.next_ping());
    let (ping, close) = (frame(0x89, b"?"), frame(0x88, b""));
    let mut bytes = [pong.clone(), ping.clone(), pong, close.clone()].concat();
    let frames = |frames| Allowance { frames, ..Allowance::UNLIMITED };
    let filtered = filter.apply(&mut bytes, frames(2));
    assert_eq!((&bytes[..filtered.passed], filtered.frames), (&*ping, 2));
    assert_eq!(filter.waits_for(), Some(Scarce::Frames));
    let mut bytes = filter.held().to_vec();
    let filtered = filter.apply(&mut bytes, frames(1));
    assert_eq!((&bytes[..filtered.passed], filtered.frames), (&*close, 1), "a Close frame is free");
    assert!(filtered.finding.is_some() && filter.waits_for().is_none());
}

#[test]
fn what_came_early_is_sifted_first() {
    let early = frame(0x81, b"early");
    let scanner = FrameScanner::new(Role::Server, FrameChecks::Strict, Extensions::None, None);
    let mut filter = FrameFilter::new(scanner, &early);
    assert!(filter.ripe());
    let mut bytes = filter.held().to_vec();
    assert_eq!(filter.apply(&mut bytes, messages(9)).passed, early.len());
}
