//! The reasons why an upgrade or a request is refused, by the words that metrics, log lines and answers carry.
//!
//! The gateway refuses, and the doctor explains: both know the reasons from here, so a new one does not compile until each of
//! them has something to say to it. Which status and which headers an answer has is the gateway's.

use std::{error::Error, fmt, str::FromStr};

/// Why a request was not granted: the value of the metric label `reason`, the word in the log line and in the
/// answer's `tidegate-reason` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// No route for the host, or none for the request under it.
    NoRoute,
    /// A plain HTTP request where only WebSockets are served.
    NotWebsocket,
    /// A WebSocket client's request that a box on the way has made plain HTTP, or HTTP/1.0.
    UpgradeStripped,
    /// A WebSocket version other than 13 (RFC 6455 §4.2.1).
    BadVersion,
    /// Not a sound opening handshake (RFC 6455 §4.2.1), or not sound HTTP.
    BadHandshake,
    /// A path that servers read in different ways, which its rule does not allow, or none.
    BadPath,
    /// A transfer coding other than chunked (RFC 9112 §6.1).
    TransferCoding,
    /// The request has been here before (RFC 8586).
    LoopDetected,
    /// The body of the request did not come in time.
    BodyTimeout,
    /// The Host is not one that the certificate of this connection is for (RFC 9110 §15.5.20).
    Misdirected,
    /// In clear text where the route wants TLS.
    Plaintext,
    /// No backend of the rule has a ready endpoint.
    NoEndpoints,
    /// The endpoint could not be reached.
    BackendConnect,
    /// The endpoint did not answer in time.
    BackendTimeout,
    /// The endpoint answered the upgrade with another status, which is passed on.
    BackendRefused,
    /// The endpoint's 101 is not a sound one (RFC 6455 §4.1).
    BackendBadHandshake,
    /// The gateway has as many sockets as it may have files.
    LimitFiles,
    /// The gateway is shutting down.
    Draining,
    /// The client left, or lost patience, before it was answered: nobody was told.
    ClientGone,
}

impl RefusalReason {
    /// Every reason.
    pub const ALL: [Self; 19] = [
        Self::NoRoute,
        Self::NotWebsocket,
        Self::UpgradeStripped,
        Self::BadVersion,
        Self::BadHandshake,
        Self::BadPath,
        Self::TransferCoding,
        Self::LoopDetected,
        Self::BodyTimeout,
        Self::Misdirected,
        Self::Plaintext,
        Self::NoEndpoints,
        Self::BackendConnect,
        Self::BackendTimeout,
        Self::BackendRefused,
        Self::BackendBadHandshake,
        Self::LimitFiles,
        Self::Draining,
        Self::ClientGone,
    ];

    /// The word in metric, log and header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::NotWebsocket => "not_websocket",
            Self::UpgradeStripped => "upgrade_stripped",
            Self::BadVersion => "bad_version",
            Self::BadHandshake => "bad_handshake",
            Self::BadPath => "bad_path",
            Self::TransferCoding => "transfer_coding",
            Self::LoopDetected => "loop_detected",
            Self::BodyTimeout => "body_timeout",
            Self::Misdirected => "misdirected",
            Self::Plaintext => "plaintext",
            Self::NoEndpoints => "no_endpoints",
            Self::BackendConnect => "backend_connect",
            Self::BackendTimeout => "backend_timeout",
            Self::BackendRefused => "backend_refused",
            Self::BackendBadHandshake => "backend_bad_handshake",
            Self::LimitFiles => "limit_files",
            Self::Draining => "draining",
            Self::ClientGone => "client_gone",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is none of the reasons of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownReason;

impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a reason of this version")
    }
}

impl Error for UnknownReason {}

impl FromStr for RefusalReason {
    type Err = UnknownReason;

    fn from_str(word: &str) -> Result<Self, UnknownReason> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word).ok_or(UnknownReason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_known_by_its_word_and_no_other_word_is_one() {
        for reason in RefusalReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(reason.to_string(), reason.as_str());
        }
        for word in ["", "no_routes", "NO_ROUTE", "origin_denied"] {
            assert_eq!(word.parse::<RefusalReason>(), Err(UnknownReason), "{word}");
        }
    }
}
