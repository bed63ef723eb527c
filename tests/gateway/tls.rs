//! TLS with clients: which certificate a name gets, and how handshakes fail without disturbing anyone.

use std::{io::Write, net::TcpStream, sync::Arc};

use rustls::{ClientConfig, ClientConnection};
use tidegate::{
    gateway::FallbackCertificate,
    table::{RoutingTable, VirtualHost},
};

use crate::support::{
    Authority, Backend, Certificate, DEADLINE, Frame, Harness, Hosts, Peer, client_config, host,
    only_tls12, open_over, rule, switching, tls_host, upgrade_request,
};

const FAILURES: &str = "tidegate_tls_handshake_failures_total";
const FALLBACKS: &str = "tidegate_tls_fallback_certificate_total";

/// A gateway whose fallback certificate is for names that tests connect by, so that clients can look past it.
fn with_fallback(hosts: Hosts, fallback: &Certificate) -> Harness {
    let made = FallbackCertificate::from_pem(fallback.chain.as_bytes(), fallback.key.as_bytes());
    Harness::with(hosts, |settings| settings.fallback = made.unwrap())
}

/// A gateway with `a.test` under TLS; its certificate is signed by `authority`.
fn serving_a(authority: &Authority, backend: &Backend, only_tls13: bool) -> Harness {
    let identity = authority.certify("a.test").identity("a", only_tls13);
    Harness::start(vec![tls_host("a.test", &identity, rule(&[backend.address()]))])
}

#[track_caller]
fn shown(gateway: &Harness, authority: &Authority, name: &str) -> Vec<u8> {
    Peer::try_tls(gateway.https, &client_config(&authority.pem), name).unwrap().1
}

#[test]
fn the_exact_name_comes_before_the_wildcard_which_stands_for_one_label() {
    let authority = Authority::new();
    let exact = authority.certify("chat.a.test");
    let wildcard = authority.certify("*.a.test");
    let fallback = authority.certify_all(&["x.y.a.test", "a.test"]);
    let nobody = || rule(&[]);
    let hosts = vec![
        tls_host("*.a.test", &wildcard.identity("wildcard", false), nobody()),
        tls_host("chat.a.test", &exact.identity("exact", false), nobody()),
    ];
    let gateway = with_fallback(hosts, &fallback);
    assert_eq!(shown(&gateway, &authority, "chat.a.test"), exact.der());
    assert_eq!(shown(&gateway, &authority, "other.a.test"), wildcard.der());
    assert_eq!(shown(&gateway, &authority, "OTHER.a.test"), wildcard.der());
    gateway.await_metric(FALLBACKS, &[], 0.0);
    assert_eq!(shown(&gateway, &authority, "x.y.a.test"), fallback.der());
    assert_eq!(shown(&gateway, &authority, "a.test"), fallback.der());
    gateway.await_metric(FALLBACKS, &[("cause", "unknown_host")], 2.0);
}

#[test]
fn an_unknown_name_gets_the_fallback_certificate_and_404() {
    let authority = Authority::new();
    let fallback = authority.certify("unknown.test");
    let gateway = with_fallback(vec![host("a.test", rule(&[]))], &fallback);
    let mut client = gateway.tls_client(&client_config(&authority.pem), "unknown.test");
    let (head, _) = client.send(upgrade_request("unknown.test")).answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (404, Some("no_route")));
    gateway.await_metric(FALLBACKS, &[("cause", "unknown_host")], 1.0);
}

#[test]
fn an_unknown_name_does_not_open_the_way_to_a_host_that_is_served() {
    let authority = Authority::new();
    let fallback = authority.certify("unknown.test");
    let backend = Backend::bind();
    let identity = authority.certify("a.test").identity("a", false);
    let hosts = vec![tls_host("a.test", &identity, rule(&[backend.address()]))];
    let gateway = with_fallback(hosts, &fallback);
    let mut client = gateway.tls_client(&client_config(&authority.pem), "unknown.test");
    let (head, _) = client.send(upgrade_request("a.test")).answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (421, Some("misdirected")));
    backend.assert_untouched();
}

#[test]
fn without_a_server_name_the_handshake_ends_and_the_request_is_answered_421() {
    let authority = Authority::new();
    let fallback = authority.certify("127.0.0.1");
    let backend = Backend::bind();
    let identity = authority.certify("a.test").identity("a", false);
    let hosts = vec![tls_host("a.test", &identity, rule(&[backend.address()]))];
    let gateway = with_fallback(hosts, &fallback);
    // Clients send no server name for an address.
    let mut client = gateway.tls_client(&client_config(&authority.pem), "127.0.0.1");
    let (head, body) = client.send(upgrade_request("a.test")).answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (421, Some("misdirected")));
    assert!(body.contains("without a server name"), "{body}");
    backend.assert_untouched();
    gateway.await_metric(FALLBACKS, &[("cause", "no_server_name")], 1.0);
}

