//! Plain HTTP requests: to the admin port, to Prometheus, to port 80.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends a GET. The status and the body of the answer.
pub fn get(to: SocketAddr, path: &str) -> Result<(u16, String), String> {
    get_from(to, &to.to_string(), path)
}

/// The same of a host that is reached there.
pub fn get_from(to: SocketAddr, host: &str, path: &str) -> Result<(u16, String), String> {
    let connect = || {
        let stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(stream)
    };
    connect()
        .map_err(|error: std::io::Error| error.to_string())
        .and_then(|stream| get_over(stream, host, path, ""))
        .map_err(|error| format!("http://{host}{path} at {to}: {error}"))
}

/// Sends a GET over a connection that is used for nothing else, with these headers as well, each ending in CRLF.
pub fn get_over(
    mut stream: impl Read + Write,
    host: &str,
    path: &str,
    headers: &str,
) -> Result<(u16, String), String> {
    let mut exchange = || {
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer)
    };
    let answer = exchange().map_err(|error: std::io::Error| error.to_string())?;
    parse(&answer)
        .ok_or_else(|| format!("not an HTTP answer: {:?}", String::from_utf8_lossy(&answer)))
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &answer[end + 4..];
    let body = match head.contains("\r\ntransfer-encoding: chunked") {
        true => unchunked(body)?,
        false => body.to_vec(),
    };
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}

/// The content of a chunked body (RFC 9112 §7.1).
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size =
            usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend(rest.get(end + 2..end + 2 + size)?);
        rest = rest.get(end + 2 + size + 2..)?;
    }
}

/// For a query parameter.
pub fn url_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}
