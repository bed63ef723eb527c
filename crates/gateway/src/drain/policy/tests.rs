use std::{sync::Arc, time::Duration};

use tidegate_table::{Backend, Drain, Endpoint, HttpMode, MatchKey, PathKind, RouteEntry};

use super::*;

const TERMINATING: Option<CloseCause> = Some(CloseCause::EndpointTerminating);
const REMOVED: Option<CloseCause> = Some(CloseCause::RouteRemoved);

/// A rule of a route, with a policy.
fn rule(route: &str, name: &str, on_route_removed: OnChange) -> Rule {
    let drain = Drain { on_route_removed, ..Drain::default() };
    Rule { drain, ..Rule::with_defaults(ObjectRef::new("n", route), name) }
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
        RouteEntry { key: key.into(), rule: Arc::new(rule) }
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

const LEAVING: EndpointState = EndpointState::Terminating { serving: true };
const LEFT: EndpointState = EndpointState::Terminating { serving: false };

fn address(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 80).into()
}

/// The rule `chat`/`ws` with one backend: its endpoints, by the last number of their addresses. [`origin`] is of the first.
fn with(policy: OnChange, endpoints: &[(u8, EndpointState)]) -> Rule {
    let mut rule = rule("chat", "ws", OnChange::Keep);
    rule.drain.on_endpoint_terminating = policy;
    rule.backends.push(Backend {
        service: ObjectRef { namespace: "n".into(), name: "s".into() },
        port: 80,
        weight: 1,
        tls: None,
        endpoints: endpoints
            .iter()
            .map(|&(number, state)| Endpoint { state, ..Endpoint::ready(address(number)) })
            .collect(),
    });
    rule
}

#[test]
fn an_endpoint_ends_its_connections_when_it_terminates_and_not_when_it_is_away_or_not_ready() {
    let ready = (2, EndpointState::Ready);
    let judge_by = |first: Option<EndpointState>, policy, before| {
        let endpoints: Vec<_> = first.map(|state| (1, state)).into_iter().chain([ready]).collect();
        let origin = origin("a.test", with(policy, &[]));
        judge([host("a.test", [with(OnChange::Keep, &endpoints)])], &origin, before)
    };
    for (state, close) in [
        (Some(EndpointState::Ready), None),
        (Some(EndpointState::NotReady), None),
        (Some(LEAVING), TERMINATING),
        (Some(LEFT), TERMINATING),
        (None, None),
    ] {
        assert_eq!(judge_by(state, OnChange::Close, None), close, "{state:?}");
        assert_eq!(judge_by(state, OnChange::Keep, None), None, "{state:?}");
    }
    // Once it terminates, being listed no longer is no return; being ready again is.
    assert_eq!(judge_by(None, OnChange::Close, TERMINATING), TERMINATING);
    assert_eq!(judge_by(Some(EndpointState::Ready), OnChange::Close, TERMINATING), None);
}

#[test]
fn nobody_is_told_to_go_where_no_endpoint_is_ready() {
    let origin = origin("a.test", with(OnChange::Close, &[]));
    let judge_by = |rule: Rule| judge([host("a.test", [rule])], &origin, TERMINATING);
    let close = |endpoints: &[_]| with(OnChange::Close, endpoints);
    assert_eq!(judge_by(close(&[(1, LEAVING), (2, LEAVING)])), None);
    assert_eq!(judge_by(close(&[(1, LEAVING), (2, EndpointState::NotReady)])), None);
    assert_eq!(judge_by(close(&[(1, LEAVING), (2, EndpointState::Ready)])), TERMINATING);
    // A backend of weight 0 takes none.
    let mut weightless = close(&[(1, LEAVING)]);
    weightless.backends.extend(close(&[(2, EndpointState::Ready)]).backends);
    assert_eq!(judge_by(weightless.clone()), TERMINATING);
    weightless.backends[1].weight = 0;
    assert_eq!(judge_by(weightless), None);
}

#[test]
fn an_endpoint_of_two_backends_is_ready_if_one_says_so() {
    let origin = origin("a.test", with(OnChange::Close, &[]));
    let mut rule = with(OnChange::Close, &[(1, LEAVING), (2, EndpointState::Ready)]);
    rule.backends.extend(with(OnChange::Close, &[(1, EndpointState::Ready)]).backends);
    assert_eq!(judge([host("a.test", [rule])], &origin, None), None);
}

#[test]
fn who_is_being_told_stays_so_when_the_route_goes_as_well() {
    let mut close = with(OnChange::Close, &[]);
    for policy in [OnChange::Keep, OnChange::Close] {
        close.drain.on_route_removed = policy;
        let origin = origin("a.test", close.clone());
        assert_eq!(judge([], &origin, TERMINATING), TERMINATING);
    }
}
