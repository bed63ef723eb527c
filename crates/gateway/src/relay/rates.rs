//! How fast a side may send: buckets of tokens, one a message or a frame, which fill at an even pace. Pure: time is passed in.

use std::{num::NonZeroU32, time::Duration};

use tidegate_table::Limits;
use tokio::time::Instant;

use super::direction::Direction;
use crate::{
    close::Side,
    frames::{Allowance, Scarce},
};

/// What waits for tokens is let go no more often: each time costs a copy of what is held.
const LEAST_WAIT: Duration = Duration::from_millis(10);

/// Most that a side may send in a second, which is also the most that it may send at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendLimits {
    messages: Option<NonZeroU32>,
    frames: Option<NonZeroU32>,
}

impl SendLimits {
    /// Those of a rule for one side.
    pub(super) fn of(limits: &Limits, side: Side) -> Self {
        let messages = match side {
            Side::Client => limits.messages_per_second,
            Side::Backend => None,
        };
        Self { messages, frames: limits.frames_per_second }
    }

    /// The same without a limit of messages.
    pub(super) const fn without_messages(self) -> Self {
        Self { messages: None, ..self }
    }

    /// What may pass before anything has.
    pub(super) fn burst(self) -> Allowance {
        let burst = |rate: Option<NonZeroU32>| rate.map_or(u32::MAX, burst);
        Allowance { messages: burst(self.messages), frames: burst(self.frames) }
    }

    /// Whether there is no need to count yet: messages are not limited, and most frames of the burst are left.
    pub(super) fn is_ample(self, left: Allowance) -> bool {
        self.messages.is_none() && self.frames.is_none_or(|rate| left.frames > burst(rate) / 2)
    }
}

/// A second's worth. Below the number that stands for no limit.
fn burst(rate: NonZeroU32) -> u32 {
    rate.get().min(u32::MAX - 1)
}

/// How fast one side sends. There is none until it has sent a good part of what it may send at once.
#[derive(Debug)]
pub(super) struct SendRate {
    messages: Option<TokenBucket>,
    frames: Option<TokenBucket>,
    /// Since when the side has wanted more than it may, without coming to rest.
    exceeded: Option<Instant>,
}

impl SendRate {
    /// Counts from now on, where so much is left.
    pub(super) fn new(limits: SendLimits, left: Allowance, now: Instant) -> Self {
        let bucket = |rate: Option<NonZeroU32>, level| {
            rate.map(|rate| TokenBucket { rate, level, filled: now })
        };
        Self {
            messages: bucket(limits.messages, left.messages),
            frames: bucket(limits.frames, left.frames),
            exceeded: None,
        }
    }

    /// Messages are limited no longer.
    pub(super) fn lift_messages(&mut self) {
        self.messages = None;
    }

    /// What may pass now, where so much was left of what might before.
    pub(super) fn refill(&mut self, left: Allowance, now: Instant) -> Allowance {
        let refill = |bucket: &mut Option<TokenBucket>, left| {
            bucket.as_mut().map_or(u32::MAX, |bucket| bucket.refill(left, now))
        };
        Allowance {
            messages: refill(&mut self.messages, left.messages),
            frames: refill(&mut self.frames, left.frames),
        }
    }

    /// Notes whether something of the side waits for tokens, and where nothing does, whether it has come to rest: what it has begun is
    /// whole, or it could go on.
    fn note(&mut self, waits: bool, at_rest: bool, now: Instant) {
        if waits {
            self.exceeded.get_or_insert(now);
        } else if at_rest {
            self.exceeded = None;
        }
    }

    /// Whether the side wants more than it may.
    const fn is_exceeded(&self) -> bool {
        self.exceeded.is_some()
    }

    /// Since when the side has wanted more than it may.
    const fn exceeded(&self) -> Option<Instant> {
        self.exceeded
    }

    /// When something that waits may go on.
    pub(super) fn next(&self, scarce: Scarce) -> Option<Instant> {
        let bucket = match scarce {
            Scarce::Messages => &self.messages,
            Scarce::Frames => &self.frames,
        };
        bucket.as_ref().map(TokenBucket::next)
    }
}

impl Direction {
    /// Gives tokens, and notes whether the sender wants more than there are. Whether something that was held back may pass now.
    ///
    /// It does only where nothing but tokens is missing: while the receiver takes nothing they come in unused, and what is left for the
    /// next go of the relay has its own already.
    pub(super) fn mind_rate(&mut self, limits: SendLimits, now: Instant) -> bool {
        let left = self.allowance;
        if limits.is_ample(left) && self.rate.as_ref().is_none_or(|rate| !rate.is_exceeded()) {
            return false;
        }
        let waited = self.is_throttled();
        let rate = self.rate.get_or_insert_with(|| Box::new(SendRate::new(limits, left, now)));
        self.allowance = rate.refill(left, now);
        let waits = waited && self.stalled.is_none();
        let throttled = self.is_throttled();
        let at_rest = self.is_at_rest() && !throttled;
        if let Some(rate) = &mut self.rate {
            rate.note(waits, at_rest, now);
        }
        waited && !throttled
    }

