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

/// What was read of a head.
pub(super) enum Head {
    /// All of it, and perhaps more.
    Whole(Bytes),
    /// What is as long as is read here, or is wrong already: hyper has something to say to it, or reads on.
    Part(Bytes),
    /// The client has ended before.
    Ended,
}

/// Reads until the head is whole, or is `most` bytes long, or wrong already.
pub(super) async fn read<T: AsyncRead + Unpin>(
    transport: &mut T,
    pending: &Pending,
    base: usize,
    (most, headers): (usize, usize),
) -> io::Result<Head> {
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
                    return io::Result::Ok(Some(Head::Ended)).into();
                }
                kept.copy_to(&mut buffer[..before]);
                let head = &buffer[..length];
                match scan.progress(head, headers) {
                    Progress::Whole => {
                        return io::Result::Ok(Some(Head::Whole(Bytes::copy_from_slice(head))))
                            .into();
                    }
                    Progress::Partial if length < most.min(BUFFER) => {}
                    Progress::Partial | Progress::Wrong => {
                        return io::Result::Ok(Some(Head::Part(Bytes::copy_from_slice(head))))
                            .into();
                    }
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

/// How far a head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Partial,
    Whole,
    /// What is there is the begin of none.
    Wrong,
}

/// How far a head has been looked through.
#[derive(Debug, Default)]
struct Scan {
    /// Where to go on: each byte is looked at once, however it comes, but for the end of a line that nothing has followed yet.
    at: usize,
    /// Whether anything but empty lines has come: those before a request are passed over (RFC 9112 §2.2).
    begun: bool,
    /// How much of it was asked for whether it can be a head.
    asked: usize,
}

impl Scan {
    /// What has come, of which what came before was looked at.
    fn progress(&mut self, head: &[u8], headers: usize) -> Progress {
        if !self.begun {
            let empty = head[self.at..].iter().take_while(|byte| b"\r\n".contains(byte)).count();
            self.at += empty;
            self.begun = self.at < head.len();
            if !self.begun {
                return Progress::Partial;
            }
        }
        let mut line_end = 0;
        loop {
            let Some(end) = head[self.at..].iter().position(|byte| *byte == b'\n') else {
                self.at = head.len();
                break;
            };
            let next = self.at + end + 1;
            line_end = next;
            match &head[next..] {
                [b'\n', ..] | [b'\r', b'\n', ..] => return Progress::Whole,
                // What follows is not there yet: this line's end is found again.
                [] | [b'\r'] => {
                    self.at = next - 1;
                    break;
                }
                _ => self.at = next,
            }
        }
        // Once for each line, and for the begin of the first, so that a head in crumbs costs no more than one in lines.
        if self.asked > 0 && line_end <= self.asked {
            return Progress::Partial;
        }
        self.asked = line_end.max(1);
        if is_wrong(head, headers) { Progress::Wrong } else { Progress::Partial }
    }
}

/// So many headers need no memory to be looked at.
const FEW: usize = 128;

fn is_wrong(head: &[u8], headers: usize) -> bool {
    let mut few = [httparse::EMPTY_HEADER; FEW];
    let mut many = Vec::new();
    let space = if headers <= FEW {
        &mut few[..headers]
    } else {
        many.resize(headers, httparse::EMPTY_HEADER);
        &mut many[..]
    };
    httparse::Request::new(space).parse(head).is_err()
}

#[cfg(test)]
mod tests;
