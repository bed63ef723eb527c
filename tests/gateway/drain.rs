//! The end of a gateway with many connections: who is told when, who is still served, and that none is lost.

use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tidegate::{gateway::DrainSettings, table::Rule};

use crate::support::{
    Backend, EchoProcess, Frame, Harness, Peer, assert_even, eventually, goodbyes, host, open_over,
    raise_file_limit, rule, upgrade_request,
};

const SECOND: Duration = Duration::from_secs(1);

fn with(rule: Rule, workers: usize, drain: DrainSettings) -> Harness {
    Harness::with(vec![host("a.test", rule)], |settings| {
        settings.workers = workers;
        settings.drain = drain;
    })
}

fn shut_down(gateway: &mut Harness) -> JoinHandle<()> {
    let running = gateway.take_gateway();
    std::thread::spawn(move || running.shut_down())
}

#[track_caller]
fn connect(gateway: &Harness) -> Peer {
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    assert_eq!(client.head().status(), 101);
    client
}

#[test]
fn goodbyes_are_spread_over_the_time_that_there_is_for_them() {
    raise_file_limit();
    let backend = EchoProcess::start("echo");
    let mut rule = rule(&[backend.address]);
    rule.drain.close_code = 1013;
    let spread = 2 * SECOND;
    let drain = DrainSettings { delay: Duration::ZERO, spread, timeout: 20 * SECOND };
    let mut gateway = with(rule, 2, drain);
    let clients: Vec<_> = (0..300).map(|_| connect(&gateway)).collect();
    let begun = Instant::now();
    let down = shut_down(&mut gateway);
    let told = goodbyes(clients, true);
    down.join().unwrap();
    assert!(told.iter().all(|(_, code)| *code == 1013));
    let moments: Vec<_> = told.into_iter().map(|(at, _)| at).collect();
    // The last part of each worker's spread is for its last connection.
    let last = moments.iter().max().unwrap().duration_since(begun);
    assert!(last >= spread * 9 / 10, "{last:?}");
    assert_even(moments.clone(), Duration::from_millis(200));
    // Not in the order in which they came: many are told before others that came well before them.
    let pairs = moments.iter().zip(&moments[50..]);
    let overtaken = pairs.filter(|(early, late)| late < early).count();
    assert!(overtaken > 50, "{overtaken} of 250");
    let closed = "tidegate_connections_closed_total";
    assert!(gateway.metric(closed, &[("cause", "drain")]).total_cmp(&300.0).is_eq());
    assert!(gateway.metric(closed, &[]).total_cmp(&300.0).is_eq());
    let codes = "tidegate_close_codes_total";
    let count =
        |direction, code| gateway.metric(codes, &[("direction", direction), ("code", code)]);
    assert!(count("gateway_to_client", "1013").total_cmp(&300.0).is_eq());
    assert!(count("gateway_to_backend", "1001").total_cmp(&300.0).is_eq());
}

#[test]
fn upgrades_are_served_in_the_delay_and_refused_with_retry_after_from_then_on() {
    let backend = Backend::bind();
    let drain = DrainSettings { delay: 2 * SECOND, spread: Duration::ZERO, timeout: 20 * SECOND };
    let mut gateway = with(rule(&[backend.address()]), 1, drain);
    let (mut first, mut first_server) = gateway.open(&backend);
    let begun = Instant::now();
    let down = shut_down(&mut gateway);
    let mut client = gateway.client();
    let mut server = open_over(&mut client, &backend);
    client.send(Frame::from_client("still served"));
    assert_eq!(server.text(), "still served");
    assert_eq!(first.close(), (1012, "gateway is shutting down".into()));
    assert!(begun.elapsed() >= drain.delay);
    assert_eq!(client.close(), (1012, "gateway is shutting down".into()));
    let (head, body) = gateway.ask(upgrade_request("a.test"));
    assert_eq!((head.status(), head.get("tidegate-reason")), (503, Some("draining")));
    assert_eq!(head.get("retry-after"), Some("5"));
    assert!(body.contains("connect again"), "{body}");
    backend.assert_untouched();
    for (client, server) in [(&mut first, &mut first_server), (&mut client, &mut server)] {
        client.send(Frame::client_close(1012, ""));
        assert_eq!(server.close().0, 1001);
        server.send(Frame::server_close(1001, ""));
    }
    drop((first, first_server, client, server));
    down.join().unwrap();
    gateway.await_metric("tidegate_connections_closed_total", &[("cause", "drain")], 2.0);
}

#[test]
fn who_does_not_answer_is_cut_at_the_timeout_and_counted() {
    let backend = Backend::bind();
    let mut rule = rule(&[backend.address()]);
    rule.timeouts.close = 60 * SECOND;
    let timeout = SECOND;
    let drain = DrainSettings { delay: Duration::ZERO, spread: Duration::ZERO, timeout };
    let mut gateway = with(rule, 2, drain);
    let pairs: Vec<_> = (0..20).map(|_| gateway.open(&backend)).collect();
    let begun = Instant::now();
    let down = shut_down(&mut gateway);
    let (clients, servers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let told = goodbyes(clients, false);
    down.join().unwrap();
    assert!(begun.elapsed() >= timeout);
    assert!(told.iter().all(|(at, code)| *code == 1012 && at.duration_since(begun) < timeout));
    for mut server in servers {
        assert_eq!(server.close().0, 1001);
        assert!(server.rest().is_empty());
    }
    let closed = "tidegate_connections_closed_total";
    assert!(gateway.metric(closed, &[("cause", "drain")]).total_cmp(&20.0).is_eq());
    assert!(gateway.metric("tidegate_connections_open", &[]).total_cmp(&0.0).is_eq());
}

#[test]
fn who_ends_before_its_turn_has_its_own_cause() {
    let backend = Backend::bind();
    let drain = DrainSettings { delay: Duration::ZERO, spread: 30 * SECOND, timeout: 60 * SECOND };
    let hosts = vec![host("a.test", rule(&[backend.address()])), host("b.test", rule(&[]))];
    let mut gateway = Harness::with(hosts, |settings| settings.drain = drain);
    let pairs: Vec<_> = (0..10).map(|_| gateway.open(&backend)).collect();
    let down = shut_down(&mut gateway);
    eventually("the goodbyes have begun", || {
        gateway.ask(upgrade_request("b.test")).0.get("tidegate-reason") == Some("draining")
    });
    drop(pairs);
    // The others' turns are not waited for.
    down.join().unwrap();
    let closed = "tidegate_connections_closed_total";
    assert!(gateway.metric(closed, &[]).total_cmp(&10.0).is_eq());
    assert!(gateway.metric(closed, &[("cause", "drain")]) <= 1.0);
}
