//! Routes that lead back: a request passes a gateway once.

use std::net::SocketAddr;

use tidegate::{
    gateway::GatewaySettings,
    table::{HttpMode, RoutingTable, Rule},
};

use crate::support::{Backend, Harness, host, rule, switching, upgrade_request, upgrade_with};

const GET: &str = "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n";
const FAILURES: &str = "tidegate_upgrade_failures_total";

fn to(address: SocketAddr) -> Rule {
    Rule { http: HttpMode::Forward, ..rule(&[address]) }
}

fn instance(id: u64) -> impl FnOnce(&mut GatewaySettings) {
    move |settings| settings.instance = id
}

#[test]
fn a_route_to_the_gateways_own_port_ends_at_the_second_pass() {
    for request in [GET.to_owned(), upgrade_request("a.test")] {
        let gateway = Harness::start(Vec::new());
        gateway.table.publish(RoutingTable::new(vec![host("a.test", to(gateway.http))]));
        let (head, body) = gateway.ask(request);
        assert_eq!(head.status(), 508, "{head:?}");
        assert!(body.contains("leads back"), "{body}");
        gateway.await_metric(FAILURES, &[("reason", "loop_detected")], 1.0);
        // The second pass was refused before it took anything.
        let opened = "tidegate_backend_connect_duration_seconds_count";
        assert!(gateway.metric(opened, &[]).total_cmp(&1.0).is_eq());
    }
}

#[test]
fn a_ring_of_gateways_ends_where_it_began() {
    let rings: Vec<Harness> = (1..=3).map(|id| Harness::with(Vec::new(), instance(id))).collect();
    for (index, gateway) in rings.iter().enumerate() {
        let next = rings[(index + 1) % rings.len()].http;
        gateway.table.publish(RoutingTable::new(vec![host("a.test", to(next))]));
    }
    assert_eq!(rings[0].ask(GET).0.status(), 508);
    rings[0].await_metric(FAILURES, &[("reason", "loop_detected")], 1.0);
}

#[test]
fn gateways_in_a_row_pass_requests_on_up_to_a_bound() {
    let backend = Backend::bind();
    let mut next = backend.address();
    let mut row = Vec::new();
    for id in 1..=5 {
        let gateway = Harness::with(vec![host("a.test", to(next))], instance(id));
        next = gateway.http;
        row.push(gateway);
    }
    // The second of the row from behind: it has four to pass.
    let mut client = row[3].client();
    client.send(upgrade_request("a.test"));
    let (_server, asked) = backend.answer(switching(""));
    assert_eq!(client.head().status(), 101);
    let marks: Vec<String> = [4, 3, 2, 1].map(|id| format!("tidegate;id={id:016x}")).to_vec();
    assert_eq!(asked.all("cdn-loop"), marks);
    assert_eq!(row[4].ask(GET).0.status(), 508);
    row[0].await_metric(FAILURES, &[("reason", "loop_detected")], 1.0);
}

#[test]
fn what_others_write_against_loops_stays() {
    let backend = Backend::bind();
    let gateway = Harness::with(vec![host("a.test", to(backend.address()))], instance(7));
    let mut client = gateway.client();
    client.send(upgrade_with("a.test", "CDN-Loop: cloudflare\r\nConnection: CDN-Loop\r\n"));
    let (_server, asked) = backend.answer(switching(""));
    assert_eq!(asked.all("cdn-loop"), ["cloudflare", "tidegate;id=0000000000000007"]);
}
