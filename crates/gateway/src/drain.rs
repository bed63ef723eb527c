//! Ending connections of a worker on purpose: not at once, but spread over a time, so that the wave of
//! clients that come again stays flat. Here all of them, since the gateway is told to stop; in `on_table_change` those that a change of
//! the table concerns.

mod on_table_change;
mod pacing;
mod policy;

use std::{rc::Rc, time::Duration};

use fastrand::Rng;
use tokio::time::{Instant, sleep_until, timeout_at};

pub(super) use self::on_table_change::follow;
use self::pacing::PacedQueue;

use super::{
    close::CloseCause,
    registry::{Registry, Request},
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

/// Says goodbye to every connection, one after the other, and returns when all have ended or their time is up.
pub(super) async fn drain(sessions: &Rc<Registry>, settings: DrainSettings) {
    let begin = Instant::now();
    let end = begin + settings.timeout;
    let goodbye = Request::Close(CloseCause::Drain);
    // Upgrades that were under way.
    sessions.ask_late_ones(goodbye);
    let mut turns = PacedQueue::new(sessions.live(), begin, settings.spread, Rng::new());
    let telling = async {
        while let Some(due) = turns.due() {
            // Many share a tick of the timer: those that are due already need not wait for the next.
            if due > Instant::now() {
                sleep_until(due).await;
            }
            while let Some(session) = turns.pop(Instant::now()) {
                session.ask(goodbye);
            }
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
    match (sessions.count(), sessions.requests()) {
        (0, requests) => {
            tracing::warn!(requests, "requests were not answered in time: they are broken off");
        }
        (connections, requests) => {
            tracing::warn!(connections, requests, "connections did not end in time: they are cut");
        }
    }
    let cut = Request::Cut(CloseCause::Drain);
    sessions.ask_late_ones(cut);
    for session in sessions.live() {
        session.ask(cut);
    }
    if timeout_at(Instant::now() + CUT_TIMEOUT, sessions.emptied()).await.is_err() {
        let (connections, requests) = (sessions.count(), sessions.requests());
        tracing::warn!(connections, requests, "connections or requests were left behind");
    }
}
