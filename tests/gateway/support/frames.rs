//! WebSocket frames by hand, so that tests see and send exactly the bytes they mean.

/// The opcodes that tests use (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpCode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// One frame, unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: u8,
    /// Whether it was masked on the wire.
    pub masked: bool,
    pub payload: Vec<u8>,
}

impl Frame {
    /// A final frame's bytes, masked as clients must if `mask` is given.
    pub fn bytes(opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        Self::part(true, opcode, payload, mask)
    }

    /// A frame's bytes.
    pub fn part(fin: bool, opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let masked = if mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![u8::from(fin) << 7 | opcode as u8];
        match payload.len() {
            length @ 0..=125 => bytes.push(masked | length as u8),
            length @ 126..=0xffff => {
                bytes.push(masked | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(masked | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        let key = mask.unwrap_or_default();
        bytes.extend(mask.into_iter().flatten());
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    /// A client's text message.
    pub fn from_client(text: &str) -> Vec<u8> {
        Self::bytes(OpCode::Text, text.as_bytes(), Some([1, 2, 3, 4]))
    }

    /// A server's text message.
    pub fn from_server(text: &str) -> Vec<u8> {
        Self::bytes(OpCode::Text, text.as_bytes(), None)
    }

    /// A client's Close frame.
    pub fn client_close(code: u16, reason: &str) -> Vec<u8> {
        Self::bytes(OpCode::Close, &close_payload(code, reason), Some([1, 2, 3, 4]))
    }

    /// A server's Close frame.
    pub fn server_close(code: u16, reason: &str) -> Vec<u8> {
        Self::bytes(OpCode::Close, &close_payload(code, reason), None)
    }

    /// Code and reason of a Close frame.
    #[track_caller]
    pub fn close(&self) -> (u16, String) {
        assert_eq!(self.opcode, OpCode::Close as u8, "not a Close frame: {self:?}");
        let (code, reason) = self.payload.split_at(2);
        (u16::from_be_bytes([code[0], code[1]]), String::from_utf8_lossy(reason).into_owned())
    }
}

fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend(reason.bytes());
    payload
}
