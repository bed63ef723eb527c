//! Frames of one direction, read by read, through the scanner and the filter around it.

use tidegate::{
    gateway::{
        frame_filter::{Filtered, FrameFilter},
        frames::{Allowance, Extensions, FrameScanner, Role, Scan, Stop},
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
pub fn filter() -> FrameFilter {
    FrameFilter::new(scanner(), &[])
}

/// Scans one read. All of it has to pass: else there would be nothing to measure.
pub fn scan(scanner: &mut FrameScanner, read: &[u8]) -> Scan {
    let scan = scanner.scan(read, Allowance::UNLIMITED);
    assert!(scan.passed == read.len() && scan.stop == Stop::End);
    scan
}

/// Sifts one read, as the relay does.
pub fn apply(filter: &mut FrameFilter, read: &mut [u8]) -> Filtered {
    let filtered = filter.apply(read, Allowance::UNLIMITED);
    assert!(filtered.passed == read.len() && filtered.finding.is_none());
    filtered
}
