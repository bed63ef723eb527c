//! What servers may make of one path: whether they decode it once, twice or not at all, and what they do with slashes, dot
//! segments, parameters, backslashes and NULs, in the orders in which they do it.
//!
//! nginx decodes, resolves dots and merges slashes; Tomcat and Jetty strip parameters, decode, take `\` for `/` where told to, and resolve; Go's
//! `ServeMux` cleans what was decoded; Node.js and its frameworks look at the path as it came; PHP, WSGI and CGI decode; some
//! proxies and rewriting frameworks decode again.

use std::collections::HashSet;

use super::{may_stand_plain, push_escape};

/// A path on its way through servers, one behind the other.
#[derive(Clone, PartialEq, Eq, Hash)]
struct View {
    bytes: Vec<u8>,
    /// How often it was decoded: after the first time a '%' in it is one.
    decodings: u8,
}

/// Who decodes a path has decoded it once before at most.
const MOST_DECODINGS: u8 = 2;

/// Views that are looked at. A path that has more is not taken: those that people use have some ten.
pub(super) const MOST_VIEWS: usize = 256;

/// Whether every other reading of a normalised path, each told once, is as wanted. The first that is not is the last.
///
/// What one server has made of it the next one may go on with, so every order of all that servers do is followed.
pub(super) fn all(path: &str, mut is_wanted: impl FnMut(&str) -> bool) -> bool {
    let own = View { bytes: path.as_bytes().to_vec(), decodings: 0 };
    let mut seen = HashSet::from([own.clone()]);
    let mut told = HashSet::new();
    let mut next = vec![own];
    while let Some(view) = next.pop() {
        let text = match String::from_utf8(view.bytes.clone()) {
            Ok(text) if view.decodings == 0 => text,
            Ok(text) => encode(text.as_bytes()),
            Err(error) => encode(error.as_bytes()),
        };
        if text != path && !told.contains(&text) {
            if !is_wanted(&text) {
                return false;
            }
            told.insert(text);
        }
        for made in steps(&view) {
            if !seen.contains(&made) {
                if seen.len() == MOST_VIEWS {
                    return false;
                }
                seen.insert(made.clone());
                next.push(made);
            }
        }
    }
    true
}

/// What a server makes of a view in one step.
fn steps(view: &View) -> impl Iterator<Item = View> {
    let View { bytes, decodings } = view;
    let same = [
        turn_backslashes(bytes),
        // The end of a C string.
        cut_at(bytes, 0),
        strip_parameters(bytes),
        cut_at(bytes, b';'),
        merge(bytes),
        resolve(bytes),
    ];
    let decoded = (*decodings < MOST_DECODINGS)
        .then(|| View { bytes: decode(bytes), decodings: decodings + 1 });
    same.into_iter().map(|bytes| View { bytes, decodings: *decodings }).chain(decoded)
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
