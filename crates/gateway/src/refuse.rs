//! Refusals: why an upgrade was not granted, in one enum, and what the client is told.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

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
    /// Every reason, for tests and docs.
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

    /// Whether the way that the request took may be why: what was seen of it is told to the client and to the log.
    pub(super) const fn concerns_way(self) -> bool {
        matches!(
            self,
            Self::NoRoute
                | Self::NotWebsocket
                | Self::UpgradeStripped
                | Self::BadVersion
                | Self::BadHandshake
                | Self::LoopDetected
                | Self::Plaintext
        )
    }

    /// The status of the answer, unless the refusal brings its own.
    const fn status(self) -> StatusCode {
        match self {
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NotWebsocket | Self::UpgradeStripped | Self::BadVersion => {
                StatusCode::UPGRADE_REQUIRED
            }
            Self::BadHandshake | Self::BadPath | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::LoopDetected => StatusCode::LOOP_DETECTED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Plaintext => StatusCode::FORBIDDEN,
            Self::NoEndpoints | Self::LimitFiles | Self::Draining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::BackendConnect | Self::BackendRefused | Self::BackendBadHandshake => {
                StatusCode::BAD_GATEWAY
            }
            Self::BackendTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// What becomes of the connection of a refused request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum After {
    /// It may carry another request.
    #[default]
    KeepAlive,
    /// It ends with the answer.
    Close,
}

/// A refusal, ready to be told.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// One plain sentence, for the client and the log.
    pub detail: Cow<'static, str>,
    /// What to do about it, and who can: for the client alone, below the sentence.
    pub advice: Option<Cow<'static, str>>,
    /// Where to go instead; makes the answer a 308.
    pub location: Option<HeaderValue>,
    /// What went wrong underneath, for the log alone: it may name addresses.
    pub source: Option<String>,
    /// What becomes of the connection.
    pub after: After,
}

/// The answer's header that holds the reason's word.
pub(super) const REASON_HEADER: &str = "tidegate-reason";

/// The answer's header that holds what was seen of the request's way.
pub(super) const SEEN_HEADER: &str = "tidegate-seen";

impl Refusal {
    /// There is no file left for the socket to an endpoint.
    pub fn out_of_files() -> Self {
        Self::new(
            RefusalReason::LimitFiles,
            "The gateway has as many connections as it may have open files: try again soon.",
        )
    }

    /// A refusal with a sentence.
    pub fn new(reason: RefusalReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            advice: None,
            location: None,
            source: None,
            after: After::KeepAlive,
        }
    }

    /// Adds what went wrong underneath.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error) -> Self {
        let mut text = source.to_string();
        let mut next = source.source();
        while let Some(error) = next {
            text = format!("{text}: {error}");
            next = error.source();
        }
        self.source = Some(text);
        self
    }

    /// The answer to the client.
    pub fn response(&self) -> Response<Bytes> {
        let mut text = format!("{}\n", self.detail);
        if let Some(advice) = &self.advice {
            text.push_str(advice);
            text.push('\n');
        }
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() = match &self.location {
            Some(_) => StatusCode::PERMANENT_REDIRECT,
            None => self.reason.status(),
        };
        let headers = response.headers_mut();
        let mut set = |name: header::HeaderName, value| headers.insert(name, value);
        set(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        set(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        set(
            header::HeaderName::from_static(REASON_HEADER),
            HeaderValue::from_static(self.reason.as_str()),
        );
        match self.reason {
            RefusalReason::NotWebsocket | RefusalReason::UpgradeStripped => {
                set(header::UPGRADE, HeaderValue::from_static("websocket"));
                // RFC 9110 §7.8: who sends Upgrade names it in Connection.
                set(header::CONNECTION, HeaderValue::from_static("upgrade"));
            }
            RefusalReason::BadVersion => {
                set(header::UPGRADE, HeaderValue::from_static("websocket"));
                set(header::CONNECTION, HeaderValue::from_static("upgrade"));
                set(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            RefusalReason::LimitFiles => {
                set(header::RETRY_AFTER, HeaderValue::from_static("5"));
                // Its own socket is one of those that are too many.
                set(header::CONNECTION, HeaderValue::from_static("close"));
            }
            // What is still to come of its body is not waited for.
            RefusalReason::BodyTimeout => {
                set(header::CONNECTION, HeaderValue::from_static("close"));
            }
            RefusalReason::Draining | RefusalReason::NoEndpoints => {
                set(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        if self.after == After::Close {
            headers.append(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(location) = &self.location {
            headers.insert(header::LOCATION, location.clone());
        }
        response
    }
}
