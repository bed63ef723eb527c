use std::{sync::Arc, time::Duration};

use super::*;
use crate::table::{
    Drain, FrameChecks, HttpMode, Keepalive, Limits, MatchKey, PathKind, Plaintext, RouteEntry,
    Timeouts,
};

const REMOVED: Option<CloseCause> = Some(CloseCause::RouteRemoved);

/// A rule of a route, with a policy.
fn rule(route: &str, name: &str, on_route_removed: OnChange) -> Rule {
    Rule {
        route: ObjectRef { namespace: "n".into(), name: route.into() },
        name: name.into(),
        plaintext: Plaintext::Refuse,
        http: HttpMode::Refuse,
        timeouts: Timeouts::default(),
        keepalive: Keepalive::default(),
        frames: FrameChecks::Strict,
        limits: Limits::default(),
        drain: Drain { on_route_removed, ..Drain::default() },
        backends: Vec::new(),
    }
}

fn host(pattern: &str, rules: impl IntoIterator<Item = Rule>) -> VirtualHost {
    let entries = rules.into_iter().enumerate().map(|(index, rule)| {
        let key = MatchKey {
            kind: PathKind::Prefix,
            path: format!("/{index}").into(),
            headers: Vec::new(),
            query: Vec::new(),
            subprotocols: Vec::new(),
        };
        RouteEntry { key, rule: Arc::new(rule) }
    });
    VirtualHost::new(pattern, None, entries)
}

fn origin(hostname: &str, rule: Rule) -> Origin {
    let endpoint = ([10, 0, 0, 1], 80).into();
    Origin { hostname: hostname.into(), rule: Arc::new(rule), endpoint }
}

fn judge(
    hosts: impl IntoIterator<Item = VirtualHost>,
    origin: &Origin,
    before: Option<CloseCause>,
) -> Option<CloseCause> {
    Served::new(&RoutingTable::new(hosts)).judge(origin, before)
}

#[test]
fn removed_is_what_is_not_served_by_its_name_under_its_hostname() {
    let chat = || rule("chat", "ws", OnChange::Close);
    let origin = origin("a.test", chat());
    let other = |route, name| rule(route, name, OnChange::Close);
    // Still there, among others and wherever it stands.
    assert_eq!(judge([host("a.test", [chat()])], &origin, None), None);
    assert_eq!(judge([host("a.test", [other("chat", "x"), chat()])], &origin, None), None);
    // The host, the route, the rule; another namespace's route of that name.
    assert_eq!(judge([], &origin, None), REMOVED);
    assert_eq!(judge([host("b.test", [chat()])], &origin, None), REMOVED);
    assert_eq!(judge([host("a.test", [other("news", "ws")])], &origin, None), REMOVED);
    assert_eq!(judge([host("a.test", [other("chat", "0")])], &origin, None), REMOVED);
    let mut elsewhere = chat();
    elsewhere.route.namespace = "m".into();
    assert_eq!(judge([host("a.test", [elsewhere])], &origin, None), REMOVED);
}

#[test]
fn a_changed_rule_is_not_removed() {
    let origin = origin("a.test", rule("chat", "ws", OnChange::Close));
    let mut changed = rule("chat", "ws", OnChange::Keep);
    changed.timeouts.idle = Some(Duration::from_secs(1));
    changed.http = HttpMode::Forward;
    assert_eq!(judge([host("a.test", [changed])], &origin, None), None);
}

#[test]
fn the_policy_is_that_of_the_rule_as_it_was() {
    let keep = origin("a.test", rule("chat", "ws", OnChange::Keep));
    assert_eq!(judge([], &keep, None), None);
    let close = origin("a.test", rule("chat", "ws", OnChange::Close));
    assert_eq!(judge([], &close, None), REMOVED);
}

#[test]
fn a_wildcard_that_covers_a_hostname_stands_in_for_it_but_not_the_other_way_round() {
    let chat = || rule("chat", "ws", OnChange::Close);
    let exact = origin("a.b.test", chat());
    assert_eq!(judge([host("*.b.test", [chat()])], &exact, None), None);
    // The exact name goes first.
    let taken = host("a.b.test", [rule("news", "ws", OnChange::Close)]);
    assert_eq!(judge([host("*.b.test", [chat()]), taken], &exact, None), REMOVED);
    let wildcard = origin("*.b.test", chat());
    assert_eq!(judge([host("*.b.test", [chat()])], &wildcard, None), None);
    assert_eq!(judge([host("a.b.test", [chat()])], &wildcard, None), REMOVED);
}

#[test]
fn what_comes_back_is_reprieved() {
    let chat = || rule("chat", "ws", OnChange::Close);
    let origin = origin("a.test", chat());
    assert_eq!(judge([], &origin, REMOVED), REMOVED);
    assert_eq!(judge([host("a.test", [chat()])], &origin, REMOVED), None);
}
