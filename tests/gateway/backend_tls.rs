//! TLS to backends: whom the gateway trusts, and the name that it asks for.

use std::sync::Arc;

use tidegate::table::{BackendTls, LoadBalancing, Policy, Rule};

use crate::support::{
    Authority, Backend, Frame, Harness, OpCode, host, rule, server_config, switching,
    upgrade_request,
};

fn gateway_to(backend: &Backend, tls: BackendTls) -> Harness {
    let mut rule: Rule = rule(&[backend.address()]);
    rule.backends[0].tls = Some(tls.into());
    Harness::start(vec![host("a.test", rule)])
}

/// The upgrade succeeds and frames go both ways.
#[track_caller]
fn assert_served(tls: BackendTls, authority: &Authority, name: &str) {
    let backend = Backend::bind();
    let gateway = gateway_to(&backend, tls);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let mut server = backend.accept_tls(&server_config(&authority.certify(name)));
    assert_eq!(server.head().get("host"), Some("a.test"), "the client's own Host");
    let early = Frame::bytes(OpCode::Text, b"early", None);
    server.send([switching("").as_bytes(), &early].concat());
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.frame().payload, b"early");
    let big = vec![42; 100_000];
    client.send(Frame::bytes(OpCode::Binary, &big, Some([1, 2, 3, 4])));
    assert_eq!(server.frame().payload, big);
    server.send(Frame::bytes(OpCode::Binary, &big, None));
    assert_eq!(client.frame().payload, big);
    server.send(Frame::server_close(1000, ""));
    client.frame();
    client.send(Frame::client_close(1000, ""));
    server.frame();
    drop((client, server));
    gateway.await_cause("backend_closed");
}

#[track_caller]
fn assert_not_trusted(tls: BackendTls, authority: &Authority, name: &str) {
    let backend = Backend::bind();
    let gateway = gateway_to(&backend, tls);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    assert!(backend.try_tls(&server_config(&authority.certify(name))).is_none());
    let (head, body) = client.answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (502, Some("backend_connect")));
    assert!(body.contains("certificate"), "{body}");
    let labels = [("reason", "backend_connect"), ("route", "route")];
    gateway.await_metric("tidegate_upgrade_failures_total", &labels, 1.0);
}

#[test]
fn a_backend_with_a_certificate_of_the_authority_for_the_name_is_served() {
    let authority = Authority::new();
    let tls = BackendTls::verified("backend.test", authority.pem.as_bytes()).unwrap();
    assert_served(tls, &authority, "backend.test");
}

#[test]
fn a_backend_with_a_certificate_of_another_authority_is_not_trusted() {
    let (expected, other) = (Authority::new(), Authority::new());
    let tls = BackendTls::verified("backend.test", expected.pem.as_bytes()).unwrap();
    assert_not_trusted(tls, &other, "backend.test");
}

#[test]
fn a_backend_with_a_certificate_for_another_name_is_not_trusted() {
    let authority = Authority::new();
    let tls = BackendTls::verified("backend.test", authority.pem.as_bytes()).unwrap();
    assert_not_trusted(tls, &authority, "other.test");
}

#[test]
fn a_backend_that_is_not_verified_may_show_any_certificate() {
    let tls = BackendTls::unverified("backend.test").unwrap();
    assert_served(tls, &Authority::new(), "whatever.test");
}

#[test]
fn a_backend_that_speaks_no_tls_is_answered_502() {
    let backend = Backend::bind();
    let gateway = gateway_to(&backend, BackendTls::unverified("backend.test").unwrap());
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let mut server = backend.accept();
    server.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    let (head, _) = client.answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (502, Some("backend_connect")));
}

#[test]
fn the_backend_is_asked_for_by_its_name_and_for_http_1_1() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let tls = BackendTls::verified("backend.test", authority.pem.as_bytes()).unwrap();
    let gateway = gateway_to(&backend, tls);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let asked = backend.try_tls(&server_config(&authority.certify("backend.test"))).unwrap();
    assert_eq!(asked.server_name(), Some("backend.test"));
    assert_eq!(asked.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn an_authority_that_one_rule_has_wrong_ejects_no_endpoint_for_the_others() {
    let (authority, wrong) = (Authority::new(), Authority::new());
    let mut backends = [Backend::bind(), Backend::bind()];
    backends.sort_by_key(Backend::address);
    let [first, second] = &backends;
    let verified = |authority: &Authority| {
        Arc::new(BackendTls::verified("backend.test", authority.pem.as_bytes()).unwrap())
    };
    let mut mistaken: Rule = rule(&[first.address()]);
    mistaken.backends[0].tls = Some(verified(&wrong));
    let mut sound = rule(&[first.address(), second.address()]);
    sound.backends[0].tls = Some(verified(&authority));
    // So it is known whose turn it is.
    sound.load_balancing = LoadBalancing { policy: Policy::RoundRobin, ..LoadBalancing::default() };
    let gateway = Harness::start(vec![host("wrong.test", mistaken), host("a.test", sound)]);
    let config = server_config(&authority.certify("backend.test"));
    for _ in 0..3 {
        let mut client = gateway.client();
        client.send(upgrade_request("wrong.test"));
        assert!(first.try_tls(&config).is_none());
        assert_eq!(client.answer().0.status(), 502);
    }
    for backend in [first, second, first, second] {
        let mut client = gateway.client();
        client.send(upgrade_request("a.test"));
        let mut server = backend.accept_tls(&config);
        server.head();
        server.send(switching(""));
        assert_eq!(client.head().status(), 101);
    }
}
