//! Requests that come back (RFC 8586): each that goes to a backend carries `CDN-Loop` with this gateway's id, and one that comes with
//! it is refused. Pure.
//!
//! `CDN-Loop` and not `Via`, which says the same: servers take that as a sign to leave answers uncompressed (nginx's
//! `gzip_proxied`), and clients' proxies write it too. Each process has an id of its own. Gateways may well stand in a row, so another one's
//! is no loop yet, but [`MAX_PASSES`] are.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::headers::tokens;

/// The header.
pub(super) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// What all gateways of this kind call themselves.
const NAME: &[u8] = b"tidegate";

/// Gateways of this kind, whichever they are, that a request may have passed before.
pub const MAX_PASSES: usize = 4;

/// How one gateway knows its own requests.
#[derive(Clone, Debug)]
pub struct LoopMark {
    /// `tidegate;id=0123456789abcdef`
    mark: HeaderValue,
}

impl LoopMark {
    /// That of the gateway with this id.
    pub fn new(id: u64) -> Self {
        let mark = HeaderValue::try_from(format!("tidegate;id={id:016x}"));
        Self { mark: mark.expect("a name and hex are visible ASCII") }
    }

    /// Whether a request has been here, or at too many others.
    pub fn is_looping(&self, headers: &HeaderMap) -> bool {
        let mut passes = 0;
        tokens(headers, &CDN_LOOP).any(|pass| {
            // Whoever passes it on may write it anew: case and spaces do not count.
            let mut parts = pass.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            if !parts.next().is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
                return false;
            }
            passes += 1;
            let own = &self.mark.as_bytes()[NAME.len() + 1..];
            passes >= MAX_PASSES || parts.any(|part| part.eq_ignore_ascii_case(own))
        })
    }

    /// Marks a request on its way to a backend.
    pub fn put_on(&self, headers: &mut HeaderMap) {
        headers.append(CDN_LOOP, self.mark.clone());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn looping(lines: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CDN_LOOP, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        LoopMark::new(0xabc).is_looping(&headers)
    }

    #[test]
    fn an_own_mark_is_known_whatever_stands_around_it() {
        let mut headers = HeaderMap::new();
        let mark = LoopMark::new(0xabc);
        assert!(!mark.is_looping(&headers));
        mark.put_on(&mut headers);
        assert!(mark.is_looping(&headers));
        assert!(!LoopMark::new(0xabd).is_looping(&headers));
        for lines in [
            &["tidegate;id=0000000000000abc"][..],
            &["cloudflare", "other; id=1, Tidegate ; ID=0000000000000ABC; v=2"],
            &["\u{e9}, tidegate;id=0000000000000abc"],
        ] {
            assert!(looping(lines), "{lines:?}");
        }
    }

    #[test]
    fn other_gateways_may_stand_in_front_but_not_without_end() {
        let other = "tidegate;id=1";
        assert!(!looping(&["cloudflare; x=tidegate", "id=0000000000000abc", "tidegate2"]));
        assert!(!looping(&[other, other, other]));
        assert!(looping(&[other, "fastly, tidegate;id=2", other, "TIDEGATE"]));
    }
}
