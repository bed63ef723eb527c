//! Routes that lead back: a request passes a gateway a few times at most.

use std::net::SocketAddr;

use tidegate::{
    gateway::GatewaySettings,
    table::{Endpoint, HttpMode, ObjectRef, RoutingTable, Rule, Solver, SolverKey},
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
fn a_route_to_the_gateways_own_port_ends_at_the_fourth_pass() {
    for request in [GET.to_owned(), upgrade_request("a.test")] {
        let gateway = Harness::start(Vec::new());
        gateway.table.publish(RoutingTable::new(vec![host("a.test", to(gateway.http))]));
        let (head, body) = gateway.ask(request);
        assert_eq!(head.status(), 508, "{head:?}");
        assert!(body.contains("leads back"), "{body}");
        gateway.await_metric(FAILURES, &[("reason", "loop_detected")], 1.0);
        // The last pass was refused before it took anything.
        let opened = "tidegate_backend_connect_duration_seconds_count";
        assert!(gateway.metric(opened, &[]).total_cmp(&3.0).is_eq());
    }
}

#[test]
fn a_backend_may_call_another_hostname_of_the_same_gateway_with_its_clients_headers() {
    let (proxy, backend) = (Backend::bind(), Backend::bind());
    let hosts = vec![host("a.test", to(proxy.address())), host("b.test", to(backend.address()))];
    let gateway = Harness::with(hosts, instance(7));
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let mut server = proxy.accept();
    let asked = server.head();
    let mark = asked.all("cdn-loop").join(", ");
    let mut inner = gateway.client();
    inner.send(upgrade_with("b.test", &format!("CDN-Loop: {mark}\r\n")));
    let (_server, asked) = backend.answer(switching(""));
    assert_eq!(inner.head().status(), 101);
    assert_eq!(asked.all("cdn-loop"), ["tidegate;id=0000000000000007"; 2]);
    server.send(switching(""));
    assert_eq!(client.head().status(), 101);
}

#[test]
fn a_ring_of_gateways_ends() {
    let rings: Vec<Harness> = (1..=3).map(|id| Harness::with(Vec::new(), instance(id))).collect();
    for (index, gateway) in rings.iter().enumerate() {
        let next = rings[(index + 1) % rings.len()].http;
        gateway.table.publish(RoutingTable::new(vec![host("a.test", to(next))]));
    }
    assert_eq!(rings[0].ask(GET).0.status(), 508);
    // The ninth pass.
    rings[2].await_metric(FAILURES, &[("reason", "loop_detected")], 1.0);
}

#[test]
fn a_ring_of_acme_solvers_ends() {
    let pair = [1, 2].map(|id| Harness::with(Vec::new(), instance(id)));
    for (gateway, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
        let solver = Solver {
            service: ObjectRef { namespace: "test".into(), name: "cm".into() },
            endpoints: [other.http].into_iter().map(Endpoint::ready).collect(),
        };
        let solvers = [(SolverKey::new("a.test", "token"), solver)];
        let table = RoutingTable::new(Vec::new());
        gateway.table.publish(table.with_solvers(solvers.into_iter().collect()));
    }
    let challenge = "GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(pair[0].ask(challenge).0.status(), 508);
    // The seventh pass: the first gateway's fourth.
    pair[0].await_metric(FAILURES, &[("reason", "loop_detected")], 1.0);
    let passed = "tidegate_acme_challenges_total";
    pair[0].await_metric(passed, &[], 3.0);
    pair[1].await_metric(passed, &[], 3.0);
}

#[test]
fn gateways_in_a_row_pass_requests_on_up_to_a_bound() {
    let backend = Backend::bind();
    let mut next = backend.address();
    let mut row = Vec::new();
    for id in 1..=3 {
        let gateway = Harness::with(vec![host("a.test", to(next))], instance(id));
        next = gateway.http;
        row.push(gateway);
    }
    let others = |count: usize| vec!["tidegate;id=f"; count].join(", ");
    let mut client = row[2].client();
    client.send(upgrade_with("a.test", &format!("CDN-Loop: {}\r\n", others(5))));
    let (_server, asked) = backend.answer(switching(""));
    assert_eq!(client.head().status(), 101);
    let marks = [3, 2, 1].map(|id| format!("tidegate;id={id:016x}"));
    assert_eq!(asked.all("cdn-loop"), [&[others(5)][..], &marks].concat());
    // The last of the row has eight before it.
    let mut client = row[2].client();
    client.send(upgrade_with("a.test", &format!("CDN-Loop: {}\r\n", others(6))));
    assert_eq!(client.answer().0.status(), 508);
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
