//! One direction of a relay: from the side that sends to the side that receives.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    backlog::{Receiver, Rest, most_left},
    rates::SendRate,
};
use crate::{
    close::{CloseCode, ClosePayload},
    frame_filter::{Finding, FrameFilter},
    frames::{self, Allowance, Role},
    transport::Transport,
};

/// Most reads in a row: the other direction, the timer and the worker's other connections have their turn then.
const READS: usize = 16;

/// Most frames that are looked at in one go, so that a read full of tiny ones is not the work of sixteen.
const FRAMES: u32 = 2048;

/// Size of a worker's scratch buffer: four full TLS records (16 KiB).
const SCRATCH: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// Something that the relay has to decide about.
#[derive(Debug)]
pub(super) enum Event {
    /// The sender has ended, with or without having said Close.
    Ended,
    /// The filter found what ends the direction.
    Found(Finding),
    /// The sender's socket failed.
    ReadFault(io::Error),
    /// The receiver's socket failed.
    WriteFault(io::Error),
}

/// What still passes.
#[derive(Debug, PartialEq, Eq)]
enum Passing {
    /// Everything.
    All,
    /// Everything until the sender says Close, or ends; then the words follow, in place of its own.
    ToEnd(Box<ClosePayload>),
    /// What belongs to the frame that is under way; then the words follow.
    ToBoundary(Option<Box<ClosePayload>>),
    /// Nothing: the sender is only listened to for its Close frame.
    Nothing,
}

/// One direction of a relay.
pub(super) struct Direction {
    /// What frames of ours look like that go to the receiver.
    role: Role,
    pub(super) filter: FrameFilter,
    passing: Passing,
    /// Bytes that the receiver did not take yet; none but for a slow one.
    rest: Rest,
    /// Since when it counts how much the receiver takes of what waits for it.
    pub(super) stalled: Option<Instant>,
    /// How many bytes waited for it then, here and in the kernel.
    backlog: usize,
    /// A Ping of ours is to go to the receiver, at the next boundary and behind what waits.
    ping: Option<[u8; 8]>,
    /// The receiver's TLS may hold bytes that are not in the socket yet.
    unflushed: bool,
    /// What the sender sends is not even looked at any more.
    deaf: bool,
    /// The sender has ended.
    pub(super) ended: bool,
    /// The end was passed on to the receiver.
    shut: bool,
    /// The receiver takes nothing any more: what still comes is read and thrown away.
    dead: bool,
    /// The sender was heard since this was last cleared.
    pub(super) heard: bool,
    /// The answer to our ping came since this was last cleared.
    pub(super) answered: bool,
    /// The code of the Close frame that the sender sent.
    pub(super) close: Option<CloseCode>,
    /// That Close frame went on to the receiver.
    close_passed: bool,
    /// The code of the Close frame that we sent to the receiver.
    pub(super) said: Option<CloseCode>,
    /// Reads were used up: there may be more at once.
    busy: bool,
    /// So much more may pass.
    pub(super) allowance: Allowance,
    /// How fast the sender sends; counted only where it is fast.
    pub(super) rate: Option<Box<SendRate>>,
    /// Bytes passed.
    pub(super) bytes: u64,
    /// Data messages passed.
    pub(super) messages: u64,
}

impl Direction {
    /// A direction in which `role` sends.
    pub(super) fn new(role: Role, filter: FrameFilter, allowance: Allowance) -> Self {
        Self {
            role,
            filter,
            passing: Passing::All,
            rest: Rest::default(),
            stalled: None,
            backlog: 0,
            ping: None,
            unflushed: false,
            deaf: false,
            ended: false,
            shut: false,
            dead: false,
            heard: false,
            answered: false,
            close: None,
            close_passed: false,
            said: None,
            busy: false,
            allowance,
            rate: None,
            bytes: 0,
            messages: 0,
        }
    }

    /// Whether the sender will say nothing more that matters: it has said Close, or has ended.
    pub(super) fn closing(&self) -> bool {
        self.ended || self.close.is_some()
    }

    /// Whether the receiver was told by a Close frame that it is over, the sender's or ours.
    fn told(&self) -> bool {
        self.told_code().is_some()
    }

    /// The code that the receiver was told: ours, or the sender's.
    pub(super) fn told_code(&self) -> Option<CloseCode> {
        self.said.or(self.close.filter(|_| self.close_passed))
    }

    /// Whether nothing is left to do in it: nothing more goes to the receiver, and the sender has said Close, which is waited
    /// for even if it goes nowhere, or has ended. One that is not listened to has to end.
    pub(super) fn over(&self) -> bool {
        let sent = if self.deaf { self.ended } else { self.closing() };
        sent && (self.shut || self.dead)
    }

    /// Whether all that the sender sends still passes.
    pub(super) fn is_passing(&self) -> bool {
        self.passing == Passing::All
    }

    /// Whether the receiver was given up.
    pub(super) const fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whether the sender is not listened to any more.
    pub(super) const fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Whether something waits for tokens.
    pub(super) fn is_throttled(&self) -> bool {
        self.filter.waits_for().is_some_and(|scarce| self.allowance.lacks(scarce))
    }

