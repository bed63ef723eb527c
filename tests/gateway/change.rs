//! What becomes of open connections when the table changes under them: nothing, unless their rule asks for a goodbye.

use std::{net::SocketAddr, time::Duration};

use tidegate::table::{Endpoint, EndpointState, OnChange, RoutingTable, Rule, VirtualHost};

use crate::support::{
    Backend, EchoProcess, Frame, Harness, Peer, eventually, host, raise_file_limit, rule, rule_of,
    switching, upgrade_request,
};

const CLOSED: &str = "tidegate_connections_closed_total";
const REMOVED: &[(&str, &str)] = &[("cause", "route_removed")];

/// A rule of a route of its own, whose connections end with it, over `spread`.
fn ending(route: &str, backend: &Backend, spread: Duration) -> Rule {
    let mut rule = rule_of(route, backend);
    rule.drain.on_route_removed = OnChange::Close;
    rule.drain.spread = spread;
    rule
}

#[track_caller]
fn publish(gateway: &Harness, hosts: impl IntoIterator<Item = VirtualHost>) {
    gateway.table.publish(RoutingTable::new(hosts)).expect("the table differs");
}

/// Both ends still hear of each other.
#[track_caller]
fn assert_alive((client, server): &mut (Peer, Peer)) {
    client.send(Frame::from_client("still there?"));
    assert_eq!(server.text(), "still there?");
    server.send(Frame::from_server("yes"));
    assert_eq!(client.text(), "yes");
}

/// Both are told that the route was removed, both answer, and nothing else comes.
#[track_caller]
fn assert_removed((mut client, mut server): (Peer, Peer), code: u16) {
    assert_eq!(client.close(), (code, "the route was removed".into()));
    assert_eq!(server.close(), (1001, "the route was removed".into()));
    client.send(Frame::client_close(code, ""));
    server.send(Frame::server_close(1001, ""));
    server.finish();
    assert!(client.rest().is_empty() && server.rest().is_empty());
}

#[test]
fn the_connections_of_a_removed_route_stay_by_default() {
    let backend = Backend::bind();
    let ends = ending("ends", &backend, Duration::ZERO);
    let hosts = vec![host("a.test", rule(&[backend.address()])), host("b.test", ends)];
    let gateway = Harness::start(hosts);
    let mut stays = gateway.open(&backend);
    let goes = gateway.open_at("b.test", &backend);
    publish(&gateway, []);
    // By then the change has been looked at.
    assert_removed(goes, 1012);
    gateway.await_metric(CLOSED, REMOVED, 1.0);
    assert_alive(&mut stays);
    assert_eq!(gateway.ask(upgrade_request("a.test")).0.status(), 404);
    assert!(gateway.metric(CLOSED, &[]).total_cmp(&1.0).is_eq());
}

#[test]
fn a_removed_route_that_asks_for_it_has_its_connections_told_goodbye_on_every_worker() {
    let backend = Backend::bind();
    let mut gone = ending("gone", &backend, Duration::from_millis(300));
    gone.drain.close_code = 4000;
    let kept = ending("kept", &backend, Duration::ZERO);
    let hosts = vec![host("a.test", gone), host("b.test", kept.clone())];
    let gateway = Harness::with(hosts, |settings| settings.workers = 3);
    let going: Vec<_> = (0..12).map(|_| gateway.open_at("a.test", &backend)).collect();
    let mut staying: Vec<_> = (0..6).map(|_| gateway.open_at("b.test", &backend)).collect();
    publish(&gateway, [host("b.test", kept)]);
    going.into_iter().for_each(|pair| assert_removed(pair, 4000));
    gateway.await_metric(CLOSED, REMOVED, 12.0);
    staying.iter_mut().for_each(assert_alive);
    let codes = "tidegate_close_codes_total";
    let count =
        |direction, code| gateway.metric(codes, &[("direction", direction), ("code", code)]);
    assert!(count("gateway_to_client", "4xxx").total_cmp(&12.0).is_eq());
    assert!(count("gateway_to_backend", "1001").total_cmp(&12.0).is_eq());
    assert!(gateway.metric(CLOSED, &[]).total_cmp(&12.0).is_eq());
}

#[test]
fn only_the_hostname_that_was_taken_out_loses_its_connections() {
    let backend = Backend::bind();
    let rule = ending("both", &backend, Duration::ZERO);
    let hosts = ["a.test", "b.test"].map(|name| host(name, rule.clone()));
    let gateway = Harness::start(hosts.into());
    let mut stays = gateway.open_at("a.test", &backend);
    let goes = gateway.open_at("b.test", &backend);
    publish(&gateway, [host("a.test", rule)]);
    assert_removed(goes, 1012);
    assert_alive(&mut stays);
}

