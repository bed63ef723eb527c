//! The head of a backend's answer, as it comes over the wire in pieces.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tidegate_gateway::http1_head::{AnswerHead, HeadFault, MAX_HEAD, of_answer};

#[derive(arbitrary::Arbitrary, Debug)]
struct Input<'a> {
    /// How much comes at a time, in turn.
    pieces: Vec<u8>,
    answer: &'a [u8],
}

type Outcome = Result<Option<AnswerHead>, HeadFault>;

/// What comes out in the end, and what is left in the buffer together with what was not looked at any more.
fn read(answer: &[u8], pieces: &[u8]) -> (Outcome, BytesMut) {
    let mut received = BytesMut::new();
    let (mut left, mut interim) = (answer, 0);
    let mut sizes = pieces.iter().cycle();
    loop {
        let size = sizes.next().map_or(left.len(), |size| usize::from(*size).max(1));
        let (piece, rest) = left.split_at(size.min(left.len()));
        received.extend_from_slice(piece);
        left = rest;
        let outcome = of_answer(&mut received, &mut interim);
        if left.is_empty() || !matches!(outcome, Ok(None)) {
            received.extend_from_slice(left);
            return (outcome, received);
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let (whole, behind) = read(input.answer, &[]);
    let (outcome, left) = read(input.answer, &input.pieces);
    match (&whole, &outcome) {
        // Which fault is met first may differ: one of what had come, and not of what came later.
        (Err(_), Err(_)) => {}
        _ => assert_eq!((&whole, &behind), (&outcome, &left)),
    }
    assert!(whole.is_err() || input.answer.ends_with(&behind), "what is behind is as it came");
    match whole {
        Ok(None) => assert!(behind.len() < MAX_HEAD, "more than that is not waited for"),
        Ok(Some(AnswerHead::Switching(headers))) => {
            assert!(headers.len() <= 100 && input.answer.len() > behind.len());
        }
        Ok(Some(AnswerHead::Other)) => assert!(behind.trim_ascii_start().starts_with(b"HTTP/1.")),
        Err(_) => {}
    }
});
