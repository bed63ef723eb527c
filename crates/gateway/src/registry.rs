//! The connections of one worker, each of which can be asked to end, wherever it waits; and how many requests are under way.
//!
//! They stand in groups: those of one rule, hostname and endpoint, so that what a change concerns is found group by group,
//! whatever their number. Who is to end, and when, is `drain`'s to say.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
};

use tidegate_table::{OnChange, Rule};
use tokio::sync::Notify;

use super::{
    close::CloseCause,
    rebalance::{ConnectionCounts, PlaceKey, RuleEndpoint},
};

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
pub struct ConnectionHandle {
    request: Cell<Option<Request>>,
    /// Where it stands in its group.
    slot: Cell<u32>,
    /// It counts as leaving in its place.
    moving: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl ConnectionHandle {
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

/// What a connection was opened by.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The hostname of the table, or its wildcard.
    pub hostname: Arc<str>,
    /// The rule, as it was then.
    pub rule: Arc<Rule>,
    /// The endpoint.
    pub endpoint: SocketAddr,
}

impl Origin {
    /// What makes a group: rules that differ in nothing else are one rule at different times.
    fn identity(&self) -> impl Eq + '_ {
        let Rule { route, name, drain, .. } = &*self.rule;
        (self.endpoint, name, route, &self.hostname, drain)
    }

    /// Whether some change ends its connections.
    fn may_be_ended(&self) -> bool {
        let drain = self.rule.drain;
        [drain.on_route_removed, drain.on_endpoint_terminating].contains(&OnChange::Close)
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

/// Why the connections of a group are being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseDecision {
    /// The cause.
    pub cause: CloseCause,
    /// Tells one from another of the same cause.
    pub number: u64,
}

/// The connections of one origin.
#[derive(Debug)]
pub struct Group {
    origin: Origin,
    home: Rc<EndpointConnections>,
    live: RefCell<Vec<Rc<ConnectionHandle>>>,
    sentence: Cell<Option<CloseDecision>>,
}

/// One connection of a group.
pub type Member = (Rc<Group>, Rc<ConnectionHandle>);

impl Group {
    fn new(origin: Origin, home: Rc<EndpointConnections>) -> Self {
        Self { origin, home, live: RefCell::default(), sentence: Cell::default() }
    }

    /// What its connections were opened by.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Why its connections are being ended; `None`: they live on.
    pub fn sentence(&self) -> Option<CloseDecision> {
        self.sentence.get()
    }

    /// Has its connections ended, or live on.
    pub fn pass(&self, sentence: Option<CloseDecision>) {
        self.sentence.set(sentence);
    }

    /// Its connections.
    pub fn members(self: &Rc<Self>) -> Vec<Member> {
        let live = self.live.borrow();
        live.iter().map(|session| (Rc::clone(self), Rc::clone(session))).collect()
    }

    fn insert(&self, session: &Rc<ConnectionHandle>) {
        let mut live = self.live.borrow_mut();
        // A worker has no more connections than there are files.
        session.slot.set(u32::try_from(live.len()).expect("connections are fewer than 2^32"));
        live.push(Rc::clone(session));
    }

