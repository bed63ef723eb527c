use std::collections::VecDeque;

use fastrand::Rng;
use proptest::prelude::*;

use super::*;

/// Endpoints with connections of one rule, whose clients come back to the emptiest endpoint some ticks after they were told.
struct Crowd {
    counts: Vec<usize>,
    /// Ticks until those come back that were told; `None`: never.
    away: Option<usize>,
    underway: VecDeque<usize>,
    mover: RebalancePolicy,
    random: Rng,
    tick: u64,
    moved: Vec<usize>,
    pauses: usize,
}

impl Crowd {
    fn new(counts: &[usize], away: Option<usize>, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        Self {
            counts: counts.to_vec(),
            away,
            underway: VecDeque::from(vec![0; away.unwrap_or(0)]),
            mover: RebalancePolicy::new(0, random.f64()),
            random,
            tick: 0,
            moved: Vec::new(),
            pauses: 0,
        }
    }

    fn tick(&mut self, percent: u8) {
        self.tick += 1;
        let loads: Vec<_> =
            self.counts.iter().map(|&count| Load { all: count, own: count }).collect();
        let Moves { from, pausing } = self.mover.tick(self.tick, percent, &loads, &mut self.random);
        self.pauses += usize::from(pausing);
        for &index in &from {
            self.counts[index] -= 1;
        }
        self.moved.push(from.len());
        if self.away.is_some() {
            self.underway.push_back(from.len());
            for _ in 0..self.underway.pop_front().unwrap_or(0) {
                let emptiest = self.counts.iter_mut().min().expect("there are endpoints");
                *emptiest += 1;
            }
        }
    }

    fn run(&mut self, percent: u8, ticks: usize) {
        (0..ticks).for_each(|_| self.tick(percent));
    }

    fn total(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Most that were moved in so many ticks in a row.
    fn most_in(&self, ticks: usize) -> usize {
        self.moved.windows(ticks).map(|window| window.iter().sum()).max().unwrap_or(0)
    }
}

#[test]
fn twice_as_many_endpoints_are_even_after_half_of_all_have_moved() {
    let mut crowd = Crowd::new(&[500, 500, 0, 0], Some(2), 1);
    // Half of them at 10 % a minute takes five minutes.
    crowd.run(10, 5 * MINUTE + 10);
    assert!(crowd.counts.iter().all(|count| (242..=258).contains(count)), "{:?}", crowd.counts);
    let moved: usize = crowd.moved.iter().sum();
    assert!((470..=500).contains(&moved), "{moved}");
    assert!(crowd.most_in(MINUTE) <= 100);
    // Evenly in time: no ten seconds have more than their share and a little.
    assert!(crowd.most_in(10) <= 18, "{}", crowd.most_in(10));
    crowd.run(10, 1000);
    assert_eq!(crowd.moved.iter().sum::<usize>(), moved, "what is even stays");
}

#[test]
fn less_than_one_a_minute_is_one_each_so_many_minutes() {
    let mut crowd = Crowd::new(&[20, 0], Some(0), 2);
    // 1 % of 20: one in five minutes.
    crowd.run(1, 20 * MINUTE);
    let moved: usize = crowd.moved.iter().sum();
    assert!((3..=5).contains(&moved), "{moved}");
    assert_eq!(crowd.most_in(4 * MINUTE), 1);
}

#[test]
fn nothing_is_moved_where_nothing_is_asked_or_nobody_has_too_many() {
    let mut off = Crowd::new(&[100, 0], Some(0), 3);
    off.run(0, 500);
    assert_eq!(off.counts, [100, 0]);
    for counts in [&[100, 97][..], &[1, 0], &[2, 1, 1], &[0, 0], &[7], &[]] {
        let mut even = Crowd::new(counts, None, 4);
        even.run(100, 500);
        assert_eq!(even.counts, counts);
    }
}

#[test]
fn only_the_rules_own_connections_are_moved_and_counted() {
    let mut mover = RebalancePolicy::new(0, 0.0);
    let mut random = Rng::with_seed(5);
    let mut moved = 0;
    for tick in 1..=MINUTE as u64 {
        let loads = [Load { all: 1000, own: 100 - moved }, Load { all: 0, own: 0 }];
        let moves = mover.tick(tick, 10, &loads, &mut random);
        assert!(moves.from.iter().all(|&index| index == 0));
        moved += moves.from.len();
    }
    assert!((8..=10).contains(&moved), "{moved} of 100");
    let nobodys = [Load { all: 1000, own: 0 }, Load { all: 0, own: 100 }];
    assert_eq!(mover.tick(200, 100, &nobodys, &mut random), Moves::default());
}

#[test]
fn ticks_that_were_missed_are_not_made_up_for() {
    let mut mover = RebalancePolicy::new(0, 0.0);
    let mut random = Rng::with_seed(6);
    let loads = [Load { all: 620, own: 620 }, Load { all: 0, own: 0 }];
    // One a tick.
    assert!(mover.tick(1000, 10, &loads, &mut random).from.len() <= 2);
    assert!(mover.tick(1000, 10, &loads, &mut random).from.len() <= 2);
}

#[test]
fn clients_that_do_not_come_back_end_the_moving_for_a_while() {
    let mut crowd = Crowd::new(&[500, 500, 0, 0], None, 7);
    crowd.run(10, 600);
    assert_eq!(crowd.pauses, 1);
    assert!(crowd.total() >= 800, "{}", crowd.total());
    let paused = crowd.total();
    crowd.run(10, 60);
    assert_eq!(crowd.total(), paused);
    // Those that come back late are waited for.
    let mut late = Crowd::new(&[500, 500, 0, 0], Some(25), 8);
    late.run(10, 500);
    assert_eq!(late.pauses, 0);
    assert!(late.counts.iter().all(|count| (225..=265).contains(count)), "{:?}", late.counts);
}

proptest! {
    /// Whatever the counts: never more than asked in any minute, even at the end, and no to and fro on the way there.
    #[test]
    fn never_more_than_asked_and_even_at_the_end(
        counts in prop::collection::vec(0_usize..400, 1..12),
        percent in 5_u8..=100,
        away in 0_usize..10,
        seed in any::<u64>(),
    ) {
        let total: usize = counts.iter().sum();
        let fair = total as f64 / counts.len() as f64;
        let limit = (fair * (1.0 + TOLERANCE)).ceil() as usize;
        let surplus: usize = counts.iter().map(|count| count.saturating_sub(limit)).sum();
        let mut crowd = Crowd::new(&counts, Some(away), seed);
        // 5 % a minute moves all of them in twenty minutes.
        crowd.run(percent, 25 * MINUTE);
        let asked = (total as f64 * f64::from(percent) / 100.0) as usize;
        prop_assert!(crowd.most_in(MINUTE) <= asked.max(1), "{} > {}", crowd.most_in(MINUTE), asked);
        let most = crowd.counts.iter().copied().max().unwrap_or(0);
        prop_assert!(most <= limit, "{:?} limit {}", crowd.counts, limit);
        let moved: usize = crowd.moved.iter().sum();
        prop_assert!(moved <= surplus + surplus / 10 + counts.len(), "{} of {}", moved, surplus);
        // At rest.
        prop_assert_eq!(crowd.moved[20 * MINUTE..].iter().sum::<usize>(), 0);
    }
}
