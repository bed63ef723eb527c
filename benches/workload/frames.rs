//! Frames of one direction, read by read, through the scanner and the sieve around it.

use tidegate::{
    gateway::{
        frames::{Allowance, Extensions, FrameScanner, Role, Scan, Stop},
        sieve::{Sieve, Sifted},
    },
    table::FrameChecks,
};

/// What one read brings: so many masked binary frames with so much payload each.
pub fn read(frames: usize, payload: u16) -> Vec<u8> {
    let mut frame = vec![0x82];
    match payload {
        0..=125 => frame.push(0x80 | payload as u8),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(payload.to_be_bytes());
        }
    }
    frame.extend([1, 2, 3, 4]);
    frame.resize(frame.len() + usize::from(payload), 0x55);
    frame.repeat(frames)
}

/// With the checks that are on by default.
pub fn scanner() -> FrameScanner {
    FrameScanner::new(Role::Client, FrameChecks::Strict, Extensions::None, None)
}

/// Around that scanner.
pub fn sieve() -> Sieve {
    Sieve::new(scanner(), &[])
}

/// Scans one read. All of it has to pass: else there would be nothing to measure.
pub fn scan(scanner: &mut FrameScanner, read: &[u8]) -> Scan {
    let scan = scanner.scan(read, Allowance::UNLIMITED);
    assert!(scan.passed == read.len() && scan.stop == Stop::End);
    scan
}

/// Sifts one read, as the relay does.
pub fn sift(sieve: &mut Sieve, read: &mut [u8]) -> Sifted {
    let sifted = sieve.sift(read, Allowance::UNLIMITED);
    assert!(sifted.passed == read.len() && sifted.finding.is_none());
    sifted
}