    /// Whether it was the last one.
    fn remove(&self, session: &ConnectionHandle) -> bool {
        let mut live = self.live.borrow_mut();
        let slot = session.slot.get();
        live.swap_remove(slot as usize);
        if let Some(moved) = live.get(slot as usize) {
            moved.slot.set(slot);
        }
        if live.len() < live.capacity() / 4 {
            // The memory of a busy hour is given back.
            let capacity = live.len() * 2;
            live.shrink_to(capacity);
        }
        live.is_empty()
    }
}

/// What a worker has of one place: one group or, by hostname and policy, some.
#[derive(Debug)]
struct EndpointConnections {
    place: Arc<RuleEndpoint>,
    live: Cell<usize>,
    groups: RefCell<Vec<Rc<Group>>>,
}

impl EndpointConnections {
    fn group(&self, origin: &Origin) -> Option<Rc<Group>> {
        self.groups.borrow().iter().find(|group| group.origin == *origin).cloned()
    }
}

/// The session `index` of all in some groups.
fn nth(groups: &[Rc<Group>], mut index: usize) -> Option<Rc<ConnectionHandle>> {
    groups.iter().find_map(|group| {
        let live = group.live.borrow();
        let found = live.get(index).cloned();
        index = index.saturating_sub(live.len());
        found
    })
}

/// All connections of one worker, and the number of its requests that are not answered yet.
#[derive(Debug)]
pub struct Registry {
    /// Of which worker.
    worker: usize,
    ledger: ConnectionCounts,
    homes: RefCell<HashMap<PlaceKey, Rc<EndpointConnections>>>,
    count: Cell<usize>,
    /// Groups that some change may end.
    endable: Cell<usize>,
    /// What those who come later are asked at once.
    late: Cell<Option<Request>>,
    unjudged: RefCell<Unjudged>,
    /// Told when there is something unjudged.
    news: Notify,
    requests: Arc<Requests>,
    /// Connections of all workers.
    open: Arc<AtomicUsize>,
}

/// What came since the last look at the table, and may have been admitted by an earlier one.
#[derive(Debug, Default)]
pub struct Unjudged {
    /// Groups that some change may end.
    pub groups: Vec<Rc<Group>>,
    /// Connections of groups that are being ended.
    pub members: Vec<Member>,
}

/// The requests, in what an answer's body may hold: hyper wants those to be `Send`.
#[derive(Debug, Default)]
struct Requests {
    count: AtomicUsize,
    /// Told whenever there may be neither a connection nor a request left.
    emptied: Notify,
}

/// A connection's entry; taken out when dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    sessions: Rc<Registry>,
    group: Rc<Group>,
    session: Rc<ConnectionHandle>,
}

/// A request's; counted until dropped.
#[derive(Debug)]
pub struct RequestEntry(Arc<Requests>);

impl Registry {
    /// None yet of this worker; `ledger` and `open` count those of all.
    pub fn new(worker: usize, ledger: ConnectionCounts, open: Arc<AtomicUsize>) -> Self {
        Self {
            worker,
            ledger,
            homes: RefCell::default(),
            count: Cell::default(),
            endable: Cell::default(),
            late: Cell::default(),
            unjudged: RefCell::default(),
            news: Notify::new(),
            requests: Arc::default(),
            open,
        }
    }

    /// Enters a connection.
    pub fn enter(self: &Rc<Self>, origin: Origin) -> ConnectionGuard {
        let session = Rc::new(ConnectionHandle::default());
        session.request.set(self.late.get());
        let home = self.home(&origin);
        let known = home.group(&origin);
        let group = known.unwrap_or_else(|| self.open_group(origin, &home));
        group.insert(&session);
        home.live.set(home.live.get() + 1);
        home.place.set(self.worker, home.live.get());
        if group.sentence().is_some() {
            self.unjudged.borrow_mut().members.push((Rc::clone(&group), Rc::clone(&session)));
            self.news.notify_one();
        }
        self.count.set(self.count.get() + 1);
        self.open.fetch_add(1, Relaxed);
        ConnectionGuard { sessions: Rc::clone(self), group, session }
    }

    fn home(&self, origin: &Origin) -> Rc<EndpointConnections> {
        let key = PlaceKey { rule: Arc::clone(&origin.rule), endpoint: origin.endpoint };
        if let Some(home) = self.homes.borrow().get(&key) {
            return Rc::clone(home);
        }
        let place = self.ledger.place(key.clone());
        let home = Rc::new(EndpointConnections {
            place,
            live: Cell::default(),
            groups: RefCell::default(),
        });
        self.homes.borrow_mut().insert(key, Rc::clone(&home));
        home
    }

    fn open_group(&self, origin: Origin, home: &Rc<EndpointConnections>) -> Rc<Group> {
        let may_be_ended = origin.may_be_ended();
        let group = Rc::new(Group::new(origin, Rc::clone(home)));
        if may_be_ended {
            self.endable.set(self.endable.get() + 1);
            self.unjudged.borrow_mut().groups.push(Rc::clone(&group));
            self.news.notify_one();
        }
        home.groups.borrow_mut().push(Rc::clone(&group));
        group
    }