#[test]
fn a_rule_that_is_changed_keeps_its_connections_and_they_keep_what_they_began_with() {
    let backend = Backend::bind();
    let closes = ending("changed", &backend, Duration::ZERO);
    let mut keeps = closes.clone();
    keeps.drain.on_route_removed = OnChange::Keep;
    let gateway = Harness::start(vec![host("a.test", closes.clone())]);
    let first = gateway.open_at("a.test", &backend);
    publish(&gateway, [host("a.test", keeps)]);
    let mut second = gateway.open_at("a.test", &backend);
    publish(&gateway, [host("a.test", closes)]);
    let mut third = gateway.open_at("a.test", &backend);
    assert_alive(&mut third);
    publish(&gateway, []);
    assert_removed(first, 1012);
    assert_removed(third, 1012);
    gateway.await_metric(CLOSED, REMOVED, 2.0);
    assert_alive(&mut second);
}

#[test]
fn an_upgrade_that_a_removal_overtakes_is_granted_and_then_told() {
    let backend = Backend::bind();
    let rule = ending("late", &backend, Duration::ZERO);
    let gateway = Harness::start(vec![host("a.test", rule)]);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let mut server = backend.accept();
    server.head();
    publish(&gateway, []);
    server.send(switching(""));
    assert_eq!(client.head().status(), 101);
    assert_removed((client, server), 1012);
    gateway.await_metric(CLOSED, REMOVED, 1.0);
}

