//! The frame scanner: whatever comes, and however it is cut, it finds the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_gateway::frames::{Allowance, ControlFrame, Extensions, FrameScanner, Role, Stop};
use tidegate_table::FrameChecks;

#[derive(arbitrary::Arbitrary, Debug)]
struct Input {
    server: bool,
    strict: bool,
    deflate: bool,
    max_message: Option<u64>,
    cuts: Vec<u8>,
    stream: Vec<u8>,
}

/// Data bytes passed, messages, control frames, and what ended it.
fn follow(
    mut scanner: FrameScanner,
    stream: &[u8],
    cuts: &[u8],
) -> (usize, u64, Vec<ControlFrame>, Stop) {
    let (mut held, mut passed, mut messages, mut controls) = (Vec::new(), 0, 0, Vec::new());
    let (mut rest, mut cuts) = (stream, cuts.iter().cycle());
    loop {
        let cut = cuts.next().map_or(rest.len(), |cut| usize::from(*cut) + 1).min(rest.len());
        held.extend(&rest[..cut]);
        rest = &rest[cut..];
        loop {
            let scan = scanner.scan(&held, Allowance::UNLIMITED);
            assert!(scan.passed <= held.len());
            assert!(scan.boundary.is_none_or(|boundary| boundary <= scan.passed));
            passed += scan.passed;
            messages += u64::from(scan.messages);
            held.drain(..scan.passed);
            match scan.stop {
                Stop::Control(control) => {
                    let mut space = [0; 125];
                    control.payload(&held, &mut space);
                    controls.push(control);
                    held.drain(..control.total());
                }
                Stop::End | Stop::Incomplete if !rest.is_empty() => break,
                stop => return (passed, messages, controls, stop),
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let scanner = FrameScanner::new(
        if input.server { Role::Server } else { Role::Client },
        if input.strict { FrameChecks::Strict } else { FrameChecks::PassThrough },
        if input.deflate { Extensions::Deflate } else { Extensions::None },
        input.max_message,
    );
    let whole = follow(scanner.clone(), &input.stream, &[]);
    assert_eq!(follow(scanner.clone(), &input.stream, &input.cuts), whole);
    assert_eq!(follow(scanner, &input.stream, &[0]), whole);
});
