//! What servers may make of one path: whether they decode it once, twice or not at all, and what they do with slashes, dot
//! segments, parameters, backslashes and NULs, in the orders in which they do it.
//!
//! nginx decodes, resolves dots and merges slashes; Tomcat and Jetty strip parameters, decode, take `\` for `/` where told to, and resolve; Go's
//! `ServeMux` cleans what was decoded; Node.js and its frameworks look at the path as it came; PHP, WSGI and CGI decode; some
//! proxies and rewriting frameworks decode again.

use super::{may_stand_plain, push_escape};

/// A path on its way through a server.
#[derive(Clone, PartialEq, Eq)]
struct View {
    bytes: Vec<u8>,
    /// Whether it was decoded, so that a '%' in it is one.
    decoded: bool,
}

/// Every other reading of a normalised path, each once.
pub(super) fn all(path: &str) -> Vec<String> {
    let mut views: Vec<View> = Vec::new();
    let mut add = |bytes: Vec<u8>, decoded| {
        for bytes in [turn_backslashes(&bytes), bytes] {
            let view = View { bytes, decoded };
            if !views.contains(&view) {
                views.push(view);
            }
        }
    };
    let own = path.as_bytes();
    let once = decode(own);
    let twice = decode(&once);
    for (bytes, decoded) in [(own, false), (&once, true), (&twice, true)] {
        add(bytes.to_vec(), decoded);
        add(cut_at(bytes, 0), decoded);
        // Parameters end at a slash that is seen before what is encoded is.
        add(decode(&strip_parameters(bytes)), true);
        add(decode(&cut_at(bytes, b';')), true);
    }
    let mut found: Vec<String> = Vec::new();
    for View { bytes, decoded } in views {
        for bytes in [strip_parameters(&bytes), cut_at(&bytes, b';'), bytes] {
            let merged = merge(&bytes);
            let resolved = resolve(&bytes);
            for bytes in [resolve(&merged), merge(&resolved), resolved, merged, bytes] {
                let text = match String::from_utf8(bytes) {
                    Ok(text) if !decoded => text,
                    Ok(text) => encode(text.as_bytes()),
                    Err(error) => encode(error.as_bytes()),
                };
                if text != path && !found.contains(&text) {
                    found.push(text);
                }
            }
        }
    }
    found
}

/// The path with every escape decoded that need not be one.
pub(super) fn decoded(path: &str) -> String {
    encode(&decode(path.as_bytes()))
}

/// A decoded path in the form of normalised ones.
fn encode(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for &byte in path {
        if may_stand_plain(byte) || matches!(byte, b'/' | b';' | b'\\') {
            text.push(char::from(byte));
        } else {
            push_escape(&mut text, byte);
        }
    }
    text
}

fn decode(path: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(path).collect()
}

/// `/a;x/b` as `/a/b`.
fn strip_parameters(path: &[u8]) -> Vec<u8> {
    let mut skipping = false;
    let keep = |byte: &u8| {
        skipping = *byte == b';' || (skipping && *byte != b'/');
        !skipping
    };
    path.iter().copied().filter(keep).collect()
}

fn cut_at(path: &[u8], byte: u8) -> Vec<u8> {
    path.split(|other| *other == byte).next().unwrap_or_default().to_vec()
}

fn turn_backslashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

/// `/a//b` as `/a/b`.
fn merge(path: &[u8]) -> Vec<u8> {
    let mut merged = path.to_vec();
    merged.dedup_by(|next, last| *next == b'/' && *last == b'/');
    merged
}

/// Dot segments resolved (RFC 3986 §5.2.4).
fn resolve(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let elements: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let last = elements.len() - 1;
    for (index, element) in elements.into_iter().enumerate() {
        match element {
            b"." | b".." => {
                // The first is what stands before the leading slash.
                if element == b".." && kept.len() > 1 {
                    kept.pop();
                }
                if index == last {
                    kept.push(b"");
                }
            }
            _ => kept.push(element),
        }
    }
    kept.join(&b'/')
}
