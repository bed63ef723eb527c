//! The head of a connection's first request, until it is whole: hyper is made only then.
//!
//! What hyper holds for a connection, its state and a buffer that grows in powers of two, would be held for everybody who has sent
//! a byte, or none. Here it is what has come, and of a silent client nothing. All that is looked for is the end; what a head says,
//! and how one that is wrong is answered, is hyper's to say.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

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

/// What of a head the client has to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// All of it.
    Head,
    /// The rest.
    Rest,
}

/// Reads until the head is whole, or is `most` bytes long, or wrong already. `waits` is called once before it waits for each of
/// [`Awaited`].
pub(super) fn read<'a, T: AsyncRead + Unpin>(
    transport: &'a mut T,
    pending: &'a Pending,
    base: usize,
    (most, headers): (usize, usize),
    waits: impl Fn(&mut T, Awaited) + Unpin + 'a,
) -> impl Future<Output = io::Result<Head>> {
    let (kept, scan) = (Kept::default(), Scan::default());
    Reading { transport, pending, base, most, headers, waits, kept, scan, told: None }
}

/// Written out, for an async function would hold much of it twice, and a stranger can have it held for thousands.
struct Reading<'a, T, W> {
    transport: &'a mut T,
    pending: &'a Pending,
    base: usize,
    most: usize,
    headers: usize,
    waits: W,
    kept: Kept,
    scan: Scan,
    told: Option<Awaited>,
}

impl<T: AsyncRead + Unpin, W: Fn(&mut T, Awaited) + Unpin> Future for Reading<'_, T, W> {
    type Output = io::Result<Head>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if let Some(head) = ready!(HEADS.with_borrow_mut(|buffer| this.poll_read(buffer, cx)))?
            {
                return Poll::Ready(Ok(head));
            }
            this.pending.waits(this.base + cost::SOCKET + this.kept.capacity());
        }
    }
}

impl<T: AsyncRead + Unpin, W: Fn(&mut T, Awaited)> Reading<'_, T, W> {
    /// Reads once. `None`: more is needed.
    fn poll_read(
        &mut self,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Head>>> {
        let before = self.kept.len();
        let mut read = ReadBuf::new(&mut buffer[before..]);
        let polled = Pin::new(&mut *self.transport).poll_read(cx, &mut read);
        let awaited = if before == 0 { Awaited::Head } else { Awaited::Rest };
        if polled.is_pending() && self.told != Some(awaited) {
            (self.waits)(&mut *self.transport, awaited);
            self.told = Some(awaited);
        }
        ready!(polled)?;
        let length = before + read.filled().len();
        if length == before {
            return Poll::Ready(Ok(Some(Head::Ended)));
        }
        self.kept.copy_to(&mut buffer[..before]);
        let head = &buffer[..length];
        let progress = self.scan.progress(head, self.headers);
        Poll::Ready(Ok(match progress {
            Progress::Whole => Some(Head::Whole(Bytes::copy_from_slice(head))),
            Progress::Partial if length < self.most.min(BUFFER) => {
                self.kept.push(&buffer[before..length]);
                None
            }
            Progress::Partial | Progress::Wrong => Some(Head::Part(Bytes::copy_from_slice(head))),
        }))
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
