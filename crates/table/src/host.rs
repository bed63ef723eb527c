//! One hostname: its certificate, and which rule takes a request.

use std::{
    borrow::{Borrow, Cow},
    cell::LazyCell,
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    hash::{Hash, Hasher},
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
    /// The namespace that the name is of.
    pub owner: Box<str>,
    /// The other namespaces that take part in it, by the owner's word or that of whoever runs the gateway.
    pub admitted: BTreeSet<Box<str>>,
    /// Whether the certificate of the wildcard that covers it is shown where it has none of its own.
    pub wildcard_certificate: WildcardCertificate,
    /// Its matches. Hosts that serve the same ones share them: the hostnames of a route are so many names for one list.
    matches: Arc<MatchIndex>,
}

/// The matches of a host, found by path.
#[derive(Debug, Default, PartialEq)]
pub struct MatchIndex {
    /// By the whole path.
    exact: HashMap<ByPath, Box<[RouteEntry]>>,
    /// By leading path elements, without a trailing slash: `""` takes every path.
    prefix: HashMap<ByPath, Box<[RouteEntry]>>,
    /// Length of the longest prefix: what is beyond it in a path needs no look-up.
    longest_prefix: usize,
}

/// Whether a wildcard's certificate is shown for an exact hostname under it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WildcardCertificate {
    /// Both are of one namespace, or of namespaces that share the wildcard.
    #[default]
    Shown,
    /// The hostname is another namespace's, which has no right to that certificate.
    Withheld,
}

/// A match with the rule that it leads to. The match is shared by all hostnames of its route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteEntry {
    /// What a request must look like.
    pub key: Arc<MatchKey>,
    /// Who takes it.
    pub rule: Arc<Rule>,
}

/// A match as the key of a map by path, which so needs no copy of it.
#[derive(Debug)]
struct ByPath(Arc<MatchKey>);

impl Borrow<str> for ByPath {
    fn borrow(&self) -> &str {
        &self.0.path
    }
}

impl Hash for ByPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.path.hash(state);
    }
}

impl PartialEq for ByPath {
    fn eq(&self, other: &Self) -> bool {
        self.0.path == other.0.path
    }
}

impl Eq for ByPath {}

/// The query of a request, each parameter by its name, both decoded as forms are; of several of one name the first. Made
/// once for all matches that ask: a long query under many matches would cost their product.
type Query<'q> = HashMap<Cow<'q, str>, Option<Cow<'q, str>>>;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// A host of these entries, with an index of its own. It has no `hsts`, and is of the namespace of the first entry.
    pub fn new(
        pattern: &str,
        tls: Option<Arc<TlsIdentity>>,
        entries: impl IntoIterator<Item = RouteEntry>,
    ) -> Self {
        let mut owner = None;
        let entries = entries.into_iter().inspect(|entry| {
            owner.get_or_insert_with(|| Box::from(entry.rule.route.namespace.as_str()));
        });
        let matches = Arc::new(MatchIndex::new(entries));
        Self { owner: owner.unwrap_or_default(), ..Self::sharing(pattern, tls, matches) }
    }

    /// A host that serves by this index, as others may. It has no `hsts` and no owner.
    pub fn sharing(pattern: &str, tls: Option<Arc<TlsIdentity>>, matches: Arc<MatchIndex>) -> Self {
        let secret_namespace = tls.as_ref().map(|tls| tls.secret.namespace.as_str().into());
        Self {
            pattern: pattern.to_ascii_lowercase().into(),
            tls,
            hsts: None,
            secret_namespace,
            owner: Box::default(),
            admitted: BTreeSet::new(),
            wildcard_certificate: WildcardCertificate::default(),
            matches,
        }
    }

    /// Whether what is in a namespace may speak for this host: it is the owner's or takes part, or the host's certificate is to
    /// come from there.
    pub fn belongs_to(&self, namespace: &str) -> bool {
        *self.owner == *namespace
            || self.admitted.contains(namespace)
            || self.secret_namespace.as_deref() == Some(namespace)
    }

    /// The rule that takes the request.
    pub fn find(&self, request: &RequestFacts<'_>) -> Option<&Arc<Rule>> {
        let query = LazyCell::new(|| decode_query(request.query));
        self.matches
            .candidates(request.path)
            .find(|entry| entry.key.fits(request, &query) && entry.key.fits_offer(request))
            .map(|entry| &entry.rule)
    }

    /// The subprotocols of which the request would have to offer one for a rule to take it; none where that would not help.
    /// Sorted.
    pub fn subprotocols_wanted<'t>(&'t self, request: &RequestFacts<'_>) -> BTreeSet<&'t str> {
        let query = LazyCell::new(|| decode_query(request.query));
        self.matches
            .candidates(request.path)
            .filter(|entry| entry.key.fits(request, &query))
            .flat_map(|entry| entry.key.subprotocols.iter().map(String::as_str))
            .collect()
    }

    /// All entries, in no particular order.
    pub fn entries(&self) -> impl Iterator<Item = &RouteEntry> {
        self.matches.exact.values().chain(self.matches.prefix.values()).flatten()
    }

    /// Whether both serve by one index.
    pub fn shares_matches(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.matches, &other.matches)
    }
}