    /// What the sender has wanted more of than it may, for longer than that.
    pub(super) fn too_fast(&self, patience: Duration, now: Instant) -> Option<Scarce> {
        let since = self.rate.as_ref()?.exceeded()?;
        let over = since + patience <= now && self.stalled.is_none();
        self.filter.waits_for().filter(|_| over)
    }
}

/// Tokens: so many come in a second, and a second's worth at most is kept.
#[derive(Debug)]
struct TokenBucket {
    rate: NonZeroU32,
    /// How many there were when it was last filled.
    level: u32,
    /// When that was; the fraction of a token that was earned by then is not lost.
    filled: Instant,
}

impl TokenBucket {
    /// Adds what was earned. `left` is what is left of the tokens that there were; what was taken was taken just now, so that
    /// it makes no room for tokens of before.
    fn refill(&mut self, left: u32, now: Instant) -> u32 {
        if left == 0 && now < self.next() {
            return 0;
        }
        let taken = self.level - left;
        let elapsed = now.saturating_duration_since(self.filled);
        let rate = u64::from(self.rate.get());
        let full = burst(self.rate);
        // In a second it fills, whatever there was.
        let nanos = elapsed.min(Duration::from_secs(1)).as_nanos() as u64;
        let earned = nanos * rate / NANOS;
        let level = u64::from(self.level) + earned;
        if level >= u64::from(full) {
            self.filled = now;
            self.level = full - taken;
        } else {
            self.filled += Duration::from_nanos(earned * NANOS / rate);
            self.level = level as u32 - taken; // below `full`
        }
        self.level
    }

    /// When an empty one has a token again, or some, where they come fast.
    fn next(&self) -> Instant {
        let token = Duration::from_nanos(NANOS.div_ceil(u64::from(self.rate.get())));
        self.filled + token.max(LEAST_WAIT)
    }
}