#[test]
fn a_host_without_a_certificate_of_its_own_is_served_with_the_fallback() {
    let authority = Authority::new();
    let fallback = authority.certify("a.test");
    let backend = Backend::bind();
    let gateway = with_fallback(vec![host("a.test", rule(&[backend.address()]))], &fallback);
    let mut client = gateway.tls_client(&client_config(&authority.pem), "a.test");
    open_over(&mut client, &backend);
    gateway.await_metric(FALLBACKS, &[("cause", "no_certificate")], 1.0);
}

#[test]
fn hosts_of_one_certificate_share_a_connection() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let identity = authority.certify_all(&["a.test", "b.test"]).identity("both", false);
    let hosts = ["a.test", "b.test"];
    let hosts: Vec<VirtualHost> =
        hosts.map(|name| tls_host(name, &identity, rule(&[backend.address()]))).into();
    let gateway = Harness::start(hosts);
    let mut client = gateway.tls_client(&client_config(&authority.pem), "b.test");
    open_over(&mut client, &backend);
}

/// Sends bytes that are no TLS to the TLS port, beside an open connection that must not notice.
#[track_caller]
fn assert_not_tls(bytes: &[u8]) {
    let authority = Authority::new();
    let backend = Backend::bind();
    let gateway = serving_a(&authority, &backend, false);
    let mut other = gateway.tls_client(&client_config(&authority.pem), "a.test");
    let mut server = open_over(&mut other, &backend);
    let mut client = Peer::connect(gateway.https);
    client.send(bytes);
    let said = client.rest();
    assert!(said.len() < 16, "at most an alert: {said:?}");
    gateway.await_metric(FAILURES, &[("reason", "not_tls")], 1.0);
    other.send(Frame::from_client("still here"));
    assert_eq!(server.text(), "still here");
    server.send(Frame::from_server("me too"));
    assert_eq!(other.text(), "me too");
}

#[test]
fn binary_garbage_on_the_tls_port_is_closed_and_counted() {
    let garbage: Vec<u8> =
        (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_not_tls(&garbage);
    assert_not_tls(&[0xff; 100]);
    assert_not_tls(&[0; 100]);
}

#[test]
fn plain_http_on_the_tls_port_is_closed_and_counted() {
    assert_not_tls(upgrade_request("a.test").as_bytes());
}

#[test]
fn a_proxy_protocol_header_on_the_tls_port_is_closed_and_counted() {
    assert_not_tls(b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 443\r\n");
}

#[test]
fn a_client_that_hangs_up_within_the_handshake_is_counted() {
    let authority = Authority::new();
    let gateway = serving_a(&authority, &Backend::bind(), false);
    let mut client = Peer::connect(gateway.https);
    client.send([22, 3, 1]);
    client.finish();
    client.rest();
    gateway.await_metric(FAILURES, &[("reason", "closed")], 1.0);
}

#[test]
fn a_client_hello_may_come_in_many_records_and_byte_by_byte() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let gateway = serving_a(&authority, &backend, false);
    for config in [client_config(&authority.pem), only_tls12(&authority.pem)] {
        let mut config = ClientConfig::clone(&config);
        config.max_fragment_size = Some(40);
        let name = "a.test".try_into().unwrap();
        let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(gateway.https).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut hello = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut hello).unwrap();
        }
        assert!(hello.len() > 2 * 45, "it is several records");
        for byte in hello {
            socket.write_all(&[byte]).unwrap();
        }
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).unwrap();
        }
    }
    gateway.await_metric(FAILURES, &[], 0.0);
}

#[test]
fn a_client_hello_without_end_is_cut_off() {
    let authority = Authority::new();
    let gateway = serving_a(&authority, &Backend::bind(), false);
    let mut client = Peer::connect(gateway.https);
    // A message of 16 MiB in records of 16 KiB.
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    record.resize(5 + 0x4000, 0);
    client.send(&record);
    record[5..9].fill(0);
    for _ in 0..20 {
        client.send(&record);
    }
    client.rest();
    gateway.await_metric(FAILURES, &[("reason", "hello_too_long")], 1.0);
}

#[test]
fn a_tls_1_2_client_is_served() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let gateway = serving_a(&authority, &backend, false);
    let mut client = gateway.tls_client(&only_tls12(&authority.pem), "a.test");
    open_over(&mut client, &backend);
}

#[test]
fn a_tls_1_2_client_is_turned_away_where_the_route_wants_1_3() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let gateway = serving_a(&authority, &backend, true);
    assert!(Peer::try_tls(gateway.https, &only_tls12(&authority.pem), "a.test").is_err());
    gateway.await_metric(FAILURES, &[("reason", "no_shared_version")], 1.0);
    let mut client = gateway.tls_client(&client_config(&authority.pem), "a.test");
    open_over(&mut client, &backend);
}