impl MatchIndex {
    /// Among entries that fit a request an exact path beats a prefix, a longer prefix a shorter one, then more headers, more
    /// query parameters, subprotocols over none; among equals the one that stands first in `entries` wins.
    pub fn new(entries: impl IntoIterator<Item = RouteEntry>) -> Self {
        let (mut exact, mut prefix) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for entry in entries {
            let index = match entry.key.kind {
                PathKind::Exact => &mut exact,
                PathKind::Prefix => &mut prefix,
            };
            index.entry(ByPath(Arc::clone(&entry.key))).or_default().push(entry);
        }
        let lists = |index: HashMap<ByPath, Vec<RouteEntry>>| -> HashMap<_, Box<[_]>> {
            let sorted = |mut list: Vec<RouteEntry>| {
                // Stable: the order of `entries` decides among equals.
                list.sort_by_key(|entry| Reverse(entry.key.specificity()));
                list.into()
            };
            index.into_iter().map(|(path, list)| (path, sorted(list))).collect()
        };
        let longest_prefix = prefix.keys().map(|path| path.0.path.len()).max().unwrap_or(0);
        Self { exact: lists(exact), prefix: lists(prefix), longest_prefix }
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
}

impl MatchKey {
    /// Whether headers and query fit; the path was looked up before.
    fn fits<'q, F>(&self, request: &RequestFacts<'_>, query: &LazyCell<Query<'q>, F>) -> bool
    where
        F: FnOnce() -> Query<'q>,
    {
        let one = |name: &HeaderName| {
            let mut lines = request.headers.get_all(name).iter();
            // Of several lines a backend may take another one than we do: none of them fits.
            lines.next().filter(|_| lines.next().is_none())
        };
        self.headers.iter().all(|(name, value)| one(name) == Some(value))
            && self.query.iter().all(|(name, value)| {
                query.get(name.as_str()).is_some_and(|found| found.as_deref() == Some(value))
            })
    }

    /// The bytes of its names and values: what it costs to keep, beside a fixed part.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        let query = self.query.iter().map(|(name, value)| name.len() + value.len());
        let subprotocols = self.subprotocols.iter().map(String::len);
        self.path.len() + headers.chain(query).chain(subprotocols).sum::<usize>()
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

/// A name that cannot be decoded is nobody's; a value that cannot be is `None`, and equal to none.
fn decode_query(query: Option<&str>) -> Query<'_> {
    let mut parameters = Query::new();
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let Some(name) = decode(name) {
            parameters.entry(name).or_insert_with(|| decode(value));
        }
    }
    parameters
}

/// As forms are decoded: `+` is a space.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['+', '%']) {
        return Some(text.into());
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| text.into_owned().into())
}
