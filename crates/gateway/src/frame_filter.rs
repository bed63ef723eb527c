//! What of a direction's bytes passes: all but the answers to our own pings, what comes behind a Close frame, and what
//! breaks a rule.
//!
//! Sans-io, as `frames` is: bytes in, bytes out in place, resumable at any byte. A frame header and a control frame
//! pass whole or not at all, so that a frame of ours never has to follow half a header.

use super::{
    close::CloseCode,
    frames::{self, Allowance, FrameScanner, Scarce, Stop, Violation},
};

/// Answers to so many pings of ours are known as such.
const REMEMBERED: u64 = 1 << 16;

/// What ends a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A Close frame, the last one to pass.
    Close(CloseCode),
    /// A frame that breaks RFC 6455.
    Violation(Violation),
    /// A message that is too long.
    TooBig,
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filtered {
    /// The first so many bytes pass.
    pub passed: usize,
    /// Data messages whose last frame began among them.
    pub messages: u32,
    /// Frames that were taken, the answers to our pings too, but for a Close frame.
    pub frames: u32,
    /// The last offset among those that pass, if any, where a frame ends or begins.
    pub boundary: Option<usize>,
    /// The last of our pings was answered, not one before it.
    pub answered: bool,
    /// What ends the direction. Nothing passes after it.
    pub finding: Option<Finding>,
}

impl Filtered {
    /// Lets the next bytes pass.
    fn take(&mut self, bytes: &mut [u8], at: &mut usize, count: usize) {
        if *at != self.passed {
            bytes.copy_within(*at..*at + count, self.passed);
        }
        *at += count;
        self.passed += count;
    }
}

/// Why bytes are held that need no others to be filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ripe {
    /// They were there from the start.
    Early,
    /// The allowance did not reach for them.
    Waits(Scarce),
}

/// Sifts one direction.
#[derive(Clone, Debug)]
pub struct FrameFilter {
    scanner: FrameScanner,
    /// Bytes that were not passed on yet: a header or control frame that is not whole, or all from the frame on that was one
    /// too many.
    held: Box<[u8]>,
    /// `held` is worth another look although nothing was added to it.
    ripe: Option<Ripe>,
    /// Payload of our last ping towards the sender; none was sent if zero. Those before it count up to it.
    token: u64,
    /// A Close frame is told, but does not pass.
    swallows_close: bool,
    /// Nothing passes any more.
    finished: bool,
}

impl FrameFilter {
    /// A filter that begins with bytes that have come already.
    pub fn new(scanner: FrameScanner, early: &[u8]) -> Self {
        Self {
            scanner,
            held: early.into(),
            ripe: (!early.is_empty()).then_some(Ripe::Early),
            token: 0,
            swallows_close: false,
            finished: false,
        }
    }

    /// Bytes that have to be in front of those that are filtered next.
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    /// Whether there is something to sift without more bytes.
    pub const fn ripe(&self) -> bool {
        self.ripe.is_some()
    }

    /// What the next frame waits for, if it waits.
    pub const fn waits_for(&self) -> Option<Scarce> {
        match self.ripe {
            Some(Ripe::Waits(scarce)) => Some(scarce),
            _ => None,
        }
    }

    /// Whether a frame of ours may follow what has passed.
    pub const fn at_boundary(&self) -> bool {
        self.scanner.at_boundary()
    }

    /// The payload of our next ping, by which its answer is known.
    pub fn next_ping(&mut self) -> [u8; 8] {
        self.token = match self.token {
            // With room below it and above it.
            0 => fastrand::u64(REMEMBERED..u64::MAX / 2),
            last => last + 1,
        };
        self.token.to_be_bytes()
    }

    /// Our ping that such a pong answers, counted back from the last; `None`: none of ours.
    fn answered(&self, payload: &[u8]) -> Option<u64> {
        let answered = u64::from_be_bytes(payload.try_into().ok()?);
        let age = self.token.checked_sub(answered)?;
        (self.token != 0 && age < REMEMBERED).then_some(age)
    }

    /// Lets no Close frame pass any more.
    pub fn swallow_close(&mut self) {
        self.swallows_close = true;
    }

    /// Whether a Close frame would not pass.
    pub const fn swallows_close(&self) -> bool {
        self.swallows_close
    }

    /// Lets nothing pass any more.
    pub fn finish(&mut self) {
        self.finished = true;
        self.held = Box::default();
        self.ripe = None;
    }

    /// Sifts `bytes`, which begin with those held, as far as the allowance reaches. What passes is moved to their front.
    pub fn apply(&mut self, bytes: &mut [u8], allowance: Allowance) -> Filtered {
        let mut filtered = Filtered {
            passed: 0,
            messages: 0,
            frames: 0,
            boundary: None,
            answered: false,
            finding: None,
        };
        // Where the next frame begins; what passes is moved down to what has passed, once.
        let mut at = 0;
        self.ripe = None;
        let keep = loop {
            if self.finished {
                break false;
            }
            let left = Allowance {
                messages: allowance.messages - filtered.messages,
                frames: allowance.frames - filtered.frames,
            };
            let scan = self.scanner.scan(&bytes[at..], left);
            filtered.boundary =
                scan.boundary.map(|offset| filtered.passed + offset).or(filtered.boundary);
            filtered.messages += scan.messages;
            filtered.frames += scan.frames;
            filtered.take(bytes, &mut at, scan.passed);
            match scan.stop {
                Stop::End => break false,
                Stop::Incomplete => break true,
                Stop::Enough(scarce) => {
                    self.ripe = Some(Ripe::Waits(scarce));
                    break true;
                }
                Stop::Violation(violation) => {
                    filtered.finding = Some(Finding::Violation(violation));
                    self.finished = true;
                }
                Stop::TooBig => {
                    filtered.finding = Some(Finding::TooBig);
                    self.finished = true;
                }
                Stop::Control(frame) => {
                    let mut space = [0; 125];
                    let payload = frame.payload(&bytes[at..], &mut space);
                    match frame.opcode() {
                        frames::PONG if let Some(age) = self.answered(payload) => {
                            filtered.answered |= age == 0;
                            filtered.frames += 1;
                            at += frame.total();
                            continue;
                        }
                        frames::CLOSE => match frames::close_code(payload) {
                            Err(violation) if self.scanner.is_strict() => {
                                filtered.finding = Some(Finding::Violation(violation));
                                self.finished = true;
                                continue;
                            }
                            code => {
                                let unchecked =
                                    payload.first_chunk().map(|c| u16::from_be_bytes(*c));
                                let code = CloseCode(code.unwrap_or(unchecked));
                                filtered.finding = Some(Finding::Close(code));
                                // No data may follow (§5.5.1).
                                self.finished = true;
                                if self.swallows_close {
                                    continue;
                                }
                            }
                        },
                        _ => filtered.frames += 1,
                    }
                    filtered.take(bytes, &mut at, frame.total());
                    filtered.boundary = Some(filtered.passed);
                }
            }
        };
        if keep {
            // Mostly nothing or some bytes of a header: `held` is not worth keeping allocated.
            self.held = bytes[at..].into();
        } else if !self.held.is_empty() {
            self.held = Box::default();
        }
        filtered
    }
}

#[cfg(test)]
mod tests;
