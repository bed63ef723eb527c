//! Peers that have vanished while something is on its way to them, on routes that have the kernel wait.
//!
//! Its own limit (`TCP_USER_TIMEOUT`) counts the time in which a healthy peer's window is closed as well, so it is off or high
//! where `writeStall` lets peers take nothing for a minute or longer. There the relay looks, as seldom as the lazy timer can do in
//! passing: not at all while nothing is on its way.

use std::{io, time::Duration};

use tidegate_table::Rule;
use tokio::time::Instant;

use super::{Phase, Relay, direction::Event};
use crate::{
    close::Side,
    socket::{self, Delivery},
    transport::Transport,
};

/// From one look to the next.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// So many in a row that find nothing but questions in vain, and the peer is gone: after 60 to 70 s, about as where the kernel
/// sees to it. One that was quiet before may be unreachable for less than that.
const LOOKS: u8 = 6;

/// When to look, and what was found so far.
pub(super) struct DeadPeerDetector {
    /// The kernel does not do it.
    needed: bool,
    /// The next look; none while nothing is on its way.
    due: Option<Instant>,
    client: Streak,
    backend: Streak,
}

/// Looks in a row that found a side to be asked in vain.
#[derive(Clone, Copy, Default)]
struct Streak(u8);

impl Streak {
    /// Adds a look. Whether the side is gone.
    fn note(&mut self, delivery: Option<Delivery>) -> bool {
        let in_vain = delivery.is_some_and(|delivery| delivery.is_in_vain(EVERY));
        self.0 = if in_vain { self.0.saturating_add(1) } else { 0 };
        self.0 >= LOOKS
    }
}

impl DeadPeerDetector {
    /// Of a connection that begins now: the 101 may be on its way.
    pub(super) fn new(rule: &Rule, now: Instant) -> Self {
        let needed = !socket::notices_vanished(rule.timeouts.write_stall);
        let due = needed.then(|| now + EVERY);
        Self { needed, due, client: Streak::default(), backend: Streak::default() }
    }

    /// When to look next.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Something is on its way to a peer. Whether that makes for a look that was not due before.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let begins = self.needed && self.due.is_none();
        if begins {
            self.due = Some(now + EVERY);
        }
        begins
    }

    /// A Ping is on its way, for whose answer a peer has so long. Where that is less than it takes here, `pongTimeout` notices.
    pub(super) fn begin_with_ping(&mut self, now: Instant, patience: Duration) {
        if patience > EVERY * (u32::from(LOOKS) + 1) {
            self.begin(now);
        }
    }

    /// Takes down what a look has found at a client and a backend. Who of them is gone.
    fn note(&mut self, now: Instant, found: [Option<Delivery>; 2]) -> [bool; 2] {
        let under_way = found.into_iter().flatten().any(Delivery::is_under_way);
        self.due = under_way.then(|| now + EVERY);
        [self.client.note(found[0]), self.backend.note(found[1])]
    }
}

impl Relay {
    /// Looks, if that is due, whether a peer has vanished. Whether one has.
    pub(super) fn mind_vanished(&mut self, now: Instant) -> bool {
        if self.vigil.lookout.due.is_none_or(|due| due > now) {
            return false;
        }
        let found = [self.client.delivery(), self.backend.delivery()];
        let [client, backend] = self.vigil.lookout.note(now, found);
        if client {
            self.lose(Side::Client);
        }
        if backend {
            self.lose(Side::Backend);
        }
        client || backend
    }

    /// A side is gone: what the kernel would have told by an error.
    fn lose(&mut self, side: Side) {
        // It would go on asking for a quarter of an hour.
        self.transport(side).abort();
        self.direction(side).ended = true;
        if self.phase == Phase::Open {
            self.handle(side, Event::ReadFault(io::ErrorKind::TimedOut.into()));
        } else {
            self.direction(side.other()).give_up_receiver();
        }
    }

