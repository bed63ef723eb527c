//! One direction of a relay: from the side that sends to the side that receives.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::gateway::{frames::FrameScanner, transport::Transport};

/// Most reads in a row: the other direction, the timer and the worker's other connections have their turn then.
const READS: usize = 16;

/// Size of a worker's scratch buffer: a full TLS record (16 KiB) twice.
const SCRATCH: usize = 32 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// One direction of a relay.
pub(super) struct Direction {
    /// Bytes that the receiver did not take yet; empty but for a slow one.
    rest: Vec<u8>,
    /// How much of `rest` is written.
    written: usize,
    /// The receiver's TLS may hold bytes that are not in the socket yet.
    unflushed: bool,
    /// Where in the frames the bytes read so far end.
    pub(super) scanner: FrameScanner,
    /// The sender has ended.
    pub(super) ended: bool,
    /// The end was passed on to the receiver.
    shut: bool,
    /// The receiver takes nothing any more: what still comes is read and thrown away.
    dead: bool,
    /// A frame of ours is among what is to be written.
    inserted: bool,
    /// Bytes read.
    pub(super) bytes: u64,
    /// Whole data messages read.
    pub(super) messages: u64,
}

/// Where a direction failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// At its sender.
    Read(io::Error),
    /// At its receiver.
    Write(io::Error),
}

impl Direction {
    /// A direction whose first bytes were read already, with the handshake.
    pub(super) fn new(early: &[u8]) -> Self {
        let mut direction = Self {
            rest: early.to_vec(),
            written: 0,
            unflushed: false,
            scanner: FrameScanner::default(),
            ended: false,
            shut: false,
            dead: false,
            inserted: false,
            bytes: 0,
            messages: 0,
        };
        direction.count(early);
        direction
    }

    /// Whether one of its sides is gone.
    pub(super) fn over(&self) -> bool {
        self.ended || self.dead
    }

    /// Gives the receiver up: nothing can be written to it any more. The sender is still read, for a socket that is
    /// closed with unread bytes is reset, and what it was sent last may be lost.
    pub(super) fn give_up_receiver(&mut self) {
        self.dead = true;
        self.rest = Vec::new();
        self.written = 0;
    }

    /// Whether the sender has said Close, or just ended.
    pub(super) fn closing(&self) -> bool {
        self.ended || self.scanner.close_seen()
    }

    /// Moves bytes until one side is not ready. `Ready` once the sender has ended and the receiver was told.
    pub(super) fn pump(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Transport,
        to: &mut Transport,
    ) -> Poll<Result<(), Fault>> {
        for _ in 0..READS {
            if self.dead {
                // What it sends from now on is not waited for.
                let more = !self.ended && self.poll_discard_once(cx, from).is_ready();
                if more {
                    continue;
                }
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_write_rest(cx, to)).map_err(Fault::Write)?;
            if self.ended {
                if !self.shut {
                    ready!(Pin::new(to).poll_shutdown(cx)).map_err(Fault::Write)?;
                    self.shut = true;
                }
                return Poll::Ready(Ok(()));
            }
            ready!(BUFFER.with_borrow_mut(|buffer| self.step(cx, from, to, buffer)))?;
        }
        // The rest of the last read may still be under way to the receiver.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One read that is counted and thrown away. A failure is an end as well.
    fn poll_discard_once(&mut self, cx: &mut Context<'_>, from: &mut Transport) -> Poll<()> {
        BUFFER.with_borrow_mut(|buffer| {
            match ready!(poll_read(cx, from, buffer)) {
                Ok(bytes) if !bytes.is_empty() => self.count(bytes),
                _ => self.ended = true,
            }
            Poll::Ready(())
        })
    }

    /// One read, and as much of a write as the receiver takes.
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Transport,
        to: &mut Transport,
        buffer: &mut [u8],
    ) -> Poll<Result<(), Fault>> {
        let bytes = ready!(poll_read(cx, from, buffer)).map_err(Fault::Read)?;
        if bytes.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        self.count(bytes);
        self.unflushed = true;
        let mut sent = 0;
        while sent < bytes.len() {
            match Pin::new(&mut *to).poll_write(cx, &bytes[sent..]) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(Fault::Write(io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Write(error))),
                Poll::Pending => {
                    self.rest = bytes[sent..].to_vec();
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what the receiver did not take before, and flushes.
    fn poll_write_rest(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Transport,
    ) -> Poll<io::Result<()>> {
        while self.written < self.rest.len() {
            let count = ready!(Pin::new(&mut *to).poll_write(cx, &self.rest[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.unflushed = true;
        }
        if self.written > 0 {
            self.rest = Vec::new();
            self.written = 0;
        }
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Puts a frame of ours behind what was read so far, if that ends with a whole frame and no Close was said.
    pub(super) fn insert(&mut self, frame: Vec<u8>) {
        if self.scanner.at_boundary() && !self.closing() {
            self.rest.extend(frame);
            self.inserted = true;
        }
    }

    /// Says goodbye to `peer`, the receiver of this direction: writes what is left, then reads and throws away what
    /// it sends (`back` is the direction that it sends in) until it has said Close too. A failure
    /// ends it as well: nothing more can be said.
    pub(super) fn poll_say(
        &mut self,
        cx: &mut Context<'_>,
        peer: &mut Transport,
        back: &mut Self,
    ) -> Poll<()> {
        if self.shut || ready!(self.poll_write_rest(cx, peer)).is_err() {
            return Poll::Ready(());
        }
        let mut reads = 0;
        while self.inserted && !back.closing() {
            if reads == READS {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            reads += 1;
            ready!(back.poll_discard_once(cx, peer));
        }
        let _ = ready!(Pin::new(peer).poll_shutdown(cx));
        self.shut = true;
        Poll::Ready(())
    }

    fn count(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.messages += self.scanner.scan(bytes).messages;
    }
}

/// Reads into `buffer`; the bytes that came, none at the end.
fn poll_read<'b>(
    cx: &mut Context<'_>,
    from: &mut Transport,
    buffer: &'b mut [u8],
) -> Poll<io::Result<&'b [u8]>> {
    let mut read = ReadBuf::new(buffer);
    let result = ready!(Pin::new(from).poll_read(cx, &mut read));
    let length = read.filled().len();
    Poll::Ready(match result {
        Ok(()) => Ok(&buffer[..length]),
        // TLS without close_notify, as many clients end: the frames tell whether anything is missing.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(&[]),
        Err(error) => Err(error),
    })
}
