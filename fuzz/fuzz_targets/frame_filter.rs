//! The state of a relay's direction: what passes is what came, but for the answers to our own pings and what is behind the
//! end; frames of ours may be put in at every boundary that it tells, and the stream stays one of whole frames.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_gateway::{
    frame_filter::{Finding, FrameFilter},
    frames::{Allowance, Extensions, FrameScanner, Role, Stop, ping_frame},
};
use tidegate_table::FrameChecks;

#[derive(arbitrary::Arbitrary, Debug)]
enum Step {
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// A frame of the role.
    Frame { first: u8, payload: Vec<u8> },
    /// The answer to our ping.
    Pong,
    /// We ping; from now on answers are known.
    Ping,
    /// So much may pass.
    Allow { messages: u8, frames: u8 },
}

fn frame(role: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mask = if role == Role::Client { 0x80 } else { 0 };
    match payload.len() {
        length @ 0..=125 => bytes.push(mask | length as u8),
        length => {
            bytes.push(mask | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
    }
    if role == Role::Client {
        bytes.extend([0; 4]);
    }
    bytes.extend(payload);
    bytes
}

fuzz_target!(|input: (bool, bool, Vec<Step>)| {
    let (server, strict, steps) = input;
    let role = if server { Role::Server } else { Role::Client };
    let checks = if strict { FrameChecks::Strict } else { FrameChecks::PassThrough };
    let scanner = FrameScanner::new(role, checks, Extensions::None, Some(1 << 20));
    let mut filter = FrameFilter::new(scanner.clone(), &[]);
    let mut came: Vec<u8> = Vec::new();
    let (mut passed, mut with_pings): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    let (mut token, mut allowance, mut over) = (None::<[u8; 8]>, Allowance::UNLIMITED, false);
    for step in steps {
        let new = match step {
            Step::Bytes(bytes) => bytes,
            Step::Frame { first, payload } => {
                frame(role, first, &payload[..payload.len().min(60_000)])
            }
            Step::Pong => match token {
                Some(token) => frame(role, 0x8a, &token),
                None => continue,
            },
            Step::Ping => {
                token = Some(filter.next_ping());
                continue;
            }
            Step::Allow { messages, frames } => {
                allowance = Allowance { messages: messages.into(), frames: frames.into() };
                Vec::new()
            }
        };
        came.extend(&new);
        let mut bytes = [filter.held(), &new].concat();
        let filtered = filter.apply(&mut bytes, allowance);
        // Panics where more passed than was allowed.
        allowance = allowance.less(filtered.messages, filtered.frames);
        let out = &bytes[..filtered.passed];
        assert!(!over || out.is_empty(), "something passed after the end");
        passed.extend(out);
        // A frame of ours at the boundary that was told.
        let boundary = filtered.boundary.filter(|_| strict && !over);
        let at = boundary.unwrap_or(out.len());
        with_pings.extend(&out[..at]);
        let closed = matches!(filtered.finding, Some(Finding::Close(_)));
        if boundary.is_some() && !closed {
            with_pings.extend(ping_frame(role, b"ours ..."));
        }
        with_pings.extend(&out[at..]);
        over |= filtered.finding.is_some();
    }
    if token.is_none() {
        assert!(came.starts_with(&passed), "bytes were changed or left out");
    }
    if strict {
        // Whole frames, the last perhaps but for its payload.
        let (mut scanner, mut rest) = (scanner, &with_pings[..]);
        loop {
            let scan = scanner.scan(rest, Allowance::UNLIMITED);
            rest = &rest[scan.passed..];
            match scan.stop {
                Stop::Control(control) => rest = &rest[control.total()..],
                Stop::End => break,
                stop => panic!("{stop:?} with {} bytes left", rest.len()),
            }
        }
    }
});
