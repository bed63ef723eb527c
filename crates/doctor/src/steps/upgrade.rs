//! The upgrade over HTTP/1.1, written and read by hand: what matters is which header came and which did not.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use sha1::{Digest, Sha1};
use tidegate_core::escape;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

use super::{BoxedWire, Socket, messages, outcome_of};
use crate::{
    Settings,
    seen::{Answer, Attempt, GetSeen, Outcome, UpgradeSeen},
};

/// How the doctor calls itself.
pub(super) const USER_AGENT: &str = concat!("tidegate-doctor/", env!("CARGO_PKG_VERSION"));

/// Most bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;
/// Most headers of an answer.
const MAX_HEADERS: usize = 128;
/// Most interim answers before the final one.
const MAX_INTERIM: usize = 16;
/// Most bytes of a body that are looked at.
const MAX_BODY: usize = 4096;
/// Most characters of a body's first line that are kept.
const MAX_LINE: usize = 200;
/// How long the answer to an upgrade is waited for at least: gateways give a backend 10 seconds, and then say so.
const UPGRADE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(12);
/// How long the first line of a refusal's body is waited for.
const BODY_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Appended to the key before hashing (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// On which way: scheme and port decide `Host`.
    pub(super) attempt: Attempt,
    /// Whether the server may get what could be secret.
    pub(super) trusted: bool,
    /// Whether the subprotocols are offered.
    pub(super) subprotocols: bool,
}

/// Asks for an upgrade (RFC 6455 §4.1).
pub(super) async fn upgrade(
    mut wire: BoxedWire,
    settings: &Settings,
    asked: Asked,
) -> (UpgradeSeen, Option<Socket>) {
    let key = BASE64.encode(fastrand::u128(..).to_be_bytes());
    let offered = match asked.subprotocols {
        true => settings.subprotocols.clone(),
        false => Vec::new(),
    };
    let mut seen = UpgradeSeen {
        outcome: Outcome::Done,
        error: None,
        answer: None,
        faults: Vec::new(),
        offered,
        chosen: None,
        retry: !asked.subprotocols,
        withheld: !asked.trusted
            && (settings.target.query.is_some() || !settings.headers.is_empty()),
    };
    let request = request(settings, asked, &key, &seen.offered);
    let exchange = async {
        wire.write_all(request.as_bytes()).await.map_err(|error| outcome_of(&error))?;
        wire.flush().await.map_err(|error| outcome_of(&error))?;
        read_head(&mut wire).await
    };
    let patience = settings.patience.max(UPGRADE_PATIENCE);
    let (mut answer, rest) = match timeout(patience, exchange).await {
        Err(_) => {
            seen.outcome = Outcome::Silent;
            seen.error = Some(format!("no answer within {patience:?}"));
            return (seen, None);
        }
        Ok(Err(outcome)) => {
            seen.outcome = outcome;
            return (seen, None);
        }
        Ok(Ok(read)) => read,
    };
    if answer.status == 101 {
        (seen.faults, seen.chosen) = faults(&answer, &key);
        seen.answer = Some(answer);
        let socket = WebSocketStream::from_partially_read(
            wire,
            rest,
            Role::Client,
            Some(messages::config()),
        )
        .await;
        return (seen, Some(socket));
    }
    answer.body = first_line(&mut wire, rest, &answer).await;
    seen.answer = Some(answer);
    (seen, None)
}

/// Asks for the same path without an upgrade.
pub(super) async fn get(mut wire: BoxedWire, settings: &Settings, asked: Asked) -> GetSeen {
    let request = format!(
        "{}Connection: close\r\n{}\r\n",
        begin(settings, asked),
        given_headers(settings, asked)
    );
    let exchange = async {
        wire.write_all(request.as_bytes()).await.map_err(|error| outcome_of(&error))?;
        wire.flush().await.map_err(|error| outcome_of(&error))?;
        read_head(&mut wire).await
    };
    match timeout(settings.patience, exchange).await {
        Err(_) => GetSeen { outcome: Outcome::Silent, answer: None },
        Ok(Err(outcome)) => GetSeen { outcome, answer: None },
        Ok(Ok((answer, _))) => GetSeen { outcome: Outcome::Done, answer: Some(answer) },
    }
}