const NANOS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use tidegate_table::FrameChecks;

    use super::*;
    use crate::{
        frame_filter::FrameFilter,
        frames::{Extensions, FrameScanner, Role},
    };

    fn limits(messages: u32, frames: u32) -> SendLimits {
        SendLimits { messages: NonZeroU32::new(messages), frames: NonZeroU32::new(frames) }
    }

    /// A limit of messages alone, of whose burst so much is left.
    fn messages(rate: u32, left: u32, now: Instant) -> SendRate {
        let left = Allowance { messages: left, ..Allowance::UNLIMITED };
        SendRate::new(limits(rate, 0), left, now)
    }

    fn refill(rate: &mut SendRate, left: u32, now: Instant) -> u32 {
        rate.refill(Allowance { messages: left, ..Allowance::UNLIMITED }, now).messages
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_seconds_worth_passes_at_once_and_the_rate_after_that() {
        let start = Instant::now();
        assert_eq!(limits(10, 0).burst(), Allowance { messages: 10, frames: u32::MAX });
        let mut rate = messages(10, 0, start);
        assert_eq!(rate.next(Scarce::Messages), Some(start + ms(100)));
        assert_eq!(refill(&mut rate, 0, start + ms(99)), 0);
        assert_eq!(refill(&mut rate, 0, start + ms(250)), 2);
        // Half a token was over.
        assert_eq!(refill(&mut rate, 2, start + ms(300)), 3);
        assert_eq!(refill(&mut rate, 3, start + ms(60_000)), 10);
    }

    #[test]
    fn what_was_taken_just_now_makes_no_room_for_tokens_of_before() {
        let start = Instant::now();
        let mut rate = messages(5, 5, start);
        // Quiet for a minute with a full bucket, then all of it at once.
        assert_eq!(refill(&mut rate, 0, start + ms(60_000)), 0);
        assert_eq!(refill(&mut rate, 0, start + ms(60_200)), 1);
    }

    #[test]
    fn one_a_second_is_one_a_second_and_who_always_wants_more_exceeds_it_all_the_time() {
        let start = Instant::now();
        let mut rate = messages(1, 0, start);
        let mut passed = 0;
        rate.note(true, true, start);
        for tick in 1..=1200 {
            let now = start + ms(tick * 10);
            let tokens = refill(&mut rate, 0, now);
            passed += tokens;
            // They are taken at once, and the next one waits already.
            if let Some(buckets) = &mut rate.messages {
                buckets.level -= tokens;
            }
            rate.note(true, tokens > 0, now);
        }
        assert_eq!((passed, rate.exceeded()), (12, Some(start)));
        rate.note(false, false, start + ms(13_000));
        assert!(rate.is_exceeded(), "in the middle of a message it is not at rest");
        rate.note(false, true, start + ms(13_000));
        assert!(!rate.is_exceeded());
    }

    #[test]
    fn a_side_at_its_rate_passes_whatever_the_rate() {
        for rate in [1, 3, 7, 99, 1000, 20_000, 1_000_000, i32::MAX as u32] {
            let start = Instant::now();
            let mut bucket = messages(rate, 0, start);
            let mut passed = 0;
            for tick in 1..=3000 {
                let got = refill(&mut bucket, 0, start + ms(tick));
                passed += u64::from(got);
                if let Some(bucket) = &mut bucket.messages {
                    bucket.level -= got;
                }
            }
            let expected = u64::from(burst(NonZeroU32::new(rate).unwrap())) * 3;
            let slack = expected / 100 + 1;
            // A token too many each time where one takes less than a nanosecond.
            let most = expected + expected / 1_000_000;
            assert!(passed <= most && passed + slack >= expected, "{rate}: {passed}");
        }
    }

    #[test]
    fn nothing_is_counted_before_a_good_part_of_the_burst_is_used() {
        let frames = |frames| Allowance { frames, ..Allowance::UNLIMITED };
        assert!(limits(0, 100).is_ample(frames(51)) && !limits(0, 100).is_ample(frames(50)));
        assert!(limits(0, 0).is_ample(Allowance::UNLIMITED));
        assert!(!limits(0, 1).is_ample(frames(0)) && limits(0, 1).is_ample(frames(1)));
        assert!(!limits(1, 100).is_ample(frames(100)), "messages are counted from the first");
        assert!(limits(1, 100).without_messages().is_ample(frames(100)));
    }

    /// A direction whose backend has sent so many Pings at once, at a limit of 1000 frames.
    fn flooded(pings: usize) -> Direction {
        let scanner =
            FrameScanner::new(Role::Server, FrameChecks::Strict, Extensions::default(), None);
        let filter = FrameFilter::new(scanner, &[0x89, 0].repeat(pings));
        Direction::new(Role::Server, filter, limits(0, 1000).burst())
    }

    /// One go, of so many frames at most.
    fn go(direction: &mut Direction, most: u32) {
        let mut bytes = direction.filter.held().to_vec();
        let Allowance { messages, frames } = direction.allowance;
        let allowance = Allowance { messages, frames: frames.min(most) };
        let filtered = direction.filter.apply(&mut bytes, allowance);
        direction.allowance = direction.allowance.less(filtered.messages, filtered.frames);
    }

    #[test]
    fn a_sender_is_not_too_fast_because_its_receiver_is_slow() {
        let (start, patience) = (Instant::now(), ms(10_000));
        let mut direction = flooded(30_000);
        go(&mut direction, 2048);
        assert!(!direction.mind_rate(limits(0, 1000), start), "out of tokens");
        direction.stalled = Some(start);
        for tick in 1..300 {
            let now = start + ms(tick * 100);
            // What it takes now and then is below the limit; there is always more to sift.
            direction.stalled = None;
            go(&mut direction, 50);
            direction.stalled = Some(now);
            direction.mind_rate(limits(0, 1000), now);
            assert!(direction.filter.waits_for().is_some(), "{tick}");
            assert_eq!(direction.too_fast(patience, now), None, "{tick}");
        }
    }

    #[test]
    fn a_sender_whose_goes_are_cut_short_is_not_too_fast_while_there_are_tokens() {
        let (start, patience) = (Instant::now(), ms(10_000));
        let mut direction = flooded(30_000);
        for tick in 1..300 {
            let now = start + ms(tick * 100);
            go(&mut direction, 90);
            direction.mind_rate(limits(0, 1000), now);
            assert_eq!(direction.filter.waits_for(), Some(Scarce::Frames), "{tick}");
            assert_eq!(direction.too_fast(patience, now), None, "{tick}");
        }
    }

    #[test]
    fn a_sender_that_always_wants_more_is_too_fast_once_patience_is_over() {
        let (start, patience) = (Instant::now(), ms(10_000));
        let mut direction = flooded(30_000);
        let mut ended = None;
        for tick in 0..2000 {
            let now = start + ms(tick * 10);
            go(&mut direction, 2048);
            direction.mind_rate(limits(0, 1000), now);
            ended = ended.or(direction.too_fast(patience, now).map(|scarce| (tick, scarce)));
        }
        assert_eq!(ended, Some((1000, Scarce::Frames)));
    }
}
