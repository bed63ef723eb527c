//! How long a peer may be waited for in the midst of a message, and how much it has to bring, or to take, for that.
//!
//! One budget says both: the time that was spent in waiting for the peer. It is given anew for each so many bytes, so silence ends
//! when it is used up, and so does a trickle. Time in which nobody waits for the peer costs it nothing.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes for each second of the limit that give the whole of it anew.
const LEAST_RATE: u64 = 100;

/// The time of one peer.
#[derive(Debug)]
pub(super) struct Pace {
    /// `None`: no limit.
    limit: Option<Duration>,
    /// What is used up of it, and what has passed meanwhile.
    waited: Duration,
    passed: u64,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// For a peer that may be waited for so long.
    pub(super) const fn new(limit: Option<Duration>) -> Self {
        Self { limit, waited: Duration::ZERO, passed: 0, since: None, timer: None }
    }

    /// The peer is waited for; ready once its time is up.
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let end = since + limit.saturating_sub(self.waited);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        timer.as_mut().poll(cx)
    }

    /// Something has passed.
    pub(super) fn progress(&mut self, bytes: usize) {
        let Some(limit) = self.limit else { return };
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        self.passed += bytes as u64;
        if self.passed >= LEAST_RATE.saturating_mul(limit.as_secs().max(1)) {
            self.renew();
        }
    }

    /// Gives the whole time anew.
    pub(super) fn renew(&mut self) {
        (self.waited, self.passed, self.since) = (Duration::ZERO, 0, None);
    }

    /// Whether nothing at all has passed since the time was given.
    pub(super) const fn is_silent(&self) -> bool {
        self.passed == 0
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Whether the peer's time is up within so long of waiting for it.
    async fn late_within(pace: &mut Pace, seconds: u64) -> bool {
        timeout(Duration::from_secs(seconds), poll_fn(|cx| pace.poll_wait(cx))).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_with_the_limit() {
        let mut pace = Pace::new(Some(LIMIT));
        assert!(!late_within(&mut pace, 59).await);
        assert!(late_within(&mut pace, 2).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_every_five_seconds_buys_no_time() {
        let mut pace = Pace::new(Some(LIMIT));
        for _ in 0..11 {
            assert!(!late_within(&mut pace, 5).await);
            pace.progress(1);
        }
        assert!(late_within(&mut pace, 6).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_brings_enough_is_waited_for_again_and_again() {
        let mut pace = Pace::new(Some(LIMIT));
        for _ in 0..100 {
            assert!(!late_within(&mut pace, 55).await);
            pace.progress(6000);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_costs_nothing() {
        let mut pace = Pace::new(Some(LIMIT));
        assert!(!late_within(&mut pace, 59).await);
        pace.progress(1);
        advance(LIMIT * 10).await;
        assert!(late_within(&mut pace, 2).await);
        assert!(!late_within(&mut Pace::new(None), 1_000_000).await);
    }
}
