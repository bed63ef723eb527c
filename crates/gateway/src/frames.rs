//! Frame headers as they pass (RFC 6455 §5): where frames begin and end, what they are, and whether they are sound.
//!
//! Sans-io: bytes in, findings out. Payload is never looked at, copied or unmasked, but for that of control frames. No
//! socket, no clock, no policy: what follows from a finding is decided by `frame_filter` and `close`.

use http::HeaderMap;
use tidegate_table::FrameChecks;

use super::list::tokens;

/// Continuation of a fragmented message.
const CONTINUATION: u8 = 0x0;
/// Opcodes from here on are control frames.
const FIRST_CONTROL: u8 = 0x8;
/// Opcode of a Close frame.
pub const CLOSE: u8 = 0x8;
/// Opcode of a Ping frame.
pub const PING: u8 = 0x9;
/// Opcode of a Pong frame.
pub const PONG: u8 = 0xa;

/// Most payload bytes of a control frame (§5.5).
const MAX_CONTROL: u64 = 125;

/// Which part a sender of frames has in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Masks its frames (§5.3).
    Client,
    /// Does not.
    Server,
}

/// What was negotiated in `Sec-WebSocket-Extensions`, as far as it changes what a sound frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extensions {
    /// None: reserved bits and opcodes have no meaning.
    #[default]
    None,
    /// permessage-deflate (RFC 7692): RSV1 marks the first frame of a compressed message.
    Deflate,
    /// One that we do not know: it may give any meaning to reserved bits and opcodes.
    Unknown,
}

impl Extensions {
    /// Those that an answer to an upgrade has chosen.
    pub fn chosen(headers: &HeaderMap) -> Self {
        let mut chosen = Self::None;
        for extension in tokens(headers, &http::header::SEC_WEBSOCKET_EXTENSIONS) {
            let name = extension.split(|byte| *byte == b';').next().unwrap_or_default();
            if !name.trim_ascii().eq_ignore_ascii_case(b"permessage-deflate") {
                return Self::Unknown;
            }
            chosen = Self::Deflate;
        }
        chosen
    }
}

/// Which rule a frame breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A reserved bit that no extension gives a meaning to (§5.2).
    ReservedBits,
    /// An opcode that is not defined (§5.2).
    UnknownOpcode,
    /// A client's frame without mask (§5.1).
    NotMasked,
    /// A server's frame with mask (§5.1).
    Masked,
    /// A length written with more bytes than it needs, or with its highest bit set (§5.2).
    BadLength,
    /// A control frame of more than 125 bytes (§5.5).
    LongControlFrame,
    /// A control frame without FIN (§5.5).
    FragmentedControlFrame,
    /// A continuation of nothing (§5.4).
    UnexpectedContinuation,
    /// A new message before the one under way has ended (§5.4).
    InterruptedMessage,
    /// A Close frame with one byte, a code that may not be sent, or a reason that is not UTF-8 (§5.5.1, §7.4).
    BadClose,
}

impl Violation {
    /// Every violation, for tests.
    pub const ALL: [Self; 10] = [
        Self::ReservedBits,
        Self::UnknownOpcode,
        Self::NotMasked,
        Self::Masked,
        Self::BadLength,
        Self::LongControlFrame,
        Self::FragmentedControlFrame,
        Self::UnexpectedContinuation,
        Self::InterruptedMessage,
        Self::BadClose,
    ];

    /// What the Close frame and the log say.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bits are set that no extension uses",
            Self::UnknownOpcode => "unknown opcode",
            Self::NotMasked => "a client's frame is not masked",
            Self::Masked => "a server's frame is masked",
            Self::BadLength => "a length is not written the shortest way",
            Self::LongControlFrame => "a control frame is longer than 125 bytes",
            Self::FragmentedControlFrame => "a control frame is fragmented",
            Self::UnexpectedContinuation => "a continuation without a message",
            Self::InterruptedMessage => "a new message within a fragmented one",
            Self::BadClose => "a Close frame with a bad code or reason",
        }
    }
}

