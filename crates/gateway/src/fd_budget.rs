//! The files that the data plane may take: a count of its sockets that ends before the system's limit does.
//!
//! Counting alone, nothing is opened here. The rest is for others: the admin port, the API server, and the answer to
//! clients for whose backend nothing is left.

use std::{
    io,
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire, SeqCst},
        },
    },
};

use tokio::sync::Notify;

/// Files that the data plane leaves to others, besides the admin port's connections: listeners, watches, log, reloads.
const RESERVE: usize = 48;
/// Files that only clients may take: those of clients who are told that the gateway is full.
const TELLING: usize = 16;
/// Files that connections without a request leave to those that have one, for the socket to an endpoint.
const TO_SPARE: usize = 32;

/// How many sockets the data plane has, and may have.
#[derive(Debug)]
pub(super) struct FileBudget {
    used: AtomicUsize,
    for_clients: usize,
    for_backends: usize,
    /// Told when a place is given back.
    freed: Notify,
    /// Told when at least `many` places are taken.
    many_in_use: Notify,
    many: AtomicUsize,
}

/// One socket of the data plane; gives its place back when dropped.
#[derive(Debug)]
pub(super) struct FileToken(Arc<FileBudget>);

impl FileBudget {
    /// Of a process that may have `limit` files and has `open` of them already, and leaves `admin` to the admin port. Where
    /// there are few, most are still for sockets.
    pub(super) fn new(limit: usize, open: usize, admin: usize) -> Self {
        let free = limit.saturating_sub(open);
        let for_clients = free - RESERVE.saturating_add(admin).min(free / 4);
        let for_backends = for_clients - TELLING.min(for_clients / 4);
        Self {
            used: AtomicUsize::new(0),
            for_clients,
            for_backends,
            freed: Notify::new(),
            many_in_use: Notify::new(),
            many: AtomicUsize::new(usize::MAX),
        }
    }

    /// Of this process, as it is now.
    pub(super) fn of_process(admin: usize) -> io::Result<Self> {
        let open = std::fs::read_dir("/proc/self/fd")?.count();
        Ok(Self::new(limit_of_process()?, open, admin))
    }

    /// A place for a client's socket.
    pub(super) fn client(self: &Arc<Self>) -> Option<FileToken> {
        self.take(self.for_clients)
    }

    /// A place for a socket to an endpoint.
    pub(super) fn backend(self: &Arc<Self>) -> Option<FileToken> {
        self.take(self.for_backends)
    }

    /// Places that are taken.
    pub(super) fn used(&self) -> usize {
        self.used.load(Acquire)
    }

    /// Most places that sockets of clients may take.
    pub(super) const fn for_clients(&self) -> usize {
        self.for_clients
    }

    /// Most places for connections without a request, where all others take so many: some are left to spare, and a few there are
    /// always, for clients who are told that the gateway is full.
    pub(super) fn for_pending(&self, others: usize) -> usize {
        let spare = TO_SPARE.min(self.for_backends / 8);
        let least = self.for_clients - self.for_backends;
        self.for_backends.saturating_sub(spare + others).max(least)
    }

    /// Waits until a place is given back; it may have been before.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// From now on [`Self::many_in_use`] waits until so many places are taken.
    pub(super) fn tell_from(&self, many: usize) {
        self.many.store(many, SeqCst);
        self.tell_if_many(self.used());
    }

    fn tell_if_many(&self, used: usize) {
        let many = self.many.load(SeqCst);
        // Of several that see it one tells, and a threshold that was set meanwhile stays.
        if used >= many && self.many.compare_exchange(many, usize::MAX, SeqCst, SeqCst).is_ok() {
            self.many_in_use.notify_one();
        }
    }

    /// Waits until as many places are taken as [`Self::tell_from`] says.
    pub(super) async fn many_in_use(&self) {
        self.many_in_use.notified().await;
    }

    fn take(self: &Arc<Self>, most: usize) -> Option<FileToken> {
        let more = |used| (used < most).then_some(used + 1);
        let before = self.used.fetch_update(AcqRel, Acquire, more).ok()?;
        self.tell_if_many(before + 1);
        Some(FileToken(Arc::clone(self)))
    }
}

impl Drop for FileToken {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, AcqRel);
        self.0.freed.notify_one();
    }
}

/// Files that this process may have.
pub(super) fn limit_of_process() -> io::Result<usize> {
    Ok(usize::try_from(rlimit::Resource::NOFILE.get_soft()?).unwrap_or(usize::MAX))
}

/// Whether the process (EMFILE) or the system (ENFILE) has no file left: see open(2).
pub(super) fn out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(limit: usize, open: usize) -> Arc<FileBudget> {
        Arc::new(FileBudget::new(limit, open, 0))
    }

    #[test]
    fn backends_end_before_clients_and_clients_before_the_limit() {
        let files = budget(1000, 100);
        let mut held: Vec<_> = std::iter::from_fn(|| files.backend()).collect();
        assert_eq!(held.len(), 900 - RESERVE - TELLING);
        held.extend(std::iter::from_fn(|| files.client()));
        assert_eq!(held.len(), 900 - RESERVE);
        assert!(files.client().is_none() && files.backend().is_none());
    }

    #[test]
    fn the_admin_ports_connections_have_files_of_their_own() {
        let files = Arc::new(FileBudget::new(1000, 100, 32));
        let held: Vec<_> = std::iter::from_fn(|| files.client()).collect();
        assert_eq!(held.len(), 900 - RESERVE - 32);
    }

    #[test]
    fn a_dropped_token_is_a_place_again() {
        let files = budget(1000, 100);
        let mut held: Vec<_> = std::iter::from_fn(|| files.client()).collect();
        held.pop();
        assert!(files.backend().is_none(), "the last places are for clients");
        held.push(files.client().unwrap());
        assert!(files.client().is_none());
        drop(held);
        assert!(files.backend().is_some());
    }

    #[test]
    fn connections_without_a_request_leave_places_to_others_and_have_a_few_always() {
        let files = budget(1000, 100);
        let for_backends = 900 - RESERVE - TELLING;
        assert_eq!(files.for_pending(0), for_backends - TO_SPARE);
        assert_eq!(files.for_pending(500), for_backends - TO_SPARE - 500);
        assert_eq!(files.for_pending(for_backends), TELLING);
        assert_eq!(budget(48, 16).for_pending(0), 16);
    }

    #[test]
    fn a_small_limit_still_serves_and_one_that_is_passed_does_not_overflow() {
        let files = budget(48, 16);
        assert_eq!((files.for_clients, files.for_backends), (24, 18));
        assert!(budget(20, 30).client().is_none());
        let endless = budget(usize::MAX, 30);
        assert!(endless.client().is_some() && endless.backend().is_some());
    }
}
