//! Which refusals are worth a line of the log: a client that is refused again and again gets some, and all together no more than
//! the log can take, so that the lines of the others are not lost behind theirs. Pure: time is passed in.
//!
//! Each worker keeps account for itself, so that none waits for another.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Lines of one client at once, and a second after that.
const OF_CLIENT: Budget = Budget { burst: 20.0, per_second: 5.0 };
/// Lines of all clients.
const OF_ALL: Budget = Budget { burst: 400.0, per_second: 100.0 };
/// Clients that are told apart. Others share what is left of the budget of all.
const MAX_CLIENTS: usize = 1024;
/// How long lines that were left out are added up before a line says how many.
pub(super) const SUMMARY_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
struct Budget {
    burst: f64,
    per_second: f64,
}

/// How much of a budget is left.
#[derive(Clone, Copy, Debug)]
struct Account {
    left: f64,
    at: Instant,
}

impl Account {
    const fn new(budget: Budget, now: Instant) -> Self {
        Self { left: budget.burst, at: now }
    }

    fn fill(&mut self, budget: Budget, now: Instant) {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * budget.per_second;
        self.left = (self.left + earned).min(budget.burst);
        self.at = now;
    }
}

/// What becomes of a refusal's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written.
    Write,
    /// It is left out and counted.
    LeaveOut {
        /// It is the first since the last summary: one is due after [`SUMMARY_AFTER`].
        first: bool,
    },
}

/// The account of one worker.
#[derive(Debug)]
pub(super) struct RefusalLog {
    clients: HashMap<IpAddr, Account>,
    all: Account,
    left_out: u64,
}

impl RefusalLog {
    pub(super) fn new(now: Instant) -> Self {
        Self { clients: HashMap::new(), all: Account::new(OF_ALL, now), left_out: 0 }
    }

    /// Judges the line of a refusal of this client.
    pub(super) fn judge(&mut self, client: IpAddr, now: Instant) -> Verdict {
        self.all.fill(OF_ALL, now);
        if self.all.left >= 1.0 && self.client_may(network_of(client), now) {
            self.all.left -= 1.0;
            return Verdict::Write;
        }
        self.left_out += 1;
        Verdict::LeaveOut { first: self.left_out == 1 }
    }

    /// The lines that were left out since this was asked last.
    pub(super) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    fn client_may(&mut self, client: IpAddr, now: Instant) -> bool {
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(&client) {
            // Whoever has its whole budget again is like one that never came.
            self.clients.retain(|_, account| {
                account.fill(OF_CLIENT, now);
                account.left < OF_CLIENT.burst
            });
            if self.clients.len() >= MAX_CLIENTS {
                return true;
            }
        }
        let account = self.clients.entry(client).or_insert_with(|| Account::new(OF_CLIENT, now));
        account.fill(OF_CLIENT, now);
        let may = account.left >= 1.0;
        if may {
            account.left -= 1.0;
        }
        may
    }
}

/// What counts as one client: an address, or with IPv6 a network of 64 bits, which is what one subscriber has.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn written(
        log: &mut RefusalLog,
        client: impl Fn(u32) -> IpAddr,
        times: u32,
        at: Instant,
    ) -> u32 {
        (0..times).map(|n| u32::from(log.judge(client(n), at) == Verdict::Write)).sum()
    }

    #[test]
    fn a_client_has_a_burst_and_a_rate_and_what_is_left_out_is_counted_once() {
        let start = Instant::now();
        let mut log = RefusalLog::new(start);
        assert_eq!(written(&mut log, |_| v4(1), 20, start), 20);
        assert_eq!(log.judge(v4(1), start), Verdict::LeaveOut { first: true });
        assert_eq!(log.judge(v4(1), start), Verdict::LeaveOut { first: false });
        assert_eq!(log.judge(v4(2), start), Verdict::Write, "another one has its own");
        let later = start + Duration::from_secs(2);
        assert_eq!(written(&mut log, |_| v4(1), 100, later), 10);
        assert_eq!(log.take_left_out(), 92);
        assert_eq!(log.take_left_out(), 0);
    }

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_client_and_a_mapped_address_is_the_one_of_ipv4() {
        let start = Instant::now();
        let mut log = RefusalLog::new(start);
        let client = |n: u32| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n as u16));
        assert_eq!(written(&mut log, client, 100, start), 20);
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(network_of(mapped), "192.0.2.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn many_clients_together_write_no_more_than_the_log_takes_and_are_not_all_remembered() {
        let start = Instant::now();
        let mut log = RefusalLog::new(start);
        assert_eq!(written(&mut log, v4, 100_000, start), 400);
        let mut lines = 0;
        for second in 1..=60 {
            let at = start + Duration::from_secs(second);
            lines += written(&mut log, |n| v4(n + second as u32 * 100_000), 10_000, at);
            assert!(log.clients.len() <= MAX_CLIENTS);
        }
        assert_eq!(lines, 6000);
    }
}
