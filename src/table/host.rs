//! One hostname: its certificate, and which rule takes a request.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    iter::successors,
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use percent_encoding::percent_decode_str;

use super::{Rule, TlsIdentity};

/// A hostname, or a wildcard pattern, with all that is served under it.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualHost {
    /// `chat.example.com` or `*.example.com`, lower case.
    pub pattern: Arc<str>,
    /// Its certificate; `None` serves the self-made one.
    pub tls: Option<Arc<TlsIdentity>>,
    /// The value of `Strict-Transport-Security` in answers over TLS (RFC 6797 §6.1); `None` sends none.
    pub hsts: Option<HeaderValue>,
    /// The namespace of the Secret that its certificate should come from, also while there is none in it yet.
    pub secret_namespace: Option<Box<str>>,
    /// By the whole path.
    exact: HashMap<Box<str>, Vec<RouteEntry>>,
    /// By leading path elements, without a trailing slash: `""` takes every path.
    prefix: HashMap<Box<str>, Vec<RouteEntry>>,
    /// Length of the longest prefix: what is beyond it in a path needs no look-up.
    longest_prefix: usize,
}

/// A match with the rule that it leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteEntry {
    /// What a request must look like.
    pub key: MatchKey,
    /// Who takes it.
    pub rule: Arc<Rule>,
}

/// A match of a rule, normalised. Two equal keys under one hostname are a conflict.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatchKey {
    /// How `path` is compared.
    pub kind: PathKind,
    /// The path; of a prefix without its trailing slash.
    pub path: Box<str>,
    /// Headers and their whole values, sorted by name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Query parameters and their whole values, decoded, sorted by name.
    pub query: Vec<(String, String)>,
    /// One of these is offered by the client; empty: any request. Sorted.
    pub subprotocols: Vec<String>,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathKind {
    /// By whole path elements from the start.
    Prefix,
    /// The whole path.
    Exact,
}

/// What a match looks at in a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The path in [its one form](super::RequestPath), without the query.
    pub path: &'a str,
    /// The query as sent, without its `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
}

impl VirtualHost {
    /// A host of these entries. Among entries that fit a request an exact path beats a prefix, a longer
    /// prefix a shorter one, then more headers, more query parameters, subprotocols over none; among
    /// equals the one that stands first in `entries` wins. It has no `hsts`.
    pub fn new(
        pattern: &str,
        tls: Option<Arc<TlsIdentity>>,
        entries: impl IntoIterator<Item = RouteEntry>,
    ) -> Self {
        let (mut exact, mut prefix) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for entry in entries {
            let index = match entry.key.kind {
                PathKind::Exact => &mut exact,
                PathKind::Prefix => &mut prefix,
            };
            index.entry(entry.key.path.clone()).or_default().push(entry);
        }
        for list in exact.values_mut().chain(prefix.values_mut()) {
            // Stable: the order of `entries` decides among equals.
            list.sort_by_key(|entry| Reverse(entry.key.specificity()));
        }
        let longest_prefix = prefix.keys().map(|path| path.len()).max().unwrap_or(0);
        let secret_namespace = tls.as_ref().map(|tls| tls.secret.namespace.as_str().into());
        Self {
            pattern: pattern.to_ascii_lowercase().into(),
            tls,
            hsts: None,
            secret_namespace,
            exact,
            prefix,
            longest_prefix,
        }
    }

    /// Whether what is in a namespace may speak for this host: one of its routes is, or its certificate's Secret.
    pub fn belongs_to(&self, namespace: &str) -> bool {
        self.secret_namespace.as_deref() == Some(namespace)
            || self.entries().any(|entry| entry.rule.route.namespace == namespace)
    }

    /// The rule that takes the request.
    pub fn find(&self, request: &RequestFacts<'_>) -> Option<&Arc<Rule>> {
        self.candidates(request.path)
            .find(|entry| entry.key.fits(request) && entry.key.fits_offer(request))
            .map(|entry| &entry.rule)
    }

    /// The subprotocols of which the request would have to offer one for a rule to take it; none where that would not help.
    /// Sorted.
    pub fn subprotocols_wanted<'t>(&'t self, request: &RequestFacts<'_>) -> BTreeSet<&'t str> {
        self.candidates(request.path)
            .filter(|entry| entry.key.fits(request))
            .flat_map(|entry| entry.key.subprotocols.iter().map(String::as_str))
            .collect()
    }

    /// The entries whose path fits, those first that come before others.
    fn candidates<'t>(&'t self, path: &str) -> impl Iterator<Item = &'t RouteEntry> {
        let longest = if path.len() > self.longest_prefix {
            // The last end of a path element that a prefix could reach: a long path costs no more look-ups.
            let end = path.as_bytes()[..=self.longest_prefix].iter().rposition(|b| *b == b'/');
            end.map(|end| &path[..end])
        } else {
            Some(path)
        };
        let prefixes = successors(longest, |path| path.rfind('/').map(|end| &path[..end]));
        let lists = prefixes.filter_map(|path| self.prefix.get(path));
        self.exact.get(path).into_iter().chain(lists).flatten()
    }

    /// All entries, in no particular order.
    pub fn entries(&self) -> impl Iterator<Item = &RouteEntry> {
        self.exact.values().chain(self.prefix.values()).flatten()
    }
}

impl MatchKey {
    /// Whether headers and query fit; the path was looked up before.
    fn fits(&self, request: &RequestFacts<'_>) -> bool {
        let one = |name: &HeaderName| {
            let mut lines = request.headers.get_all(name).iter();
            // Of several lines a backend may take another one than we do: none of them fits.
            lines.next().filter(|_| lines.next().is_none())
        };
        self.headers.iter().all(|(name, value)| one(name) == Some(value))
            && self.query.iter().all(|(name, value)| query_has(request.query, name, value))
    }

    /// Whether the client offers what is wanted.
    fn fits_offer(&self, request: &RequestFacts<'_>) -> bool {
        self.subprotocols.is_empty()
            || offered_subprotocols(request.headers)
                .any(|offer| self.subprotocols.iter().any(|wanted| wanted.as_bytes() == offer))
    }

    fn specificity(&self) -> (usize, usize, bool) {
        (self.headers.len(), self.query.len(), !self.subprotocols.is_empty())
    }
}

/// The subprotocols that a client offers, in its order (RFC 6455 §4.1: one list, or several headers).
fn offered_subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii))
}

/// Whether the first parameter called `name` has exactly `value`, both decoded as forms are.
fn query_has(query: Option<&str>, name: &str, value: &str) -> bool {
    let decoded = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8().map(|text| text.into_owned()).ok()
    };
    query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| decoded(key).as_deref() == Some(name))
        .is_some_and(|(_, found)| decoded(found).as_deref() == Some(value))
}
