//! The series of routes that are no more: told until the last connection has ended, and once after that.

use tidegate::table::{HttpMode, RoutingTable};

use crate::support::{Backend, Frame, Harness, eventually, host, rule_of, upgrade_request};

const CLOSED: &str = "tidegate_connections_closed_total";

/// Names of the families in which a route has series.
fn families<'t>(text: &'t str, route: &str) -> Vec<&'t str> {
    let label = format!("route=\"{route}\"");
    let mut names: Vec<_> = text
        .lines()
        .filter(|line| line.contains(&label))
        .filter_map(|line| line.split_once('{').map(|(name, _)| name))
        .collect();
    names.dedup();
    names
}

#[test]
fn a_removed_route_has_its_series_until_its_last_connection_has_ended_and_been_told() {
    let backend = Backend::bind();
    let hosts =
        || ["gone", "kept"].map(|name| host(&format!("{name}.test"), rule_of(name, &backend)));
    let gateway = Harness::start(hosts().into());
    let (mut client, mut server) = gateway.open_at("gone.test", &backend);
    let _kept = gateway.open_at("kept.test", &backend);
    gateway.table.publish(RoutingTable::new(hosts().into_iter().skip(1))).unwrap();
    for _ in 0..3 {
        assert!(families(&gateway.scrape(), "gone").contains(&"tidegate_connections_open"));
    }
    client.send(Frame::client_close(1000, ""));
    assert_eq!(server.close().0, 1000);
    server.send(Frame::server_close(1000, ""));
    server.finish();
    assert_eq!(client.close().0, 1000);
    assert!(client.rest().is_empty());
    drop(client);
    gateway.await_metric(CLOSED, &[("route", "gone")], 1.0);
    gateway.await_metric("tidegate_connections_open", &[("route", "gone")], 0.0);
    // Those who count hold on to the series for a moment longer than they count.
    let mut last = String::new();
    eventually("the series are gone", || {
        let text = gateway.scrape();
        let gone = families(&text, "gone").is_empty();
        if !gone {
            last = text;
        }
        gone
    });
    assert!(families(&last, "gone").contains(&CLOSED), "told once with the last connection");
    assert!(families(&gateway.scrape(), "kept").contains(&"tidegate_bytes_total"));
}

#[test]
fn a_route_that_only_ever_refused_or_forwarded_is_forgotten_as_well() {
    let backend = Backend::bind();
    let mut forwards = rule_of("forwards", &backend);
    forwards.http = HttpMode::Forward;
    let hosts = vec![host("a.test", rule_of("refuses", &backend)), host("b.test", forwards)];
    let gateway = Harness::start(hosts);
    assert_eq!(gateway.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").0.status(), 426);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: b.test\r\n\r\n");
    let (mut server, _) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
    client.head();
    gateway.table.publish(RoutingTable::default()).unwrap();
    // No hostname is served: no route's series, and never removed.
    assert_eq!(gateway.ask(upgrade_request("a.test")).0.status(), 404);
    gateway.scrape();
    let text = gateway.scrape();
    assert!(families(&text, "refuses").is_empty(), "{text}");
    assert!(families(&text, "").contains(&"tidegate_upgrade_failures_total"));
    // Its answer is still under way.
    assert!(families(&text, "forwards").contains(&"tidegate_backend_connections_open"));
    server.send("lf");
    assert_eq!(client.bytes(4), b"half");
    gateway.await_metric("tidegate_backend_connections_open", &[("route", "forwards")], 0.0);
    gateway.scrape();
    assert!(families(&gateway.scrape(), "forwards").is_empty());
}
