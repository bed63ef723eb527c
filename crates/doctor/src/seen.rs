//! What the steps saw: plain data, without a judgement. It is also what `--json` prints of a step.

use std::net::SocketAddr;

use serde::Serialize;

/// One step, as it was seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// On which way it was made; `None` for what belongs to none.
    #[serde(flatten)]
    pub attempt: Option<Attempt>,
    /// How long it took, milliseconds.
    pub ms: u64,
    /// What was seen.
    #[serde(flatten)]
    pub seen: Seen,
}

/// A way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Attempt {
    /// Through the proxy or not.
    pub way: Way,
    /// Over TLS.
    pub secure: bool,
    /// The server's port.
    pub port: u16,
}

/// Through the proxy or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From here to the server's address.
    Direct,
    /// By CONNECT through the HTTP proxy.
    Proxy,
}

/// What a step saw.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", content = "seen", rename_all = "snake_case")]
pub enum Seen {
    /// The addresses of the host.
    Resolve(Resolution),
    /// The answer to a SYN.
    Connect(PortSeen),
    /// What the proxy said to CONNECT.
    Proxy(ProxySeen),
    /// The TLS handshake.
    Tls(TlsSeen),
    /// The upgrade over HTTP/1.1.
    Upgrade(UpgradeSeen),
    /// A plain GET of the same path, where the upgrade was not granted.
    Get(GetSeen),
    /// Extended CONNECT over HTTP/2 (RFC 8441).
    Http2(Http2Seen),
    /// Ping and pong, and an echo where one was asked for.
    Messages(MessagesSeen),
    /// How long a quiet socket lives.
    Idle(IdleSeen),
}

/// The answer of name resolution.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Resolution {
    /// What was resolved.
    pub host: String,
    /// Its addresses, in the order in which the system would try them.
    pub addresses: Vec<std::net::IpAddr>,
    /// Why there is none.
    pub error: Option<String>,
}

/// What came of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PortOutcome {
    /// It stands.
    Connected,
    /// RST, or ICMP "port unreachable".
    Refused,
    /// Reset while it was being made.
    Reset,
    /// No answer within the time.
    Silent,
    /// A router, or this machine, says that there is no way.
    Unreachable,
    /// Something else.
    Failed,
}

/// One connection attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PortSeen {
    /// Where to.
    pub address: SocketAddr,
    /// What came of it.
    pub outcome: PortOutcome,
    /// The system's words.
    pub error: Option<String>,
}

/// What came of asking the proxy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProxySeen {
    /// Its name and port.
    pub proxy: String,
    /// Why it could not be reached, or what went wrong instead of an answer.
    pub error: Option<String>,
    /// The status of its answer.
    pub status: Option<u16>,
    /// What it says of itself: `Server`, `Via`, `Proxy-Authenticate` and what squid adds.
    pub marks: Vec<(String, String)>,
}

/// How far a step came that waits for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// To its end.
    Done,
    /// The peer ended the connection without an answer.
    Closed,
    /// The connection was reset.
    Reset,
    /// No answer within the time.
    Silent,
    /// The answer is not one of this protocol.
    Garbled,
    /// Something else; see the error.
    Failed,
}

/// Who vouches for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// An authority of Mozilla's list.
    Public,
    /// An authority that only this machine trusts.
    System,
    /// An authority of `--ca`.
    Given,
    /// Nobody known here.
    Nobody,
}

/// A certificate as far as people ask about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CertificateSeen {
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// First second of its life, Unix time.
    pub not_before: i64,
    /// Last second of its life, Unix time.
    pub not_after: i64,
    /// SHA-256 of the certificate, hexadecimal.
    pub sha256: String,
}

/// A TLS handshake.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TlsSeen {
    /// How far it came.
    pub outcome: Outcome,
    /// What went wrong.
    pub error: Option<String>,
    /// Such as TLSv1_3.
    pub version: Option<String>,
    /// The protocol that was agreed on (ALPN).
    pub alpn: Option<String>,
    /// The server's certificate, and those it sent along.
    pub chain: Vec<CertificateSeen>,
    /// The names that the server's certificate is for.
    pub names: Vec<String>,
    /// Who vouches for it.
    pub anchor: Anchor,
    /// Whether it is for this host.
    pub name_fits: bool,
    /// Whether it is over, or not begun: the sentence.
    pub out_of_date: Option<String>,
    /// Whether an issuer has the text of `--expect-issuer`.
    pub issuer_expected: Option<bool>,
    /// Whether the chain has the certificate of `--pin`.
    pub pinned: Option<bool>,
}

