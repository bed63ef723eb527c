//! Refusals: status, reason header, one plain sentence, and the metric's label; and the connection stays usable.

use std::{net::TcpListener, sync::Arc};

use tidegate::{
    gateway::RefusalReason,
    table::{HttpMode, Plaintext, RoutingTable, Rule, VirtualHost},
};

use crate::support::{
    Authority, Backend, Frame, Harness, Head, Hosts, client_config, host, open_over, prefix, rule,
    switching, tls_host, upgrade_request, upgrade_with,
};

/// Checks all that a refusal says.
#[track_caller]
fn assert_told(gateway: &Harness, answer: &(Head, String), status: u16, reason: RefusalReason) {
    let (head, body) = answer;
    let word = reason.as_str();
    assert_eq!((head.status(), head.get("tidegate-reason")), (status, Some(word)), "{body}");
    assert_eq!(head.get("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(head.get("cache-control"), Some("no-store"));
    assert!(body.ends_with('\n') && body.lines().all(|line| line.ends_with('.')), "{body:?}");
    // What to do about it, and who can, stands below the sentence where there is more to say of it.
    let advised = matches!(reason, RefusalReason::Plaintext | RefusalReason::UpgradeStripped);
    assert_eq!(body.lines().count(), if advised { 2 } else { 1 }, "{body:?}");
    assert_eq!(head.get("x-request-id").map(str::len), Some(32));
    gateway.await_metric("tidegate_upgrade_failures_total", &[("reason", word)], 1.0);
}

#[track_caller]
fn assert_refused(
    hosts: Hosts,
    request: &str,
    status: u16,
    reason: RefusalReason,
) -> (Head, String) {
    let gateway = Harness::start(hosts);
    let answer = gateway.ask(request);
    assert_told(&gateway, &answer, status, reason);
    answer
}

fn nobody() -> Rule {
    rule(&["127.0.0.1:1".parse().unwrap()])
}

#[test]
fn a_host_that_is_not_served_is_answered_404() {
    let hosts = vec![host("a.test", nobody())];
    let (_, body) = assert_refused(hosts, &upgrade_request("b.test"), 404, RefusalReason::NoRoute);
    assert!(body.contains("No WebSocketRoute has this hostname"), "{body}");
}

#[test]
fn a_path_that_no_rule_matches_is_answered_404() {
    let hosts = vec![VirtualHost::new("a.test", None, [prefix("/ws", nobody())])];
    let (_, body) = assert_refused(hosts, &upgrade_request("a.test"), 404, RefusalReason::NoRoute);
    assert!(body.contains("no rule"), "{body}");
}

#[test]
fn before_the_first_table_requests_are_answered_404_and_the_first_table_serves_at_once() {
    let gateway = Harness::over(Arc::default(), |_| {});
    let mut client = gateway.client();
    let answer = client.send(upgrade_request("a.test")).answer();
    assert_told(&gateway, &answer, 404, RefusalReason::NoRoute);
    assert!(answer.1.contains("No routes are loaded yet"), "{}", answer.1);
    let backend = Backend::bind();
    gateway.table.publish(RoutingTable::new([host("a.test", rule(&[backend.address()]))]));
    open_over(&mut client, &backend);
}

#[test]
fn plain_http_is_answered_426_with_the_protocol_to_use() {
    let hosts = vec![host("a.test", nobody())];
    let request = "GET /chat HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let (head, body) = assert_refused(hosts, request, 426, RefusalReason::NotWebsocket);
    assert_eq!(head.get("upgrade"), Some("websocket"));
    assert!(head.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    assert!(body.contains("connect with a WebSocket client"), "{body}");
}

#[test]
fn another_version_of_the_protocol_is_answered_426_with_the_version_to_use() {
    let hosts = vec![host("a.test", nobody())];
    let request = upgrade_request("a.test").replace("Version: 13", "Version: 8");
    let (head, _) = assert_refused(hosts, &request, 426, RefusalReason::BadVersion);
    assert_eq!(head.get("sec-websocket-version"), Some("13"));
    assert_eq!(head.get("upgrade"), Some("websocket"));
}

#[test]
fn an_unsound_handshake_is_answered_400_and_told_what_is_wrong() {
    let hosts = vec![host("a.test", nobody())];
    let request = upgrade_with("a.test", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n");
    let (_, body) = assert_refused(hosts, &request, 400, RefusalReason::BadHandshake);
    assert!(body.contains("Sec-WebSocket-Key header is there more than once"), "{body}");
}

#[test]
fn clear_text_is_answered_403_where_the_route_refuses_it() {
    let hosts = vec![host("a.test", Rule { plaintext: Plaintext::Refuse, ..nobody() })];
    let (head, body) =
        assert_refused(hosts, &upgrade_request("a.test"), 403, RefusalReason::Plaintext);
    assert_eq!(head.get("location"), None);
    assert!(body.contains("connect to wss://a.test/ in place of ws://"), "{body}");
    assert!(body.contains("new WebSocket(\"wss://a.test/\")"), "{body}");
}

#[test]
fn clear_text_is_answered_308_where_the_route_redirects_it() {
    let hosts = vec![host("a.test", Rule { plaintext: Plaintext::Redirect, ..nobody() })];
    let gateway = Harness::with(hosts, |settings| settings.public_https_port = 8443);
    let answer = gateway.ask(upgrade_request("a.test").replace("GET /", "GET /chat?room=1"));
    assert_told(&gateway, &answer, 308, RefusalReason::Plaintext);
    assert_eq!(answer.0.get("location"), Some("wss://a.test:8443/chat?room=1"));
    assert!(!answer.1.contains("room=1"), "queries may hold secrets: {}", answer.1);
    // A browser's page, or curl.
    let (head, _) = gateway.ask("GET /chat?room=1 HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(head.status(), 308);
    assert_eq!(head.get("location"), Some("https://a.test:8443/chat?room=1"));
}

#[test]
fn a_redirect_that_is_followed_ends_in_an_open_socket() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let identity = authority.certify("a.test").identity("a", false);
    let rule = Rule { plaintext: Plaintext::Redirect, ..rule(&[backend.address()]) };
    let gateway = Harness::start(vec![tls_host("a.test", &identity, rule)]);
    let (head, _) = gateway.ask(upgrade_request("a.test"));
    assert_eq!((head.status(), head.get("location")), (308, Some("wss://a.test/")));
    let mut client = gateway.tls_client(&client_config(&authority.pem), "a.test");
    open_over(&mut client, &backend);
}

#[test]
fn a_proxy_that_ends_tls_and_is_not_trusted_is_told_of_and_not_redirected_back_to_itself() {
    let hosts = vec![host("a.test", Rule { plaintext: Plaintext::Redirect, ..nobody() })];
    let request = upgrade_with("a.test", "X-Forwarded-Proto: https\r\n");
    let (head, body) = assert_refused(hosts, &request, 403, RefusalReason::Plaintext);
    assert_eq!(head.get("location"), None);
    assert!(body.contains("--trusted-proxies"), "{body}");
}

#[test]
fn a_host_that_the_shown_certificate_is_not_for_is_answered_421() {
    let authority = Authority::new();
    let identity = |name: &str| authority.certify(name).identity(name, false);
    let gateway = Harness::start(vec![
        tls_host("a.test", &identity("a.test"), nobody()),
        tls_host("b.test", &identity("b.test"), nobody()),
    ]);
    let mut client = gateway.tls_client(&client_config(&authority.pem), "a.test");
    let answer = client.send(upgrade_request("b.test")).answer();
    assert_told(&gateway, &answer, 421, RefusalReason::Misdirected);
    assert!(answer.1.contains("opened for another name"), "{}", answer.1);
}

#[test]
fn a_rule_without_a_ready_endpoint_is_answered_503_with_retry_after() {
    let hosts = vec![host("a.test", rule(&[]))];
    let (head, _) =
        assert_refused(hosts, &upgrade_request("a.test"), 503, RefusalReason::NoEndpoints);
    assert_eq!(head.get("retry-after"), Some("5"));
}

#[test]
fn an_endpoint_that_refuses_the_connection_is_answered_502() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hosts = vec![host("a.test", rule(&[closed]))];
    let (_, body) =
        assert_refused(hosts, &upgrade_request("a.test"), 502, RefusalReason::BackendConnect);
    assert!(!body.contains("127.0.0.1"), "addresses are for the log alone: {body}");
}

#[test]
fn an_endpoint_that_hangs_up_without_an_answer_is_answered_502() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    backend.accept().head();
    assert_told(&gateway, &client.answer(), 502, RefusalReason::BackendBadHandshake);
}

#[test]
fn an_endpoint_that_is_silent_is_answered_504() {
    let backend = Backend::bind();
    let mut rule = rule(&[backend.address()]);
    rule.timeouts.upgrade = std::time::Duration::from_millis(100);
    let gateway = Harness::start(vec![host("a.test", rule)]);
    let answer = gateway.ask(upgrade_request("a.test"));
    assert_told(&gateway, &answer, 504, RefusalReason::BackendTimeout);
}

#[test]
fn a_refusal_of_the_backend_is_passed_on_with_its_headers_and_body() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let (_server, _) = backend.answer("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"x\"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: X-Pod\r\nX-Pod: 1\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"no\":\"way\"}");
    let (head, body) = client.answer();
    assert_eq!(head.status(), 401);
    assert_eq!(head.get("www-authenticate"), Some("Bearer realm=\"x\""));
    assert_eq!(head.get("content-type"), Some("application/json"));
    assert_eq!(head.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(head.get("x-pod"), None);
    assert_eq!(head.get("tidegate-reason"), Some("backend_refused"));
    assert_eq!(body, "{\"no\":\"way\"}");
    let labels = [("reason", RefusalReason::BackendRefused.as_str()), ("route", "route")];
    gateway.await_metric("tidegate_upgrade_failures_total", &labels, 1.0);
}

#[test]
fn a_refusal_of_the_backend_with_a_chunked_or_endless_length_is_passed_on_whole() {
    for answer in [
        "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\nno",
    ] {
        let backend = Backend::bind();
        let gateway = Harness::to(&backend);
        let mut client = gateway.client();
        client.send(upgrade_request("a.test"));
        drop(backend.answer(answer));
        let (head, body) = client.answer();
        assert_eq!((head.status(), &*body), (403, "no"));
    }
}

#[test]
fn a_refusal_of_the_backend_with_too_long_a_body_says_so_in_its_place() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let long = "x".repeat(100_000);
    let (_server, _) =
        backend.answer(format!("HTTP/1.1 403 Forbidden\r\nContent-Length: 100000\r\n\r\n{long}"));
    let (head, body) = client.answer();
    assert_eq!(head.status(), 403);
    assert!(body.contains("too long to pass on"), "{}", body.len());
}

#[test]
fn while_the_gateway_drains_requests_on_open_connections_are_answered_503() {
    let backend = Backend::bind();
    let hosts =
        vec![host("a.test", Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) })];
    let mut gateway = Harness::start(hosts);
    let mut kept_alive = gateway.client();
    assert_eq!(kept_alive.send(upgrade_request("b.test")).answer().0.status(), 404);
    let mut plain = gateway.client();
    assert_eq!(plain.send(upgrade_request("b.test")).answer().0.status(), 404);
    let (mut client, mut server) = gateway.open(&backend);
    let running = gateway.take_gateway();
    let down = std::thread::spawn(move || running.shut_down());
    // Until this client says goodbye too, the worker goes on.
    assert_eq!(client.close().0, 1012);
    let answer = kept_alive.send(upgrade_request("a.test")).answer();
    assert_told(&gateway, &answer, 503, RefusalReason::Draining);
    assert_eq!(answer.0.get("retry-after"), Some("5"));
    let (head, _) = plain.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (503, Some("draining")));
    server.frame();
    server.send(Frame::server_close(1001, ""));
    client.send(Frame::client_close(1001, ""));
    down.join().unwrap();
    backend.assert_untouched();
}