#[test]
fn who_is_granted_while_the_others_are_being_told_is_told_as_well() {
    let backend = Backend::bind();
    let slow = ending("slow", &backend, Duration::from_secs(1));
    let gateway = Harness::start(vec![host("a.test", slow)]);
    let first = gateway.open_at("a.test", &backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let mut server = backend.accept();
    server.head();
    publish(&gateway, []);
    server.send(switching(""));
    assert_eq!(client.head().status(), 101);
    assert_removed((client, server), 1012);
    assert_removed(first, 1012);
    gateway.await_metric(CLOSED, REMOVED, 2.0);
}

/// So many clients of a name that are held open.
#[track_caller]
fn crowd(gateway: &Harness, name: &str, count: usize) -> Vec<Peer> {
    let connect = || {
        let mut client = gateway.client();
        client.send(upgrade_request(name));
        assert_eq!(client.head().status(), 101);
        client
    };
    (0..count).map(|_| connect()).collect()
}

#[test]
fn a_route_that_comes_back_keeps_those_whose_turn_has_not_come() {
    raise_file_limit();
    let echo = EchoProcess::start("echo");
    let named = |name: &str| {
        let mut rule = rule(&[echo.address]);
        rule.route.name = name.into();
        rule.drain.on_route_removed = OnChange::Close;
        rule.drain.spread = Duration::from_secs(3);
        // The clients do not answer, and are counted when they have ended.
        rule.timeouts.close = Duration::from_millis(20);
        rule
    };
    let hosts = || ["a.test", "b.test"].map(|name| host(name, named(name)));
    let gateway = Harness::start(hosts().into());
    let _returning = crowd(&gateway, "a.test", 60);
    let _leaving = crowd(&gateway, "b.test", 60);
    // The turns of both are of one spread.
    publish(&gateway, []);
    eventually("the first is told", || gateway.metric(CLOSED, REMOVED) > 0.0);
    publish(&gateway, [host("a.test", named("a.test"))]);
    let of = |name| gateway.metric(CLOSED, &[("cause", "route_removed"), ("route", name)]);
    eventually("all of the other route are told", || of("b.test").total_cmp(&60.0).is_eq());
    assert!(of("a.test") < 30.0, "{} of 60", of("a.test"));
    let open = gateway.metric("tidegate_connections_open", &[("route", "a.test")]);
    assert!((open + of("a.test")).total_cmp(&60.0).is_eq());
}

#[test]
fn a_gateway_that_shuts_down_does_not_wait_for_the_turns_of_a_change() {
    let backend = Backend::bind();
    let hour = Duration::from_secs(3600);
    let slow = ending("slow", &backend, hour);
    let fence = ending("fence", &backend, Duration::ZERO);
    let hosts = vec![host("a.test", slow), host("b.test", fence)];
    let mut gateway = Harness::start(hosts);
    let pairs: Vec<_> = (0..5).map(|_| gateway.open_at("a.test", &backend)).collect();
    let fence = gateway.open_at("b.test", &backend);
    publish(&gateway, []);
    assert_removed(fence, 1012);
    let running = gateway.take_gateway();
    let down = std::thread::spawn(move || running.shut_down());
    for (mut client, mut server) in pairs {
        assert_eq!(client.close(), (1012, "gateway is shutting down".into()));
        assert_eq!(server.close(), (1001, "gateway is shutting down".into()));
        client.send(Frame::client_close(1012, ""));
        server.send(Frame::server_close(1001, ""));
        server.finish();
        assert!(client.rest().is_empty() && server.rest().is_empty());
    }
    down.join().unwrap();
    gateway.await_metric(CLOSED, &[("cause", "drain")], 5.0);
}

#[test]
fn changes_follow_each_other_without_disturbing_an_untouched_route() {
    let backend = Backend::bind();
    let mut stays = ending("stays", &backend, Duration::ZERO);
    let gateway = Harness::start(vec![host("a.test", stays.clone())]);
    let mut pair = gateway.open(&backend);
    for round in 0..50 {
        stays.timeouts.idle = Some(Duration::from_secs(1000 + round));
        let other = ending("other", &backend, Duration::ZERO);
        let mut hosts = vec![host("a.test", stays.clone())];
        hosts.extend((round % 2 == 0).then(|| host("b.test", other)));
        publish(&gateway, hosts);
        assert_alive(&mut pair);
    }
    assert!(gateway.metric(CLOSED, &[]).total_cmp(&0.0).is_eq());
}

/// A rule whose connections end with their endpoint; these are its endpoints.
fn leaving(endpoints: &[(SocketAddr, EndpointState)], policy: OnChange) -> Rule {
    let mut rule = rule(&[]);
    rule.drain.on_endpoint_terminating = policy;
    rule.drain.spread = Duration::from_millis(200);
    rule.load_balancing.slow_start = None;
    let endpoint = |&(address, state)| Endpoint { state, ..Endpoint::ready(address) };
    rule.backends[0].endpoints = endpoints.iter().map(endpoint).collect();
    rule
}

const SERVING: EndpointState = EndpointState::Terminating { serving: true };

#[test]
fn the_connections_of_a_terminating_endpoint_stay_by_default() {
    let (first, second) = (Backend::bind(), Backend::bind());
    let ready = |backend: &Backend| (backend.address(), EndpointState::Ready);
    let keeps = leaving(&[ready(&first)], OnChange::Keep);
    let closes = leaving(&[ready(&first)], OnChange::Close);
    let gateway = Harness::start(vec![host("a.test", keeps), host("b.test", closes)]);
    let mut stays = gateway.open_at("a.test", &first);
    let (mut goes, _server) = gateway.open_at("b.test", &first);
    let rolled = [(first.address(), SERVING), ready(&second)];
    publish(
        &gateway,
        [("a.test", OnChange::Keep), ("b.test", OnChange::Close)]
            .map(|(name, policy)| host(name, leaving(&rolled, policy))),
    );
    assert_eq!(goes.close().0, 1012);
    assert_alive(&mut stays);
    // New ones go elsewhere.
    gateway.open_at("a.test", &second);
}

#[test]
fn a_terminating_endpoint_has_its_connections_told_goodbye_and_no_others() {
    let (first, second) = (Backend::bind(), Backend::bind());
    let with = |state| {
        let endpoints = [(first.address(), state), (second.address(), EndpointState::Ready)];
        vec![host("a.test", leaving(&endpoints, OnChange::Close))]
    };
    let gateway = Harness::with(with(EndpointState::NotReady), |settings| settings.workers = 2);
    let mut staying: Vec<_> = (0..4).map(|_| gateway.open_at("a.test", &second)).collect();
    publish(&gateway, with(EndpointState::Ready));
    let going: Vec<_> = (0..4).map(|_| gateway.open_at("a.test", &first)).collect();
    // That it is not ready for a while costs nothing.
    publish(&gateway, with(EndpointState::NotReady));
    publish(&gateway, with(SERVING));
    for (mut client, mut server) in going {
        let words = "the backend is shutting down: connect again";
        assert_eq!(client.close(), (1012, words.into()));
        assert_eq!(server.close(), (1001, "the endpoint is terminating".into()));
        client.send(Frame::client_close(1012, ""));
        server.send(Frame::server_close(1001, ""));
        server.finish();
        assert!(client.rest().is_empty() && server.rest().is_empty());
    }
    gateway.await_metric(CLOSED, &[("cause", "endpoint_terminating")], 4.0);
    staying.iter_mut().for_each(assert_alive);
    assert!(gateway.metric(CLOSED, &[]).total_cmp(&4.0).is_eq());
}
