//! After a scale-out: open connections stay where they are, unless their rule asks for moving some.

use std::{collections::BTreeMap, net::SocketAddr};

use tidegate::table::{RoutingTable, Rule, VirtualHost};

use crate::support::{
    EchoProcess, Frame, Harness, Peer, eventually, host, raise_file_limit, rule, upgrade_request,
};

const CLOSED: &str = "tidegate_connections_closed_total";
const MOVED: &[(&str, &str)] = &[("cause", "rebalance")];

fn serving(endpoints: &[SocketAddr], percent: u8) -> VirtualHost {
    let mut rule: Rule = rule(endpoints);
    rule.load_balancing.rebalance_percent = percent;
    rule.load_balancing.slow_start = None;
    host("a.test", rule)
}

/// A new connection, and the name of its endpoint.
#[track_caller]
fn connect(gateway: &Harness) -> (Peer, String) {
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let head = client.head();
    assert_eq!(head.status(), 101);
    let name = head.get("x-backend").unwrap().to_owned();
    (client, name)
}

#[test]
fn the_surplus_is_moved_to_new_endpoints_on_all_workers_and_nothing_else() {
    raise_file_limit();
    let echoes = ["old", "new"].map(EchoProcess::start);
    let addresses = [echoes[0].address, echoes[1].address];
    let hosts = vec![serving(&addresses[..1], 100)];
    let gateway = Harness::with(hosts, |settings| settings.workers = 2);
    let mut clients: Vec<_> = (0..240).map(|_| connect(&gateway)).collect();
    gateway.table.publish(RoutingTable::new([serving(&addresses, 100)])).unwrap();
    // 100 % of 240 a minute are four a second.
    for _ in 0..8 {
        let closing = |(client, _): &(Peer, String)| client.has_input();
        let mut found = None;
        eventually("one is told to go", || {
            found = clients.iter().position(closing);
            found.is_some()
        });
        let (mut client, name) = clients.swap_remove(found.unwrap());
        assert_eq!(name, "old");
        assert_eq!(client.close(), (1012, "rebalancing: connect again".into()));
        client.send(Frame::client_close(1012, ""));
        assert!(client.rest().is_empty());
        clients.push(connect(&gateway));
    }
    let mut places = BTreeMap::new();
    for (_, name) in &clients {
        *places.entry(name.as_str()).or_insert(0) += 1;
    }
    assert_eq!(places, BTreeMap::from([("new", 8), ("old", 232)]), "who comes back goes there");
    assert!(gateway.metric(CLOSED, MOVED) >= 7.0);
    assert_eq!(gateway.metric(CLOSED, MOVED), gateway.metric(CLOSED, &[]));
}

#[test]
fn without_being_asked_nothing_is_moved_and_new_connections_even_it_out() {
    let echoes = ["old", "new"].map(EchoProcess::start);
    let addresses = [echoes[0].address, echoes[1].address];
    // Another rule asks for it: what is moved of that one tells that time has passed.
    let asks = |endpoints: &[SocketAddr]| {
        let mut rule = rule(endpoints);
        rule.route.name = "asks".into();
        rule.load_balancing.rebalance_percent = 100;
        host("b.test", rule)
    };
    let hosts = vec![serving(&addresses[..1], 0), asks(&addresses[..1])];
    let gateway = Harness::start(hosts);
    let mut clients: Vec<_> = (0..60).map(|_| connect(&gateway)).collect();
    let others: Vec<_> = (0..120)
        .map(|_| {
            let mut client = gateway.client();
            client.send(upgrade_request("b.test"));
            assert_eq!(client.head().status(), 101);
            client
        })
        .collect();
    let hosts = [serving(&addresses, 0), asks(&addresses)];
    gateway.table.publish(RoutingTable::new(hosts)).unwrap();
    eventually("some of the other rule are moved", || {
        others.iter().filter(|client| client.has_input()).count() >= 3
    });
    assert!(clients.iter().all(|(client, name)| name == "old" && !client.has_input()));
    clients.extend((0..60).map(|_| connect(&gateway)));
    assert_eq!(clients.iter().filter(|(_, name)| name == "new").count(), 60);
}
