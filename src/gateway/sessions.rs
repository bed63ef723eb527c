//! The connections of one worker, and the requests under way: each can be asked to end, wherever it waits.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Waker,
};

/// Why a connection ended: the value of the metric label `cause`, and the word in the log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCause {
    /// The client closed first.
    ClientClosed,
    /// The backend closed first.
    BackendClosed,
    /// Silent in both directions for the route's idle timeout.
    Idle,
    /// The gateway is shutting down.
    Drain,
    /// A peer reset its TCP connection, or the network did.
    Reset,
    /// TLS broke: a bad record, or an alert.
    TlsError,
}

impl CloseCause {
    /// Every cause, for tests and docs.
    pub const ALL: [Self; 6] = [
        Self::ClientClosed,
        Self::BackendClosed,
        Self::Idle,
        Self::Drain,
        Self::Reset,
        Self::TlsError,
    ];

    /// The word in metric and log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::BackendClosed => "backend_closed",
            Self::Idle => "idle",
            Self::Drain => "drain",
            Self::Reset => "reset",
            Self::TlsError => "tls_error",
        }
    }
}

/// What a worker and a connection share.
#[derive(Debug, Default)]
pub struct Session {
    asked: Cell<Option<CloseCause>>,
    waker: RefCell<Option<Waker>>,
}

impl Session {
    /// The cause for which this connection was asked to end, if it was.
    pub fn asked_to_close(&self) -> Option<CloseCause> {
        self.asked.get()
    }

    /// Notes whom to wake when it is asked.
    pub fn listen(&self, waker: &Waker) {
        let mut current = self.waker.borrow_mut();
        if !current.as_ref().is_some_and(|current| current.will_wake(waker)) {
            *current = Some(waker.clone());
        }
    }

    fn close(&self, cause: CloseCause) {
        self.asked.set(Some(cause));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// All connections of one worker, and all requests that are not answered yet.
#[derive(Debug, Default)]
pub struct Sessions {
    slots: RefCell<Slots>,
    emptied: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct Slots {
    live: Vec<Option<Rc<Session>>>,
    free: Vec<usize>,
    /// Set once the worker drains: those who come later are asked at once.
    closing: Option<CloseCause>,
}

/// A connection's entry; taken out when dropped.
#[derive(Debug)]
pub struct Entry {
    sessions: Rc<Sessions>,
    slot: usize,
    session: Rc<Session>,
}

impl Sessions {
    /// Enters a connection.
    pub fn enter(self: &Rc<Self>) -> Entry {
        let session = Rc::new(Session::default());
        let mut slots = self.slots.borrow_mut();
        session.asked.set(slots.closing);
        let slot = match slots.free.pop() {
            Some(slot) => {
                slots.live[slot] = Some(Rc::clone(&session));
                slot
            }
            None => {
                slots.live.push(Some(Rc::clone(&session)));
                slots.live.len() - 1
            }
        };
        Entry { sessions: Rc::clone(self), slot, session }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let slots = self.slots.borrow();
        slots.live.len() - slots.free.len()
    }

    /// Waits until there is none.
    pub async fn emptied(&self) {
        while self.count() > 0 {
            self.emptied.notified().await;
        }
    }

    /// Asks all to end, and those still to come.
    pub fn close_all(&self, cause: CloseCause) {
        self.slots.borrow_mut().closing = Some(cause);
        // Wakers may be run at once: nothing is borrowed meanwhile.
        let live: Vec<_> = self.slots.borrow().live.iter().flatten().cloned().collect();
        for session in live {
            session.close(cause);
        }
    }
}

impl Entry {
    /// What the worker shares with this connection.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut slots = self.sessions.slots.borrow_mut();
        slots.live[self.slot] = None;
        slots.free.push(self.slot);
        if slots.free.len() == slots.live.len() {
            // The last one gives the memory of a busy hour back.
            slots.live = Vec::new();
            slots.free = Vec::new();
            self.sessions.emptied.notify_one();
        }
    }
}