/// A whole frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    first: u8,
    /// Its own length, bytes.
    pub length: u8,
    /// Length of the payload, bytes.
    pub payload: u64,
    mask: Option<[u8; 4]>,
    minimal: bool,
}

impl Header {
    /// The header at the start of `bytes`; `None` while it is incomplete.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[first, second, ref rest @ ..] = bytes else { return None };
        let (payload, extended) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
            127 => (u64::from_be_bytes(*rest.first_chunk()?), 8),
            short => (u64::from(short), 0),
        };
        let minimal = match extended {
            2 => payload > 125,
            8 => payload > 0xffff && payload >> 63 == 0,
            _ => true,
        };
        let mask = match second & 0x80 {
            0 => None,
            _ => Some(*rest[extended..].first_chunk()?),
        };
        let length = 2 + extended as u8 + if mask.is_some() { 4 } else { 0 };
        Some(Self { first, length, payload, mask, minimal })
    }

    /// The opcode.
    pub const fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    const fn fin(&self) -> bool {
        self.first & 0x80 != 0
    }

    const fn is_control(&self) -> bool {
        self.opcode() >= FIRST_CONTROL
    }
}

/// A whole control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlFrame {
    header: Header,
}

impl ControlFrame {
    /// [`CLOSE`], [`PING`], [`PONG`], or one that is not defined.
    pub const fn opcode(&self) -> u8 {
        self.header.opcode()
    }

    /// Header and payload, bytes.
    pub const fn total(&self) -> usize {
        self.header.length as usize + self.header.payload as usize
    }

    /// The payload of `frame`, unmasked, in `space`.
    pub fn payload<'s>(&self, frame: &[u8], space: &'s mut [u8; MAX_CONTROL as usize]) -> &'s [u8] {
        let payload = &frame[usize::from(self.header.length)..self.total()];
        let space = &mut space[..payload.len()];
        space.copy_from_slice(payload);
        if let Some(mask) = self.header.mask {
            space.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        space
    }
}

/// What stopped a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The end of the bytes.
    End,
    /// A header or a control frame that is not whole yet: to be offered again from its start, with more behind it.
    Incomplete,
    /// A whole control frame. The next scan begins behind it.
    Control(ControlFrame),
    /// A frame that breaks a rule.
    Violation(Violation),
    /// A frame that makes its message longer than allowed.
    TooBig,
    /// A sound frame that is beyond the allowance.
    Enough(Scarce),
}

/// What of an allowance is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scarce {
    /// Ends of messages.
    Messages,
    /// Frames.
    Frames,
}

/// How much may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// So many data messages may end.
    pub messages: u32,
    /// So many frames may begin: empty ones, fragments and control frames too, but for Close frames, which are the last.
    pub frames: u32,
}

impl Allowance {
    /// No limit.
    pub const UNLIMITED: Self = Self { messages: u32::MAX, frames: u32::MAX };

    /// What is left of it when so much has passed. What is unlimited stays so.
    #[must_use]
    pub fn less(self, messages: u32, frames: u32) -> Self {
        let less = |from, used| if from == u32::MAX { from } else { from - used };
        Self { messages: less(self.messages, messages), frames: less(self.frames, frames) }
    }

    /// Whether none of this is left.
    pub const fn lacks(self, scarce: Scarce) -> bool {
        let messages = matches!(scarce, Scarce::Messages);
        if messages { self.messages == 0 } else { self.frames == 0 }
    }
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// So many bytes belong to whole headers and payloads of data frames.
    pub passed: usize,
    /// Data messages whose last frame began among them.
    pub messages: u32,
    /// Frames that began among them.
    pub frames: u32,
    /// The last offset, if any, where a frame ends or begins.
    pub boundary: Option<usize>,
    /// Why it went no further.
    pub stop: Stop,
}