    /// A side's leg.
    pub(super) const fn transport(&self, side: Side) -> &Transport {
        match side {
            Side::Client => &self.client,
            Side::Backend => &self.backend,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_table::ObjectRef;

    use super::*;

    const NOTHING: Option<Delivery> = Some(Delivery::NOTHING);

    fn lookout(stall: Option<u64>, now: Instant) -> DeadPeerDetector {
        let write_stall = stall.map(Duration::from_secs);
        let timeouts =
            tidegate_table::Timeouts { write_stall, ..tidegate_table::Timeouts::default() };
        DeadPeerDetector::new(
            &Rule { timeouts, ..Rule::with_defaults(ObjectRef::new("n", "r"), "0") },
            now,
        )
    }

    /// What so many looks find, which are all like this; whether the client and the backend were gone at each.
    fn looks(
        lookout: &mut DeadPeerDetector,
        count: u8,
        found: [Option<Delivery>; 2],
    ) -> Vec<[bool; 2]> {
        (0..count).map(|_| lookout.note(lookout.due().unwrap(), found)).collect()
    }

    #[test]
    fn the_relay_looks_where_the_kernel_does_not() {
        let now = Instant::now();
        for (stall, expected) in [
            (Some(30), false),
            (Some(59), false),
            (Some(60), true),
            (Some(600), true),
            (None, true),
        ] {
            let mut lookout = lookout(stall, now);
            assert_eq!(lookout.due(), expected.then(|| now + EVERY), "{stall:?}");
            lookout.due = None;
            assert_eq!(lookout.begin(now), expected, "{stall:?}");
            assert_eq!(lookout.due(), expected.then(|| now + EVERY), "{stall:?}");
        }
    }

    #[test]
    fn nothing_is_looked_at_while_nothing_is_on_its_way() {
        let start = Instant::now();
        let mut lookout = lookout(None, start);
        let mut now = start + EVERY;
        assert_eq!(lookout.note(now, [NOTHING, NOTHING]), [false; 2]);
        assert_eq!(lookout.due(), None);
        now += EVERY * 100;
        assert!(lookout.begin(now), "the timer has to move");
        assert!(!lookout.begin(now + EVERY / 2), "the timer stays where it is");
        assert_eq!(lookout.due(), Some(now + EVERY));
        for found in
            [[Some(Delivery::for_tests(1, 0)), NOTHING], [None, Some(Delivery::for_tests(0, 1))]]
        {
            now += EVERY;
            lookout.note(now, found);
            assert_eq!(lookout.due(), Some(now + EVERY), "{found:?}");
        }
        // Where the kernel tells nothing.
        lookout.note(now, [None, None]);
        assert_eq!(lookout.due(), None);
    }

    #[test]
    fn who_is_asked_in_vain_for_a_minute_is_gone() {
        let vanished = Some(Delivery::for_tests(5, 0));
        for (found, gone) in [
            ([vanished, NOTHING], [true, false]),
            ([NOTHING, vanished], [false, true]),
            ([vanished, vanished], [true, true]),
        ] {
            let mut lookout = lookout(None, Instant::now());
            let mut expected = vec![[false; 2]; 5];
            expected.push(gone);
            assert_eq!(looks(&mut lookout, 6, found), expected);
        }
    }

    #[test]
    fn who_answers_once_has_another_minute() {
        let (vanished, healthy) = (Delivery::for_tests(5, 0), Delivery::for_tests(0, 0));
        for answered in [healthy, Delivery::NOTHING] {
            let mut lookout = lookout(None, Instant::now());
            for _ in 0..3 {
                let gone = looks(&mut lookout, 5, [Some(vanished), Some(healthy)]);
                assert_eq!(gone, [[false; 2]; 5]);
                assert_eq!(looks(&mut lookout, 1, [Some(answered), Some(healthy)]), [[false; 2]]);
            }
        }
    }

    #[test]
    fn a_ping_is_watched_where_its_answer_may_take_longer_than_it_takes_to_notice() {
        let now = Instant::now();
        for (patience, expected) in [(20, false), (70, false), (71, true)] {
            let mut lookout = lookout(None, now);
            lookout.due = None;
            lookout.begin_with_ping(now, Duration::from_secs(patience));
            assert_eq!(lookout.due().is_some(), expected, "{patience}");
        }
    }
}
