//! Frame headers as they pass (RFC 6455 §5.2): where frames begin and end, and nothing else.
//!
//! Sans-io: bytes in, events out, resumable at any byte. Payload is never looked at, copied or unmasked.

/// Opcode of a Close frame.
const CLOSE: u8 = 0x8;

/// Follows the frames of one direction.
#[derive(Clone, Debug, Default)]
pub struct FrameScanner {
    /// Bytes of the header that is coming in.
    header: [u8; 14],
    /// How many of them are there.
    have: u8,
    /// Payload bytes of the current frame still to come.
    payload: u64,
    /// A Close frame has begun.
    close_seen: bool,
}

/// What a piece of the stream brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Whole frames that ended a data message (FIN set, opcode 0 to 2).
    pub messages: u64,
}

impl FrameScanner {
    /// Takes the next bytes of the direction.
    pub fn scan(&mut self, mut bytes: &[u8]) -> Scanned {
        let mut scanned = Scanned::default();
        while !bytes.is_empty() {
            if self.payload > 0 {
                let step = self.payload.min(bytes.len() as u64);
                self.payload -= step;
                // At most the length of `bytes`.
                bytes = &bytes[step as usize..];
                continue;
            }
            let have = usize::from(self.have);
            let step = (self.wanted() - have).min(bytes.len());
            self.header[have..have + step].copy_from_slice(&bytes[..step]);
            self.have += step as u8;
            bytes = &bytes[step..];
            if usize::from(self.have) == self.wanted() {
                self.payload = self.length();
                self.have = 0;
                let first = self.header[0];
                if first & 0x0f == CLOSE {
                    self.close_seen = true;
                }
                if first & 0x80 != 0 && first & 0x0f <= 2 {
                    scanned.messages += 1;
                }
            }
        }
        scanned
    }

    /// Whether the bytes so far end with a whole frame, so that a frame of ours may follow.
    pub const fn at_boundary(&self) -> bool {
        self.have == 0 && self.payload == 0
    }

    /// Whether a Close frame was begun in this direction.
    pub const fn close_seen(&self) -> bool {
        self.close_seen
    }

    /// Length of the current header as far as it is known.
    fn wanted(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let mask = if self.header[1] & 0x80 != 0 { 4 } else { 0 };
        2 + mask
            + match self.header[1] & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            }
    }

    /// Payload length of a whole header.
    fn length(&self) -> u64 {
        match self.header[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&self.header[2..10]);
                u64::from_be_bytes(bytes)
            }
            short => u64::from(short),
        }
    }
}

/// A Close frame (RFC 6455 §5.5.1) with a code and a reason of at most 123 bytes. `mask` as clients must (§5.3).
pub fn close_frame(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend(reason.bytes().take(123));
    let mut frame = vec![0x80 | CLOSE, payload.len() as u8];
    if let Some(mask) = mask {
        frame[1] |= 0x80;
        frame.extend(mask);
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    }
    frame.extend(payload);
    frame
}

#[cfg(test)]
mod tests;
