//! How many connections are moved off which endpoints. Pure: counts, ticks and randomness are passed in.
//!
//! An endpoint gives connections while it has more than its fair share, by more than [`TOLERANCE`]. It never takes any: who is told
//! to go comes back as a new connection, which goes where balancing sends it. So what has become even stays so.

use fastrand::Rng;

/// How far above its fair share an endpoint may stay.
const TOLERANCE: f64 = 0.03;

/// So many ticks, each of a second, make a minute wherever it begins: an order may be carried out up to a tick after its own, so that a
/// minute of goodbyes can have those of 62 ticks.
const MINUTE: usize = 62;

/// Who is told to go has so many ticks to come back, before it counts as lost.
const RETURN: usize = 30;

/// Where half of those that were told to go are lost, the next ones wait for so many ticks.
const PAUSE: u64 = 600;

/// Fewer lost ones than this are chance.
const FEW: u32 = 5;

/// What a rule has moved lately at one of its backends.
#[derive(Clone, Debug)]
pub struct RebalancePolicy {
    /// Connections told to go, and those there were, in each of the last ticks; the newest last.
    moved: [u32; MINUTE],
    live: [u32; MINUTE],
    /// Of the last entry.
    tick: u64,
    /// Connections that may be moved now; parts of one are added up.
    allowance: f64,
    paused_until: u64,
}

/// An endpoint that takes new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its connections, of all rules, without those that have been told to go.
    pub all: usize,
    /// Those among them that are the rule's.
    pub own: usize,
}

/// What is to be done in a tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// The endpoints, by index, of which one connection each is told to go.
    pub from: Vec<usize>,
    /// Those that were told to go do not come back: there is a pause, which begins now.
    pub pausing: bool,
}

impl RebalancePolicy {
    /// One that has moved nothing. `random` (0..1) says how soon it begins.
    pub fn new(tick: u64, random: f64) -> Self {
        let (moved, live) = ([0; MINUTE], [0; MINUTE]);
        Self { moved, live, tick, allowance: random, paused_until: 0 }
    }

    /// What is to be moved in this tick: never more than `percent` of the rule's connections in a minute or, where that is less
    /// than one, one each so many minutes.
    pub fn tick(&mut self, tick: u64, percent: u8, endpoints: &[Load], random: &mut Rng) -> Moves {
        let all: usize = endpoints.iter().map(|load| load.all).sum();
        let own: usize = endpoints.iter().map(|load| load.own).sum();
        self.advance(tick, all);
        let a_minute = own as f64 * f64::from(percent) / 100.0;
        let a_tick = a_minute / MINUTE as f64;
        // What was not used is not saved up.
        self.allowance = (self.allowance + a_tick).min(a_tick + 1.0);
        let pausing = self.mind_the_lost();
        if tick < self.paused_until {
            return Moves { from: Vec::new(), pausing };
        }
        let moved: u32 = self.moved.iter().sum();
        let left = (a_minute.max(1.0) as usize).saturating_sub(moved as usize);
        let count = left.min(self.allowance as usize);
        let from = self.choose(endpoints, all + self.on_their_way(all), count, random);
        self.allowance -= from.len() as f64;
        self.moved[MINUTE - 1] += u32::try_from(from.len()).unwrap_or(u32::MAX);
        Moves { from, pausing }
    }

    /// Makes room for this tick. Those that were skipped had nothing.
    fn advance(&mut self, tick: u64, live: usize) {
        let live = u32::try_from(live).unwrap_or(u32::MAX);
        let passed = usize::try_from(tick.saturating_sub(self.tick)).unwrap_or(MINUTE).min(MINUTE);
        let before = self.live[MINUTE - 1];
        self.moved.rotate_left(passed % MINUTE);
        self.live.rotate_left(passed % MINUTE);
        self.moved[MINUTE - passed..].fill(0);
        self.live[MINUTE - passed..].fill(before);
        self.live[MINUTE - 1] = live;
        self.tick = tick;
    }

    /// How many of those that were told to go have not come back yet, of `all` that there are.
    fn on_their_way(&self, all: usize) -> usize {
        let most = self.live.iter().copied().max().unwrap_or(0) as usize;
        let moved: u32 = self.moved.iter().sum();
        most.saturating_sub(all).min(moved as usize)
    }

    /// Begins a pause where those that were told to go do not come back.
    fn mind_the_lost(&mut self) -> bool {
        let (old, young) = self.moved.split_at(MINUTE - RETURN);
        let (old, young): (u32, u32) = (old.iter().sum(), young.iter().sum());
        let lost = self.live[0].saturating_sub(self.live[MINUTE - 1]);
        let many = lost.saturating_sub(young) > (old / 2).max(FEW) && old > 0;
        let begins = many && self.tick >= self.paused_until;
        if begins {
            self.paused_until = self.tick + PAUSE;
        }
        begins
    }

    /// Takes up to `count` connections from endpoints that have more than their share of `all`, the fullest ones most often.
    fn choose(&self, endpoints: &[Load], all: usize, count: usize, random: &mut Rng) -> Vec<usize> {
        let fair = all as f64 / endpoints.len().max(1) as f64;
        // A whole connection more is no surplus.
        let limit = (fair * (1.0 + TOLERANCE)).ceil() as usize;
        let surplus = |load: &Load| load.all.saturating_sub(limit).min(load.own);
        let mut surplus: Vec<_> = endpoints.iter().map(surplus).collect();
        let mut total: usize = surplus.iter().sum();
        let mut from = Vec::with_capacity(count.min(total));
        for _ in 0..count.min(total) {
            let mut ticket = random.usize(..total);
            let index = surplus.iter().position(|surplus| {
                let hit = ticket < *surplus;
                ticket = ticket.saturating_sub(*surplus);
                hit
            });
            // The tickets are as many as the surplus.
            let Some(index) = index else { break };
            surplus[index] -= 1;
            total -= 1;
            from.push(index);
        }
        from
    }
}

#[cfg(test)]
mod tests;
