//! Bytes that wait for more of their kind, such as the begin of a head: kept in small pieces.
//!
//! One piece would be moved and doubled as it grows, and beyond 14 KiB jemalloc gives whole pages and one more.

/// Size of a piece: a size of jemalloc's, of which several share what jemalloc notes for each run of pages. Of 4096 none do.
const PIECE: usize = 5 * 1024;
/// What the last one grows by. All that come of it are sizes of jemalloc's too.
const GROWTH: usize = 1024;

/// What has come of something that is not whole.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// All full but the last.
    pieces: Vec<Vec<u8>>,
}

impl Kept {
    /// How much it is.
    pub(super) fn len(&self) -> usize {
        let full = self.pieces.len().saturating_sub(1) * PIECE;
        full + self.pieces.last().map_or(0, Vec::len)
    }

    /// What it takes in memory.
    pub(super) fn capacity(&self) -> usize {
        self.len().next_multiple_of(GROWTH)
    }

    /// Adds to it.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.pieces.last().is_none_or(|last| last.len() == PIECE) {
                self.pieces.push(Vec::new());
            }
            let Some(last) = self.pieces.last_mut() else { return };
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - last.len()));
            let wanted = (last.len() + now.len()).next_multiple_of(GROWTH);
            last.reserve_exact(wanted - last.len());
            last.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Writes all of it to where there is room for it.
    pub(super) fn copy_to(&self, buffer: &mut [u8]) {
        for (to, piece) in buffer.chunks_mut(PIECE).zip(&self.pieces) {
            to[..piece.len()].copy_from_slice(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_kept_comes_back_and_takes_little_more(
            sizes in prop::collection::vec(0..5000_usize, 0..6),
        ) {
            let (mut kept, mut expected) = (Kept::default(), Vec::new());
            for (at, size) in sizes.into_iter().enumerate() {
                let bytes = vec![at as u8; size];
                kept.push(&bytes);
                expected.extend(bytes);
                prop_assert_eq!(kept.len(), expected.len());
            }
            let mut buffer = vec![0xff; expected.len()];
            kept.copy_to(&mut buffer);
            prop_assert!(buffer == expected);
            let held: usize = kept.pieces.iter().map(Vec::capacity).sum();
            prop_assert_eq!(held, kept.capacity());
        }
    }
}