    fn close_group(&self, group: &Rc<Group>) {
        let home = &group.home;
        home.groups.borrow_mut().retain(|other| !Rc::ptr_eq(other, group));
        if group.origin.may_be_ended() {
            self.endable.set(self.endable.get() - 1);
        }
        if home.groups.borrow().is_empty() {
            let mut homes = self.homes.borrow_mut();
            homes.remove(home.place.key());
            if homes.len() < homes.capacity() / 8 {
                homes.shrink_to_fit();
            }
        }
    }

    /// Tells one connection of a place, at random, to go elsewhere. Whether there was one that had not been asked anything.
    pub fn move_one(&self, place: &RuleEndpoint, random: &mut fastrand::Rng) -> bool {
        let homes = self.homes.borrow();
        let Some(home) = homes.get(place.key()) else { return false };
        let groups = home.groups.borrow();
        let count = home.live.get();
        let start = random.usize(..count.max(1));
        let free = |session: &Rc<ConnectionHandle>| session.request().is_none();
        let mut candidates = (0..count).filter_map(|step| nth(&groups, (start + step) % count));
        let Some(session) = candidates.find(free) else { return false };
        session.moving.set(true);
        session.ask(Request::Close(CloseCause::Rebalance));
        true
    }

    /// Enters a request.
    pub fn enter_request(&self) -> RequestEntry {
        self.requests.count.fetch_add(1, Relaxed);
        RequestEntry(Arc::clone(&self.requests))
    }

    /// How many connections there are.
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// How many requests there are.
    pub fn requests(&self) -> usize {
        self.requests.count.load(Relaxed)
    }

    /// Waits until there is neither a connection nor a request.
    pub async fn emptied(&self) {
        while self.count() > 0 || self.requests() > 0 {
            self.requests.emptied.notified().await;
        }
    }

    /// All connections there are now.
    pub fn live(&self) -> Vec<Rc<ConnectionHandle>> {
        let mut all = Vec::with_capacity(self.count());
        for home in self.homes.borrow().values() {
            for group in home.groups.borrow().iter() {
                all.extend(group.live.borrow().iter().cloned());
            }
        }
        all
    }

    /// The groups that some change may end. Without any this looks at none.
    pub fn endable(&self) -> Vec<Rc<Group>> {
        if self.endable.get() == 0 {
            return Vec::new();
        }
        let mut endable = Vec::with_capacity(self.endable.get());
        for home in self.homes.borrow().values() {
            let groups = home.groups.borrow();
            endable.extend(groups.iter().filter(|group| group.origin.may_be_ended()).cloned());
        }
        endable
    }

    /// Waits for something unjudged.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Takes what came since the last call.
    pub fn take_unjudged(&self) -> Unjudged {
        self.unjudged.take()
    }

    /// What every connection that is entered from now on is asked at once.
    pub fn ask_late_ones(&self, request: Request) {
        self.late.set(Some(request));
    }
}

impl ConnectionGuard {
    /// What the worker shares with this connection.
    pub fn session(&self) -> Rc<ConnectionHandle> {
        Rc::clone(&self.session)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let sessions = &self.sessions;
        let home = &self.group.home;
        home.live.set(home.live.get() - 1);
        home.place.set(sessions.worker, home.live.get());
        if self.session.moving.get() {
            home.place.end_leaving();
        }
        if self.group.remove(&self.session) {
            sessions.close_group(&self.group);
        }
        sessions.count.set(sessions.count.get() - 1);
        sessions.open.fetch_sub(1, Relaxed);
        if sessions.count.get() == 0 {
            sessions.requests.emptied.notify_one();
        }
    }
}

impl Drop for RequestEntry {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Relaxed);
        self.0.emptied.notify_one();
    }
}

#[cfg(test)]
mod tests;
