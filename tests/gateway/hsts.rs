//! `Strict-Transport-Security` (RFC 6797): on every answer over TLS for the hosts of a route that asks for it, and on none in clear
//! text.

use http::HeaderValue;
use tidegate::table::{HttpMode, Rule, VirtualHost};

use crate::support::{
    Authority, Backend, Harness, Peer, client_config, prefix, rule, switching, tls_host,
    upgrade_request, upgrade_with,
};

const HSTS: &str = "strict-transport-security";
const VALUE: &str = "max-age=31536000; includeSubDomains";
const BACKENDS_OWN: &str = "Strict-Transport-Security: max-age=1\r\n";

/// `a.test` asks for it, `b.test`, with the same certificate, does not; `c.test` does, with another one. Plain HTTP is
/// forwarded.
struct Stage {
    gateway: Harness,
    backend: Backend,
    authority: Authority,
}

impl Stage {
    fn new() -> Self {
        let authority = Authority::new();
        let backend = Backend::bind();
        let rule = || Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) };
        let shared = authority.certify_all(&["a.test", "b.test"]).identity("ab", false);
        let own = authority.certify("c.test").identity("c", false);
        let mut asking = VirtualHost::new("a.test", Some(shared.clone()), [prefix("/ws", rule())]);
        asking.hsts = Some(HeaderValue::from_static(VALUE));
        let mut other = tls_host("c.test", &own, rule());
        other.hsts = Some(HeaderValue::from_static(VALUE));
        let hosts = vec![asking, tls_host("b.test", &shared, rule()), other];
        let trust = |settings: &mut tidegate::gateway::GatewaySettings| {
            settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        };
        Self { gateway: Harness::with(hosts, trust), backend, authority }
    }

    fn tls(&self) -> Peer {
        self.gateway.tls_client(&client_config(&self.authority.pem), "a.test")
    }

    /// What the answer to an upgrade has that the backend answers so.
    fn upgraded(&self, mut client: Peer, request: &str, answer: &str) -> (u16, Vec<String>) {
        client.send(request);
        let _server = self.backend.answer(answer);
        let head = client.head();
        (head.status(), head.all(HSTS).into_iter().map(str::to_owned).collect())
    }
}

fn request(host: &str) -> String {
    upgrade_request(host).replace("GET / ", "GET /ws ")
}

#[test]
fn a_101_over_tls_has_it_once_whatever_the_backend_says() {
    let stage = Stage::new();
    for lines in ["", BACKENDS_OWN] {
        let told = stage.upgraded(stage.tls(), &request("a.test"), &switching(lines));
        assert_eq!(told, (101, vec![VALUE.to_owned()]));
    }
}

#[test]
fn refusals_and_forwarded_answers_over_tls_have_it() {
    let stage = Stage::new();
    let refused = stage.upgraded(
        stage.tls(),
        &request("a.test"),
        &format!("HTTP/1.1 403 Forbidden\r\n{BACKENDS_OWN}Content-Length: 0\r\n\r\n"),
    );
    assert_eq!(refused, (403, vec![VALUE.to_owned()]));
    let forwarded = stage.upgraded(
        stage.tls(),
        "GET /ws HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &format!("HTTP/1.1 200 OK\r\n{BACKENDS_OWN}Content-Length: 0\r\n\r\n"),
    );
    assert_eq!(forwarded, (200, vec![VALUE.to_owned()]));
    let mut client = stage.tls();
    for (request, status) in [
        // No rule of the host matches.
        (upgrade_request("a.test"), 404),
        (request("a.test").replace("Version: 13", "Version: 8"), 426),
    ] {
        let (head, _) = client.send(request).answer();
        assert_eq!((head.status(), head.get(HSTS)), (status, Some(VALUE)));
    }
}

#[test]
fn a_host_that_does_not_ask_for_it_has_none_but_the_backend_s_own() {
    let stage = Stage::new();
    let told = stage.upgraded(stage.tls(), &request("b.test"), &switching(""));
    assert_eq!(told, (101, vec![]));
    let told = stage.upgraded(stage.tls(), &request("b.test"), &switching(BACKENDS_OWN));
    assert_eq!(told, (101, vec!["max-age=1".to_owned()]));
}

#[test]
fn a_connection_whose_certificate_is_not_for_the_host_says_nothing_of_it() {
    let stage = Stage::new();
    let (head, _) = stage.tls().send(request("c.test")).answer();
    assert_eq!((head.status(), head.get(HSTS)), (421, None));
}

#[test]
fn in_clear_text_there_is_none_not_even_the_backend_s() {
    let stage = Stage::new();
    for lines in ["", BACKENDS_OWN] {
        let client = stage.gateway.client();
        let told = stage.upgraded(client, &request("a.test"), &switching(lines));
        assert_eq!(told, (101, vec![]));
    }
    let (head, _) = stage.gateway.ask(upgrade_request("a.test"));
    assert_eq!((head.status(), head.get(HSTS)), (404, None));
}

#[test]
fn where_a_trusted_proxy_says_that_tls_ended_there_it_is_an_answer_over_tls() {
    let stage = Stage::new();
    let request = upgrade_with("a.test", "X-Forwarded-Proto: https\r\n");
    let request = request.replace("GET / ", "GET /ws ");
    let told = stage.upgraded(stage.gateway.client(), &request, &switching(""));
    assert_eq!(told, (101, vec![VALUE.to_owned()]));
}
