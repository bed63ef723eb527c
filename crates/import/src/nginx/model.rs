//! Servers and locations, with nginx's inheritance of directives.

use std::collections::BTreeSet;

use super::{headers, parse::Directive, setting};
use crate::paths::{self, Literal, Path};

/// The levels of blocks around a place, the innermost last.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope<'d> {
    levels: Vec<&'d [Directive]>,
}

impl<'d> Scope<'d> {
    pub(super) fn within(&self, block: &'d [Directive]) -> Self {
        let mut levels = self.levels.clone();
        levels.push(block);
        Self { levels }
    }

    /// The directives of that name at the nearest level that has any: what nginx inherits.
    pub(super) fn nearest(&self, name: &str) -> Vec<&'d Directive> {
        let mut at_levels = self.levels.iter().rev().map(|level| named(level, name));
        at_levels.find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The value of a variable that `set` gives, if it is one.
    pub(super) fn variable(&self, name: &str) -> Option<&'d str> {
        let set = |level: &&'d [Directive]| {
            let mut sets = named(level, "set").into_iter().rev();
            sets.find(|set| set.arg(0).strip_prefix('$') == Some(name)).map(|set| set.arg(1))
        };
        self.levels.iter().rev().find_map(set)
    }
}

fn named<'d>(block: &'d [Directive], name: &str) -> Vec<&'d Directive> {
    block.iter().filter(|directive| directive.name == name).collect()
}

/// A `server` block.
#[derive(Clone, Debug)]
pub(super) struct Server<'d> {
    pub(super) directive: &'d Directive,
    pub(super) scope: Scope<'d>,
    /// Some port speaks TLS.
    pub(super) tls: bool,
    /// Some port speaks clear text.
    pub(super) plain: bool,
    /// Its words for itself; hostnames are made of them elsewhere.
    pub(super) names: Vec<&'d str>,
    pub(super) locations: Vec<Location<'d>>,
}

impl<'d> Server<'d> {
    pub(super) fn new(directive: &'d Directive, http: &Scope<'d>, maps: &BTreeSet<&str>) -> Self {
        let block = directive.block();
        let scope = http.within(block);
        let listens = named(block, "listen");
        let speaks_tls =
            |listen: &&Directive| listen.args.iter().any(|word| word == "ssl" || word == "quic");
        // An old way to say it for all ports.
        let all = named(block, "ssl").iter().any(|ssl| ssl.arg(0) == "on");
        let tls = all || listens.iter().any(speaks_tls);
        let plain =
            !all && (listens.is_empty() || listens.iter().any(|listen| !speaks_tls(listen)));
        let names = named(block, "server_name").into_iter().flat_map(|names| &names.args);
        let mut locations = Vec::new();
        gather(block, &scope, maps, &mut locations);
        let names = names.map(String::as_str).collect();
        Self { directive, scope, tls, plain, names, locations }
    }

    /// Whether all that it does is to send clients to https.
    pub(super) fn redirects_to_https(&self) -> bool {
        let block = self.directive.block();
        if block.iter().any(to_https) {
            return true;
        }
        let whole = |location: &Location<'_>| location.matcher == Matcher::Prefix("/".to_owned());
        let certbot = |directive: &Directive| {
            let condition = directive.args.concat();
            directive.name == "if"
                && condition.starts_with("($host=")
                && directive.block().iter().any(to_https)
        };
        block.iter().any(certbot)
            || self
                .locations
                .iter()
                .any(|location| whole(location) && location.directive.block().iter().any(to_https))
    }
}

fn to_https(directive: &Directive) -> bool {
    let target = match (directive.name.as_str(), directive.args.as_slice()) {
        ("return", [code, target]) if matches!(code.as_str(), "301" | "302" | "307" | "308") => {
            target
        }
        ("rewrite", [from, target, ..])
            if matches!(from.as_str(), "^" | "^(.*)" | "^(.*)$" | "^/(.*)$" | "^.*$") =>
        {
            target
        }
        _ => return false,
    };
    target.starts_with("https://")
}

fn gather<'d>(
    block: &'d [Directive],
    scope: &Scope<'d>,
    maps: &BTreeSet<&str>,
    into: &mut Vec<Location<'d>>,
) {
    for directive in named(block, "location") {
        let scope = scope.within(directive.block());
        into.push(Location::new(directive, scope.clone(), maps));
        gather(directive.block(), &scope, maps, into);
    }
}

/// A `location` block.
#[derive(Clone, Debug)]
pub(super) struct Location<'d> {
    pub(super) directive: &'d Directive,
    pub(super) scope: Scope<'d>,
    pub(super) matcher: Matcher,
    pub(super) kind: Kind,
}

/// Which requests a location takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Matcher {
    /// Those that begin so.
    Prefix(String),
    /// The same, and regular expressions are not asked (`^~`).
    Firm(String),
    /// `=`
    Exact(String),
    /// `~`, or `~*` without regard to case.
    Regex { text: String, any_case: bool },
    /// `@name`: none by itself.
    Named,
}

/// What a location does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It passes upgrades on.
    WebSocket(Upgrade),
    /// It is a proxy that takes `Upgrade` off.
    Plain,
    /// It is no proxy for HTTP.
    Other,
}

