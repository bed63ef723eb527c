//! When to build a table: soon after a change, but not after each of many.

use std::time::Duration;

use tokio::time::Instant;

/// After a change it is waited until it has been quiet for a while, but not for long in all.
/// Pure: the time is passed in.
#[derive(Clone, Copy, Debug)]
pub struct HoldOff {
    quiet: Duration,
    longest: Duration,
    /// When the first and the last change came that no table has yet.
    waiting: Option<(Instant, Instant)>,
}

impl Default for HoldOff {
    /// 50 ms of quiet, 500 ms in all.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_millis(500))
    }
}

impl HoldOff {
    /// Waits for `quiet` without a change, but at most `longest` from the first change.
    pub const fn new(quiet: Duration, longest: Duration) -> Self {
        Self { quiet, longest, waiting: None }
    }

    /// Something has changed.
    pub fn changed(&mut self, now: Instant) {
        let first = self.waiting.map_or(now, |(first, _)| first);
        self.waiting = Some((first, now));
    }

    /// When to build; `None` if nothing has changed.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = self.waiting?;
        Some((last + self.quiet).min(first + self.longest))
    }

    /// A table has all changes so far.
    pub fn built(&mut self) {
        self.waiting = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn one_change_is_built_after_the_quiet_time() {
        let now = Instant::now();
        let mut hold_off = HoldOff::default();
        assert_eq!(hold_off.due(), None);
        hold_off.changed(now);
        assert_eq!(hold_off.due(), Some(now + 50 * MS));
        hold_off.built();
        assert_eq!(hold_off.due(), None);
    }

    #[test]
    fn each_change_starts_the_quiet_time_anew_but_not_for_ever() {
        let start = Instant::now();
        let mut hold_off = HoldOff::default();
        for step in 0..100 {
            let now = start + 40 * step * MS;
            hold_off.changed(now);
            let expected = (now + 50 * MS).min(start + 500 * MS);
            assert_eq!(hold_off.due(), Some(expected), "at {step}");
        }
        hold_off.built();
        let later = start + 10_000 * MS;
        hold_off.changed(later);
        assert_eq!(
            hold_off.due(),
            Some(later + 50 * MS),
            "the longest time counts from a new first change"
        );
    }
}
