//! `Host`: what is taken is read again, strictly and in another way, and is the same.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use tidegate_gateway::authority::Authority;

/// The host and port that bytes stand for; `None` where they stand for none.
fn reference(bytes: &[u8]) -> Option<(String, Option<u16>)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (format!("[{}]", address.parse::<Ipv6Addr>().ok()?), port)
        }
        None => {
            let (name, port) = text.find(':').map_or((text, ""), |at| text.split_at(at));
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            let labels: Vec<&str> = name.split('.').collect();
            let sound = |label: &&str| {
                let byte = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
                (1..=63).contains(&label.len()) && label.bytes().all(byte)
            };
            if name.len() > 253 || !labels.iter().all(sound) {
                return None;
            }
            let last_is_number = labels.last()?.bytes().all(|byte| byte.is_ascii_digit());
            if last_is_number && name.parse::<Ipv4Addr>().is_err() {
                return None;
            }
            (name, port)
        }
    };
    let port = match port {
        "" | ":" => None,
        _ => {
            let digits = port.strip_prefix(':')?;
            if digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            Some(u16::try_from(digits.parse::<u32>().ok()?).ok()?)
        }
    };
    Some((host, port))
}

fuzz_target!(|bytes: &[u8]| {
    let read = Authority::parse(bytes);
    let expected = reference(bytes);
    assert_eq!(read.is_ok(), expected.is_some(), "{read:?}");
    let (Ok(read), Some((host, port))) = (read, expected) else { return };
    assert_eq!((read.host(), read.port()), (&*host, port));
    let text = read.as_str();
    assert_eq!(text, port.map_or(host.clone(), |port| format!("{host}:{port}")));
    // What is sent on says the same to whoever reads it by the grammar of URIs.
    let again = text.parse::<http::uri::Authority>().expect("a host is an authority");
    assert_eq!((again.host(), again.port_u16()), (&*host, port));
    assert_eq!(Authority::parse(text.as_bytes()).as_ref(), Ok(&read));
    assert!(http::HeaderValue::from_str(text).is_ok());
});
