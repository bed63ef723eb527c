//! What a direction knows of its receiver: what waits for it, and how much of that one that is behind has to take in a time.

use std::time::Duration;

/// What is known of the receiver by the other direction. One that is not listened to any more is not waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiver {
    /// It has said Close too.
    pub(super) answered: bool,
    /// It has ended its connection.
    pub(super) ended: bool,
}

/// A receiver that is behind has to take so much a second, or all that waits for it.
const LEAST_RATE: usize = 512;

/// Bytes that wait to be written. Most connections have none most of the time: then it is a null pointer.
#[derive(Default)]
pub(super) struct Rest(pub(super) Option<Box<Waiting>>);

/// Bytes, and how many of them have gone out.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) bytes: Vec<u8>,
    pub(super) written: usize,
}

impl Rest {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds bytes behind all others.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.get_or_insert_default().bytes.extend_from_slice(bytes);
        }
    }

    /// Bytes that are left.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.bytes.len() - waiting.written)
    }
}

/// How much of a backlog may be left after so much time.
pub(super) const fn most_left(backlog: usize, time: Duration) -> usize {
    let least = time.as_millis().saturating_mul(LEAST_RATE as u128) / 1000;
    if least < backlog as u128 { backlog - least as usize } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_has_to_take_all_or_512_bytes_a_second() {
        for (backlog, seconds, left) in [
            (100_000, 30, 100_000 - 15_360),
            (100_000, 1, 100_000 - 512),
            (15_360, 30, 0),
            (100, 30, 0),
            (1, 3600, 0),
            (usize::MAX, u64::MAX, 0),
        ] {
            assert_eq!(
                most_left(backlog, Duration::from_secs(seconds)),
                left,
                "{backlog} {seconds}"
            );
        }
    }
}
