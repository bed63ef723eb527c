//! Headers across the gateway: hop-by-hop ones are taken off on arrival and rebuilt from nothing on departure
//! (RFC 9110 §7.6.1), and none gets through that a backend could take for one of those that are judged or written here. Pure.
//!
//! Values are read as bytes: one that is no text decides nothing for the others beside it.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use thiserror::Error;

use super::{cdn_loop::CDN_LOOP, list::tokens};

/// Names one request through all logs.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers that end at the next hop, whether or not `Connection` names them.
const HOP_BY_HOP: [HeaderName; 11] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("http2-settings"),
];

/// Headers that the gateway judges, besides those that are hop-by-hop, claims, or of WebSockets.
const JUDGED: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::ORIGIN,
    header::COOKIE,
    header::AUTHORIZATION,
    X_REQUEST_ID,
    CDN_LOOP,
];

/// Whether a header says what only a proxy may: who the client is and what it asked for (`X-Forwarded-…`, `Forwarded`,
/// `X-Real-IP`), or which path is meant in place of the one that was matched (`X-Original-URL`, `X-Rewrite-URL`, which IIS
/// and some frameworks follow).
pub fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str();
    // Most names are told apart by their first byte.
    match name.as_bytes().first() {
        Some(b'x') => {
            name.starts_with("x-forwarded-")
                || matches!(name, "x-real-ip" | "x-original-url" | "x-rewrite-url")
        }
        Some(b'f') => name == "forwarded",
        _ => false,
    }
}

/// Whether CGI and its descendants (PHP, WSGI, Rack) cannot tell a header from one that the gateway judges or writes: they
/// have one character for all that is no letter or digit.
pub fn is_alias(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    if name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
        return false;
    }
    let fold = |byte: &u8| if byte.is_ascii_alphanumeric() { *byte } else { b'-' };
    let folded: Vec<u8> = name.iter().map(fold).collect();
    let Ok(folded) = HeaderName::from_bytes(&folded) else { return false };
    is_claim(&folded)
        || folded.as_str().starts_with("sec-websocket-")
        || JUDGED.contains(&folded)
        || HOP_BY_HOP.contains(&folded)
}

/// What the hop-by-hop headers of a message said, after they were taken off.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HopByHop {
    /// `Connection` has the token `upgrade`.
    pub connection_upgrade: bool,
    /// `Upgrade` has the token `websocket`.
    pub upgrade_websocket: bool,
    /// There was a `Transfer-Encoding`.
    pub transfer_encoding: bool,
    /// There was a `Content-Length` other than 0.
    pub content: bool,
    /// What is wrong with either of them.
    pub fault: Option<FramingFault>,
}

/// Why it cannot be told where a body ends.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FramingFault {
    /// A transfer coding that would have to be decoded.
    #[error("Transfer-Encoding has a coding other than \"chunked\"")]
    TransferCoding,
    /// Lengths that differ, or are none.
    #[error("Content-Length is not one number")]
    ContentLength,
}

/// Whether a message is chunked and no more (RFC 9112 §7): of other codings, whose names would be taken off with the header, the bytes would be
/// left.
fn check_coding(headers: &HeaderMap) -> Result<(), FramingFault> {
    let mut codings = tokens(headers, &header::TRANSFER_ENCODING);
    match (codings.next(), codings.next()) {
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(FramingFault::TransferCoding),
    }
}

/// Makes one length of several equal ones (RFC 9110 §8.6).
fn check_length(headers: &mut HeaderMap) -> Result<(), FramingFault> {
    let mut length = None;
    for element in tokens(headers, &header::CONTENT_LENGTH) {
        let digits = element.iter().all(u8::is_ascii_digit);
        let number = str::from_utf8(element).ok().filter(|_| digits);
        let number = number.and_then(|text| text.parse::<u64>().ok());
        let number = number.ok_or(FramingFault::ContentLength)?;
        if length.is_some_and(|length| length != number) {
            return Err(FramingFault::ContentLength);
        }
        length = Some(number);
    }
    headers.insert(header::CONTENT_LENGTH, length.ok_or(FramingFault::ContentLength)?.into());
    Ok(())
}

impl HopByHop {
    /// Takes all hop-by-hop headers off: those that `Connection` names first, then the known ones. `Host` stays
    /// whatever the peer says, and so does what a proxy says of its client or against loops: else the client could have it removed by
    /// naming it, where the proxy passes `Connection` on.
    pub fn take(headers: &mut HeaderMap) -> Self {
        let mut connection_upgrade = false;
        let mut nominated = Vec::new();
        for token in tokens(headers, &header::CONNECTION) {
            if token.eq_ignore_ascii_case(b"upgrade") {
                connection_upgrade = true;
            } else if !token.eq_ignore_ascii_case(b"keep-alive")
                && let Ok(name) = HeaderName::from_bytes(token)
                && !(name == header::HOST || name == CDN_LOOP || is_claim(&name))
            {
                nominated.push(name);
            }
        }
        let websocket = |token: &[u8]| token.eq_ignore_ascii_case(b"websocket");
        let upgrade_websocket = tokens(headers, &header::UPGRADE).any(websocket);
        let mut found = Self { connection_upgrade, upgrade_websocket, ..Self::default() };
        if let Some(length) = headers.get(header::CONTENT_LENGTH) {
            // Several lines are not 0 either way: whatever they say, the first of them is not all.
            found.content =
                length != "0" || headers.get_all(header::CONTENT_LENGTH).iter().count() > 1;
            found.fault = check_length(headers).err();
        }
        if headers.contains_key(header::TRANSFER_ENCODING) {
            found.transfer_encoding = true;
            found.fault = found.fault.or(check_coding(headers).err());
            // It decides alone (RFC 9112 §6.3): a length beside it is a lie, or soon will be.
            headers.remove(header::CONTENT_LENGTH);
        }
        for name in nominated.iter().chain(&HOP_BY_HOP) {
            headers.remove(name);
        }
        found
    }
}

/// Adds what makes a message an upgrade on the next hop, last of all.
pub fn set_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

#[cfg(test)]
mod tests;
