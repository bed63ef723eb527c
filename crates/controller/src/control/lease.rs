//! Leader election: who writes statuses.
//!
//! Every replica serves; one writes. They agree through a Lease (`coordination.k8s.io/v1`), by the rules
//! of client-go's leaderelection: whoever holds it renews it every [`RETRY_PERIOD`] and stops to lead
//! [`RENEW_DEADLINE`] after its last success; others take it once they have seen no change in it for
//! the [`LEASE_DURATION`] written in it. Both count on their own monotonic clock from what they
//! themselves did or saw, never from the times in the Lease: clocks need not agree, only run at the
//! same speed. Two writers at once would do no harm but work: they would write the same.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, Client, api::PostParams};
use tidegate_telemetry::ControlMetrics;
use tokio::{sync::watch, time::Instant};

use super::stopped;
use crate::source::{explain, jittered};

/// How long a Lease that nobody renews keeps others off.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long after its last renewal the holder considers itself the leader. Shorter than
/// [`LEASE_DURATION`], so that it stops before another begins.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Pause between tries to get or to renew it.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// For one request. Two of them and the pauses between fit into [`RENEW_DEADLINE`].
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// There is no Lease: create it with this.
    Create(LeaseSpec),
    /// Replace the Lease that was seen with this.
    Take(LeaseSpec),
    /// Another one holds it.
    Wait,
}

/// The rules, without a clock and without a client.
#[derive(Clone, Debug)]
struct Elector {
    identity: String,
    /// The Lease when it was last seen to differ from before, and when that was.
    seen: Option<(LeaseSpec, Instant)>,
    /// When the request for the last successful renewal was sent.
    renewed: Option<Instant>,
}

impl Elector {
    fn new(identity: String) -> Self {
        Self { identity, seen: None, renewed: None }
    }

    /// The Lease was read and found to be this, `None` if there is none.
    fn next(&mut self, found: Option<&LeaseSpec>, now: Instant, wall: Timestamp) -> Step {
        let Some(found) = found else {
            self.seen = None;
            self.renewed = None;
            return Step::Create(self.record(None, wall));
        };
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != found) {
            self.seen = Some((found.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let holder = holder(found);
        let length = found.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let length = length.map_or(LEASE_DURATION, Duration::from_secs);
        if holder.is_none_or(|holder| *holder == self.identity) || now >= since + length {
            return Step::Take(self.record(Some(found), wall));
        }
        self.renewed = None;
        Step::Wait
    }

    /// What to write in the place of `found`.
    fn record(&self, found: Option<&LeaseSpec>, wall: Timestamp) -> LeaseSpec {
        let mine = found.and_then(holder) == Some(&self.identity);
        let transitions = found.map_or(0, |found| {
            found.lease_transitions.unwrap_or(0).saturating_add(i32::from(!mine))
        });
        let acquired = found.and_then(|found| found.acquire_time.clone()).filter(|_| mine);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds(LEASE_DURATION)),
            acquire_time: Some(acquired.unwrap_or(MicroTime(wall))),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// The record was written; the request for it was sent at `sent`.
    fn written(&mut self, record: LeaseSpec, sent: Instant) {
        self.seen = Some((record, sent));
        self.renewed = Some(sent);
    }

    /// When this process stops to be the leader unless it renews; `None` if it is not.
    fn leader_until(&self) -> Option<Instant> {
        Some(self.renewed? + RENEW_DEADLINE)
    }

    fn is_leader(&self, now: Instant) -> bool {
        self.leader_until().is_some_and(|until| now < until)
    }

    /// What to write to let go.
    fn release(&self, found: &LeaseSpec, wall: Timestamp) -> LeaseSpec {
        LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            acquire_time: Some(MicroTime(wall)),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: found.lease_transitions,
            ..LeaseSpec::default()
        }
    }
}

fn holder(spec: &LeaseSpec) -> Option<&String> {
    spec.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

/// Which Lease, and as whom.
#[derive(Clone, Debug)]
pub(super) struct LeaseName {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) identity: String,
}

/// Tries to hold the Lease, and tells whether it does.
pub(super) struct Candidate {
    api: Api<Lease>,
    lease: LeaseName,
    elector: Elector,
    /// The Lease as we wrote it: it can be replaced without being read again.
    held: Option<Lease>,
    leader: watch::Sender<bool>,
    metrics: ControlMetrics,
    /// A request to write it was sent, and how it ended is not known: it may be ours.
    uncertain: bool,
    /// What was said last.
    said: String,
}

impl Candidate {
    pub(super) fn new(
        client: Client,
        lease: LeaseName,
        leader: watch::Sender<bool>,
        metrics: ControlMetrics,
    ) -> Self {
        let elector = Elector::new(lease.identity.clone());
        let api = Api::namespaced(client, &lease.namespace);
        Self {
            api,
            lease,
            elector,
            held: None,
            leader,
            metrics,
            uncertain: false,
            said: String::new(),
        }
    }

