//! Time in a relay: what is due when, looked at by one lazy timer.
//!
//! A message moves instants, never the timer: it fires at the earliest instant that was due when it was set, looks what is due by
//! now, and is set anew. Only what comes due sooner than that (a receiver that stalls, a goodbye) moves it forward.

use std::{
    future::Future,
    task::{Context, Poll, ready},
    time::Duration,
};

use tidegate_table::Rule;
use tokio::time::{Instant, sleep_until};

use super::{
    Phase, Relay,
    dead_peer::{self, DeadPeerDetector},
    direction::Direction,
    rates::SendLimits,
};
use crate::{
    close::{CloseCause, Side, answer},
    frames::Scarce,
};

/// When the two sides were last heard of.
pub(super) struct ConnectionTimers {
    /// Something passed in either direction.
    active: Instant,
    client: PeerLiveness,
    backend: PeerLiveness,
    /// The route's `maxDuration`, jitter taken off.
    expires: Option<Instant>,
    pub(super) lookout: DeadPeerDetector,
    /// Something is due sooner than the timer expects: the next Ping, where it waited for `pongTimeout` and the last was answered, or
    /// a look for peers that have vanished, since something passed.
    sooner: bool,
}

/// What is known of one side's being alive.
#[derive(Clone, Copy)]
struct PeerLiveness {
    /// It sent something.
    heard: Instant,
    /// When it was sent a Ping that is not answered yet.
    pinged: Option<Instant>,
    /// Nothing was heard of it since that Ping.
    silent: bool,
    /// That Ping, or its answer, was held up when the answer was due.
    held_up: bool,
}

impl ConnectionTimers {
    /// A connection's that begins now. `random` is in 0..1.
    pub(super) fn new(rule: &Rule, now: Instant, random: f64) -> Self {
        let watch = PeerLiveness { heard: now, pinged: None, silent: false, held_up: false };
        let cut = f64::from(rule.timeouts.max_duration_jitter) / 100.0 * random;
        let expires = rule.timeouts.max_duration.map(|limit| now + limit.mul_f64(1.0 - cut));
        let lookout = DeadPeerDetector::new(rule, now);
        Self { active: now, client: watch, backend: watch, expires, lookout, sooner: false }
    }

    fn of(&mut self, side: Side) -> &mut PeerLiveness {
        match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        }
    }
}

impl Relay {
    /// Notes what was heard, and what passed since there were so many bytes. Looks at the clock only if there was something.
    /// Whether a message that was held back may pass now.
    pub(super) fn note_signs_of_life(&mut self, bytes: u64) -> bool {
        let passed = self.up.bytes + self.down.bytes != bytes;
        if !(passed || self.up.heard || self.down.heard) {
            return false;
        }
        let now = Instant::now();
        if passed {
            self.vigil.active = now;
            self.vigil.sooner |= self.vigil.lookout.begin(now);
        }
        for side in [Side::Client, Side::Backend] {
            let direction = self.direction(side);
            let (heard, answered) = (direction.heard, direction.answered);
            (direction.heard, direction.answered) = (false, false);
            let watch = self.vigil.of(side);
            if heard {
                watch.heard = now;
                let was_silent = std::mem::take(&mut watch.silent);
                self.vigil.sooner |= was_silent;
            }
            let watch = self.vigil.of(side);
            if answered && let Some(sent) = watch.pinged.take() {
                let rtt = match side {
                    Side::Client => &self.metrics.client_ping_rtt,
                    Side::Backend => &self.metrics.backend_ping_rtt,
                };
                rtt.observe((now - sent).as_secs_f64());
            }
        }
        self.mind_rates(now)
    }

    /// Gives tokens, and notes who wants more than there are. Whether something that was held back may pass now.
    fn mind_rates(&mut self, now: Instant) -> bool {
        self.mind_rate(Side::Client, now) | self.mind_rate(Side::Backend, now)
    }

    fn mind_rate(&mut self, side: Side, now: Instant) -> bool {
        let mut limits = SendLimits::of(&self.rule.limits, side);
        if self.phase != Phase::Open {
            limits = limits.without_messages();
        }
        self.direction(side).mind_rate(limits, now)
    }

    /// Lets all messages pass: on a connection that ends, the client's Close frame may wait behind them.
    pub(super) fn lift_message_limit(&mut self) {
        self.up.allowance.messages = u32::MAX;
        if let Some(rate) = &mut self.up.rate {
            rate.lift_messages();
        }
    }

