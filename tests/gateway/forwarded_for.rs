//! Who the backend is told that the client is: what a peer claims counts only from trusted proxies.

use http::HeaderName;
use tidegate::gateway::GatewaySettings;
use tidegate::table::{Plaintext, Rule};

use crate::support::{
    Backend, Harness, Head, host, rule, switching, upgrade_request, upgrade_with,
};

const CLAIMS: &str = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public.test\r\nX-Forwarded-Port: 8443\r\nX-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Request-Id: theirs\r\n";

fn trusting(settings: &mut GatewaySettings) {
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
}

/// What the backend is told of a client with these claims.
#[track_caller]
fn told(adjust: impl FnOnce(&mut GatewaySettings)) -> Head {
    let backend = Backend::bind();
    let gateway = Harness::with(vec![host("a.test", rule(&[backend.address()]))], adjust);
    let mut client = gateway.client();
    client.send(upgrade_with("a.test", CLAIMS));
    backend.answer(switching("")).1
}

#[test]
fn claims_of_a_peer_that_is_not_trusted_are_replaced_by_what_we_see() {
    let head = told(|_| {});
    assert_eq!(head.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.get("x-forwarded-proto"), Some("http"));
    assert_eq!(head.get("x-forwarded-host"), Some("a.test"));
    assert_eq!(head.get("x-forwarded-port"), Some("80"));
    assert_eq!(head.get("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(head.get("forwarded"), None);
    assert_ne!(head.get("x-request-id"), Some("theirs"));
}

#[test]
fn claims_of_a_trusted_proxy_are_continued() {
    let head = told(trusting);
    assert_eq!(head.get("x-forwarded-for"), Some("1.1.1.1, 2.2.2.2, 127.0.0.1"));
    assert_eq!(head.get("x-forwarded-proto"), Some("https"));
    assert_eq!(head.get("x-request-id"), Some("theirs"));
}

#[test]
fn what_a_trusted_proxy_passes_on_of_its_client_is_written_anew() {
    let head = told(trusting);
    assert_eq!(head.get("x-real-ip"), Some("2.2.2.2"));
    assert_eq!(head.get("x-forwarded-host"), Some("a.test"));
    assert_eq!(head.get("x-forwarded-port"), Some("443"));
    assert_eq!(head.get("forwarded"), None);
    let head = told(|settings| {
        trusting(settings);
        settings.trusted_proxy_headers =
            ["x-forwarded-host", "x-real-ip", "forwarded"].map(HeaderName::from_static).to_vec();
    });
    assert_eq!(head.get("x-real-ip"), Some("1.1.1.1"));
    assert_eq!(head.get("x-forwarded-host"), Some("public.test"));
    assert_eq!(head.get("forwarded"), Some("for=1.1.1.1"));
    assert_eq!(head.get("x-forwarded-port"), Some("443"));
}

/// What the backend is told by a trusted proxy that sends these lines.
#[track_caller]
fn told_with(lines: &[u8]) -> Head {
    let backend = Backend::bind();
    let gateway = Harness::with(vec![host("a.test", rule(&[backend.address()]))], trusting);
    let mut client = gateway.client();
    let request = upgrade_request("a.test");
    let start = request.strip_suffix("\r\n").unwrap().as_bytes();
    client.send([start, lines, b"\r\n"].concat());
    backend.answer(switching("")).1
}

#[test]
fn a_byte_that_is_no_text_takes_no_address_to_the_right_of_it_away() {
    let head = told_with(b"X-Forwarded-For: \xe9, 203.0.113.9\r\n");
    assert_eq!(head.get("x-forwarded-for"), Some("203.0.113.9, 127.0.0.1"));
    assert_eq!(head.get("x-real-ip"), Some("203.0.113.9"));
    let head = told_with(b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: \xe9, 127.0.0.2\r\n");
    assert_eq!(head.get("x-forwarded-for"), Some("127.0.0.2, 127.0.0.1"));
    assert_eq!(head.get("x-real-ip"), Some("127.0.0.2"));
}

#[test]
fn a_byte_that_is_no_text_lets_no_header_escape_its_nomination() {
    let head = told_with(b"Connection: X-Secret, \xff\r\nX-Secret: 1\r\n");
    assert_eq!(head.get("x-secret"), None);
}

#[test]
fn headers_that_fold_to_ours_never_pass() {
    let head = told_with(
        b"X_Forwarded_For: 6.6.6.6\r\nX.Forwarded.For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\nSec_WebSocket_Key: x\r\nTransfer_Encoding: chunked\r\nContent.Length: 5\r\nX_Request_Id: x\r\nX_Custom: stays\r\n",
    );
    let names: Vec<_> = head.headers.iter().map(|(name, _)| name.as_str()).collect();
    let odd: Vec<_> = names.into_iter().filter(|name| name.contains(['_', '.'])).collect();
    assert_eq!(odd, ["x_custom"]);
}

#[test]
fn a_path_beside_the_one_that_was_matched_never_passes() {
    let head = told_with(b"X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n");
    assert_eq!((head.get("x-original-url"), head.get("x-rewrite-url")), (None, None));
}

#[test]
fn the_answer_names_the_request_by_the_id_that_the_backend_got() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let (_server, asked) = backend.answer(switching(""));
    let id = asked.get("x-request-id").unwrap().to_owned();
    assert_eq!(id.len(), 32);
    assert_eq!(client.head().get("x-request-id"), Some(&*id));
}

#[test]
fn clear_text_counts_as_tls_only_where_a_trusted_proxy_says_so() {
    let backend = Backend::bind();
    let secure = || Rule { plaintext: Plaintext::Refuse, ..rule(&[backend.address()]) };
    let request = upgrade_with("a.test", "X-Forwarded-Proto: https\r\n");
    let gateway = Harness::start(vec![host("a.test", secure())]);
    assert_eq!(gateway.ask(&request).0.status(), 403);
    backend.assert_untouched();
    let gateway = Harness::with(vec![host("a.test", secure())], trusting);
    let mut client = gateway.client();
    client.send(&request);
    let (_server, _) = backend.answer(switching(""));
    assert_eq!(client.head().status(), 101);
}

#[test]
fn the_claims_of_a_trusted_proxy_cannot_be_removed_by_naming_them_in_connection() {
    let backend = Backend::bind();
    let gateway = Harness::with(vec![host("a.test", rule(&[backend.address()]))], trusting);
    let mut client = gateway.client();
    let nominated = "Connection: X-Forwarded-For, X-Forwarded-Proto, Forwarded, X-Real-IP\r\n";
    client.send(upgrade_with("a.test", &(CLAIMS.to_owned() + nominated)));
    let (_server, asked) = backend.answer(switching(""));
    assert_eq!(asked.get("x-forwarded-for"), Some("1.1.1.1, 2.2.2.2, 127.0.0.1"));
    assert_eq!(asked.get("x-forwarded-proto"), Some("https"));
    assert_eq!(asked.get("x-real-ip"), Some("2.2.2.2"));
}
