//! The opening handshake, both halves (RFC 6455 §4): pure checks of what a client asks and of what a backend answers.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header, request,
};
use sha1::{Digest, Sha1};

use super::{
    headers::{HopByHop, set_upgrade, tokens},
    refuse::{Refusal, RefusalReason},
};

/// Appended to the key before hashing (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The longest host name that DNS can carry.
const MAX_HOST: usize = 253;

/// A checked upgrade request.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// What `Sec-WebSocket-Accept` must be in the answer.
    pub accept: String,
}

/// `Sec-WebSocket-Accept` for a key (RFC 6455 §4.2.2).
pub fn accept_for(key: &[u8]) -> String {
    BASE64.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// The host that a request is for, lower case, without port: from an absolute-form target, else from its one `Host`
/// (RFC 9112 §3.2).
pub fn host_of(parts: &request::Parts) -> Result<String, Refusal> {
    let bad = |detail: &'static str| Refusal::new(RefusalReason::BadHandshake, detail);
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let header = hosts.next().ok_or_else(|| bad("The request has no Host header."))?;
    if hosts.next().is_some() {
        return Err(bad("The request has more than one Host header."));
    }
    let authority = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => header.to_str().map_err(|_| bad("The Host header is not a host name."))?,
    };
    if authority.len() > MAX_HOST + ":65535".len() {
        return Err(bad("The Host header is longer than a host name can be."));
    }
    let authority: http::uri::Authority =
        authority.parse().map_err(|_| bad("The Host header is not a host name."))?;
    if authority.as_str().contains('@') {
        return Err(bad("The Host header has a user name in it."));
    }
    let host = authority.host();
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return Err(bad("The Host header is empty."));
    }
    Ok(host.to_ascii_lowercase())
}

/// Whether a path has `.` or `..` segments, however they and their separators are written (percent-encoded, with a
/// backslash, with path parameters behind `;`): a prefix match would say one thing and the backend, once it has resolved
/// them, do another.
pub fn has_dot_segments(path: &str) -> bool {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some(&first) = rest.first() {
        let (byte, length) = match rest.get(..3).map(<[u8]>::to_ascii_lowercase).as_deref() {
            Some(b"%2e") => (b'.', 3),
            Some(b"%2f" | b"%5c") => (b'/', 3),
            _ if first == b'\\' => (b'/', 1),
            _ => (first, 1),
        };
        plain.push(byte);
        rest = &rest[length..];
    }
    plain.split(|byte| *byte == b'/').any(|segment| {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        matches!(name, b"." | b"..")
    })
}

/// Checks a request that asks for an upgrade (RFC 6455 §4.2.1). `hop` is what was taken off its headers.
pub fn check_request(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
    hop: &HopByHop,
) -> Result<Upgrade, Refusal> {
    let bad = |detail: &'static str| Err(Refusal::new(RefusalReason::BadHandshake, detail));
    if *method != Method::GET {
        return bad("A WebSocket upgrade is a GET request.");
    }
    if version != Version::HTTP_11 {
        return bad(
            "A WebSocket upgrade needs HTTP/1.1; a proxy on the way may have made it HTTP/1.0.",
        );
    }
    if !hop.connection_upgrade {
        return bad(
            "The Connection header lacks \"Upgrade\"; a proxy on the way may have removed it.",
        );
    }
    if hop.transfer_encoding {
        return bad("A WebSocket upgrade has no body, so no Transfer-Encoding.");
    }
    if hop.content {
        return bad("A WebSocket upgrade has no body, so no Content-Length.");
    }
    let one = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            (None, _) => Err("missing, or named in Connection and so removed"),
            (Some(_), Some(_)) => Err("there more than once"),
        }
    };
    match one(&header::SEC_WEBSOCKET_VERSION) {
        Ok(version) if version == "13" => {}
        Ok(_) => {
            return Err(Refusal::new(
                RefusalReason::BadVersion,
                "Only version 13 of the WebSocket protocol is served (RFC 6455).",
            ));
        }
        Err(why) => {
            return Err(Refusal::new(
                RefusalReason::BadHandshake,
                format!("The Sec-WebSocket-Version header is {why}."),
            ));
        }
    }
    let key = one(&header::SEC_WEBSOCKET_KEY).map_err(|why| {
        Refusal::new(RefusalReason::BadHandshake, format!("The Sec-WebSocket-Key header is {why}."))
    })?;
    if !BASE64.decode(key.as_bytes()).is_ok_and(|nonce| nonce.len() == 16) {
        return bad("The Sec-WebSocket-Key header is not 16 bytes in base64.");
    }
    let protocols = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    if protocols.iter().any(|line| line.to_str().is_err()) {
        return bad("Sec-WebSocket-Protocol has bytes that no token can have.");
    }
    // Not which: some clients put a token there, and this goes into the log.
    if !offers_are_tokens(headers) {
        return bad("Sec-WebSocket-Protocol offers something that is not a token.");
    }
    Ok(Upgrade { accept: accept_for(key.as_bytes()) })
}

/// Whether all offered subprotocols are tokens (RFC 9110 §5.6.2).
fn offers_are_tokens(headers: &HeaderMap) -> bool {
    tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).all(|offer| {
        offer.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    })
}

/// Checks the headers of a backend's 101 (RFC 6455 §4.1, the client's list). `hop` is what was taken off them; `request` are the
/// headers that it was asked with. The error is a sentence.
pub fn check_response(
    answer: &HeaderMap,
    hop: &HopByHop,
    accept: &str,
    request: &HeaderMap,
) -> Result<(), String> {
    if !hop.upgrade_websocket {
        return Err("its 101 lacks \"Upgrade: websocket\"".into());
    }
    if !hop.connection_upgrade {
        return Err("its 101 lacks \"Connection: Upgrade\"".into());
    }
    let mut accepts = answer.get_all(header::SEC_WEBSOCKET_ACCEPT).iter();
    match (accepts.next(), accepts.next()) {
        (Some(value), None) if value == accept => {}
        (None, _) => return Err("its 101 lacks Sec-WebSocket-Accept".into()),
        _ => return Err("the Sec-WebSocket-Accept of its 101 does not fit the key".into()),
    }
    let mut chosen = answer.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    if let Some(protocol) = chosen.next() {
        let offered =
            tokens(request, &header::SEC_WEBSOCKET_PROTOCOL).any(|offer| protocol == offer);
        if !offered || chosen.next().is_some() {
            return Err("its 101 chooses a subprotocol that the client did not offer".into());
        }
    }
    let extensions = |headers| {
        tokens(headers, &header::SEC_WEBSOCKET_EXTENSIONS)
            .map(|extension| extension.split(';').next().unwrap_or_default().trim())
    };
    if extensions(answer).any(|used| extensions(request).all(|offered| offered != used)) {
        return Err("its 101 uses an extension that the client did not offer".into());
    }
    Ok(())
}

/// Our 101 (RFC 6455 §4.2.2), made of the end-to-end headers that the backend chose.
pub fn switching(chosen: HeaderMap, upgrade: &Upgrade) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let accept = HeaderValue::from_str(&upgrade.accept).expect("base64 is visible ASCII");
    let headers = response.headers_mut();
    *headers = chosen;
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    set_upgrade(headers);
    response
}

#[cfg(test)]
mod tests;
