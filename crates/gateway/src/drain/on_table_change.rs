//! What a change of the table ends: each worker looks through the groups of its connections after a publication, where a
//! rule asks for that, and tells those concerned goodbye, paced.
//!
//! In a task of its own: neither messages nor upgrades wait for it, and where no rule asks for anything it looks at nothing.

use std::{convert::Infallible, rc::Rc};

use fastrand::Rng;
use tidegate_table::{RoutingTable, TableCell};
use tokio::{
    sync::watch,
    task::yield_now,
    time::{Instant, sleep_until},
};

use super::{pacing::PacedQueue, policy::Served};
use crate::registry::{CloseDecision, Group, Member, Registry, Request};

/// After so many groups, members or goodbyes the worker's connections have their turn.
const BATCH: usize = 256;

/// Ends what changes of the table end, for as long as it is polled.
pub(crate) async fn follow(table: &TableCell, sessions: &Registry) -> Infallible {
    let mut published = table.subscribe();
    let mut follower = TableWatcher::default();
    loop {
        tokio::select! {
            biased;
            () = changed(&mut published) => {
                if let Some(published) = table.load() {
                    follower.look(&published.table, sessions.endable()).await;
                }
            }
            () = sessions.news() => {
                let unjudged = sessions.take_unjudged();
                if let Some(published) = table.load() {
                    follower.begin(unjudged.members).await;
                    follower.look(&published.table, unjudged.groups).await;
                }
            }
            () = until(follower.due()) => {
                follower.tell(Instant::now());
                yield_now().await;
            }
        }
    }
}

/// Waits for the next table. The cell holds the sender: there is no error to come.
async fn changed(published: &mut watch::Receiver<u64>) {
    if published.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until then; for ever without an instant.
async fn until(due: Option<Instant>) {
    match due {
        // Many share a tick of the timer: those that are due already need not wait for the next.
        Some(due) if due <= Instant::now() => {}
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The goodbyes of one change.
struct DrainBatch {
    sentence: CloseDecision,
    turns: PacedQueue<Member>,
}

impl DrainBatch {
    /// Whether a group is still to be ended by it.
    fn concerns(&self, group: &Group) -> bool {
        group.sentence() == Some(self.sentence)
    }
}

#[derive(Default)]
struct TableWatcher {
    /// Of the last sentence.
    number: u64,
    running: Vec<DrainBatch>,
}

impl TableWatcher {
    /// Judges groups by a table, and begins or breaks off what follows from that.
    async fn look(&mut self, table: &RoutingTable, groups: Vec<Rc<Group>>) {
        let mut served = Served::new(table);
        let mut members = Vec::new();
        let mut reprieved = false;
        self.number += 1;
        for (index, group) in groups.iter().enumerate() {
            if index % BATCH == BATCH - 1 {
                yield_now().await;
            }
            let before = group.sentence();
            let cause = served.judge(group.origin(), before.map(|sentence| sentence.cause));
            if cause == before.map(|sentence| sentence.cause) {
                continue;
            }
            reprieved |= before.is_some();
            group.pass(cause.map(|cause| CloseDecision { cause, number: self.number }));
            if cause.is_some() {
                members.extend(group.members());
            }
        }
        if reprieved {
            for campaign in &mut self.running {
                let sentence = campaign.sentence;
                campaign.turns.retain(|(group, _)| group.sentence() == Some(sentence));
            }
            self.running.retain(|campaign| campaign.turns.due().is_some());
        }
        self.begin(members).await;
    }

    /// Gives connections of groups that are to be ended their turns.
    async fn begin(&mut self, members: Vec<Member>) {
        let now = Instant::now();
        let mut shares: Vec<(CloseDecision, std::time::Duration, Vec<Member>)> = Vec::new();
        for (index, member) in members.into_iter().enumerate() {
            if index % (16 * BATCH) == 16 * BATCH - 1 {
                yield_now().await;
            }
            let Some(sentence) = member.0.sentence() else { continue };
            let spread = member.0.origin().rule.drain.spread;
            // Causes and spreads are few.
            match shares.iter_mut().find(|share| (share.0, share.1) == (sentence, spread)) {
                Some((.., share)) => share.push(member),
                None => shares.push((sentence, spread, vec![member])),
            }
        }
        for (sentence, spread, members) in shares {
            tracing::info!(
                cause = sentence.cause.as_str(),
                connections = members.len(),
                spread_ms = spread.as_millis() as u64,
                "a change ends connections",
            );
            let turns = PacedQueue::new(members, now, spread, Rng::new());
            self.running.push(DrainBatch { sentence, turns });
        }
    }

    /// When the next goodbye is due.
    fn due(&self) -> Option<Instant> {
        self.running.iter().filter_map(|campaign| campaign.turns.due()).min()
    }

    /// Says those that are due.
    fn tell(&mut self, now: Instant) {
        for campaign in &mut self.running {
            for _ in 0..BATCH {
                let Some((group, session)) = campaign.turns.pop(now) else { break };
                if campaign.concerns(&group) {
                    session.ask(Request::Close(campaign.sentence.cause));
                }
            }
        }
        self.running.retain(|campaign| campaign.turns.due().is_some());
    }
}
