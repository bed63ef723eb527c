//! Who is told when: evenly over a time, with jitter, and in no order. Pure: time and randomness are passed in.

use std::{collections::VecDeque, time::Duration};

use fastrand::Rng;
use tokio::time::Instant;

/// Members that have their turns one after the other.
#[derive(Debug)]
pub struct PacedQueue<T> {
    begin: Instant,
    spread: Duration,
    /// How many there were at the begin.
    count: usize,
    /// Those that had no turn yet.
    left: VecDeque<T>,
    /// When the first of them has its.
    next: Instant,
    random: Rng,
}

impl<T> PacedQueue<T> {
    /// Turns of `members`, from `begin` on and over `spread`: each has a part of it for its own, and its place in
    /// that at random.
    pub fn new(mut members: Vec<T>, begin: Instant, spread: Duration, mut random: Rng) -> Self {
        // In the order of their begin, neighbours would be clients of one kind.
        random.shuffle(&mut members);
        let count = members.len();
        let next = begin + turn(0, count, spread, random.f64());
        Self { begin, spread, count, left: members.into(), next, random }
    }

    /// When the next one has its turn; `None`: all have had theirs.
    pub fn due(&self) -> Option<Instant> {
        (!self.left.is_empty()).then_some(self.next)
    }

    /// The next one, if it is its turn.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        let member = if self.next <= now { self.left.pop_front()? } else { return None };
        let index = self.count - self.left.len();
        self.next = self.begin + turn(index, self.count, self.spread, self.random.f64());
        Some(member)
    }

    /// Leaves out those for whom `stays` is false. The others have their turns no sooner for that.
    pub fn retain(&mut self, stays: impl FnMut(&T) -> bool) {
        self.left.retain(stays);
    }
}

/// When the member `index` of `count` has its turn, from the begin on. `random` is in 0..1.
fn turn(index: usize, count: usize, spread: Duration, random: f64) -> Duration {
    spread.mul_f64((index as f64 + random) / count.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use proptest::prelude::*;

    use super::*;

    /// When each of `count` had its turn, in their order, with a look every `step`.
    fn moments(
        mut turns: PacedQueue<usize>,
        begin: Instant,
        step: Duration,
    ) -> Vec<(usize, Duration)> {
        let (mut now, mut told) = (begin, Vec::new());
        while let Some(due) = turns.due() {
            assert!(turns.pop(due - Duration::from_nanos(1)).is_none(), "before its turn");
            now = due.max(now + step);
            while let Some(member) = turns.pop(now) {
                told.push((member, now - begin));
            }
        }
        told
    }

    #[test]
    fn turns_are_spread_evenly_whatever_the_jitter() {
        let spread = Duration::from_secs(40);
        for random in [0.0, 0.5, 0.999] {
            let turns: Vec<_> = (0..2000).map(|index| turn(index, 2000, spread, random)).collect();
            assert!(turns.is_sorted() && turns[0] < spread / 2000 && turns[1999] <= spread);
            for second in 0..40 {
                let within = |turn: &&Duration| turn.as_secs() == second;
                let count = turns.iter().filter(within).count();
                assert!((49..=51).contains(&count), "{count} in second {second}");
            }
        }
    }

    #[test]
    fn without_a_spread_all_have_their_turn_at_once() {
        assert_eq!(turn(0, 0, Duration::ZERO, 0.3), Duration::ZERO);
        assert_eq!(turn(7, 8, Duration::ZERO, 0.3), Duration::ZERO);
        let begin = Instant::now();
        let mut turns = PacedQueue::new((0..5).collect(), begin, Duration::ZERO, Rng::with_seed(1));
        assert_eq!(std::iter::from_fn(|| turns.pop(begin)).count(), 5);
        assert_eq!((turns.due(), turns.pop(begin)), (None, None));
    }

    #[test]
    fn nobody_is_told_by_its_place() {
        let begin = Instant::now();
        let turns =
            PacedQueue::new((0..200).collect(), begin, Duration::from_secs(9), Rng::with_seed(7));
        let order: Vec<_> =
            moments(turns, begin, Duration::ZERO).into_iter().map(|(member, _)| member).collect();
        let overtaken = order.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!((60..140).contains(&overtaken), "{overtaken} of 199");
    }

    #[test]
    fn who_is_left_out_makes_no_other_turn_come_sooner() {
        let (begin, spread) = (Instant::now(), Duration::from_secs(100));
        let mut turns = PacedQueue::new((0..100).collect(), begin, spread, Rng::with_seed(3));
        turns.retain(|member| member % 2 == 0);
        let told = moments(turns, begin, Duration::ZERO);
        assert_eq!(told.len(), 50);
        for second in 0..100 {
            let count = told.iter().filter(|(_, at)| at.as_secs() == second).count();
            assert!(count <= 2, "{count} in second {second}");
        }
    }

    proptest! {
        /// Everyone has one turn within the spread, and none of its equal parts has more of them than its share and the two
        /// at its edges; a gateway that looks late tells those that are due, and no others.
        #[test]
        fn everyone_has_a_turn_and_no_part_of_the_time_has_more_than_its_share(
            count in 0_usize..500,
            seconds in 1_u64..120,
            seed in any::<u64>(),
            late in 0_u64..50,
        ) {
            let (begin, spread) = (Instant::now(), Duration::from_secs(seconds));
            let turns = PacedQueue::new((0..count).collect(), begin, spread, Rng::with_seed(seed));
            let step = Duration::from_millis(late);
            let told = moments(turns, begin, step);
            let mut members: Vec<_> = told.iter().map(|(member, _)| *member).collect();
            members.sort_unstable();
            prop_assert!(members.into_iter().eq(0..count));
            prop_assert!(told.iter().all(|(_, at)| *at <= spread + step));
            if late == 0 {
                let mut parts = [0; 10];
                for (_, at) in &told {
                    parts[((at.as_secs_f64() / spread.as_secs_f64() * 10.0) as usize).min(9)] += 1;
                }
                prop_assert!(parts.iter().all(|part| *part <= count / 10 + 2), "{:?}", parts);
            }
        }
    }
}