#[test]
fn after_refusals_the_same_connection_makes_a_good_upgrade() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    for (request, status) in [
        (upgrade_request("b.test"), 404),
        ("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(), 426),
        (upgrade_request("a.test").replace("Version: 13", "Version: 8"), 426),
        (upgrade_request("a.test").replace("Sec-WebSocket-Key", "X-Key"), 400),
    ] {
        assert_eq!(client.send(request).answer().0.status(), status);
    }
    client.send(upgrade_request("a.test"));
    drop(backend.answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(client.answer().0.status(), 403);
    client.send(upgrade_request("a.test"));
    let (mut server, _) = backend.answer(switching(""));
    assert_eq!(client.head().status(), 101);
    client.send(Frame::from_client("up"));
    assert_eq!(server.text(), "up");
}

#[test]
fn several_requests_sent_at_once_are_answered_in_order() {
    let gateway = Harness::start(vec![host("a.test", nobody())]);
    let mut client = gateway.client();
    let plain = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    client.send([&upgrade_request("b.test"), plain, &upgrade_request("c.test")].concat());
    let statuses = [0; 3].map(|_| client.answer().0.status());
    assert_eq!(statuses, [404, 426, 404]);
}

#[test]
fn a_backend_that_refuses_with_two_lengths_cannot_smuggle_an_answer() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let smuggled = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nowned";
    let chunk = format!("12345{smuggled}");
    backend.answer(format!(
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n",
        chunk.len(),
    ));
    let (head, body) = client.answer();
    assert_eq!((head.status(), body.as_str()), (401, chunk.as_str()));
    let (next, _) = client.send("GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n").answer();
    assert_eq!(next.status(), 426, "the next answer is our own");
}

#[test]
fn a_refusal_whose_body_never_ends_is_passed_on_without_it() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let _open =
        backend.answer("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n\r\nfirst bytes");
    let (head, body) = client.answer();
    assert_eq!((head.status(), head.get("www-authenticate")), (401, Some("Basic")));
    assert_eq!(head.get("tidegate-reason"), Some("backend_refused"));
    assert!(body.contains("did not come in time"), "{body}");
}

#[test]
fn a_client_that_leaves_before_it_is_answered_is_counted() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let mut asked = backend.accept();
    asked.head();
    drop(client);
    gateway.await_metric("tidegate_upgrade_failures_total", &[("reason", "client_gone")], 1.0);
    assert!(asked.rest().is_empty(), "its backend is let go of");
    gateway.await_metric("tidegate_backend_connections_open", &[], 0.0);
}
