//! Steps of TLS handshakes take turns with everything else that a worker has to do.
//!
//! A step costs some hundred microseconds of cryptography, a message of an open connection a few. A runtime that finds a thousand
//! handshakes ready would do them one after the other, and an echo would wait behind all of them. Here they queue: in one turn of
//! the runtime, after which it looks at its sockets again, steps are done for [`BUDGET`] at most, or one. A handshake that finds
//! nobody before it costs two looks at the clock.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    convert::Infallible,
    fmt,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::yield_now};

/// How long steps are done in one turn.
const BUDGET: Duration = Duration::from_micros(100);

/// Which queue a step stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// Goes on with a handshake that we have answered before: it has cost us most already.
    Begun,
    /// A ClientHello, or the end of what never became a request.
    New,
}

/// Lets handshakes of one worker through, one step after the other.
pub(super) struct HandshakeGate {
    state: RefCell<State>,
    next_turn: Notify,
}

struct State {
    /// A step is being done, or somebody has been told to do one.
    busy: bool,
    /// How long steps have taken in this turn.
    used: Duration,
    /// When the last step ended.
    ended: Instant,
    begun: VecDeque<Rc<Waiter>>,
    new: VecDeque<Rc<Waiter>>,
}

impl fmt::Debug for HandshakeGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        let queued = state.begun.len() + state.new.len();
        f.debug_struct("HandshakeGate").field("queued", &queued).finish_non_exhaustive()
    }
}

impl State {
    /// Tells the next one in the queues that it is its turn.
    fn pass_on(&mut self) {
        loop {
            let Some(next) = self.begun.pop_front().or_else(|| self.new.pop_front()) else {
                self.busy = false;
                return;
            };
            if next.turn.get() == Turn::Waiting {
                next.turn.set(Turn::Mine);
                if let Some(waker) = next.waker.take() {
                    waker.wake();
                }
                return;
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Waiting,
    Mine,
    /// It has gone while it waited.
    Gone,
}

struct Waiter {
    turn: Cell<Turn>,
    waker: Cell<Option<Waker>>,
}

impl HandshakeGate {
    pub(super) fn new() -> Self {
        let state = State {
            busy: false,
            used: Duration::ZERO,
            ended: Instant::now(),
            begun: VecDeque::new(),
            new: VecDeque::new(),
        };
        Self { state: RefCell::new(state), next_turn: Notify::new() }
    }

    /// Waits for the turn to do a step, which lasts until the answer is dropped. Nothing may be awaited meanwhile.
    pub(super) async fn enter(&self, priority: Priority) -> Step<'_> {
        let waiter = {
            let mut state = self.state.borrow_mut();
            if !state.busy {
                let now = Instant::now();
                if now.duration_since(state.ended) >= BUDGET {
                    state.used = Duration::ZERO;
                }
                if state.used < BUDGET {
                    state.busy = true;
                    return Step { gate: self, started: now };
                }
                // Its turn is the next one.
                state.busy = true;
                self.next_turn.notify_one();
            }
            let waiter = Rc::new(Waiter { turn: Cell::new(Turn::Waiting), waker: Cell::new(None) });
            let queue = match priority {
                Priority::Begun => &mut state.begun,
                Priority::New => &mut state.new,
            };
            queue.push_back(Rc::clone(&waiter));
            waiter
        };
        Queued { gate: self, waiter }.turn().await
    }

    /// Gives turns to those that wait, for as long as it is polled.
    pub(super) async fn give_turns(&self) -> Infallible {
        loop {
            self.next_turn.notified().await;
            // The runtime looks at its sockets, and does what they have, before it comes back here.
            yield_now().await;
            let mut state = self.state.borrow_mut();
            state.used = Duration::ZERO;
            state.pass_on();
        }
    }
}

/// Somebody in a queue, who may leave.
struct Queued<'a> {
    gate: &'a HandshakeGate,
    waiter: Rc<Waiter>,
}

impl<'a> Queued<'a> {
    async fn turn(self) -> Step<'a> {
        let waiter = &self.waiter;
        let mine = poll_fn(|cx| match waiter.turn.get() {
            Turn::Mine => Poll::Ready(()),
            _ => {
                waiter.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        });
        pin!(mine).await;
        waiter.turn.set(Turn::Gone);
        Step { gate: self.gate, started: Instant::now() }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if self.waiter.turn.replace(Turn::Gone) == Turn::Mine {
            self.gate.state.borrow_mut().pass_on();
        }
    }
}

/// A step that is being done.
pub(super) struct Step<'a> {
    gate: &'a HandshakeGate,
    started: Instant,
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.borrow_mut();
        let now = Instant::now();
        state.used += now.duration_since(self.started);
        state.ended = now;
        if state.begun.is_empty() && state.new.is_empty() {
            state.busy = false;
        } else if state.used < BUDGET {
            state.pass_on();
        } else {
            self.gate.next_turn.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
