//! Heads on the backend's leg of an upgrade: writes the request's, reads the answer's. Pure.
//!
//! What is judged where: httparse says whether bytes are a head, by the same settings that hyper has it read by (no folded
//! lines, no spaces before colons, no more than 100 headers), and here stand the bounds, the passing over of interim answers
//! (RFC 9110 §15.2) and the word whether it is a 101. After a 101 there is no body, whatever its headers say, so nothing of
//! framing is judged; what makes it a WebSocket's is [`check_response`](super::handshake::check_response)'s to say. As with hyper, a 101 in
//! HTTP/1.0 is one. Whatever has another status is hyper's to read, from its first byte.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, request};
use httparse::{Header, ParserConfig, Response, Status};
use thiserror::Error;

/// How much of an answer's head is read, bytes.
pub const MAX_HEAD: usize = 16 * 1024;

/// How many interim answers may come before it.
pub const MAX_INTERIM: usize = 32;

/// How many headers an answer may have: as many as hyper's client takes.
const MAX_HEADERS: usize = 100;

/// The head of a request in origin form, as it goes over the wire: as hyper would write it.
pub fn of_request(request: &request::Parts) -> Vec<u8> {
    let (method, path) = (request.method.as_str(), request.uri.path());
    let query = request.uri.query();
    let lines = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let length = method.len() + path.len() + query.map_or(0, |query| query.len() + 1);
    let mut head =
        Vec::with_capacity(length + " ".len() + " HTTP/1.1\r\n\r\n".len() + lines.sum::<usize>());
    head.extend_from_slice(method.as_bytes());
    head.push(b' ');
    head.extend_from_slice(path.as_bytes());
    if let Some(query) = query {
        head.push(b'?');
        head.extend_from_slice(query.as_bytes());
    }
    head.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &request.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The head of a final answer.
#[derive(Debug, PartialEq, Eq)]
pub enum AnswerHead {
    /// Of a 101: its headers. What is left in the buffer came behind it.
    Switching(HeaderMap),
    /// Of another status. It is still in the buffer.
    Other,
}

/// Why bytes are not the head of an answer.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HeadFault {
    /// They are not HTTP.
    #[error("{0}")]
    Malformed(#[from] httparse::Error),
    /// They have no end within [`MAX_HEAD`].
    #[error("the head is longer than {MAX_HEAD} bytes")]
    TooLong,
    /// More than [`MAX_INTERIM`] came before.
    #[error("more than {MAX_INTERIM} interim answers (1xx) came before the final one")]
    Interim,
}

/// Reads the head of an answer from what has come so far, past interim ones, which are taken off; `None` if more has to
/// come. The outcome depends on the bytes alone, and not on how they were cut. `interim` counts those that were taken off, from 0.
pub fn of_answer(
    received: &mut BytesMut,
    interim: &mut usize,
) -> Result<Option<AnswerHead>, HeadFault> {
    loop {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut head = Response::new(&mut []);
        let parsed = ParserConfig::default().parse_response_with_uninit_headers(
            &mut head,
            received,
            &mut headers,
        )?;
        let length = match parsed {
            Status::Complete(length) if length <= MAX_HEAD => length,
            Status::Partial if received.len() < MAX_HEAD => return Ok(None),
            _ => return Err(HeadFault::TooLong),
        };
        match head.code {
            Some(101) => {
                let headers = headers_of(received, length, head.headers)?;
                received.advance(length);
                return Ok(Some(AnswerHead::Switching(headers)));
            }
            Some(100..=199) if *interim >= MAX_INTERIM => return Err(HeadFault::Interim),
            Some(100..=199) => {
                *interim += 1;
                received.advance(length);
            }
            Some(200..) => return Ok(Some(AnswerHead::Other)),
            // Three digits below 100.
            _ => return Err(httparse::Error::Status.into()),
        }
    }
}

/// Makes a map of parsed headers. Their values share one copy of the head, so that the buffer can go.
fn headers_of(
    received: &[u8],
    length: usize,
    parsed: &[Header<'_>],
) -> Result<HeaderMap, HeadFault> {
    let head = Bytes::copy_from_slice(&received[..length]);
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for Header { name, value } in parsed {
        let name = HeaderName::from_bytes(name.as_bytes());
        let name = name.map_err(|_| httparse::Error::HeaderName)?;
        let value = if value.is_empty() {
            HeaderValue::from_static("")
        } else {
            let start = value.as_ptr().addr() - received.as_ptr().addr();
            HeaderValue::from_maybe_shared(head.slice(start..start + value.len()))
                .map_err(|_| httparse::Error::HeaderValue)?
        };
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