/// How a location passes upgrades on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Upgrade {
    /// Whether requests without an upgrade are meant to come here too.
    pub(super) plain_too: bool,
    /// What of the three directives is missing, without which nginx refuses no one but passes no upgrade.
    pub(super) missing: Option<&'static str>,
}

impl<'d> Location<'d> {
    fn new(directive: &'d Directive, scope: Scope<'d>, maps: &BTreeSet<&str>) -> Self {
        let text = |index| directive.arg(index).to_owned();
        let matcher = match (directive.arg(0), directive.args.len()) {
            ("=", _) => Matcher::Exact(text(1)),
            ("^~", _) => Matcher::Firm(text(1)),
            ("~", _) => Matcher::Regex { text: text(1), any_case: false },
            ("~*", _) => Matcher::Regex { text: text(1), any_case: true },
            (name, _) if name.starts_with('@') => Matcher::Named,
            // The sign may stand without a space behind it.
            (word, 1) => joined(word),
            _ => Matcher::Prefix(text(0)),
        };
        let kind = kind(directive, &scope, &matcher, maps);
        Self { directive, scope, matcher, kind }
    }

    /// The paths of the resource that it takes; `None` where there are none such.
    pub(super) fn paths(&self) -> Option<Literal> {
        let one = |path: Path| Literal { paths: vec![path], within_elements: false };
        match &self.matcher {
            Matcher::Exact(path) => paths::encode(path).map(|path| one(Path::exact(path))),
            Matcher::Prefix(path) | Matcher::Firm(path) => paths::encode(path).map(|path| {
                let within_elements = !path.ends_with('/');
                Literal { within_elements, ..one(Path::prefix(path)) }
            }),
            Matcher::Regex { text, .. } => paths::literal(text),
            Matcher::Named => None,
        }
    }

    /// The order in which nginx asks: smaller first.
    pub(super) fn priority(&self) -> u8 {
        match self.matcher {
            Matcher::Exact(_) => 0,
            Matcher::Firm(_) => 1,
            Matcher::Regex { .. } => 2,
            Matcher::Prefix(_) | Matcher::Named => 3,
        }
    }
}

fn joined(word: &str) -> Matcher {
    if let Some(text) = word.strip_prefix("~*") {
        Matcher::Regex { text: text.to_owned(), any_case: true }
    } else if let Some(text) = word.strip_prefix('~') {
        Matcher::Regex { text: text.to_owned(), any_case: false }
    } else if let Some(path) = word.strip_prefix("^~") {
        Matcher::Firm(path.to_owned())
    } else if let Some(path) = word.strip_prefix('=') {
        Matcher::Exact(path.to_owned())
    } else {
        Matcher::Prefix(word.to_owned())
    }
}

/// Paths at which plain requests belong to the protocol: long polling of Socket.IO and SockJS, SignalR's negotiation, queries of GraphQL.
const BOTH: [&str; 5] = ["socket.io", "engine.io", "sockjs", "signalr", "graphql"];

fn kind(
    directive: &Directive,
    scope: &Scope<'_>,
    matcher: &Matcher,
    maps: &BTreeSet<&str>,
) -> Kind {
    let has = |name| !named(directive.block(), name).is_empty();
    // What is internal must not be open to clients.
    if !has("proxy_pass") || has("internal") || *matcher == Matcher::Named {
        return Kind::Other;
    }
    if !headers::sent(scope, "upgrade")
        .is_some_and(|value| value == "$http_upgrade" || value.eq_ignore_ascii_case("websocket"))
    {
        return Kind::Plain;
    }
    let connection = headers::sent(scope, "connection").unwrap_or_default();
    let says_upgrade =
        connection.to_ascii_lowercase().contains("upgrade") || connection == "$http_connection";
    let by_map = connection
        .strip_prefix('$')
        .is_some_and(|name| maps.contains(name.trim_matches(['{', '}'])));
    let version = setting(scope, "proxy_http_version").map(|version| version.arg(0));
    let missing = if version != Some("1.1") {
        Some("proxy_http_version 1.1")
    } else if !says_upgrade && !by_map {
        Some("Connection: upgrade")
    } else {
        None
    };
    let path = match matcher {
        Matcher::Prefix(path) | Matcher::Firm(path) | Matcher::Exact(path) => {
            path.to_ascii_lowercase()
        }
        Matcher::Regex { text, .. } => text.to_ascii_lowercase().replace('\\', ""),
        Matcher::Named => String::new(),
    };
    let whole = path == "/" || path == "^/";
    let plain_too = by_map
        || connection == "$http_connection"
        || whole
        || BOTH.iter().any(|word| path.contains(word));
    Kind::WebSocket(Upgrade { plain_too, missing })
}

/// Whether a `map` makes the value of `Connection` from `$http_upgrade`.
pub(super) fn is_connection_map(map: &Directive) -> bool {
    let upgrades = |entry: &Directive| entry.arg(0).eq_ignore_ascii_case("upgrade");
    map.arg(0) == "$http_upgrade" && map.block().iter().any(upgrades)
}