    /// When something of a direction that waits for tokens gets them.
    fn tokens_due(direction: &Direction) -> Option<Instant> {
        let scarce = direction.filter.waits_for().filter(|_| direction.is_throttled())?;
        direction.rate.as_ref()?.next(scarce)
    }

    /// Who has wanted to send more than it may for too long, and what.
    fn too_fast(&self, now: Instant) -> Option<(Side, Scarce)> {
        let patience = self.rule.limits.patience;
        [(Side::Client, &self.up), (Side::Backend, &self.down)]
            .into_iter()
            .find_map(|(side, direction)| Some((side, direction.too_fast(patience, now)?)))
    }

    /// Waits for the next thing that is due, and does it. `Ready` if that gave the directions something to do.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = &self.timer {
            let urgent = self.phase != Phase::Open
                || self.up.stalled.is_some()
                || self.down.stalled.is_some()
                || self.up.is_throttled()
                || self.down.is_throttled()
                || self.vigil.sooner;
            if !urgent && !timer.is_elapsed() {
                // The one task that polls this has registered with it already.
                return Poll::Pending;
            }
        }
        self.vigil.sooner = false;
        loop {
            let Some(due) = self.due() else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if due < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(cx));
            if self.act(Instant::now()) {
                return Poll::Ready(());
            }
        }
    }

    /// The earliest instant at which there is something to do.
    fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open => {}
            Phase::PeersClosing(until) | Phase::Farewell(until) => {
                let sooner = [
                    self.vigil.lookout.due(),
                    Self::tokens_due(&self.up),
                    Self::tokens_due(&self.down),
                ];
                return sooner.into_iter().flatten().chain([until]).min();
            }
            // `poll_move` is done with it.
            Phase::Cut => return None,
        }
        let candidates = [
            self.stall_due(&self.up),
            self.stall_due(&self.down),
            self.rule.timeouts.idle.map(|idle| self.vigil.active + idle),
            self.vigil.expires,
            self.ping_due(&self.vigil.client, self.rule.keepalive.client_ping),
            self.ping_due(&self.vigil.backend, self.rule.keepalive.backend_ping),
            Self::tokens_due(&self.up),
            Self::tokens_due(&self.down),
            self.vigil.lookout.due(),
        ];
        candidates.into_iter().flatten().min()
    }

    /// When the receiver of a direction has to have taken enough.
    fn stall_due(&self, direction: &Direction) -> Option<Instant> {
        Some(direction.stalled? + self.rule.timeouts.write_stall?)
    }

    /// When a side is to be pinged, or has not answered.
    fn ping_due(&self, watch: &PeerLiveness, interval: Option<Duration>) -> Option<Instant> {
        Some(match watch.pinged.filter(|_| watch.silent) {
            Some(pinged) => pinged + self.rule.keepalive.pong_timeout,
            None => watch.heard + interval?,
        })
    }

    /// Does what is due. Whether there was something.
    fn act(&mut self, now: Instant) -> bool {
        match self.phase {
            Phase::Open => {}
            Phase::PeersClosing(until) | Phase::Farewell(until) => {
                let lost = self.mind_vanished(now);
                let acted = self.mind_rates(now);
                if until <= now {
                    self.end_waiting(now);
                }
                return lost || acted || until <= now;
            }
            Phase::Cut => return false,
        }
        let passed = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        let timeouts = self.rule.timeouts;
        if passed(self.vigil.expires) {
            self.say_goodbye(CloseCause::MaxDuration, None, "");
            return true;
        }
        if self.mind_vanished(now) {
            return true;
        }
        for receiver in [Side::Client, Side::Backend] {
            if !passed(self.stall_of(receiver)) {
                continue;
            }
            self.forgive_stall(receiver, timeouts.write_stall, now);
            if passed(self.stall_of(receiver)) {
                self.say_goodbye(CloseCause::WriteStall, Some(receiver), "");
                return true;
            }
        }
        if passed(timeouts.idle.map(|idle| self.vigil.active + idle)) {
            self.say_goodbye(CloseCause::Idle, None, "");
            return true;
        }
        let mut acted = self.mind_rates(now);
        if let Some((side, scarce)) = self.too_fast(now) {
            let detail = match scarce {
                Scarce::Messages => "too many messages",
                Scarce::Frames => "too many frames",
            };
            self.say_goodbye(CloseCause::RateLimited, Some(side), detail);
            return true;
        }
        for side in [Side::Client, Side::Backend] {
            acted |= self.mind_pings(side, now);
        }
        acted
    }

    fn stall_of(&self, receiver: Side) -> Option<Instant> {
        match receiver {
            Side::Client => self.stall_due(&self.down),
            Side::Backend => self.stall_due(&self.up),
        }
    }

    /// Lets a receiver that has taken enough for such a time have it anew.
    fn forgive_stall(&mut self, receiver: Side, time: Option<Duration>, now: Instant) {
        let time = time.unwrap_or(self.rule.timeouts.close);
        match receiver {
            Side::Client => self.down.forgive_stall(&self.client, time, now),
            Side::Backend => self.up.forgive_stall(&self.backend, time, now),
        }
    }

    /// The time to close is up: some get more, the connection is over for the others.
    fn end_waiting(&mut self, now: Instant) {
        let timeouts = self.rule.timeouts;
        let patience = timeouts.write_stall.unwrap_or(timeouts.close);
        self.forgive_stall(Side::Client, timeouts.write_stall, now);
        self.forgive_stall(Side::Backend, timeouts.write_stall, now);
        // What is under way to a slow receiver is still written, as long as enough of it goes out. It has an end, for nothing is
        // added to it.
        let taking = |direction: &Direction| {
            let complete = direction.closing() || !direction.is_passing();
            complete && direction.stalled.is_some_and(|since| now - since < patience)
        };
        if taking(&self.up) || taking(&self.down) {
            self.phase = match self.phase {
                Phase::PeersClosing(_) => Phase::PeersClosing(now + timeouts.close),
                _ => Phase::Farewell(now + timeouts.close),
            };
            return;
        }
        let mut told = self.up.interrupt() | self.down.interrupt();
        if let Phase::PeersClosing(_) = self.phase {
            // A Close frame that the other side does not answer is answered by us.
            for side in [Side::Client, Side::Backend] {
                if let Some(code) = self.direction(side).close {
                    told |= self.direction(side.other()).finish(Some(answer(code)));
                }
            }
        }
        self.phase = if told { Phase::Farewell(now + timeouts.close) } else { Phase::Cut };
    }

    /// Whether what was written last to a side waits here or in the kernel, since the side takes nothing: one that has vanished is
    /// not waited for.
    fn is_unsent(&mut self, side: Side) -> bool {
        self.direction(side.other()).has_backlog()
            || self.transport(side).delivery().is_some_and(|delivery| {
                delivery.is_unsent() && !delivery.is_in_vain(dead_peer::EVERY)
            })
    }

    fn mind_pings(&mut self, side: Side, now: Instant) -> bool {
        let interval = match side {
            Side::Client => self.rule.keepalive.client_ping,
            Side::Backend => self.rule.keepalive.backend_ping,
        };
        let watch = *self.vigil.of(side);
        if self.ping_due(&watch, interval).is_none_or(|due| due > now) {
            return false;
        }
        match watch.pinged.filter(|_| watch.silent) {
            Some(_) => {
                // The Ping has not left us yet, or we do not read the answer: `writeStall` is for that. It has its whole time from
                // when it was last found so.
                let held_up = self.direction(side).is_held_up() || self.is_unsent(side);
                if held_up || watch.held_up {
                    // What its answer took would be the wait: it is taken for one to an earlier Ping, whose time is not told.
                    self.direction(side).filter.next_ping();
                    let watch = self.vigil.of(side);
                    (watch.pinged, watch.held_up) = (Some(now), held_up);
                    return false;
                }
                self.say_goodbye(CloseCause::PongTimeout, Some(side), "");
                true
            }
            None => {
                let payload = self.direction(side).filter.next_ping();
                self.direction(side.other()).send_ping(payload);
                let watch = self.vigil.of(side);
                watch.pinged = Some(now);
                (watch.silent, watch.held_up) = (true, false);
                self.vigil.lookout.begin_with_ping(now, self.rule.keepalive.pong_timeout);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_table::ObjectRef;

    use super::*;

    #[test]
    fn jitter_cuts_at_most_its_share_of_the_maximum_duration() {
        let timeouts = tidegate_table::Timeouts {
            max_duration: Some(Duration::from_secs(100)),
            max_duration_jitter: 20,
            ..tidegate_table::Timeouts::default()
        };
        let now = Instant::now();
        let rule = Rule { timeouts, ..Rule::with_defaults(ObjectRef::new("n", "r"), "0") };
        let life = |random| ConnectionTimers::new(&rule, now, random).expires.unwrap() - now;
        assert_eq!(life(0.0), Duration::from_secs(100));
        assert_eq!(life(0.5), Duration::from_secs(90));
        assert_eq!(life(1.0), Duration::from_secs(80));
    }
}