impl TlsSeen {
    /// Whether a client would go on: the certificate is right, and so is all that was expected of it.
    pub fn is_verified(&self) -> bool {
        self.outcome == Outcome::Done
            && self.anchor != Anchor::Nobody
            && self.name_fits
            && self.out_of_date.is_none()
            && self.issuer_expected != Some(false)
            && self.pinned != Some(false)
    }
}

/// The head of an HTTP answer, and the begin of its body.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Answer {
    /// 0 or 1 of HTTP/1.x.
    pub minor: u8,
    /// The status.
    pub status: u16,
    /// All headers, in lower case, in their order. Of cookies only the name is kept.
    pub headers: Vec<(String, String)>,
    /// The first line of the body.
    pub body: String,
}

impl Answer {
    /// The first value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

/// An upgrade over HTTP/1.1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UpgradeSeen {
    /// How far it came.
    pub outcome: Outcome,
    /// What went wrong.
    pub error: Option<String>,
    /// The answer.
    pub answer: Option<Answer>,
    /// What is wrong with a 101 (RFC 6455 §4.1), besides the subprotocol.
    pub faults: Vec<String>,
    /// The subprotocols that were offered.
    pub offered: Vec<String>,
    /// The one that was chosen.
    pub chosen: Option<String>,
    /// The second attempt, without subprotocols.
    pub retry: bool,
    /// Sent without query and `--header`, as the certificate was not verified.
    pub withheld: bool,
}

impl UpgradeSeen {
    /// Whether it is a 101 that a client takes, whatever the subprotocol.
    pub fn is_sound(&self) -> bool {
        self.outcome == Outcome::Done
            && self.answer.as_ref().is_some_and(|answer| answer.status == 101)
            && self.faults.is_empty()
    }
}

/// A plain GET: who answers it may not be who answered the upgrade.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GetSeen {
    /// How far it came.
    pub outcome: Outcome,
    /// The answer.
    pub answer: Option<Answer>,
}

/// A WebSocket over HTTP/2.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Http2Seen {
    /// The server speaks HTTP/2.
    pub spoken: bool,
    /// It announces SETTINGS_ENABLE_CONNECT_PROTOCOL.
    pub announced: bool,
    /// Its answer to extended CONNECT.
    pub status: Option<u16>,
    /// `tidegate-reason` of the answer.
    pub reason: Option<String>,
    /// Round trip of a ping, milliseconds.
    pub pong_ms: Option<u64>,
    /// What went wrong.
    pub error: Option<String>,
}

/// A Close frame.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CloseSeen {
    /// Its code, if it had one.
    pub code: Option<u16>,
    /// Its words.
    pub reason: String,
}

/// The first messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MessagesSeen {
    /// Round trip of a ping, milliseconds.
    pub pong_ms: Option<u64>,
    /// Whether what was sent came back; `None` where nothing was.
    pub echoed: Option<bool>,
    /// The peer said Close.
    pub close: Option<CloseSeen>,
    /// How the connection ended without one.
    pub error: Option<String>,
}

impl MessagesSeen {
    /// Whether messages pass in both directions and the server stays.
    pub fn is_sound(&self) -> bool {
        self.pong_ms.is_some() && self.close.is_none()
    }
}

/// How a quiet socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IdleEnd {
    /// It did not.
    Held,
    /// The TCP connection was ended.
    Closed,
    /// The TCP connection was reset.
    Reset,
    /// The peer said Close.
    CloseFrame,
    /// It seemed open, but nothing came back.
    Dead,
    /// It was not quiet: the peer sent more than is read.
    Flooded,
}

/// How long a quiet socket lives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IdleSeen {
    /// For how long it was to be held, milliseconds.
    pub limit_ms: u64,
    /// How it ended.
    pub end: IdleEnd,
    /// After how long, milliseconds.
    pub after_ms: u64,
    /// The Close frame, if that was the end.
    pub close: Option<CloseSeen>,
    /// How many frames the server sent meanwhile.
    pub frames: u32,
    /// The second socket, with pings.
    pub pinged: Option<PingedSeen>,
}

/// A socket on which pings were sent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PingedSeen {
    /// How often, milliseconds.
    pub every_ms: u64,
    /// How long it was held, milliseconds.
    pub after_ms: u64,
    /// Whether it outlived the quiet one.
    pub held: bool,
}
