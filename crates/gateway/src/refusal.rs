//! Refusals: what a client is told whose request is not granted, and why ([`RefusalReason`]).

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
pub use tidegate_core::RefusalReason;

/// Whether the way that the request took may be why: what was seen of it is told to the client and to the log.
pub(super) const fn concerns_way(reason: RefusalReason) -> bool {
    matches!(
        reason,
        RefusalReason::NoRoute
            | RefusalReason::NotWebsocket
            | RefusalReason::UpgradeStripped
            | RefusalReason::BadVersion
            | RefusalReason::BadHandshake
            | RefusalReason::LoopDetected
            | RefusalReason::Plaintext
    )
}

/// The status of the answer, unless the refusal brings its own.
const fn status(reason: RefusalReason) -> StatusCode {
    match reason {
        RefusalReason::NoRoute => StatusCode::NOT_FOUND,
        RefusalReason::NotWebsocket
        | RefusalReason::UpgradeStripped
        | RefusalReason::BadVersion => StatusCode::UPGRADE_REQUIRED,
        RefusalReason::BadHandshake | RefusalReason::BadPath | RefusalReason::ClientGone => {
            StatusCode::BAD_REQUEST
        }
        RefusalReason::TransferCoding => StatusCode::NOT_IMPLEMENTED,
        RefusalReason::LoopDetected => StatusCode::LOOP_DETECTED,
        RefusalReason::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        RefusalReason::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        RefusalReason::Plaintext => StatusCode::FORBIDDEN,
        RefusalReason::NoEndpoints | RefusalReason::LimitFiles | RefusalReason::Draining => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        RefusalReason::BackendConnect
        | RefusalReason::BackendRefused
        | RefusalReason::BackendBadHandshake => StatusCode::BAD_GATEWAY,
        RefusalReason::BackendTimeout => StatusCode::GATEWAY_TIMEOUT,
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
            None => status(self.reason),
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
