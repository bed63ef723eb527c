//! Requests that come back (RFC 8586): each that goes to a backend carries `CDN-Loop` with this gateway's id, and one that comes with
//! it too often is refused. Pure.
//!
//! `CDN-Loop` and not `Via`, which says the same: servers take that as a sign to leave answers uncompressed (nginx's
//! `gzip_proxied`), and clients' proxies write it too. Each process has an id of its own. A pass or two more is no loop yet: a backend that hands on its client's headers may
//! call another hostname of the same gateway, and gateways may stand in a row. [`MAX_OWN_PASSES`] here are one, and [`MAX_PASSES`] in all.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::list::tokens;

/// The header.
pub(super) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// What all gateways of this kind call themselves.
const NAME: &[u8] = b"tidegate";

/// How often a request may have passed this gateway before.
pub const MAX_OWN_PASSES: usize = 3;

/// How often it may have passed gateways of this kind before, whichever they are.
pub const MAX_PASSES: usize = 8;

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

    /// Whether a request has been here too often, or at too many others.
    pub fn is_looping(&self, headers: &HeaderMap) -> bool {
        let (mut passes, mut own_passes) = (0, 0);
        tokens(headers, &CDN_LOOP).any(|pass| {
            // Whoever passes it on may write it anew: case and spaces do not count.
            let mut parts = pass.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            if !parts.next().is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
                return false;
            }
            passes += 1;
            let own = &self.mark.as_bytes()[NAME.len() + 1..];
            own_passes += usize::from(parts.any(|part| part.eq_ignore_ascii_case(own)));
            passes >= MAX_PASSES || own_passes >= MAX_OWN_PASSES
        })
    }

    /// Marks a request on its way to a backend.
    pub fn put_on(&self, headers: &mut HeaderMap) {
        headers.append(CDN_LOOP, self.mark.clone());
    }

    /// Marks a new request, which is made because of `other`: it has passed wherever that one has.
    pub fn put_on_behind(&self, other: &HeaderMap, headers: &mut HeaderMap) {
        for line in other.get_all(CDN_LOOP) {
            headers.append(CDN_LOOP, line.clone());
        }
        self.put_on(headers);
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
    fn own_marks_are_known_whatever_stands_around_them_and_three_are_a_loop() {
        let mut headers = HeaderMap::new();
        let mark = LoopMark::new(0xabc);
        for _ in 0..MAX_OWN_PASSES {
            assert!(!mark.is_looping(&headers));
            mark.put_on(&mut headers);
        }
        assert!(mark.is_looping(&headers));
        assert!(!LoopMark::new(0xabd).is_looping(&headers));
        let own = "tidegate;id=0000000000000abc";
        for lines in [
            &[own, own, own][..],
            &[own, "cloudflare", "other; id=1, Tidegate ; ID=0000000000000ABC; v=2", own],
            &["\u{e9}, tidegate;id=0000000000000abc", own, own],
        ] {
            assert!(looping(lines), "{lines:?}");
            assert!(!looping(&lines[1..]), "{lines:?}");
        }
    }

    #[test]
    fn other_gateways_may_stand_in_front_but_not_without_end() {
        let other = "tidegate;id=1";
        assert!(!looping(&["cloudflare; x=tidegate", "id=0000000000000abc", "tidegate2"]));
        assert!(!looping(&[other; MAX_PASSES - 1]));
        assert!(looping(&[
            "fastly, tidegate;id=2, tidegate;id=3, TIDEGATE",
            &[other; 5].join(",")
        ]));
    }

    #[test]
    fn a_request_that_is_made_because_of_another_has_passed_where_that_has() {
        let mark = LoopMark::new(0xabc);
        let (mut came, mut goes) = (HeaderMap::new(), HeaderMap::new());
        came.append(CDN_LOOP, HeaderValue::from_static("fastly"));
        mark.put_on(&mut came);
        mark.put_on_behind(&came, &mut goes);
        let lines: Vec<&HeaderValue> = goes.get_all(CDN_LOOP).iter().collect();
        assert_eq!(
            lines,
            ["fastly", "tidegate;id=0000000000000abc", "tidegate;id=0000000000000abc"]
        );
    }
}
