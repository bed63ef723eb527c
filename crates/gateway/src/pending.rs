//! Connections without a request: how many there may be, in all and of one client, how much memory they may hold, and who goes where
//! there are more.
//!
//! From accept to the head of its request a connection costs a stranger next to nothing, so it is counted here: once when it is
//! accepted, and again while it is kept alive between two requests. Where a limit is reached, or files run short, the connection
//! that has waited longest for the client that has most of them is ended, so that there is a place at once for who comes next.
//! One lock, taken some times in the life of a connection before its upgrade, and never by a message.

mod order;

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ipnet::IpNet;
use tokio::task::AbortHandle;

pub(super) use self::order::client_of;
use tidegate_telemetry::GatewayMetrics;

use self::order::{Order, Phase};
use super::fd_budget::FileBudget;

/// Between two log lines about connections that are ended for others.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Limits on connections without a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingLimits {
    /// Most of them; `None`: half of the files that sockets of clients may take, and no more than 16,384.
    pub connections: Option<usize>,
    /// Most of one client, which a trusted proxy is not held to; `None`: half of that.
    pub per_client: Option<usize>,
    /// Most bytes that they hold together; `None`: 64 MiB.
    pub memory: Option<usize>,
}

/// Where nothing is said: most connections, and bytes.
const MOST_CONNECTIONS: usize = 16 * 1024;
const MOST_MEMORY: usize = 64 * 1024 * 1024;

/// What a connection is taken to hold in memory, without what it has sent: measured by `benches/strangers`, rounded up.
pub(super) mod cost {
    /// A socket that is waited for.
    pub(crate) const SOCKET: usize = 1024;
    /// One within a TLS handshake.
    pub(crate) const HANDSHAKE: usize = 10 * 1024;
    /// One under TLS.
    pub(crate) const TLS: usize = 5 * 1024;
    /// One that is kept alive: hyper's state and buffer, without what that grows by.
    pub(crate) const KEPT_ALIVE: usize = 12 * 1024;
}

/// Why a connection without a request was ended for others: the label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evicted {
    Connections,
    Client,
    Files,
    Memory,
}

impl Evicted {
    const ALL: [Self; 4] = [Self::Connections, Self::Client, Self::Files, Self::Memory];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Client => "client",
            Self::Files => "files",
            Self::Memory => "memory",
        }
    }
}

/// All connections without a request.
#[derive(Debug)]
pub(super) struct PendingConnections {
    state: Mutex<State>,
    most: usize,
    per_client: usize,
    memory: usize,
    /// What one holds that hyper reads the heads of.
    in_hyper: usize,
    proxies: Vec<IpNet>,
    files: Arc<FileBudget>,
    metrics: Arc<GatewayMetrics>,
}

#[derive(Debug, Default)]
struct State {
    order: Order<Task>,
    /// Those that were told to end and are still there.
    leaving: usize,
    log: EvictionLog,
}

/// What ends a connection: its task, once there is one.
#[derive(Debug, Default)]
struct Task {
    handle: Option<AbortHandle>,
    evicted: bool,
}

/// One line from time to time says how many were ended.
#[derive(Debug, Default)]
struct EvictionLog {
    last: Option<Instant>,
    since: u64,
}

impl EvictionLog {
    /// One more. How many there were, if that is to be said now.
    fn add(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        if self.last.is_some_and(|last| now.duration_since(last) < LOG_EVERY) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

/// Whether one more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It may, now that others were told to end where that was needed.
    Free,
    /// All that there are wait for us: who comes next does so in the kernel.
    Full,
    /// All that the client may have wait for us: this one is closed, and nobody else waits for it.
    Refused,
}

impl PendingConnections {
    pub(super) fn new(
        limits: PendingLimits,
        head_bytes: usize,
        proxies: Vec<IpNet>,
        files: Arc<FileBudget>,
        metrics: Arc<GatewayMetrics>,
    ) -> Self {
        let most = limits
            .connections
            .unwrap_or_else(|| (files.for_clients() / 2).clamp(1, MOST_CONNECTIONS));
        // A rate needs a value from before the first.
        Evicted::ALL.iter().for_each(|reason| metrics.pending_evicted(reason.as_str(), 0));
        Self {
            state: Mutex::default(),
            most,
            per_client: limits.per_client.unwrap_or(most.div_ceil(2)),
            memory: limits.memory.unwrap_or(MOST_MEMORY),
            in_hyper: cost::KEPT_ALIVE + head_bytes,
            proxies,
            files,
            metrics,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|net| net.contains(&address.to_canonical()))
    }

    /// Makes room for one more of this client, by ending others where there is none.
    pub(super) fn make_room(&self, address: IpAddr) -> Room {
        let mut state = self.state();
        while state.order.count_of(address) >= self.per_client && !self.is_proxy(address) {
            if let Some(id) = state.order.of_client(address) {
                self.evict(&mut state, id, Evicted::Client);
            } else if state.order.taken_of(address) >= self.per_client {
                self.count(&mut state, Evicted::Client);
                return Room::Refused;
            } else {
                // Those that no worker has taken are let through, which are no more than fit between accept and the workers: one
                // of them is ended for the next one.
                break;
            }
        }
        loop {
            let count = state.order.count();
            let others = self.files.used().saturating_sub(count + state.leaving);
            let by_files = self.files.for_pending(others);
            let reason = match () {
                () if count >= self.most => Evicted::Connections,
                () if count >= by_files => Evicted::Files,
                () => return Room::Free,
            };
            let Some(id) = state.order.of_heaviest() else { return Room::Full };
            self.evict(&mut state, id, reason);
        }
    }