    /// Whether all that the sender has begun is whole, or could go on at once: it does not wait, nor will it.
    pub(super) fn is_at_rest(&self) -> bool {
        let Allowance { messages, frames } = self.allowance;
        self.filter.at_boundary() || (messages > 0 && frames > 0)
    }

    /// Looks whether a receiver that is behind has taken enough for so much time, and if so lets that begin anew. A byte now and then
    /// is not enough.
    pub(super) fn forgive_stall(&mut self, to: &Transport, time: Duration, now: Instant) {
        if self.stalled.is_none() {
            return;
        }
        let backlog = self.rest.len() + to.outstanding();
        if backlog < self.backlog && backlog <= most_left(self.backlog, time) {
            self.stalled = Some(now);
            self.backlog = backlog;
        }
    }

    /// Whether there may be more of the sender at once, or something waits for the receiver.
    pub(super) fn is_under_way(&self) -> bool {
        self.busy || self.has_backlog()
    }

    /// Whether the sender is not read for now: for the receiver's sake, or for want of tokens.
    pub(super) fn is_held_up(&self) -> bool {
        self.stalled.is_some() || self.is_throttled()
    }

    /// Whether bytes, or a Ping of ours, wait for the receiver.
    pub(super) fn has_backlog(&self) -> bool {
        self.unflushed || self.ping.is_some() || !self.rest.is_empty()
    }

    /// Gives the receiver up: nothing can be written to it any more. The sender is still read, for a socket that is
    /// closed with unread bytes is reset, and what it was sent last may be lost.
    pub(super) fn give_up_receiver(&mut self) {
        self.dead = true;
        self.passing = Passing::Nothing;
        self.rest = Rest::default();
        self.stalled = None;
    }

    /// Stops looking at what the sender sends: it makes no sense.
    pub(super) fn turn_deaf(&mut self) {
        self.deaf = true;
        self.filter.finish();
    }

    /// Lets the frame that is under way end, says `words`, and passes nothing after that. Whether it has not been finished
    /// before.
    pub(super) fn finish(&mut self, words: Option<ClosePayload>) -> bool {
        if self.passing != Passing::All || self.dead {
            return false;
        }
        self.ping = None;
        self.passing = Passing::ToBoundary(words.map(Box::new));
        if self.filter.at_boundary() {
            self.say();
        }
        true
    }

    /// Lets the sender end what it is saying, and says `words` after that, or when [`Self::interrupt`] is called.
    pub(super) fn finish_after_sender(&mut self, words: ClosePayload) {
        if self.passing == Passing::All && !self.closing() {
            self.ping = None;
            self.filter.swallow_close();
            self.passing = Passing::ToEnd(Box::new(words));
        } else {
            self.finish(Some(words));
        }
    }

    /// Waits for the sender no longer, if it was waited for.
    pub(super) fn interrupt(&mut self) -> bool {
        if !matches!(self.passing, Passing::ToEnd(_)) {
            return false;
        }
        if let Passing::ToEnd(words) = std::mem::replace(&mut self.passing, Passing::Nothing) {
            self.passing = Passing::ToBoundary(Some(words));
        }
        if self.filter.at_boundary() {
            self.say();
        }
        true
    }

    /// Sends a Ping of ours to the receiver, as soon as it may.
    pub(super) fn send_ping(&mut self, payload: [u8; 8]) {
        if self.passing != Passing::All || self.told() || self.dead {
            return;
        }
        // One at most waits: a side that takes nothing may be pinged for as long as it likes.
        self.ping = Some(payload);
        self.push_ping();
    }

    /// Puts our Ping behind what has gone out, if a frame may follow that.
    fn push_ping(&mut self) {
        if self.rest.is_empty()
            && self.filter.at_boundary()
            && let Some(payload) = self.ping.take().filter(|_| !self.told())
        {
            self.rest.push(&frames::ping_frame(self.role, &payload));
        }
    }

    /// Puts what is to be said behind what waits.
    fn say(&mut self) {
        if !matches!(self.passing, Passing::ToBoundary(_)) {
            return;
        }
        let passing = std::mem::replace(&mut self.passing, Passing::Nothing);
        // Words after a Close frame would make no sense to the receiver.
        if let Passing::ToBoundary(Some(words)) = passing
            && !self.told()
        {
            self.rest.push(&frames::close_frame(self.role, words.code.0, words.reason));
            self.said = Some(words.code);
        }
    }

