//! Who is connected to the admin port, and who has to go where all places are taken.
//!
//! Whoever comes is let in. In a full house the one that has been idle longest leaves, or, where nobody is, the one that has taken its
//! answer longest: a prober sends its request as it comes, and is never kept out by those who send none or do not read.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

/// Large answers under way at once. What is rendered for them is all that they may hold.
const MOST_LARGE: usize = 4;
/// How long a large answer is left alone where another one waits for its place.
const UNDISTURBED: Duration = Duration::from_secs(1);

/// The connections of the admin port.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// By number, so by age.
    connections: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    state: State,
    /// Absent for the moment between accept and start.
    task: Option<AbortHandle>,
}

/// What a connection is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has been asked, or all was answered.
    Idle,
    /// An answer goes out that fits into the kernel's buffers.
    Small,
    /// One that its reader has to take.
    Large(Instant),
}

/// A connection's place; it is free once this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    all: Arc<Connections>,
    number: u64,
}

/// The right to a large answer.
#[derive(Debug)]
pub(super) struct Large(Arc<Place>);

impl Connections {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), open: Mutex::default() })
    }

    /// A place for one who has just come.
    pub(super) fn enter(self: &Arc<Self>) -> Arc<Place> {
        let mut open = self.open();
        while open.connections.len() >= self.most {
            let idle = open.connections.iter().find(|(_, one)| one.state == State::Idle);
            let Some(&number) = idle.or(open.connections.iter().next()).map(|(number, _)| number)
            else {
                break;
            };
            open.end(number);
        }
        let number = open.next;
        open.next += 1;
        open.connections.insert(number, Connection { state: State::Idle, task: None });
        Arc::new(Place { all: Arc::clone(self), number })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Whole after each step: a panic of another thread leaves nothing half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn end(&mut self, number: u64) {
        if let Some(task) = self.connections.remove(&number).and_then(|one| one.task) {
            task.abort();
        }
    }
}

impl Place {
    /// Which task to end when the place is needed.
    pub(super) fn belongs_to(&self, task: AbortHandle) {
        match self.all.open().connections.get_mut(&self.number) {
            Some(connection) => connection.task = Some(task),
            // It was needed meanwhile.
            None => task.abort(),
        }
    }

    /// A request has come.
    pub(super) fn asked(&self) {
        self.set(State::Small);
    }

    /// It was answered.
    pub(super) fn answered(&self) {
        self.set(State::Idle);
    }

    /// The right to a large answer; none while as many as there may be have just begun.
    pub(super) fn large(self: &Arc<Self>, now: Instant) -> Option<Large> {
        let mut open = self.all.open();
        let large = open.connections.iter().filter_map(|(number, one)| match one.state {
            State::Large(since) => Some((since, *number)),
            _ => None,
        });
        if large.clone().count() >= MOST_LARGE {
            let (since, oldest) = large.min()?;
            if now.saturating_duration_since(since) < UNDISTURBED {
                return None;
            }
            open.end(oldest);
        }
        open.connections.get_mut(&self.number)?.state = State::Large(now);
        drop(open);
        Some(Large(Arc::clone(self)))
    }

    fn set(&self, state: State) {
        if let Some(connection) = self.all.open().connections.get_mut(&self.number) {
            connection.state = state;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.open().connections.remove(&self.number);
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        self.0.answered();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(all: &Connections) -> Vec<u64> {
        all.open().connections.keys().copied().collect()
    }

    #[test]
    fn the_oldest_idle_one_goes_and_else_the_oldest() {
        let all = Connections::new(3);
        let places: Vec<_> = (0..3).map(|_| all.enter()).collect();
        places[0].asked();
        let _third = all.enter();
        assert_eq!(numbers(&all), [0, 2, 3]);
        places[2].asked();
        _third.asked();
        let _fourth = all.enter();
        assert_eq!(numbers(&all), [2, 3, 4]);
        places[2].answered();
        drop(places);
        assert_eq!(numbers(&all), [3, 4]);
    }

    #[test]
    fn large_answers_are_few_and_the_one_that_takes_longest_makes_room() {
        let all = Connections::new(9);
        let now = Instant::now();
        let places: Vec<_> = (0..6).map(|_| all.enter()).collect();
        let mut large: Vec<_> =
            places[..MOST_LARGE].iter().map(|one| one.large(now).unwrap()).collect();
        assert!(places[4].large(now).is_none());
        drop(large.pop());
        large.push(places[4].large(now).unwrap());
        assert!(places[5].large(now + UNDISTURBED / 2).is_none());
        large.push(places[5].large(now + UNDISTURBED).unwrap());
        assert_eq!(numbers(&all), [1, 2, 3, 4, 5]);
    }
}
