//! A connection that gets nothing but refusals is not kept alive for ever.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use http::{HeaderValue, Response, header};

use super::RequestLimits;

/// The refusals of one connection since something else was answered.
#[derive(Debug)]
pub(super) struct RefusedRequests {
    most: u32,
    longest: Duration,
    count: Cell<u32>,
    /// How many there were at the last answer.
    seen: Cell<u32>,
    since: Cell<Instant>,
}

impl RefusedRequests {
    /// Of a connection that begins now.
    pub(super) const fn new(limits: &RequestLimits, now: Instant) -> Self {
        Self {
            most: limits.refusals,
            longest: limits.refused_time,
            count: Cell::new(0),
            seen: Cell::new(0),
            since: Cell::new(now),
        }
    }

    /// One more.
    pub(super) fn count(&self) {
        self.count.set(self.count.get() + 1);
    }

    /// Looks at an answer before it goes out: that to one refusal too many, or too late, is the last.
    pub(super) fn answered<B>(&self, response: &mut Response<B>, now: Instant) {
        let count = self.count.get();
        if self.seen.replace(count) == count {
            // Something else than a refusal.
            self.count.set(0);
            self.seen.set(0);
            self.since.set(now);
            return;
        }
        if count >= self.most || now.duration_since(self.since.get()) >= self.longest {
            // Among the names of others, such as "upgrade".
            response.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> (RefusedRequests, Instant) {
        let limits = RequestLimits {
            refusals: 3,
            refused_time: Duration::from_secs(60),
            ..RequestLimits::default()
        };
        let now = Instant::now();
        (RefusedRequests::new(&limits, now), now)
    }

    /// Whether the connection ends with the next answer.
    fn ends(requests: &RefusedRequests, refused: bool, now: Instant) -> bool {
        if refused {
            requests.count();
        }
        let mut response = Response::new(());
        requests.answered(&mut response, now);
        response.headers().contains_key(header::CONNECTION)
    }

    #[test]
    fn the_last_of_many_refusals_in_a_row_ends_the_connection() {
        let (requests, now) = refused();
        let answers = [true, true, false, true, true, true];
        let ends = answers.map(|refused| ends(&requests, refused, now));
        assert_eq!(ends, [false, false, false, false, false, true]);
    }

    #[test]
    fn refusals_alone_for_too_long_end_it_and_time_counts_from_the_last_other_answer() {
        let (requests, now) = refused();
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(!ends(&requests, true, after(59)));
        assert!(!ends(&requests, false, after(3600)));
        assert!(!ends(&requests, true, after(3659)));
        assert!(ends(&requests, true, after(3660)));
    }
}