/// A frame whose header may pass: the bytes of that and of its payload, and whether a message ends with it.
struct Begun {
    header: u8,
    payload: u64,
    ends_message: bool,
}

impl Begun {
    const fn of(header: &Header, ends_message: bool) -> Self {
        Self { header: header.length, payload: header.payload, ends_message }
    }
}

/// Follows the frames of one direction.
#[derive(Clone, Debug)]
pub struct FrameScanner {
    /// Payload bytes of the current frame still to come.
    payload: u64,
    /// Payload bytes of the current message, as announced so far.
    message: u64,
    max_message: u64,
    role: Role,
    strict: bool,
    extensions: Extensions,
    /// A fragmented message is under way.
    fragmented: bool,
}

impl FrameScanner {
    /// A scanner of what `role` sends. `max_message` bounds the payload of a message, bytes.
    pub const fn new(
        role: Role,
        checks: FrameChecks,
        extensions: Extensions,
        max_message: Option<u64>,
    ) -> Self {
        Self {
            payload: 0,
            message: 0,
            max_message: match max_message {
                Some(bytes) => bytes,
                None => u64::MAX,
            },
            role,
            strict: matches!(checks, FrameChecks::Strict),
            extensions,
            fragmented: false,
        }
    }

    /// Whether broken rules stop the scan.
    pub const fn is_strict(&self) -> bool {
        self.strict
    }

    /// Whether the bytes passed so far end with a whole frame, so that another may follow.
    pub const fn at_boundary(&self) -> bool {
        self.payload == 0
    }

    /// Takes the next bytes of the direction, as far as the allowance reaches. A control frame at which it stops is yet to be
    /// counted.
    pub fn scan(&mut self, bytes: &[u8], allowance: Allowance) -> Scan {
        let mut scan = Scan { passed: 0, messages: 0, frames: 0, boundary: None, stop: Stop::End };
        loop {
            let rest = &bytes[scan.passed..];
            if self.payload > 0 {
                let step = self.payload.min(rest.len() as u64);
                self.payload -= step;
                scan.passed += step as usize; // at most the length of `rest`
                if self.payload > 0 {
                    return scan;
                }
                continue;
            }
            scan.boundary = Some(scan.passed);
            if rest.is_empty() {
                return scan;
            }
            match self.begin(
                rest,
                scan.frames < allowance.frames,
                scan.messages < allowance.messages,
            ) {
                Ok(begun) => {
                    scan.passed += usize::from(begun.header);
                    scan.messages += u32::from(begun.ends_message);
                    scan.frames += 1;
                    self.payload = begun.payload;
                }
                Err(stop) => {
                    scan.stop = stop;
                    return scan;
                }
            }
        }
    }

    /// Judges the frame at the start of `bytes`, which are not empty; a data frame's header if it may pass.
    fn begin(&mut self, bytes: &[u8], may_begin: bool, may_end: bool) -> Result<Begun, Stop> {
        let header = Header::parse(bytes).ok_or(Stop::Incomplete)?;
        if self.strict && !self.is_usual(&header) {
            self.check(&header).map_err(Stop::Violation)?;
        }
        // A Close frame ends the direction; a longer one, which only unchecked peers can send, ends nothing.
        if !may_begin && (header.opcode() != CLOSE || header.payload > MAX_CONTROL) {
            return Err(Stop::Enough(Scarce::Frames));
        }
        // Where rules are not checked a control frame may be of any length: a long one passes like data.
        if header.is_control() {
            if header.payload > MAX_CONTROL {
                if header.payload > self.max_message {
                    return Err(Stop::TooBig);
                }
                // It is counted as no message: its FIN bit does not matter.
                return Ok(Begun::of(&header, false));
            }
            let control = ControlFrame { header };
            let whole = bytes.len() >= control.total();
            return Err(if whole { Stop::Control(control) } else { Stop::Incomplete });
        }
        if header.fin() && !may_end {
            return Err(Stop::Enough(Scarce::Messages));
        }
        // Unchecked, a first frame may stand where a continuation should.
        let continues = header.opcode() == CONTINUATION || self.fragmented;
        let begun = if continues { self.message } else { 0 };
        let message = begun.saturating_add(header.payload);
        if message > self.max_message {
            return Err(Stop::TooBig);
        }
        self.message = if header.fin() { 0 } else { message };
        self.fragmented = !header.fin();
        Ok(Begun::of(&header, header.fin()))
    }