    /// Runs until `shutdown` is true, then lets go of the Lease.
    pub(super) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = stopped(&mut shutdown) => break,
                () = self.round() => {}
            }
            self.show();
            let pause = async {
                let next = Instant::now() + jittered(RETRY_PERIOD);
                // A leader that cannot renew stops to be one in time, not at the next try.
                let next = self.elector.leader_until().map_or(next, |until| until.min(next));
                tokio::time::sleep_until(next).await;
            };
            tokio::select! {
                () = stopped(&mut shutdown) => break,
                () = pause => {}
            }
            self.show();
        }
        self.release().await;
    }

    /// One try. Ends before a leader's time is over.
    async fn round(&mut self) {
        let now = Instant::now();
        let mut deadline = now + REQUEST_TIMEOUT;
        if let Some(until) = self.elector.leader_until().filter(|until| *until > now) {
            deadline = deadline.min(until);
        }
        match tokio::time::timeout_at(deadline, self.attempt()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.failed(&error),
            Err(_) => {
                self.held = None;
                self.say("the Kubernetes API does not answer in time", true);
            }
        }
    }

    async fn attempt(&mut self) -> Result<(), kube::Error> {
        let found = match self.held.take() {
            Some(held) => Some(held),
            None => self.api.get_opt(&self.lease.name).await?,
        };
        let sent = Instant::now();
        let spec = found.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        match self.elector.next(spec.as_ref(), sent, Timestamp::now()) {
            Step::Create(record) => {
                let mut lease = Lease { spec: Some(record.clone()), ..Lease::default() };
                lease.metadata.name = Some(self.lease.name.clone());
                self.uncertain = true;
                let written = self.api.create(&PostParams::default(), &lease).await;
                self.written(written, record, sent)?;
            }
            Step::Take(record) => {
                // With the resourceVersion that was read: it fails if anyone was faster.
                let mut lease = found.unwrap_or_default();
                lease.spec = Some(record.clone());
                lease.metadata.managed_fields = None;
                self.uncertain = true;
                let written =
                    self.api.replace(&self.lease.name, &PostParams::default(), &lease).await;
                self.written(written, record, sent)?;
            }
            Step::Wait => {
                let holder = spec.as_ref().and_then(holder).cloned().unwrap_or_default();
                self.say(&format!("statuses are written by {holder}"), false);
            }
        }
        Ok(())
    }

    fn written(
        &mut self,
        written: Result<Lease, kube::Error>,
        record: LeaseSpec,
        sent: Instant,
    ) -> Result<(), kube::Error> {
        self.uncertain = !matches!(&written, Ok(_) | Err(kube::Error::Api(_)));
        self.held = Some(written?);
        self.elector.written(record, sent);
        Ok(())
    }

    fn failed(&mut self, error: &kube::Error) {
        match error {
            // Another one was faster, or wrote to the Lease: it is read again at the next try.
            kube::Error::Api(status) if status.code == 409 => {
                tracing::debug!("the Lease has changed meanwhile: {}", status.message);
            }
            kube::Error::Api(status) if status.code == 403 => {
                let sentence = format!(
                    "{}; give the ServiceAccount a Role with the verbs get, create and update on leases in the API \
                     group \"coordination.k8s.io\" in its namespace",
                    status.message
                );
                self.say(&sentence, true);
            }
            error => self.say(&explain(error), true),
        }
    }

    /// Logs a sentence unless it was the last one.
    fn say(&mut self, sentence: &str, wrong: bool) {
        if self.said == sentence {
            return;
        }
        self.said = sentence.to_owned();
        let LeaseName { namespace, name, .. } = &self.lease;
        if wrong {
            tracing::warn!(
                "Lease {namespace}/{name}: {sentence}; no statuses are written without it"
            );
        } else {
            tracing::info!("Lease {namespace}/{name}: {sentence}");
        }
    }

    /// Tells others whether we lead.
    fn show(&mut self) {
        let leads = self.elector.is_leader(Instant::now());
        self.metrics.leader.set(i64::from(leads));
        let changed =
            self.leader.send_if_modified(|leader| std::mem::replace(leader, leads) != leads);
        if changed && leads {
            self.say("held; this process writes the statuses", false);
        } else if changed {
            let LeaseName { namespace, name, .. } = &self.lease;
            tracing::warn!(
                "Lease {namespace}/{name}: lost; this process no longer writes statuses"
            );
            self.said.clear();
        }
    }

    /// Lets go of the Lease, if we hold it, so that another takes it at once.
    async fn release(self) {
        let leads = self.elector.is_leader(Instant::now());
        self.leader.send_replace(false);
        self.metrics.leader.set(0);
        if !leads && !self.uncertain {
            return;
        }
        let result = tokio::time::timeout(REQUEST_TIMEOUT, async {
            // A renewal may have been under way: what is stored counts.
            let Some(mut lease) = self.api.get_opt(&self.lease.name).await? else {
                return Ok(());
            };
            let spec = lease.spec.take().unwrap_or_default();
            if holder(&spec) != Some(&self.lease.identity) {
                return Ok(());
            }
            lease.spec = Some(self.elector.release(&spec, Timestamp::now()));
            lease.metadata.managed_fields = None;
            self.api.replace(&self.lease.name, &PostParams::default(), &lease).await.map(drop)
        });
        let LeaseName { namespace, name, .. } = &self.lease;
        match result.await {
            Ok(Ok(())) => tracing::info!("Lease {namespace}/{name}: released"),
            Ok(Err(error)) => {
                tracing::warn!(
                    "Lease {namespace}/{name}: not released, it runs out by itself: {}",
                    explain(&error)
                );
            }
            Err(_) => tracing::warn!(
                "Lease {namespace}/{name}: not released in time, it runs out by itself"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