    /// Ends one for a file that is needed, unless one is about to end.
    pub(super) fn free_file(&self) -> Room {
        let mut state = self.state();
        if state.leaving == 0 {
            let Some(id) = state.order.of_heaviest() else { return Room::Full };
            self.evict(&mut state, id, Evicted::Files);
        }
        Room::Free
    }

    /// One more, which waits for a worker until it is [attached](Self::attach).
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Pending {
        let mut state = self.state();
        let id = state.order.enter(address, self.is_proxy(address), Task::default());
        state.order.hold(id, cost::SOCKET);
        self.metrics.pending_connections.inc();
        drop(state);
        Pending { all: Arc::clone(self), id, answers: AtomicU32::new(0) }
    }

    /// Gives the task of a connection, and lets it wait for its client.
    pub(super) fn attach(&self, id: usize, task: AbortHandle) {
        let mut state = self.state();
        if state.order.item(id).evicted {
            return task.abort();
        }
        state.order.item(id).handle = Some(task);
        state.order.set_phase(id, Phase::Waiting);
    }

    /// Says how many bytes one holds. Ends some where that is too much in all.
    fn hold(&self, state: &mut State, id: usize, bytes: usize) {
        state.order.hold(id, bytes);
        if state.order.held() > self.memory {
            // Some more than that, or each further byte would have to find somebody.
            for id in state.order.of_holders(self.memory / 16 * 15) {
                self.evict(state, id, Evicted::Memory);
            }
        }
    }

    fn evict(&self, state: &mut State, id: usize, reason: Evicted) {
        state.order.set_phase(id, Phase::Out);
        state.leaving += 1;
        let task = state.order.item(id);
        task.evicted = true;
        // Ends it on its own thread, and only then its place is free.
        if let Some(handle) = task.handle.take() {
            handle.abort();
        }
        self.metrics.pending_connections.dec();
        self.count(state, reason);
    }

    /// Counts one that was ended, or closed at once, and tells of it now and then.
    fn count(&self, state: &mut State, reason: Evicted) {
        let reason = reason.as_str();
        self.metrics.pending_evicted(reason, 1);
        if let Some(count) = state.log.add(Instant::now()) {
            tracing::warn!(
                reason,
                count,
                pending = state.order.count(),
                "connections that send no request are ended, those first that have waited longest for the client with most of them"
            );
        }
    }
}

/// A connection while it may have no request; forgotten when dropped.
#[derive(Debug)]
pub(super) struct Pending {
    all: Arc<PendingConnections>,
    id: usize,
    /// Answers under way: as long as there are any it is none of those without a request.
    answers: AtomicU32,
}

impl Pending {
    /// What it is attached by.
    pub(super) const fn id(&self) -> usize {
        self.id
    }

    /// It waits for the client, and holds so many bytes.
    pub(super) fn waits(&self, bytes: usize) {
        let mut state = self.all.state();
        if state.order.phase(self.id) == Phase::Out {
            return;
        }
        state.order.set_phase(self.id, Phase::Waiting);
        self.all.hold(&mut state, self.id, bytes);
    }

    /// It waits for the client with a head that hyper reads the rest of, and holds that besides so many bytes.
    pub(super) fn waits_in_hyper(&self, bytes: usize) {
        self.waits(bytes + self.all.in_hyper);
    }

    /// The client has sent something: it waits for us.
    pub(super) fn works(&self) {
        let mut state = self.all.state();
        if state.order.phase(self.id) != Phase::Out {
            state.order.set_phase(self.id, Phase::Working);
        }
    }

    /// It has a request, until the answer is dropped. What was told to end does not get so far: its task is gone.
    pub(super) fn answer(self: &Arc<Self>) -> Answering {
        if self.answers.fetch_add(1, Relaxed) == 0 {
            let mut state = self.all.state();
            if state.order.phase(self.id) != Phase::Out {
                state.order.set_phase(self.id, Phase::Out);
                self.all.metrics.pending_connections.dec();
            }
        }
        Answering(Arc::clone(self))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut state = self.all.state();
        let was = state.order.phase(self.id);
        if state.order.leave(self.id).evicted {
            state.leaving -= 1;
        } else if was != Phase::Out {
            self.all.metrics.pending_connections.dec();
        }
    }
}

/// A request of a connection that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Pending>);

impl Answering {
    /// It was an upgrade: the connection never is without a request again.
    pub(super) fn upgraded(&self) {
        self.0.answers.fetch_add(1, Relaxed);
    }
}

impl Clone for Answering {
    fn clone(&self) -> Self {
        self.0.answer()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let pending = &self.0;
        if pending.answers.fetch_sub(1, Relaxed) > 1 {
            return;
        }
        let mut state = pending.all.state();
        if !state.order.item(pending.id).evicted {
            state.order.set_phase(pending.id, Phase::Waiting);
            pending.all.metrics.pending_connections.inc();
            // Its next head is hyper's to read: as much as there may be of it counts from now on.
            pending.all.hold(&mut state, pending.id, pending.all.in_hyper);
        }
    }
}

#[cfg(test)]
mod tests;