    /// Whether a frame is as most are, so that [`Self::check`] would find nothing: the first of a message, without reserved bits.
    fn is_usual(&self, header: &Header) -> bool {
        matches!(header.first & 0x7f, 1 | 2)
            && !self.fragmented
            && header.minimal
            && header.mask.is_some() == matches!(self.role, Role::Client)
    }

    fn check(&self, header: &Header) -> Result<(), Violation> {
        let data = matches!(header.opcode(), 1 | 2);
        let reserved = header.first & 0x70;
        match self.extensions {
            Extensions::Unknown => {}
            Extensions::Deflate if data && reserved & 0x30 == 0 => {}
            _ if reserved != 0 => return Err(Violation::ReservedBits),
            _ => {}
        }
        let defined = data || matches!(header.opcode(), CONTINUATION | CLOSE | PING | PONG);
        if !defined && self.extensions != Extensions::Unknown {
            return Err(Violation::UnknownOpcode);
        }
        match self.role {
            Role::Client if header.mask.is_none() => return Err(Violation::NotMasked),
            Role::Server if header.mask.is_some() => return Err(Violation::Masked),
            _ => {}
        }
        if !header.minimal {
            return Err(Violation::BadLength);
        }
        if header.is_control() {
            if header.payload > MAX_CONTROL {
                return Err(Violation::LongControlFrame);
            }
            if !header.fin() {
                return Err(Violation::FragmentedControlFrame);
            }
        } else if header.opcode() == CONTINUATION && !self.fragmented {
            return Err(Violation::UnexpectedContinuation);
        } else if data && self.fragmented {
            return Err(Violation::InterruptedMessage);
        }
        Ok(())
    }
}

/// Whether a peer may put this code in a Close frame (§7.4, and the registry of codes that it set up).
pub const fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The code of a Close frame's payload; `None` if there is none.
pub fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    match payload {
        [] => Ok(None),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let sound = is_sendable(code) && std::str::from_utf8(reason).is_ok();
            if sound { Ok(Some(code)) } else { Err(Violation::BadClose) }
        }
        _ => Err(Violation::BadClose),
    }
}

/// A Close frame (§5.5.1), without payload if there is no code. Of the reason at most 123 bytes are sent.
pub fn close_frame(role: Role, code: Option<u16>, reason: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    if let Some(code) = code {
        payload.extend(code.to_be_bytes());
        payload.extend(&reason.as_bytes()[..reason.floor_char_boundary(123)]);
    }
    control_frame(role, CLOSE, &payload)
}

/// A Ping frame (§5.5.2).
pub fn ping_frame(role: Role, payload: &[u8; 8]) -> Vec<u8> {
    control_frame(role, PING, payload)
}

/// A control frame of at most 125 bytes payload, masked if a client sends it.
fn control_frame(role: Role, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(6 + payload.len());
    frame.push(0x80 | opcode);
    match role {
        Role::Server => {
            frame.push(payload.len() as u8);
            frame.extend(payload);
        }
        Role::Client => {
            // Unpredictable by what runs in the peer (§10.3) is enough: it is no secret.
            let mask = fastrand::u32(..).to_ne_bytes();
            frame.push(0x80 | payload.len() as u8);
            frame.extend(mask);
            frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
    }
    frame
}

#[cfg(test)]
mod tests;
