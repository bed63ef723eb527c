//! Steps of TLS handshakes take turns with everything else that a worker has to do.
//!
//! A step costs some hundred microseconds of cryptography, a message of an open connection a few. A runtime that finds a thousand
//! handshakes ready would do them one after the other, and an echo would wait behind all of them. Here they queue: in one turn of
//! the runtime, after which it looks at its sockets again, steps are done for [`BUDGET`] at most, or one. A handshake that finds
//! nobody before it costs two looks at the clock.
//!
//! Clients take turns with their first steps, so that a thousand hellos of one delay nobody else's. Nobody holds up the queue: a turn
//! that is not taken at once goes to the next one.

mod new_steps;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    convert::Infallible,
    fmt,
    future::poll_fn,
    net::IpAddr,
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::yield_now};

use self::new_steps::NewSteps;

/// How long steps are done in one turn.
const BUDGET: Duration = Duration::from_micros(200);
/// After so many steps of handshakes that were begun it is a new one's turn.
const BEGUN_IN_A_ROW: usize = 8;

/// Which queue a step stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// Goes on with a handshake that we have answered before: it has cost us most already.
    Begun,
    /// A ClientHello, or the end of what never became a request, of this client.
    New(IpAddr),
}

/// Lets handshakes of one worker through, one step after the other.
pub(super) struct HandshakeGate {
    state: RefCell<State>,
    next_turn: Notify,
    granted: Notify,
}

/// What happens at the gate.
enum Now {
    /// Nothing, and nobody is queued.
    Free,
    /// A step is being done.
    Step,
    /// Somebody has been told to do one.
    EstablishedConnection(Rc<Waiter>),
    /// The queue waits for the next turn of the runtime.
    NextTurn,
}

struct State {
    now: Now,
    /// How long steps have taken in this turn.
    used: Duration,
    /// When the last step ended.
    ended: Instant,
    begun: VecDeque<Rc<Waiter>>,
    /// So many of `begun` have gone since the last one of `new`.
    begun_in_a_row: usize,
    new: NewSteps,
    /// How often somebody has been told to do a step.
    grants: u64,
}

impl fmt::Debug for HandshakeGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        let queued = state.begun.len() + state.new.len();
        f.debug_struct("HandshakeGate").field("queued", &queued).finish_non_exhaustive()
    }
}

impl State {
    /// Whose turn it is.
    fn next(&mut self) -> Option<Rc<Waiter>> {
        if self.begun_in_a_row < BEGUN_IN_A_ROW
            && let Some(begun) = self.begun.pop_front()
        {
            self.begun_in_a_row += 1;
            return Some(begun);
        }
        self.begun_in_a_row = 0;
        self.new.pop().or_else(|| self.begun.pop_front())
    }

    fn queue(&mut self, priority: Priority) -> Rc<Waiter> {
        let waiter = Rc::new(Waiter { turn: Cell::new(Turn::Waiting), waker: Cell::new(None) });
        match priority {
            Priority::Begun => self.begun.push_back(Rc::clone(&waiter)),
            Priority::New(client) => self.new.push(client, Rc::clone(&waiter)),
        }
        waiter
    }

    fn nobody_queued(&self) -> bool {
        self.begun.is_empty() && self.new.len() == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Waiting,
    Mine,
    /// It was told, and did nothing: it has to queue again.
    Missed,
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
            now: Now::Free,
            used: Duration::ZERO,
            ended: Instant::now(),
            begun: VecDeque::new(),
            begun_in_a_row: 0,
            new: NewSteps::default(),
            grants: 0,
        };
        Self { state: RefCell::new(state), next_turn: Notify::new(), granted: Notify::new() }
    }

    /// Waits for the turn to do a step, which lasts until the answer is dropped. Nothing may be awaited meanwhile. `queued` is called
    /// before a wait.
    pub(super) async fn enter(&self, priority: Priority, queued: impl Fn()) -> Step<'_> {
        loop {
            let waiter = match self.begin_or_queue(priority) {
                Ok(step) => return step,
                Err(waiter) => waiter,
            };
            queued();
            if let Some(step) = (Queued { gate: self, waiter }).turn().await {
                return step;
            }
        }
    }

    fn begin_or_queue(&self, priority: Priority) -> Result<Step<'_>, Rc<Waiter>> {
        let mut state = self.state.borrow_mut();
        if matches!(state.now, Now::Free) {
            let now = Instant::now();
            if now.duration_since(state.ended) >= BUDGET {
                state.used = Duration::ZERO;
            }
            if state.used < BUDGET {
                state.now = Now::Step;
                return Ok(Step { gate: self, started: now });
            }
            self.wait_for_next_turn(&mut state);
        }
        Err(state.queue(priority))
    }

    fn wait_for_next_turn(&self, state: &mut State) {
        state.now = Now::NextTurn;
        self.next_turn.notify_one();
    }

    /// Tells the next one in the queues that it is its turn.
    fn pass_on(&self, state: &mut State) {
        while let Some(next) = state.next() {
            if next.turn.get() == Turn::Waiting {
                next.turn.set(Turn::Mine);
                if let Some(waker) = next.waker.take() {
                    waker.wake();
                }
                state.now = Now::EstablishedConnection(next);
                state.grants += 1;
                self.granted.notify_one();
                return;
            }
        }
        state.now = Now::Free;
    }

    /// Gives turns to those that wait, for as long as it is polled.
    pub(super) async fn give_turns(&self) -> Infallible {
        loop {
            self.next_turn.notified().await;
            // The runtime looks at its sockets, and does what they have, before it comes back here.
            yield_now().await;
            let mut state = self.state.borrow_mut();
            if matches!(state.now, Now::NextTurn) {
                state.used = Duration::ZERO;
                self.pass_on(&mut state);
            }
        }
    }

    /// Takes back turns that nobody has taken, for as long as it is polled: whoever was told to do a step was woken, and has had its
    /// turn of the runtime before this.
    pub(super) async fn take_turns_back(&self) -> Infallible {
        loop {
            self.granted.notified().await;
            let grants = self.state.borrow().grants;
            yield_now().await;
            let mut state = self.state.borrow_mut();
            // Of a later one this is told again.
            if state.grants == grants
                && let Now::EstablishedConnection(waiter) = &state.now
            {
                waiter.turn.set(Turn::Missed);
                self.pass_on(&mut state);
            }
        }
    }
}

/// Somebody in a queue, who may leave.
struct Queued<'a> {
    gate: &'a HandshakeGate,
    waiter: Rc<Waiter>,
}

impl<'a> Queued<'a> {
    /// Its turn. `None`: it was missed.
    async fn turn(self) -> Option<Step<'a>> {
        let waiter = &self.waiter;
        let mine = poll_fn(|cx| match waiter.turn.get() {
            Turn::Mine => Poll::Ready(true),
            Turn::Missed => Poll::Ready(false),
            Turn::Waiting | Turn::Gone => {
                waiter.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        });
        if !pin!(mine).await {
            return None;
        }
        waiter.turn.set(Turn::Gone);
        self.gate.state.borrow_mut().now = Now::Step;
        Some(Step { gate: self.gate, started: Instant::now() })
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if self.waiter.turn.replace(Turn::Gone) == Turn::Mine {
            self.gate.pass_on(&mut self.gate.state.borrow_mut());
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
        if state.nobody_queued() {
            state.now = Now::Free;
        } else if state.used < BUDGET {
            self.gate.pass_on(&mut state);
        } else {
            self.gate.wait_for_next_turn(&mut state);
        }
    }
}

#[cfg(test)]
mod tests;
