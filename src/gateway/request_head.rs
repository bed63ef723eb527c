//! The head of a connection's first request, until it is whole: hyper is made only then.
//!
//! What hyper holds for a connection, its state and a buffer that grows in powers of two, would be held for everybody who has sent
//! a byte, or none. Here it is what has come, and of a silent client nothing. All that is looked for is the end; what a head says,
//! and how one that is wrong is answered, is hyper's to say.

use std::{cell::RefCell, future::poll_fn, io, pin::Pin, task::ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    kept::Kept,
    pending::{Pending, cost},
};

/// Size of a worker's buffer for heads: what comes at once of one is mostly all of it.
const BUFFER: usize = 16 * 1024;

thread_local! {
    static HEADS: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// Reads until the head is whole, or is `most` bytes long, or wrong already; what was read, and nothing where the client has
/// ended before.
pub(super) async fn read<T: AsyncRead + Unpin>(
    transport: &mut T,
    pending: &Pending,
    base: usize,
    (most, headers): (usize, usize),
) -> io::Result<Bytes> {
    let mut kept = Kept::default();
    let mut scan = Scan::default();
    loop {
        let ready = poll_fn(|cx| {
            HEADS.with_borrow_mut(|buffer| {
                let before = kept.len();
                let mut read = ReadBuf::new(&mut buffer[before..]);
                ready!(Pin::new(&mut *transport).poll_read(cx, &mut read))?;
                let length = before + read.filled().len();
                if length == before {
                    return io::Result::Ok(Some(Bytes::new())).into();
                }
                kept.copy_to(&mut buffer[..before]);
                let head = &buffer[..length];
                if length >= most.min(BUFFER) || scan.is_ready(head, headers) {
                    return io::Result::Ok(Some(Bytes::copy_from_slice(head))).into();
                }
                kept.push(&buffer[before..length]);
                io::Result::Ok(None).into()
            })
        });
        if let Some(head) = ready.await? {
            return Ok(head);
        }
        pending.waits(base + cost::SOCKET + kept.capacity());
    }
}

/// How far a head has been looked through.
#[derive(Debug, Default)]
struct Scan {
    /// Where to go on.
    at: usize,
    /// Whether anything but empty lines has come: those before a request are passed over (RFC 9112 §2.2).
    begun: bool,
    /// Whether it has been asked whether the first line can be one.
    asked: bool,
}

impl Scan {
    /// Whether hyper has something to say to what has come: the head has its end, or what is there is the begin of none.
    fn is_ready(&mut self, head: &[u8], headers: usize) -> bool {
        if !self.begun {
            let empty = head[self.at..].iter().take_while(|byte| b"\r\n".contains(byte)).count();
            self.at += empty;
            self.begun = self.at < head.len();
            if !self.begun {
                return false;
            }
        }
        let mut line_ended = false;
        while let Some(end) = head[self.at..].iter().position(|byte| *byte == b'\n') {
            let next = self.at + end + 1;
            line_ended = true;
            match &head[next..] {
                [b'\n', ..] | [b'\r', b'\n', ..] => return true,
                // What follows is not there yet: this line's end is found again.
                [] | [b'\r'] => break,
                _ => self.at = next,
            }
        }
        // Once for each line at most, so that a head in crumbs costs no more than one in lines.
        let ask = line_ended || !self.asked;
        self.asked = true;
        ask && self.is_wrong(head, headers)
    }

    fn is_wrong(&self, head: &[u8], headers: usize) -> bool {
        let mut space = vec![httparse::EMPTY_HEADER; headers];
        httparse::Request::new(&mut space).parse(head).is_err()
    }
}

#[cfg(test)]
mod tests;
