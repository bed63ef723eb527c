//! What was matched is what the backend sees: for each request that is let through, every server's view of its path leads
//! to the rule by which it was let through.
//!
//! The views are written here anew, as the servers they are named after read paths, and share nothing with the gateway's own.
#![no_main]

use std::sync::Arc;

use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use tidegate_gateway::route_match::{check_path, find_rule};
use tidegate_table::{
    MatchKey, ObjectRef, PathAmbiguities, PathAmbiguity, PathKind, RequestFacts, RequestPath,
    RouteEntry, RoutingTable, Rule, VirtualHost,
};

/// The rules of the host: guarded ones within others, by name. Paths as backends know them, decoded.
const RULES: [(PathKind, &str); 8] = [
    (PathKind::Prefix, ""),
    (PathKind::Prefix, "/api"),
    (PathKind::Prefix, "/api/admin"),
    (PathKind::Prefix, "/api/@me"),
    (PathKind::Exact, "/api/admin/x"),
    (PathKind::Prefix, "/a"),
    (PathKind::Exact, "/a/a"),
    (PathKind::Prefix, "/x y"),
];

#[derive(arbitrary::Arbitrary, Debug)]
struct Input<'a> {
    /// Without the rule for all, paths may lead to none.
    whole_site: bool,
    /// What each rule allows, a bit each.
    allow: [u8; RULES.len()],
    path: &'a str,
}

fn table(input: &Input<'_>) -> RoutingTable {
    let entries = RULES.iter().enumerate().skip(usize::from(!input.whole_site));
    let entries = entries.map(|(index, (kind, path))| {
        let allowed = PathAmbiguity::ALL.into_iter().enumerate();
        let allowed = allowed.filter(|(bit, _)| input.allow[index] & (1 << bit) != 0);
        let rule = Rule {
            path_allow: allowed.map(|(_, what)| what).collect::<PathAmbiguities>(),
            ..Rule::with_defaults(ObjectRef::new("n", index.to_string()), "0")
        };
        let key = MatchKey {
            kind: *kind,
            path: path.replace(' ', "%20").into(),
            headers: Vec::new(),
            query: Vec::new(),
            subprotocols: Vec::new(),
        };
        RouteEntry { key: Arc::new(key), rule: Arc::new(rule) }
    });
    let host = VirtualHost::new("a.test", None, entries);
    RoutingTable::new([host])
}

/// The rule of a path, by the words of the documentation: an exact one, else the longest prefix of whole elements.
fn rule_of(path: &[u8], whole_site: bool) -> Option<usize> {
    let rules = RULES.iter().enumerate().skip(usize::from(!whole_site));
    let fits = rules.filter(|(_, (kind, rule))| match kind {
        PathKind::Exact => path == rule.as_bytes(),
        PathKind::Prefix => {
            let rest = path.strip_prefix(rule.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        }
    });
    fits.max_by_key(|(_, (kind, rule))| (*kind == PathKind::Exact, rule.len()))
        .map(|(index, _)| index)
}

fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let hex = |at: usize| path.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (path[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// Elements walked one by one, dots resolved; with `merge`, empty ones passed over, as nginx does in one go.
fn walk(path: &[u8], merge: bool) -> Vec<u8> {
    let mut stack: Vec<&[u8]> = Vec::new();
    let mut open = false;
    for element in path[1..].split(|byte| *byte == b'/') {
        open = false;
        match element {
            b"." => open = true,
            b".." => {
                stack.pop();
                open = true;
            }
            b"" if merge => open = true,
            _ => stack.push(element),
        }
    }
    let mut walked = Vec::new();
    for element in &stack {
        walked.push(b'/');
        walked.extend_from_slice(element);
    }
    if open || walked.is_empty() {
        walked.push(b'/');
    }
    walked
}

fn strip(path: &[u8]) -> Vec<u8> {
    let elements = path.split(|byte| *byte == b'/');
    let names =
        elements.map(|element| element.split(|byte| *byte == b';').next().unwrap_or(element));
    names.collect::<Vec<_>>().join(&b'/')
}

fn slashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}

fn until(path: &[u8], end: u8) -> Vec<u8> {
    path.iter().copied().take_while(|byte| *byte != end).collect()
}

/// How servers read what is forwarded to them.
const SERVERS: [(&str, fn(&[u8]) -> Vec<u8>); 15] = [
    ("Node.js, as it is", |path| decode_plain(path)),
    ("WSGI, PHP: decoded", decode),
    ("nginx", |path| walk(&decode(path), true)),
    ("nginx, merge_slashes off", |path| walk(&decode(path), false)),
    ("nginx, then a CGI that takes NUL for an end", |path| until(&walk(&decode(path), true), 0)),
    ("nginx in front, then decoded again", |path| decode(&walk(&decode(path), true))),
    ("Tomcat", |path| walk(&decode(&strip(path)), true)),
    ("Tomcat, ALLOW_BACKSLASH", |path| walk(&slashes(&decode(&strip(path))), true)),
    ("Jetty, late", |path| walk(&strip(&decode(path)), true)),
    ("Spring, decoded and stripped", |path| strip(&decode(path))),
    ("Go, path.Clean", |path| walk(&decode(path), true)),
    ("IIS", |path| walk(&slashes(&decode(path)), true)),
    ("IIS, decoded twice", |path| walk(&slashes(&decode(&decode(path))), true)),
    ("a CDN that merges and resolves, then the application decodes", |path| {
        decode(&walk(path, true))
    }),
    ("cut at the session", |path| decode(&until(path, b';'))),
];

/// A server that decodes nothing knows its own paths as they are written in requests.
fn decode_plain(path: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(path).replace("%20", " ").into_bytes()
}

fuzz_target!(|input: Input<'_>| {
    let raw = format!("/{}", input.path);
    // What cannot come through hyper.
    let Ok(uri) = raw.parse::<http::Uri>() else { return };
    let path = RequestPath::of(uri.path()).expect("it begins with a slash");
    let forwarded = path.as_str();
    assert!(forwarded.bytes().all(|byte| byte.is_ascii_graphic()), "{forwarded}");
    let again = RequestPath::of(forwarded).expect("it begins with a slash");
    assert_eq!(again.as_str(), forwarded);
    // Nothing but the way it is written has changed.
    if !path.ambiguities().contains(PathAmbiguity::BadPercent) {
        assert_eq!(decode(forwarded.as_bytes()), decode(uri.path().as_bytes()));
    }

    let table = table(&input);
    let headers = HeaderMap::new();
    let request = RequestFacts { path: forwarded, query: None, headers: &headers };
    let Ok(found) = find_rule(&table, "a.test", &request) else { return };
    let index: usize = found.rule.route.name.parse().expect("it is a number");
    if check_path(&table, "a.test", &found.rule, &path, &request).is_err() {
        return;
    }
    for (server, view) in SERVERS {
        let seen = view(forwarded.as_bytes());
        let rule = rule_of(&seen, input.whole_site);
        assert_eq!(
            rule.map(|rule| RULES[rule].1),
            Some(RULES[index].1),
            "{server}: {forwarded} is {}",
            String::from_utf8_lossy(&seen)
        );
    }
});
