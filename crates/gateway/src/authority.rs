//! `Host`, and the authority of an absolute-form target (RFC 9110 §7.2, RFC 3986 §3.2): who is asked. Pure.
//!
//! Stricter than the grammar of URIs, which has room for `a.test:80,evil.example`: what comes out is what routes are found
//! by, and what backends are told, in `Host` and `X-Forwarded-Host` alike. So it is a name of DNS labels or an IP address, in one form.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use thiserror::Error;

/// The longest name that DNS can carry, and the longest label of one (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Why bytes name no host. Positions count bytes from 1.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AuthorityFault {
    /// There is no name.
    #[error("names no host")]
    Empty,
    /// It has a user name.
    #[error("has a user name in it, at position {at}")]
    UserInfo {
        /// Where the `@` is.
        at: usize,
    },
    /// A character that names do not have.
    #[error(
        "has a character that no host name has, at position {at}: one has letters, digits, '-', '_' and '.'"
    )]
    Character {
        /// Where it is.
        at: usize,
    },
    /// Two dots in a row, or one at the begin.
    #[error("has an empty label, at position {at}")]
    EmptyLabel {
        /// Where it should be.
        at: usize,
    },
    /// A label of more than 63 bytes.
    #[error("has a label of more than {MAX_LABEL} characters, which ends at position {at}")]
    LongLabel {
        /// Where it ends.
        at: usize,
    },
    /// A name of more than 253 bytes.
    #[error("is longer than a host name can be, which is {MAX_NAME} characters")]
    TooLong,
    /// Ends in a number, or is in brackets, and is no address.
    #[error("is not an IP address, though it is written as one")]
    Address,
    /// What stands behind the colon is no port.
    #[error("has a port that is not a number from 0 to 65535, at position {at}")]
    Port {
        /// Where the port begins.
        at: usize,
    },
}

/// A host and perhaps a port, in their one form: lower case, without a dot at the end, the port without zeros in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    text: String,
    /// How much of it is the host.
    host: usize,
    port: Option<u16>,
}

impl Authority {
    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuthorityFault> {
        if bytes.len() > MAX_NAME + ".:65535".len() {
            return Err(AuthorityFault::TooLong);
        }
        if let Some(at) = bytes.iter().position(|byte| *byte == b'@') {
            return Err(AuthorityFault::UserInfo { at: at + 1 });
        }
        let (mut text, rest) =
            if bytes.first() == Some(&b'[') { ipv6(bytes)? } else { name(bytes)? };
        let host = text.len();
        let start = bytes.len() - rest.len();
        let port = match rest {
            // An empty port is none (RFC 3986 §3.2.3).
            [] | [b':'] => None,
            [b':', digits @ ..] => {
                let port = port(digits).ok_or(AuthorityFault::Port { at: start + 2 })?;
                // Writing to a String does not fail.
                let _ = write!(text, ":{port}");
                Some(port)
            }
            _ => return Err(AuthorityFault::Character { at: start + 1 }),
        };
        Ok(Self { text, host, port })
    }

    /// The host, without the port.
    pub fn host(&self) -> &str {
        &self.text[..self.host]
    }

    /// The port, where one was named.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Both, as they go on.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A name, and what stands behind it.
fn name(bytes: &[u8]) -> Result<(String, &[u8]), AuthorityFault> {
    let end = bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len());
    let (name, rest) = bytes.split_at(end);
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() {
        return Err(AuthorityFault::Empty);
    }
    let mut text = String::with_capacity(bytes.len());
    // Where the label begins.
    let mut start = 0;
    for (at, byte) in name.iter().chain(b".").enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'.' if at == start => return Err(AuthorityFault::EmptyLabel { at: at + 1 }),
            b'.' if at - start > MAX_LABEL => return Err(AuthorityFault::LongLabel { at }),
            b'.' if at == name.len() => break,
            b'.' => start = at + 1,
            _ => return Err(AuthorityFault::Character { at: at + 1 }),
        }
        text.push(char::from(byte.to_ascii_lowercase()));
    }
    if text.len() > MAX_NAME {
        return Err(AuthorityFault::TooLong);
    }
    // No top-level domain is a number (RFC 3696 §2), and resolvers take what ends in one for an address, in more forms than one.
    if text[start..].bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<Ipv4Addr>().is_err()
    {
        return Err(AuthorityFault::Address);
    }
    Ok((text, rest))
}

/// An IPv6 address in brackets, and what stands behind it. No zone: it means something on one machine alone.
fn ipv6(bytes: &[u8]) -> Result<(String, &[u8]), AuthorityFault> {
    let end = bytes.iter().position(|byte| *byte == b']').ok_or(AuthorityFault::Address)?;
    let address =
        str::from_utf8(&bytes[1..end]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
    let address = address.ok_or(AuthorityFault::Address)?;
    Ok((format!("[{address}]"), &bytes[end + 1..]))
}

fn port(digits: &[u8]) -> Option<u16> {
    let digits = str::from_utf8(digits).ok()?;
    // `parse` would take a sign.
    let sound = digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| sound)
}

#[cfg(test)]
mod tests;