    /// Moves bytes until one side is not ready.
    pub(super) fn pump(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Transport,
        to: &mut Transport,
        receiver: Receiver,
    ) -> Poll<Event> {
        self.busy = false;
        for _ in 0..READS {
            let blocked = match self.poll_write_out(cx, to, receiver) {
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(error)) => return Poll::Ready(Event::WriteFault(error)),
                Poll::Pending => true,
            };
            if self.ended || (blocked && self.passing != Passing::Nothing) {
                return Poll::Pending;
            }
            if let Some(event) =
                ready!(BUFFER.with_borrow_mut(|buffer| self.step(cx, from, to, buffer)))
            {
                return Poll::Ready(event);
            }
        }
        // The rest of the last read may still be under way to the receiver.
        self.busy = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what waits for the receiver, and shuts it where nothing more will come.
    fn poll_write_out(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Transport,
        receiver: Receiver,
    ) -> Poll<io::Result<()>> {
        if self.dead || self.shut {
            return Poll::Ready(Ok(()));
        }
        let result = self.poll_write_rest(cx, to);
        if result.is_pending() {
            // Only a slow receiver costs a look at the clock.
            if self.stalled.is_none() {
                self.stalled = Some(Instant::now());
                self.backlog = self.rest.len() + to.outstanding();
            }
            return Poll::Pending;
        }
        self.stalled = None;
        ready!(result)?;
        if self.ping.is_some() {
            self.push_ping();
            ready!(self.poll_write_rest(cx, to))?;
        }
        // A server ends the connection once both have said Close (RFC 6455 §7.1.1), which we are to the client. The backend is
        // one to us: told by a Close frame, it is waited for, since whose end comes first keeps the port pair occupied for
        // a while, and the ports towards it are ours.
        let done = match self.passing {
            Passing::Nothing => true,
            Passing::All => self.close.is_some(),
            Passing::ToEnd(_) | Passing::ToBoundary(_) => false,
        };
        let shut = match self.role {
            Role::Client if self.told() => receiver.ended,
            _ => self.ended || (done && receiver.answered),
        };
        if shut {
            ready!(Pin::new(to).poll_shutdown(cx))?;
            self.shut = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what the receiver did not take before, and flushes.
    fn poll_write_rest(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Transport,
    ) -> Poll<io::Result<()>> {
        if let Some(waiting) = &mut self.rest.0 {
            while waiting.written < waiting.bytes.len() {
                let left = &waiting.bytes[waiting.written..];
                let count = ready!(Pin::new(&mut *to).poll_write(cx, left))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                waiting.written += count;
                self.unflushed = true;
            }
            self.rest = Rest::default();
        }
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// One read, and as much of a write as the receiver takes.
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Transport,
        to: &mut Transport,
        buffer: &mut [u8],
    ) -> Poll<Option<Event>> {
        let held = self.filter.held().len();
        let mut length = held;
        if !self.filter.ripe() {
            let mut read = ReadBuf::new(&mut buffer[held..]);
            match ready!(Pin::new(from).poll_read(cx, &mut read)) {
                Ok(()) => {}
                // TLS without close_notify, as many clients end: the frames tell whether anything is missing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Some(Event::ReadFault(error)));
                }
            }
            let count = read.filled().len();
            if count == 0 {
                self.ended = true;
                return Poll::Ready(Some(Event::Ended));
            }
            length += count;
            self.heard = true;
        } else if self.is_throttled() {
            return Poll::Pending;
        }
        buffer[..held].copy_from_slice(self.filter.held());
        let Allowance { messages, frames } = self.allowance;
        let allowance = Allowance { messages, frames: frames.min(FRAMES) };
        let filtered = self.filter.apply(&mut buffer[..length], allowance);
        self.allowance = self.allowance.less(filtered.messages, filtered.frames);
        self.answered |= filtered.answered;
        if let Some(Finding::Close(code)) = filtered.finding {
            self.close = Some(code);
            // It is the last that passes; where the words follow at a boundary, that is behind it.
            self.close_passed = !self.filter.swallows_close() && self.passing != Passing::Nothing;
        }
        self.pass(cx, to, &buffer[..filtered.passed], filtered.boundary, filtered.messages)
            .map_or_else(
                |error| Poll::Ready(Some(Event::WriteFault(error))),
                |()| Poll::Ready(filtered.finding.map(Event::Found)),
            )
    }

    /// Passes bytes on to the receiver, with a frame of ours in between where one is due.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Transport,
        bytes: &[u8],
        boundary: Option<usize>,
        messages: u32,
    ) -> io::Result<()> {
        let mut bytes = bytes;
        let mut behind: &[u8] = &[];
        match (&self.passing, boundary) {
            (Passing::Nothing, _) => return Ok(()),
            (Passing::ToBoundary(_), Some(boundary)) => bytes = &bytes[..boundary],
            (Passing::All, Some(boundary)) if self.ping.is_some() => {
                (bytes, behind) = bytes.split_at(boundary);
            }
            _ => {}
        }
        self.bytes += (bytes.len() + behind.len()) as u64;
        self.messages += u64::from(messages);
        let mut sent = 0;
        while sent < bytes.len() {
            self.unflushed = true;
            match Pin::new(&mut *to).poll_write(cx, &bytes[sent..]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.rest.push(&bytes[sent..]);
                    break;
                }
            }
        }
        if boundary.is_some() {
            // No words of ours follow a Close frame.
            if let Some(payload) = self.ping.take().filter(|_| !self.told()) {
                self.rest.push(&frames::ping_frame(self.role, &payload));
            }
            self.rest.push(behind);
            self.say();
        }
        Ok(())
    }
}
