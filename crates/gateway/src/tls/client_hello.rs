//! How far a ClientHello has come, record by record, and what is kept of one that is not whole yet. Pure: no I/O, no rustls.
//!
//! Only lengths are looked at here. What a hello says, and which alert answers one that is wrong, is rustls's to say, and it is
//! asked once: when the hello is whole, or cannot become one.

/// Most bytes that a ClientHello may take on the wire, the headers of its records included. Those of browsers take 0.5 to 2 KiB.
pub const MAX_HELLO: usize = 16 * 1024;

/// Bytes of a record's header (RFC 8446 §5.1).
const RECORD_HEADER: usize = 5;
/// Bytes of a handshake message's header (RFC 8446 §4).
const MESSAGE_HEADER: usize = 4;
/// A record that is longer is not TLS (RFC 5246 §6.2.3): this is the first length that is not allowed.
const RECORD_TOO_LONG: usize = 16 * 1024 + 2048;
/// The content types of records: change_cipher_spec to heartbeat.
const CONTENT_TYPES: std::ops::RangeInclusive<u8> = 20..=24;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// The fatal alert for a hello that is too long: illegal_parameter, as OpenSSL has it.
pub const TOO_LONG_ALERT: [u8; 7] = [ALERT, 3, 3, 0, 2, 2, 47];

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It may become a hello: more is needed.
    Incomplete,
    /// It is whole, or what has come can be no hello: rustls says which, and why.
    Ready,
    /// It would take more than [`MAX_HELLO`].
    TooLong,
}

/// Looks at all that has come of a connection.
pub fn progress(received: &[u8]) -> Progress {
    let mut rest = received;
    // Of the message that the records carry: how much has come, and how long it says it is.
    let (mut came, mut header) = (0, [0; MESSAGE_HEADER]);
    loop {
        let at = received.len() - rest.len();
        let length = match record_length(rest) {
            RecordHeader::Incomplete if received.len() < MAX_HELLO => return Progress::Incomplete,
            RecordHeader::Incomplete => return Progress::TooLong,
            RecordHeader::Invalid => return Progress::Ready,
            RecordHeader::Length(length) => length,
        };
        let whole = rest.len() >= RECORD_HEADER + length;
        let payload = &rest[RECORD_HEADER..rest.len().min(RECORD_HEADER + length)];
        if rest[0] != HANDSHAKE {
            // No hello, which is said once the record is whole.
            return judge(whole, at + RECORD_HEADER + length);
        }
        for (to, byte) in header.iter_mut().skip(came).zip(payload) {
            *to = *byte;
        }
        came += payload.len();
        let message = (came >= MESSAGE_HEADER).then(|| message_length(header));
        if message.is_some_and(|message| message > MAX_HELLO - RECORD_HEADER) {
            return Progress::TooLong;
        }
        let complete = message.is_some_and(|message| came >= message);
        if complete || !whole {
            return judge(complete && whole, at + RECORD_HEADER + length);
        }
        rest = &rest[RECORD_HEADER + length..];
    }
}

/// What is said where the last record looked at ends at `end`.
const fn judge(whole: bool, end: usize) -> Progress {
    match (whole, end > MAX_HELLO) {
        (_, true) => Progress::TooLong,
        (true, false) => Progress::Ready,
        (false, false) => Progress::Incomplete,
    }
}

enum RecordHeader {
    Incomplete,
    Invalid,
    Length(usize),
}

/// The length of the record that begins here.
fn record_length(record: &[u8]) -> RecordHeader {
    let (kind, major) = (record.first(), record.get(1));
    if kind.is_some_and(|kind| !CONTENT_TYPES.contains(kind)) {
        return RecordHeader::Invalid;
    }
    // The minor version is told only together with the major one, to be judged as rustls does.
    if record.len() >= 3 && major != Some(&3) {
        return RecordHeader::Invalid;
    }
    let Some(&[kind, _, _, high, low]) = record.first_chunk() else {
        return RecordHeader::Incomplete;
    };
    match usize::from(u16::from_be_bytes([high, low])) {
        0 if kind != APPLICATION_DATA => RecordHeader::Invalid,
        RECORD_TOO_LONG.. => RecordHeader::Invalid,
        length => RecordHeader::Length(length),
    }
}

/// How many bytes a handshake message takes, by its header.
fn message_length([_, length @ ..]: [u8; MESSAGE_HEADER]) -> usize {
    let [high, middle, low] = length;
    MESSAGE_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize
}

#[cfg(test)]
mod tests;
