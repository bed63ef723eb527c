//! Endpoints that could not be reached again and again, and how long they are passed over.
//!
//! What failed in TLS is noted for the TLS settings that it failed with: another rule that reaches the same endpoint in clear
//! text, or trusts another authority, is not to suffer from it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tidegate_table::BackendTls;

/// So many failures in a row eject an endpoint: one may be chance.
pub(super) const FAILURES: u32 = 2;
/// How long the first ejection lasts. Each further one lasts twice as long as the one before.
pub(super) const SHORTEST: Duration = Duration::from_secs(10);
/// How long an ejection lasts at most.
pub(super) const LONGEST: Duration = Duration::from_secs(60);
/// An endpoint without a failure for so long after its last ejection begins anew with the shortest.
pub(super) const PROBATION: Duration = Duration::from_secs(60);

/// What an endpoint could not be reached for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection came about.
    Tcp,
    /// It did, but TLS failed.
    Tls,
}

/// An endpoint, and for failures of TLS what it failed with: [`BackendTls::fingerprint`].
type Subject = (SocketAddr, Option<u64>);

/// The endpoints that failed lately.
#[derive(Debug, Default)]
pub(super) struct Ejections {
    records: HashMap<Subject, Record>,
}

#[derive(Debug)]
struct Record {
    /// Failures in a row.
    failures: u32,
    /// Ejections, of which none is long ago.
    ejections: u32,
    /// The end of the ejection. The first connection after it tries.
    until: Option<Instant>,
    /// One is trying.
    trial: bool,
    /// When something was last heard of it.
    heard: Instant,
}

impl Ejections {
    /// Whether the endpoint is passed over, for a backend with these TLS settings.
    pub(super) fn holds(
        &self,
        address: SocketAddr,
        tls: Option<&BackendTls>,
        now: Instant,
    ) -> bool {
        // Most of the time there is nothing to look up.
        !self.records.is_empty()
            && subjects(address, tls)
                .into_iter()
                .flatten()
                .any(|subject| self.records.get(&subject).is_some_and(|record| record.holds(now)))
    }

    /// Notes that a connection tries the endpoint. If its ejection is just over the others wait for what becomes of it.
    pub(super) fn chosen(&mut self, address: SocketAddr, tls: Option<&BackendTls>, now: Instant) {
        if self.records.is_empty() {
            return;
        }
        for subject in subjects(address, tls).into_iter().flatten() {
            if let Some(record) = self.records.get_mut(&subject)
                && record.until.is_some_and(|until| until <= now)
            {
                record.until = Some(now + record.length());
                record.trial = true;
            }
        }
    }

    /// Notes that the endpoint was reached: an ejection is over.
    pub(super) fn reached(&mut self, address: SocketAddr, tls: Option<&BackendTls>, now: Instant) {
        if self.records.is_empty() {
            return;
        }
        for subject in subjects(address, tls).into_iter().flatten() {
            if let Some(record) = self.records.get_mut(&subject) {
                record.failures = 0;
                record.until = None;
                record.trial = false;
                record.heard = now;
                if record.ejections == 0 {
                    self.records.remove(&subject);
                }
            }
        }
    }

    /// Notes that the endpoint could not be reached. Whether that ejects it, now or anew.
    pub(super) fn missed(
        &mut self,
        address: SocketAddr,
        tls: Option<&BackendTls>,
        fault: Fault,
        now: Instant,
    ) -> bool {
        // Pods come and go: addresses of which nobody has heard since are forgotten.
        self.records.retain(|_, record| record.until.unwrap_or(record.heard) + PROBATION > now);
        let tls = match fault {
            Fault::Tcp => None,
            Fault::Tls => tls.map(|tls| tls.fingerprint),
        };
        let record = self.records.entry((address, tls)).or_insert(Record {
            failures: 0,
            ejections: 0,
            until: None,
            trial: false,
            heard: now,
        });
        record.failures = record.failures.saturating_add(1);
        record.heard = now;
        // Who was on the way there when it was ejected has no more to say.
        let ejects = !record.holds(now) && record.failures >= FAILURES || record.trial;
        if ejects {
            record.ejections = record.ejections.saturating_add(1);
            record.until = Some(now + record.length());
            record.trial = false;
        }
        ejects
    }

    /// Forgets an endpoint.
    pub(super) fn forget(&mut self, address: SocketAddr) {
        if !self.records.is_empty() {
            self.records.retain(|(of, _), _| *of != address);
        }
    }
}

impl Record {
    fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    fn length(&self) -> Duration {
        let doubled = 2_u32.saturating_pow(self.ejections.saturating_sub(1));
        SHORTEST.saturating_mul(doubled).min(LONGEST)
    }
}

/// What may be noted of an endpoint that concerns a backend with these TLS settings.
fn subjects(address: SocketAddr, tls: Option<&BackendTls>) -> [Option<Subject>; 2] {
    [Some((address, None)), tls.map(|tls| (address, Some(tls.fingerprint)))]
}

#[cfg(test)]
mod tests;