/// The request line, and the headers that any request has.
fn begin(settings: &Settings, asked: Asked) -> String {
    let target = &settings.target;
    let mut path = target.path.clone();
    if let Some(query) = target.query.as_ref().filter(|_| asked.trusted) {
        path += &format!("?{query}");
    }
    let host = target.authority(asked.attempt.secure, asked.attempt.port);
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\n")
}

fn given_headers(settings: &Settings, asked: Asked) -> String {
    let given = settings.headers.iter().filter(|_| asked.trusted);
    given.map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

fn request(settings: &Settings, asked: Asked, key: &str, offered: &[String]) -> String {
    let mut text = begin(settings, asked);
    text += &format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {key}\r\n"
    );
    if !offered.is_empty() {
        text += &format!("Sec-WebSocket-Protocol: {}\r\n", offered.join(", "));
    }
    if let Some(origin) = &settings.origin {
        text += &format!("Origin: {origin}\r\n");
    }
    text + &given_headers(settings, asked) + "\r\n"
}

/// Reads the head of an answer, over interim ones (RFC 9110 §15.2); with it come the bytes behind it.
pub(super) async fn read_head<S>(stream: &mut S) -> Result<(Answer, Vec<u8>), Outcome>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = Vec::new();
    let mut interim = 0;
    loop {
        match parse_head(&bytes)? {
            Some((answer, length)) => {
                bytes.drain(..length);
                if answer.status >= 200 || answer.status == 101 {
                    return Ok((answer, bytes));
                }
                interim += 1;
                if interim > MAX_INTERIM {
                    return Err(Outcome::Garbled);
                }
            }
            None => match stream.read_buf(&mut bytes).await {
                Ok(0) if bytes.is_empty() => return Err(Outcome::Closed),
                Ok(0) => return Err(Outcome::Garbled),
                Ok(_) if bytes.len() > MAX_HEAD => return Err(Outcome::Garbled),
                Ok(_) => {}
                Err(error) => return Err(outcome_of(&error)),
            },
        }
    }
}

/// The head at the start of these bytes and its length, once it is there.
fn parse_head(bytes: &[u8]) -> Result<Option<(Answer, usize)>, Outcome> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Outcome::Garbled),
    };
    let headers = head.headers.iter().map(|header| {
        let value = String::from_utf8_lossy(header.value);
        let mut value = value.trim();
        if header.name.eq_ignore_ascii_case("set-cookie") {
            // A session's cookie has no place in a ticket; its name tells whose it is.
            value = value.split('=').next().unwrap_or_default();
        }
        (header.name.to_ascii_lowercase(), value.to_owned())
    });
    let answer = Answer {
        minor: head.version.unwrap_or_default(),
        status: head.code.unwrap_or_default(),
        headers: headers.collect(),
        body: String::new(),
    };
    Ok(Some((answer, length)))
}

/// What a client has to object to in a 101 (RFC 6455 §4.1), and the subprotocol that it chooses.
fn faults(answer: &Answer, key: &str) -> (Vec<String>, Option<String>) {
    let tokens = |name: &'static str| {
        answer
            .headers
            .iter()
            .filter(move |(known, _)| known == name)
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
    };
    let mut faults = Vec::new();
    if answer.minor == 0 {
        faults.push("it is HTTP/1.0".to_owned());
    }
    if !tokens("upgrade").any(|token| token.eq_ignore_ascii_case("websocket")) {
        faults.push("it lacks \"Upgrade: websocket\"".to_owned());
    }
    if !tokens("connection").any(|token| token.eq_ignore_ascii_case("upgrade")) {
        faults.push("it lacks \"Connection: Upgrade\"".to_owned());
    }
    let accept = BASE64.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
    match answer.header("sec-websocket-accept") {
        None => faults.push("it lacks Sec-WebSocket-Accept".to_owned()),
        Some(value) if value != accept => {
            faults.push("its Sec-WebSocket-Accept does not fit the key".to_owned());
        }
        Some(_) => {}
    }
    if let Some(extension) = answer.header("sec-websocket-extensions") {
        faults.push(format!("it uses an extension that was not offered ({extension})"));
    }
    (faults, answer.header("sec-websocket-protocol").map(str::to_owned))
}

