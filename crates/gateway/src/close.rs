//! How a connection ends: for what cause, and what each side is told.
//!
//! Pure: the relay finds out that a connection is to end, this module says with which words, `relay` writes them. No
//! other module chooses a close code.
//!
//! Codes are those of RFC 6455 §7.4 and of the registry that it set up. 1012 ("service restart") rather than 1011 ("internal
//! error") for a backend that has gone: clients take the first as a reason to come again, and some libraries the
//! second as a reason not to.

use super::frames::is_sendable;

/// Why a connection ended: the value of the metric label `cause`, and the word in the log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCause {
    /// The client closed first.
    ClientClosed,
    /// The backend closed first.
    BackendClosed,
    /// Silent in both directions for the route's idle timeout.
    Idle,
    /// As old as the route lets connections become.
    MaxDuration,
    /// A peer sent nothing after a Ping of ours.
    PongTimeout,
    /// A peer took nothing of what waited for it.
    WriteStall,
    /// A peer sent a frame that breaks RFC 6455.
    ProtocolError,
    /// A peer sent a longer message than the route allows.
    MessageTooBig,
    /// A peer kept sending more messages or frames than the route allows.
    RateLimited,
    /// The gateway is shutting down.
    Drain,
    /// The rule is served no longer, and asks for that.
    RouteRemoved,
    /// The endpoint is terminating, and the rule asks for that.
    EndpointTerminating,
    /// The endpoint has more than its share, and the rule asks for moving some.
    Rebalance,
    /// A peer reset its TCP connection, or the network did.
    Reset,
    /// TLS broke: a bad record, or an alert.
    TlsError,
}

impl CloseCause {
    /// Every cause, for tests and docs.
    pub const ALL: [Self; 15] = [
        Self::ClientClosed,
        Self::BackendClosed,
        Self::Idle,
        Self::MaxDuration,
        Self::PongTimeout,
        Self::WriteStall,
        Self::ProtocolError,
        Self::MessageTooBig,
        Self::RateLimited,
        Self::Drain,
        Self::RouteRemoved,
        Self::EndpointTerminating,
        Self::Rebalance,
        Self::Reset,
        Self::TlsError,
    ];

    /// The word in metric and log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::BackendClosed => "backend_closed",
            Self::Idle => "idle",
            Self::MaxDuration => "max_duration",
            Self::PongTimeout => "pong_timeout",
            Self::WriteStall => "write_stall",
            Self::ProtocolError => "protocol_error",
            Self::MessageTooBig => "message_too_big",
            Self::RateLimited => "rate_limited",
            Self::Drain => "drain",
            Self::RouteRemoved => "route_removed",
            Self::EndpointTerminating => "endpoint_terminating",
            Self::Rebalance => "rebalance",
            Self::Reset => "reset",
            Self::TlsError => "tls_error",
        }
    }
}

/// One side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who asked for the upgrade.
    Client,
    /// Who granted it.
    Backend,
}

impl Side {
    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }

    /// The word in log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
        }
    }
}

/// What a Close frame had for a code; `None`: it had none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(pub Option<u16>);

impl CloseCode {
    /// The value of the metric label `code`. Peers choose codes freely from 3000 on: those are told apart in the log only.
    pub fn label(self) -> &'static str {
        match self.0 {
            None => "none",
            Some(1000) => "1000",
            Some(1001) => "1001",
            Some(1002) => "1002",
            Some(1003) => "1003",
            Some(1007) => "1007",
            Some(1008) => "1008",
            Some(1009) => "1009",
            Some(1010) => "1010",
            Some(1011) => "1011",
            Some(1012) => "1012",
            Some(1013) => "1013",
            Some(1014) => "1014",
            Some(3000..=3999) => "3xxx",
            Some(4000..=4999) => "4xxx",
            Some(_) => "invalid",
        }
    }
}

/// A Close frame's code and reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosePayload {
    /// The code.
    pub code: CloseCode,
    /// The reason, for people.
    pub reason: &'static str,
}

const fn words(code: u16, reason: &'static str) -> Option<ClosePayload> {
    Some(ClosePayload { code: CloseCode(Some(code)), reason })
}

/// What a side is told whose own Close frame had this code, and was not answered (RFC 6455 §5.5.1). A code that may not
/// be sent, as unchecked peers do, is not sent back.
pub const fn answer(code: CloseCode) -> ClosePayload {
    let code = match code.0 {
        Some(code) if is_sendable(code) => CloseCode(Some(code)),
        _ => CloseCode(None),
    };
    ClosePayload { code, reason: "" }
}

/// What a side is told when the other one has ended without a Close frame.
pub const fn peer_gone(told: Side) -> ClosePayload {
    let (code, reason) = match told {
        Side::Client => (1012, "the backend has gone: connect again"),
        Side::Backend => (1001, "the client has gone"),
    };
    ClosePayload { code: CloseCode(Some(code)), reason }
}

