//! The connections of one worker, each of which can be asked to end, wherever it waits; and how many requests are under way.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
};

use super::goodbye::CloseCause;

/// What a connection is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To say goodbye.
    Close(CloseCause),
    /// To end at once.
    Cut(CloseCause),
}

/// What a worker and a connection share.
#[derive(Debug, Default)]
pub struct Session {
    request: Cell<Option<Request>>,
    waker: RefCell<Option<Waker>>,
}

impl Session {
    /// What this connection was asked last, if anything.
    pub fn request(&self) -> Option<Request> {
        self.request.get()
    }

    /// Notes whom to wake when it is asked.
    pub fn listen(&self, waker: &Waker) {
        let mut current = self.waker.borrow_mut();
        if !current.as_ref().is_some_and(|current| current.will_wake(waker)) {
            *current = Some(waker.clone());
        }
    }

    /// Asks it.
    pub fn ask(&self, request: Request) {
        self.request.set(Some(request));
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// All connections of one worker, and the number of its requests that are not answered yet.
#[derive(Debug, Default)]
pub struct Sessions {
    slots: RefCell<Slots>,
    requests: Arc<Requests>,
    /// Connections of all workers.
    open: Arc<AtomicUsize>,
}

/// The requests, in what an answer's body may hold: hyper wants those to be `Send`.
#[derive(Debug, Default)]
struct Requests {
    count: AtomicUsize,
    /// Told whenever there may be neither a connection nor a request left.
    emptied: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct Slots {
    live: Vec<Option<Rc<Session>>>,
    free: Vec<usize>,
    /// What those who come later are asked at once.
    late: Option<Request>,
}

/// A connection's entry; taken out when dropped.
#[derive(Debug)]
pub struct Entry {
    sessions: Rc<Sessions>,
    slot: usize,
    session: Rc<Session>,
}

/// A request's; counted until dropped.
#[derive(Debug)]
pub struct RequestEntry(Arc<Requests>);

impl Sessions {
    /// None yet; `open` counts those of all workers.
    pub fn new(open: Arc<AtomicUsize>) -> Self {
        Self { open, ..Self::default() }
    }

    /// Enters a connection.
    pub fn enter(self: &Rc<Self>) -> Entry {
        let session = Rc::new(Session::default());
        let mut slots = self.slots.borrow_mut();
        session.request.set(slots.late);
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
        self.open.fetch_add(1, Relaxed);
        Entry { sessions: Rc::clone(self), slot, session }
    }

    /// Enters a request.
    pub fn enter_request(&self) -> RequestEntry {
        self.requests.count.fetch_add(1, Relaxed);
        RequestEntry(Arc::clone(&self.requests))
    }

    /// How many connections there are.
    pub fn count(&self) -> usize {
        let slots = self.slots.borrow();
        slots.live.len() - slots.free.len()
    }

    /// Waits until there is neither a connection nor a request.
    pub async fn emptied(&self) {
        while self.count() > 0 || self.requests.count.load(Relaxed) > 0 {
            self.requests.emptied.notified().await;
        }
    }

    /// All connections there are now.
    pub fn live(&self) -> Vec<Rc<Session>> {
        self.slots.borrow().live.iter().flatten().cloned().collect()
    }

    /// What every connection that is entered from now on is asked at once.
    pub fn ask_late_ones(&self, request: Request) {
        self.slots.borrow_mut().late = Some(request);
    }
}

impl Entry {
    /// What the worker shares with this connection.
    pub fn session(&self) -> Rc<Session> {
        Rc::clone(&self.session)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut slots = self.sessions.slots.borrow_mut();
        slots.live[self.slot] = None;
        slots.free.push(self.slot);
        self.sessions.open.fetch_sub(1, Relaxed);
        if slots.free.len() == slots.live.len() {
            // The last one gives the memory of a busy hour back.
            slots.live = Vec::new();
            slots.free = Vec::new();
            self.sessions.requests.emptied.notify_one();
        }
    }
}

impl Drop for RequestEntry {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Relaxed);
        self.0.emptied.notify_one();
    }
}