/// The first line of a refusal's body, where it is text.
async fn first_line(wire: &mut BoxedWire, mut bytes: Vec<u8>, answer: &Answer) -> String {
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    let enough = length.unwrap_or(MAX_BODY).min(MAX_BODY);
    let read = async {
        while bytes.len() < enough && wire.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {}
    };
    // What has come by then will do.
    let _ = timeout(BODY_PATIENCE, read).await;
    readable(&bytes, answer)
}

fn readable(bytes: &[u8], answer: &Answer) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut text = text.trim_start();
    if answer.header("transfer-encoding").is_some() {
        // The size of the first chunk.
        text = text.split_once('\n').map_or("", |(_, rest)| rest);
    }
    if answer.header("content-type").is_some_and(|kind| kind.contains("html"))
        && let Some((_, rest)) = text.split_once("<title>")
    {
        text = rest.split("</title>").next().unwrap_or_default();
    }
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().filter(|next| !escape::is_escaped(*next)).take(MAX_LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn answer(text: &str) -> Answer {
        parse_head(text.replace('\n', "\r\n").as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn a_sound_101_has_no_faults() {
        let answer = answer(
            "HTTP/1.1 101 Switching Protocols\nUpgrade: WebSocket\nConnection: keep-alive, upgrade\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\nSec-WebSocket-Protocol: mqtt\n\n",
        );
        assert_eq!(faults(&answer, KEY), (Vec::new(), Some("mqtt".to_owned())));
    }

    #[test]
    fn each_fault_of_a_101_is_told() {
        let answer =
            answer("HTTP/1.0 101 OK\nSec-WebSocket-Accept: x\nSec-WebSocket-Extensions: foo\n\n");
        let (faults, chosen) = faults(&answer, KEY);
        let wanted = ["HTTP/1.0", "\"Upgrade: websocket\"", "\"Connection", "fit the key", "(foo)"];
        assert_eq!(faults.len(), wanted.len());
        for (fault, wanted) in faults.iter().zip(wanted) {
            assert!(fault.contains(wanted), "{fault}");
        }
        assert_eq!(chosen, None);
    }

    #[test]
    fn cookies_lose_their_values_and_garbage_is_told() {
        let answer = answer("HTTP/1.1 200 OK\nSet-Cookie: AWSALB=secret; Path=/\nA: b\n\n");
        let wanted = [("set-cookie", "AWSALB"), ("a", "b")];
        assert_eq!(answer.headers, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(parse_head(b"SSH-2.0-OpenSSH_9.2\r\n"), Err(Outcome::Garbled));
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\nA:"), Ok(None));
    }

    #[test]
    fn the_line_of_a_body_is_its_title_or_its_first() {
        let html = answer("HTTP/1.1 502 Bad\nContent-Type: text/html\n\n");
        let page = b"<html>\r\n<head><title>502 Bad Gateway</title></head>";
        assert_eq!(readable(page, &html), "502 Bad Gateway");
        let chunked = answer("HTTP/1.1 400 Bad\nTransfer-Encoding: chunked\n\n");
        assert_eq!(readable(b"b\r\nhello world\r\n0\r\n\r\n", &chunked), "hello world");
        let plain = answer("HTTP/1.1 400 Bad\n\n");
        assert_eq!(readable(b"\x1b[31mred\nrest", &plain), "[31mred");
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_peer_sends_is_read_or_garbled(bytes: Vec<u8>, status in 100_u16..1000, headers: Vec<u8>) {
            let _ = parse_head(&bytes);
            let mut head = format!("HTTP/1.1 {status} x\r\nTransfer-Encoding: chunked\r\nContent-Type: text/html\r\n")
                .into_bytes();
            head.extend(headers);
            head.extend(b"\r\n\r\n");
            if let Ok(Some((answer, length))) = parse_head(&head) {
                proptest::prop_assert!(length <= head.len());
                let line = readable(&bytes, &answer);
                proptest::prop_assert!(line.chars().count() <= MAX_LINE);
                proptest::prop_assert!(!line.chars().any(char::is_control));
            }
        }
    }
}