/// What `told` hears when the gateway ends a connection for `cause`; `None`: nothing, for it would not listen.
/// `at_fault` is the side that gave the cause, `detail` what it did, `drain_code` the route's code for endings
/// on purpose.
pub const fn close_for(
    cause: CloseCause,
    told: Side,
    at_fault: Option<Side>,
    detail: &'static str,
    drain_code: u16,
) -> Option<ClosePayload> {
    let guilty = matches!(
        (told, at_fault),
        (Side::Client, Some(Side::Client)) | (Side::Backend, Some(Side::Backend))
    );
    match (cause, told) {
        (CloseCause::Idle, _) => words(1001, "idle timeout"),
        (CloseCause::Drain, Side::Client) => words(drain_code, "gateway is shutting down"),
        (CloseCause::Drain, Side::Backend) => words(1001, "gateway is shutting down"),
        (CloseCause::RouteRemoved, Side::Client) => words(drain_code, "the route was removed"),
        (CloseCause::RouteRemoved, Side::Backend) => words(1001, "the route was removed"),
        (CloseCause::EndpointTerminating, Side::Client) => {
            words(drain_code, "the backend is shutting down: connect again")
        }
        (CloseCause::EndpointTerminating, Side::Backend) => {
            words(1001, "the endpoint is terminating")
        }
        (CloseCause::Rebalance, Side::Client) => words(drain_code, "rebalancing: connect again"),
        (CloseCause::Rebalance, Side::Backend) => words(1001, "the client goes elsewhere"),
        (CloseCause::MaxDuration, Side::Client) => words(drain_code, "maximum duration reached"),
        (CloseCause::MaxDuration, Side::Backend) => words(1001, "maximum duration reached"),
        (CloseCause::ProtocolError, _) if guilty => words(1002, detail),
        (CloseCause::ProtocolError, Side::Client) => words(1014, "the backend broke the protocol"),
        (CloseCause::ProtocolError, Side::Backend) => words(1011, "the client broke the protocol"),
        (CloseCause::MessageTooBig, _) if guilty => words(1009, "message too big"),
        (CloseCause::MessageTooBig, Side::Client) => {
            words(1014, "the backend's message is too big")
        }
        (CloseCause::MessageTooBig, Side::Backend) => {
            words(1011, "the client's message is too big")
        }
        (CloseCause::RateLimited, _) if guilty => words(1008, detail),
        (CloseCause::RateLimited, Side::Client) => words(1014, "the backend sent too fast"),
        (CloseCause::RateLimited, Side::Backend) => words(1001, "the client sent too fast"),
        // It may still come to read it.
        (CloseCause::PongTimeout, _) if guilty => words(1001, "no answer to a ping"),
        (CloseCause::PongTimeout, Side::Client) => {
            words(1012, "the backend does not answer: connect again")
        }
        (CloseCause::PongTimeout, Side::Backend) => words(1001, "the client does not answer"),
        (CloseCause::WriteStall, _) if guilty => None,
        (CloseCause::WriteStall, Side::Client) => words(1013, "the backend takes nothing"),
        (CloseCause::WriteStall, Side::Backend) => words(1001, "the client takes nothing"),
        // These are ended by a peer: `peer_gone` has the words.
        (
            CloseCause::ClientClosed
            | CloseCause::BackendClosed
            | CloseCause::Reset
            | CloseCause::TlsError,
            _,
        ) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_words_have_a_code_that_may_not_be_sent_or_a_reason_that_is_too_long() {
        for cause in CloseCause::ALL {
            for told in [Side::Client, Side::Backend] {
                for at_fault in [None, Some(told), Some(told.other())] {
                    let Some(words) = close_for(cause, told, at_fault, "detail", 1012) else {
                        continue;
                    };
                    assert!(words.code.0.is_some_and(is_sendable), "{cause:?} {words:?}");
                    assert!(words.reason.len() <= 123, "{words:?}");
                }
            }
        }
    }

    #[test]
    fn an_answer_has_the_code_that_it_answers_unless_that_may_not_be_sent() {
        for code in 0..=u16::MAX {
            let expected = Some(code).filter(|code| is_sendable(*code));
            assert_eq!(answer(CloseCode(Some(code))).code, CloseCode(expected));
        }
        assert_eq!(answer(CloseCode(None)).code, CloseCode(None));
    }

    #[test]
    fn labels_of_codes_are_few_whatever_peers_send() {
        let labels: std::collections::BTreeSet<_> =
            (0..=u16::MAX).map(|code| CloseCode(Some(code)).label()).collect();
        assert!(labels.len() < 20, "{labels:?}");
        assert!(!labels.contains("1006"));
    }
}
