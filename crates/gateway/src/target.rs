//! What a request is for: its host and its path, each in one form, by which it is matched and in which it goes on
//! (RFC 9112 §3.2). Pure.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, header, uri::PathAndQuery};
use tidegate_table::path::{PathFault, RequestPath};

use super::{
    authority::Authority,
    refusal::{Refusal, RefusalReason},
};

/// A request's target.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The host and perhaps a port.
    pub authority: Authority,
    /// The path.
    pub path: RequestPath<'a>,
    uri: &'a Uri,
}

impl<'a> Target<'a> {
    /// That of a request: of an absolute-form target alone, else of its path and its one `Host`.
    pub fn of(method: &Method, uri: &'a Uri, headers: &HeaderMap) -> Result<Self, Refusal> {
        let bad = |detail: &'static str| Refusal::new(RefusalReason::BadHandshake, detail);
        if *method == Method::CONNECT {
            return Err(bad("CONNECT makes no tunnel here."));
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().ok_or_else(|| bad("The request has no Host header."))?;
        if hosts.next().is_some() {
            return Err(bad("The request has more than one Host header."));
        }
        let parse = |what: &str, bytes: &[u8]| {
            Authority::parse(bytes).map_err(|fault| {
                Refusal::new(RefusalReason::BadHandshake, format!("The {what} {fault}."))
            })
        };
        let mut authority = parse("Host header", host.as_bytes())?;
        match (uri.scheme_str(), uri.authority()) {
            (None, None) => {}
            (Some("http" | "https" | "ws" | "wss"), Some(given)) => {
                authority = parse("host of the request's target", given.as_str().as_bytes())?;
            }
            (None, Some(_)) => {
                return Err(bad("Only CONNECT has a host and a port as its target: send a path."));
            }
            _ => return Err(bad("The scheme of the request's target is not served here.")),
        }
        let path = RequestPath::of(uri.path()).map_err(refuse_path)?;
        Ok(Self { authority, path, uri })
    }

    /// The target in origin form, as it is matched and forwarded; `None` where it came so.
    pub fn rewritten(&self) -> Option<Uri> {
        let query = self.uri.query();
        let plain_query = query.is_none_or(str::is_ascii);
        if self.uri.scheme().is_none() && self.path.is_as_sent() && plain_query {
            return None;
        }
        let mut text = self.path.as_str().to_owned();
        if let Some(query) = query {
            text.push('?');
            text.push_str(&escaped(query));
        }
        let target = PathAndQuery::from_maybe_shared(Bytes::from(text));
        Some(target.expect("a path and a query in visible ASCII are a target").into())
    }
}

/// A query with what is not ASCII escaped, as it should have come (RFC 3986 §3.4). Nothing else is touched.
fn escaped(query: &str) -> Cow<'_, str> {
    percent_encoding::utf8_percent_encode(query, &percent_encoding::AsciiSet::EMPTY).into()
}

/// The refusal of a path.
pub(super) fn refuse_path(fault: PathFault) -> Refusal {
    let mut refusal = Refusal::new(RefusalReason::BadPath, fault.to_string());
    if let PathFault::Ambiguous { what, .. } = fault {
        let advice = format!(
            "Whoever runs the route can allow it, where the backend reads such a path as it stands: \"path: {{allow: [{}]}}\" in its rule.",
            what.as_str()
        );
        refusal.advice = Some(advice.into());
    }
    refusal
}

#[cfg(test)]
mod tests;