/// A ClientHello of TLS 1.0 (RFC 2246 §7.4.1.2) with a server name.
fn tls_1_0_hello(name: &str) -> Vec<u8> {
    let mut server_name = vec![0];
    server_name.extend((name.len() as u16).to_be_bytes());
    server_name.extend(name.bytes());
    let mut extension = vec![0, 0];
    extension.extend((server_name.len() as u16 + 2).to_be_bytes());
    extension.extend((server_name.len() as u16).to_be_bytes());
    extension.extend(server_name);
    let mut hello = vec![3, 1];
    hello.extend([7; 32]);
    hello.push(0);
    // TLS_RSA_WITH_AES_128_CBC_SHA and TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA; no compression
    hello.extend([0, 4, 0x00, 0x2f, 0xc0, 0x13, 1, 0]);
    hello.extend((extension.len() as u16).to_be_bytes());
    hello.extend(extension);
    let mut message = vec![1, 0];
    message.extend((hello.len() as u16).to_be_bytes());
    message.extend(hello);
    let mut record = vec![22, 3, 1];
    record.extend((message.len() as u16).to_be_bytes());
    record.extend(message);
    record
}

#[test]
fn a_client_that_knows_only_tls_1_0_is_turned_away_by_an_alert() {
    let authority = Authority::new();
    let gateway = serving_a(&authority, &Backend::bind(), false);
    let mut client = Peer::connect(gateway.https);
    client.send(tls_1_0_hello("a.test"));
    let said = client.rest();
    // An alert record with one fatal alert.
    assert_eq!((said[0], said.len(), said[5]), (21, 7, 2), "{said:?}");
    gateway.await_metric(FAILURES, &[("reason", "no_shared_version")], 1.0);
}

#[test]
fn a_client_that_refuses_our_certificate_is_counted() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let gateway = serving_a(&ours, &Backend::bind(), false);
    assert!(Peer::try_tls(gateway.https, &client_config(&theirs.pem), "a.test").is_err());
    gateway.await_metric(FAILURES, &[("reason", "certificate_refused")], 1.0);
    assert!(Peer::try_tls(gateway.https, &only_tls12(&theirs.pem), "a.test").is_err());
    gateway.await_metric(FAILURES, &[("reason", "certificate_refused")], 2.0);
}

#[test]
fn a_renewed_certificate_is_shown_to_new_connections_and_cuts_no_open_one() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let gateway = serving_a(&authority, &backend, false);
    let mut old = gateway.tls_client(&client_config(&authority.pem), "a.test");
    let mut server = open_over(&mut old, &backend);
    let renewed = authority.certify("a.test");
    let hosts = [tls_host("a.test", &renewed.identity("a", false), rule(&[backend.address()]))];
    gateway.table.publish(tidegate::table::RoutingTable::new(hosts)).unwrap();
    assert_eq!(shown(&gateway, &authority, "a.test"), renewed.der());
    old.send(Frame::from_client("old"));
    assert_eq!(server.text(), "old");
}

#[test]
fn before_the_first_table_a_tls_connection_is_closed() {
    let gateway = Harness::over(Arc::default(), |_| {});
    assert!(Peer::connect(gateway.https).rest().is_empty());
}

#[test]
fn tls_is_reported_to_the_backend() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let gateway = serving_a(&authority, &backend, false);
    let mut client = gateway.tls_client(&client_config(&authority.pem), "a.test");
    client.send(upgrade_request("a.test"));
    let (_server, asked) = backend.answer(switching(""));
    assert_eq!(asked.get("x-forwarded-proto"), Some("https"));
    assert_eq!(client.head().status(), 101);
    let labels = [("listener", "https"), ("route", "route"), ("namespace", "test")];
    gateway.await_metric("tidegate_connections_open", &labels, 1.0);
}

#[test]
fn a_connection_that_is_kept_alive_ends_where_the_tls_settings_have_changed() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let certificate = authority.certify("a.test");
    let serve = |only_tls13| {
        let identity = certificate.identity("a", only_tls13);
        tls_host("a.test", &identity, rule(&[backend.address()]))
    };
    let gateway = Harness::start(vec![serve(false)]);
    let publish = |host| gateway.table.publish(RoutingTable::new([host]));
    let mut client = gateway.tls_client(&only_tls12(&authority.pem), "a.test");
    let asked = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(client.send(asked).answer().0.status(), 426);
    // A certificate that is only another one changes nothing.
    let renewed = authority.certify("a.test").identity("a", false);
    publish(tls_host("a.test", &renewed, rule(&[backend.address()])));
    assert_eq!(client.send(asked).answer().0.status(), 426);
    publish(serve(true));
    let (head, body) = client.send(upgrade_request("a.test")).answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (421, Some("misdirected")));
    assert_eq!(head.get("connection"), Some("close"));
    assert!(body.contains("TLS settings of this host have changed"), "{body}");
    assert!(client.rest().is_empty());
    backend.assert_untouched();
}
