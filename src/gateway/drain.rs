//! Ending all connections of a worker on purpose: not at once, but spread over a time, so that the wave of
//! clients that come again stays flat.

use std::{rc::Rc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    goodbye::CloseCause,
    sessions::{Request, Sessions},
};

/// How long connections that are cut may take to be gone: they have only their log line to write.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// When a gateway that was told to stop ends its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// From the order to stop to the first goodbye. New connections are still taken, for load balancers take a while to look
    /// elsewhere; only the readiness says no.
    pub delay: Duration,
    /// The time over which the goodbyes are spread, evenly and with jitter.
    pub spread: Duration,
    /// The time, from the end of the delay on, after which what is left is cut.
    pub timeout: Duration,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5),
            spread: Duration::from_secs(45),
            timeout: Duration::from_secs(60),
        }
    }
}

/// When the connection `index` of `count` is told, from the begin on: each has a part of `spread` for its own, and its
/// place in it is `random` (0..1). Pure.
fn turn(index: usize, count: usize, spread: Duration, random: f64) -> Duration {
    spread.mul_f64((index as f64 + random) / count.max(1) as f64)
}

/// Says goodbye to every connection, one after the other, and returns when all have ended or their time is up.
pub(super) async fn drain(sessions: &Rc<Sessions>, settings: DrainSettings) {
    let begin = Instant::now();
    let end = begin + settings.timeout;
    let goodbye = Request::Close(CloseCause::Drain);
    // Upgrades that were under way.
    sessions.ask_late_ones(goodbye);
    let mut live = sessions.live();
    // In the order of their begin, neighbours would be clients of one kind.
    fastrand::shuffle(&mut live);
    let count = live.len();
    let telling = async {
        for (index, session) in live.into_iter().enumerate() {
            let moment = begin + turn(index, count, settings.spread, fastrand::f64());
            // Many share a tick of the timer: those that are due already need not wait for the next.
            if moment > Instant::now() {
                sleep_until(moment).await;
            }
            session.ask(goodbye);
        }
        std::future::pending::<()>().await;
    };
    let ended = async {
        // The turns of those that have left by themselves are not waited for.
        tokio::select! {
            () = sessions.emptied() => {}
            () = telling => {}
        }
    };
    if timeout_at(end, ended).await.is_ok() {
        return;
    }
    tracing::warn!(left = sessions.count(), "connections did not end in time: they are cut");
    let cut = Request::Cut(CloseCause::Drain);
    sessions.ask_late_ones(cut);
    for session in sessions.live() {
        session.ask(cut);
    }
    if timeout_at(Instant::now() + CUT_TIMEOUT, sessions.emptied()).await.is_err() {
        tracing::warn!(left = sessions.count(), "requests and connections were left behind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
