//! What servers may make of one path: whether they decode it once, twice or not at all, and what they do with slashes, dot
//! segments, parameters, backslashes and NULs, in the orders in which they do it.
//!
//! nginx decodes, resolves dots and merges slashes; Tomcat and Jetty strip parameters, decode, take `\` for `/` where told to, and resolve; Go's
//! `ServeMux` cleans what was decoded; Node.js and its frameworks look at the path as it came; PHP, WSGI and CGI decode; some
//! proxies and rewriting frameworks decode again.

use std::collections::HashSet;

use super::{may_stand_plain, push_escape};

/// A path on its way through a server.
#[derive(PartialEq, Eq, Hash)]
struct View {
    bytes: Vec<u8>,
    /// Whether it was decoded, so that a '%' in it is one.
    decoded: bool,
}

/// Whether every other reading of a normalised path, each told once, is as wanted. The first that is not is the last.
pub(super) fn all(path: &str, mut is_wanted: impl FnMut(&str) -> bool) -> bool {
    let mut views = HashSet::new();
    let mut told = HashSet::new();
    let mut tell = |bytes: Vec<u8>, decoded: bool| {
        let text = match String::from_utf8(bytes) {
            Ok(text) if !decoded => text,
            Ok(text) => encode(text.as_bytes()),
            Err(error) => encode(error.as_bytes()),
        };
        text == path || told.contains(&text) || {
            let wanted = is_wanted(&text);
            told.insert(text);
            wanted
        }
    };
    let mut look = |bytes: Vec<u8>, decoded: bool| {
        [turn_backslashes(&bytes), bytes].into_iter().all(|bytes| {
            let view = View { bytes, decoded };
            if views.contains(&view) {
                return true;
            }
            let all = forms(&view.bytes).into_iter().all(|bytes| tell(bytes, decoded));
            views.insert(view);
            all
        })
    };
    let own = path.as_bytes();
    let once = decode(own);
    let twice = decode(&once);
    [(own, false), (&once, true), (&twice, true)].into_iter().all(|(bytes, decoded)| {
        look(bytes.to_vec(), decoded)
            && look(cut_at(bytes, 0), decoded)
            // Parameters end at a slash that is seen before what is encoded is.
            && look(decode(&strip_parameters(bytes)), true)
            && look(decode(&cut_at(bytes, b';')), true)
    })
}

/// What is made of a path that is not decoded any more, each once.
fn forms(path: &[u8]) -> HashSet<Vec<u8>> {
    let parameters = [strip_parameters(path), cut_at(path, b';'), path.to_vec()];
    let mut forms = HashSet::new();
    for bytes in parameters {
        if forms.contains(&bytes) {
            continue;
        }
        let (merged, resolved) = (merge(&bytes), resolve(&bytes));
        forms.extend([resolve(&merged), merge(&resolved), resolved, merged, bytes]);
    }
    forms
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
