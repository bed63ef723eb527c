//! Bytes that a stream owns because nobody takes them yet.

use rustls::unbuffered::{EncodeError, EncodeTlsData};
use tokio::io::ReadBuf;

/// Bytes that wait. Holds no allocation once all are gone.
#[derive(Default)]
pub(super) struct Backlog {
    pub(super) bytes: Vec<u8>,
    /// How many of them are gone.
    gone: usize,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn advance(&mut self, count: usize) {
        self.gone += count;
        if self.gone == self.bytes.len() {
            *self = Self::default();
        }
    }

    /// Moves as much into `buf` as fits.
    pub(super) fn take(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.rest().len().min(buf.remaining());
        if count > 0 {
            buf.put_slice(&self.rest()[..count]);
            self.advance(count);
        }
    }

    /// Puts `bytes` behind those that are here already: into `buf` as far as they fit.
    pub(super) fn give(&mut self, bytes: &[u8], buf: &mut ReadBuf<'_>) {
        let count = if self.is_empty() { bytes.len().min(buf.remaining()) } else { 0 };
        buf.put_slice(&bytes[..count]);
        self.push(&bytes[count..]);
    }

    /// Adds a record that rustls has made.
    pub(super) fn encode<Data>(&mut self, record: &mut EncodeTlsData<'_, Data>) {
        let start = self.bytes.len();
        // Without room it tells how much it needs.
        let Err(EncodeError::InsufficientSize(size)) = record.encode(&mut []) else { return };
        self.bytes.resize(start + size.required_size, 0);
        let made = record.encode(&mut self.bytes[start..]);
        debug_assert!(made.is_ok_and(|made| made == size.required_size), "it is as it said");
    }
}
