//! How long to wait after a failure: doubling, with a limit and jitter.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::{Duration, Instant},
};

/// Without a failure for so long, the next one counts as the first.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// Pauses between tries: they double from `first` to `longest`. Pure but for the jitter: the time is
/// passed in.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    last_failure: Option<Instant>,
}

impl Backoff {
    /// The pauses of everything that talks to the Kubernetes API.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first, last_failure: None }
    }

    /// The pause after a failure at `now`: between 75 and 100 % of the nominal one, so that the replicas
    /// of a Deployment do not come back in step.
    pub(crate) fn failed(&mut self, now: Instant) -> Duration {
        let forgiven = self.last_failure.is_some_and(|last| {
            now.saturating_duration_since(last) > FORGIVEN_AFTER + self.longest
        });
        if forgiven {
            self.next = self.first;
        }
        self.last_failure = Some(now);
        let nominal = self.next;
        self.next = (nominal * 2).min(self.longest);
        jittered(nominal)
    }
}

/// Between 75 and 100 % of `nominal`.
pub(crate) fn jittered(nominal: Duration) -> Duration {
    // Hash seeds are the standard library's only source of randomness; it need not be a good one here.
    let random = RandomState::new().build_hasher().finish() % 1000;
    nominal * 3 / 4 + nominal / 4 * u32::try_from(random).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_anew_after_a_quiet_time() {
        let start = Instant::now();
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        let mut now = start;
        for nominal in [1, 2, 4, 8, 10, 10] {
            let pause = backoff.failed(now);
            let nominal = Duration::from_secs(nominal);
            assert!(pause <= nominal && pause >= nominal * 3 / 4, "{pause:?} of {nominal:?}");
            now += pause;
        }
        let pause = backoff.failed(now + Duration::from_secs(71));
        assert!(pause <= Duration::from_secs(1), "{pause:?}");
    }
}
