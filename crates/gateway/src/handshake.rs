//! The opening handshake, both halves (RFC 6455 §4): pure checks of what a client asks and of what a backend answers.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use sha1::{Digest, Sha1};

use super::{
    headers::{HopByHop, set_upgrade},
    list::tokens,
    refusal::{Refusal, RefusalReason},
};

/// Appended to the key before hashing (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

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
    if let Some(index) = first_bad_subprotocol(headers) {
        return Err(Refusal::new(
            RefusalReason::BadHandshake,
            format!(
                "Sec-WebSocket-Protocol offers something, number {} of its list, that is not a token.",
                index + 1
            ),
        ));
    }
    Ok(Upgrade { accept: accept_for(key.as_bytes()) })
}

/// The first offered subprotocol that is no token (RFC 9110 §5.6.2), by its place.
fn first_bad_subprotocol(headers: &HeaderMap) -> Option<usize> {
    tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).position(|offer| {
        !offer.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
    })
}

/// Why a backend's 101 is not the answer to what it was asked (RFC 6455 §4.1). Nothing of the answer is quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// `Upgrade` does not name `websocket`.
    #[error("its 101 lacks \"Upgrade: websocket\"")]
    NoUpgrade,
    /// `Connection` does not name `Upgrade`.
    #[error("its 101 lacks \"Connection: Upgrade\"")]
    NoConnection,
    /// There is no `Sec-WebSocket-Accept`.
    #[error("its 101 lacks Sec-WebSocket-Accept")]
    NoAccept,
    /// There are several, or it is that of another key.
    #[error("the Sec-WebSocket-Accept of its 101 does not fit the key")]
    WrongAccept,
    /// It chooses several subprotocols, or one that was not offered.
    #[error("its 101 chooses a subprotocol that the client did not offer")]
    Subprotocol,
    /// It uses an extension that was not offered.
    #[error("its 101 uses an extension that the client did not offer")]
    Extension,
}

/// Checks the headers of a backend's 101 (RFC 6455 §4.1, the client's list). `hop` is what was taken off them; `request` are the
/// headers that it was asked with.
pub fn check_response(
    answer: &HeaderMap,
    hop: &HopByHop,
    accept: &str,
    request: &HeaderMap,
) -> Result<(), AnswerFault> {
    if !hop.upgrade_websocket {
        return Err(AnswerFault::NoUpgrade);
    }
    if !hop.connection_upgrade {
        return Err(AnswerFault::NoConnection);
    }
    let mut accepts = answer.get_all(header::SEC_WEBSOCKET_ACCEPT).iter();
    match (accepts.next(), accepts.next()) {
        (Some(value), None) if value == accept => {}
        (None, _) => return Err(AnswerFault::NoAccept),
        _ => return Err(AnswerFault::WrongAccept),
    }
    let mut chosen = answer.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    if let Some(protocol) = chosen.next() {
        let offered = tokens(request, &header::SEC_WEBSOCKET_PROTOCOL)
            .any(|offer| protocol.as_bytes() == offer);
        if !offered || chosen.next().is_some() {
            return Err(AnswerFault::Subprotocol);
        }
    }
    let extensions = |headers| {
        tokens(headers, &header::SEC_WEBSOCKET_EXTENSIONS)
            .filter_map(|extension| extension.split(|byte| *byte == b';').next())
            .map(<[u8]>::trim_ascii)
    };
    if extensions(answer).any(|used| extensions(request).all(|offered| offered != used)) {
        return Err(AnswerFault::Extension);
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
