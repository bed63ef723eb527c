//! HTTP-01 challenges of ACME (RFC 8555 §8.3): they reach the solver that the table has for name and token, and nothing else does.

use std::{net::SocketAddr, sync::Arc};

use tidegate::table::{
    ClaimDefault, ClaimRule, Claimants, Endpoint, HostnameClaims, HttpMode, ObjectRef, Plaintext,
    RoutingTable, Rule, Sharing, Solver, SolverKey, TableCell,
};

use crate::support::{
    Authority, Backend, Harness, Hosts, client_config, host, rule, tls_host, upgrade_request,
};

const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA";
const KEY_AUTHORIZATION: &str =
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA.nP1qzpXGymHBrUEepNY9HCsQk7K8KhOypzEt62jcerQ";

fn solver(service: &str, name: &str, endpoints: &[SocketAddr]) -> (SolverKey, Solver) {
    let (namespace, service) = service.split_once('/').unwrap();
    let solver = Solver {
        service: ObjectRef { namespace: namespace.into(), name: service.into() },
        endpoints: endpoints.iter().copied().map(Endpoint::ready).collect(),
    };
    (SolverKey::new(name, TOKEN), solver)
}

fn gateway(hosts: Hosts, solvers: Vec<(SolverKey, Solver)>) -> Harness {
    let table = Arc::new(TableCell::default());
    table.publish(RoutingTable::new(hosts).with_solvers(solvers.into_iter().collect()));
    Harness::over(table, |_| {})
}

/// A gateway with one solver, for `a.test`, in the namespace of the route that [`rule`] is of.
fn with_solver(hosts: Hosts) -> (Harness, Backend) {
    let backend = Backend::bind();
    (gateway(hosts, vec![solver("test/cm", "a.test", &[backend.address()])]), backend)
}

fn challenge(name: &str) -> String {
    format!("GET /.well-known/acme-challenge/{TOKEN} HTTP/1.1\r\nHost: {name}\r\n\r\n")
}

fn answer() -> String {
    let length = KEY_AUTHORIZATION.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nSet-Cookie: a=1\r\nLocation: https://b.test/\r\nContent-Length: {length}\r\n\r\n{KEY_AUTHORIZATION}"
    )
}

/// Asks for the challenge, which must reach the solver; the request that it saw.
#[track_caller]
fn assert_solved(gateway: &Harness, backend: &Backend, request: &str) -> crate::support::Head {
    let mut client = gateway.client();
    client.send(request);
    let (_server, asked) = backend.answer(answer());
    let (head, body) = client.answer();
    assert_eq!((head.status(), &*body), (200, KEY_AUTHORIZATION));
    assert_eq!(asked.start, format!("GET /.well-known/acme-challenge/{TOKEN} HTTP/1.1"));
    asked
}

fn refusing() -> Rule {
    Rule { plaintext: Plaintext::Refuse, ..rule(&[]) }
}

#[test]
fn a_challenge_reaches_its_solver_whatever_the_route_says_and_where_there_is_none() {
    let redirecting = Rule { plaintext: Plaintext::Redirect, ..rule(&[]) };
    for hosts in [vec![], vec![host("a.test", refusing())], vec![host("*.test", redirecting)]] {
        let (gateway, backend) = with_solver(hosts);
        assert_solved(&gateway, &backend, &challenge("a.test"));
        assert_solved(&gateway, &backend, &challenge("A.test:80"));
        gateway.await_metric("tidegate_acme_challenges_total", &[("code", "200")], 2.0);
    }
}

#[test]
fn nothing_of_the_request_goes_on_but_name_and_token_and_nothing_comes_back_but_the_answer() {
    let (gateway, backend) = with_solver(vec![]);
    let mut client = gateway.client();
    let lines = "Cookie: a=b\r\nAuthorization: Basic eA==\r\nX-Forwarded-For: 192.0.2.1\r\nX-Other: y\r\n\r\n";
    let request = challenge("a.test").replace(" HTTP/1.1", "?query=1 HTTP/1.1");
    client.send(request.trim_end_matches("\r\n").to_owned() + "\r\n" + lines);
    let (_server, asked) = backend.answer(answer());
    let mut names: Vec<_> = asked.headers.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    assert_eq!(names, ["host", "x-request-id"]);
    assert_eq!(asked.get("host"), Some("a.test"));
    let (head, _) = client.answer();
    assert_eq!(head.get("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(head.get("cache-control"), Some("no-store"));
    assert_eq!(head.get("x-request-id"), asked.get("x-request-id"));
    assert_eq!((head.get("set-cookie"), head.get("location")), (None, None));
    // The connection serves on.
    assert_eq!(client.send(upgrade_request("a.test")).answer().0.status(), 404);
}

#[test]
fn head_is_answered_without_a_body() {
    let (gateway, backend) = with_solver(vec![]);
    let mut client = gateway.client();
    client.send(challenge("a.test").replace("GET", "HEAD"));
    let (_server, asked) = backend.answer(answer());
    assert!(asked.start.starts_with("GET "), "{asked:?}");
    let head = client.head();
    assert_eq!(head.status(), 200);
    // What follows is the next answer.
    assert_eq!(client.send(upgrade_request("a.test")).answer().0.status(), 404);
}

#[test]
fn over_tls_a_challenge_is_answered_too_for_who_was_redirected_there_by_another_box() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let identity = authority.certify("a.test").identity("a", false);
    let hosts = vec![tls_host("a.test", &identity, refusing())];
    let gateway = gateway(hosts, vec![solver("test/cm", "a.test", &[backend.address()])]);
    let mut client = gateway.tls_client(&client_config(&authority.pem), "a.test");
    client.send(challenge("a.test"));
    let _server = backend.answer(answer());
    assert_eq!(client.answer().1, KEY_AUTHORIZATION);
}

#[test]
fn another_name_token_method_or_path_is_an_ordinary_request() {
    let (gateway, backend) = with_solver(vec![host("a.test", refusing())]);
    let good = challenge("a.test");
    for (request, status) in [
        (challenge("b.test"), 404),
        (good.replace(TOKEN, &TOKEN.to_lowercase()), 403),
        (good.replace(TOKEN, &format!("{TOKEN}/")), 403),
        (good.replace(TOKEN, &format!("x/{TOKEN}")), 403),
        (good.replace(TOKEN, ""), 403),
        (good.replace("GET", "DELETE"), 403),
        (good.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"), 403),
        (good.replace("/.well-known/", "/x/../.well-known/"), 400),
    ] {
        let (head, body) = gateway.ask(&request);
        assert_eq!(head.status(), status, "{request}{body}");
    }
    backend.assert_untouched();
}

#[test]
fn a_route_may_have_the_path_where_no_solver_has_the_challenge() {
    let backend = Backend::bind();
    let rule = Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) };
    let gateway = gateway(vec![host("a.test", rule)], vec![]);
    let mut client = gateway.client();
    client.send(challenge("a.test"));
    let _server = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown");
    assert_eq!(client.answer().1, "own");
}

#[test]
fn for_a_name_that_is_served_only_its_own_namespaces_have_a_say() {
    let (ours, theirs) = (Backend::bind(), Backend::bind());
    let solvers = || {
        vec![
            solver("elsewhere/cm", "a.test", &[theirs.address()]),
            solver("test/cm", "a.test", &[ours.address()]),
        ]
    };
    // The route is in the namespace "test"; without it the first by name answers.
    let served = gateway(vec![host("a.test", refusing())], solvers());
    assert_solved(&served, &ours, &challenge("a.test"));
    let unserved = gateway(vec![], solvers());
    assert_solved(&unserved, &theirs, &challenge("a.test"));
    // So may the namespace of the Secret, also before there is one: this is how it comes to be; and one that takes part.
    let mut shared = host("a.test", refusing());
    shared.secret_namespace = Some("elsewhere".into());
    assert_solved(&gateway(vec![shared], solvers()), &theirs, &challenge("a.test"));
    let mut admitting = host("a.test", refusing());
    admitting.admitted = ["elsewhere".into()].into();
    assert_solved(&gateway(vec![admitting], solvers()), &theirs, &challenge("a.test"));
    let alone = gateway(vec![host("a.test", refusing())], solvers().into_iter().take(1).collect());
    assert_eq!(alone.ask(challenge("a.test")).0.status(), 403);
}

#[test]
fn an_endpoint_that_is_gone_is_passed_over_and_a_solver_without_any_is_told_of() {
    let gone = Backend::bind().address();
    let backend = Backend::bind();
    let key = |endpoints: &[SocketAddr]| vec![solver("test/cm", "a.test", endpoints)];
    assert_solved(
        &gateway(vec![], key(&[gone, backend.address()])),
        &backend,
        &challenge("a.test"),
    );
    for (endpoints, status, reason) in
        [(&[][..], 503, "no_endpoints"), (&[gone], 502, "backend_connect")]
    {
        let gateway = gateway(vec![], key(endpoints));
        let (head, body) = gateway.ask(challenge("a.test"));
        assert_eq!((head.status(), head.get("tidegate-reason")), (status, Some(reason)));
        assert!(body.contains("ACME"), "{body}");
        gateway.await_metric("tidegate_upgrade_failures_total", &[("reason", reason)], 1.0);
    }
}

#[test]
fn an_answer_without_end_or_measure_is_not_passed_on() {
    for (begin, flood) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", 20_000),
        ("HTTP/1.1 200 OK\r\n\r\n", 100_000),
        ("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", 10),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 0),
        ("no HTTP at all\r\n\r\n", 0),
    ] {
        let (gateway, backend) = with_solver(vec![]);
        let mut client = gateway.client();
        client.send(challenge("a.test"));
        drop(backend.answer(begin.to_owned() + &"x".repeat(flood)));
        let (head, body) = client.answer();
        assert_eq!(head.status(), 502, "{begin}");
        assert!(body.len() < 200, "{body}");
    }
}

#[test]
fn a_name_under_a_wildcard_is_its_owner_s_to_prove_and_a_reserved_one_its_holder_s() {
    let (ours, theirs) = (Backend::bind(), Backend::bind());
    let solvers = |name| {
        [
            solver("elsewhere/cm", name, &[theirs.address()]),
            solver("test/cm", name, &[ours.address()]),
        ]
    };
    let table = |hosts: Hosts| {
        let solvers = solvers("admin.test").into_iter().chain(solvers("other.test"));
        RoutingTable::new(hosts).with_solvers(solvers.collect())
    };
    let serve = |table| {
        let cell = Arc::new(TableCell::default());
        cell.publish(table);
        Harness::over(cell, |_| {})
    };
    let wildcard = || vec![host("*.test", refusing())];
    // Whoever has no route for it, or has lost it, has no say.
    let gateway = serve(table(wildcard()));
    assert_solved(&gateway, &ours, &challenge("admin.test"));
    // Its holder's route is broken, and nothing is served.
    let held = table(wildcard()).with_reserved([("admin.test", Some("elsewhere"))]);
    let gateway = serve(held);
    assert_solved(&gateway, &theirs, &challenge("admin.test"));
    assert_solved(&gateway, &ours, &challenge("other.test"));
    assert_eq!(gateway.ask(upgrade_request("admin.test")).0.status(), 404);
    // Without a route the policy says who may.
    let only = Claimants::Only(["test".into()].into());
    let rule = ClaimRule { claimants: only, sharing: Sharing::OneHolds };
    let claims = HostnameClaims::new(ClaimDefault::Deny, [("*.test", rule)]);
    let gateway = serve(table(vec![]).with_claims(claims));
    assert_solved(&gateway, &ours, &challenge("admin.test"));
    let denied = table(vec![]).with_claims(HostnameClaims::new::<&str>(ClaimDefault::Deny, []));
    assert_eq!(serve(denied).ask(challenge("admin.test")).0.status(), 404);
}

/// What a solver says stands at the origin of whoever owns the name.
#[test]
fn an_answer_is_plain_text_whatever_the_solver_calls_it() {
    for (status, passed) in [(200, 200), (404, 404), (503, 503), (302, 502), (204, 502), (206, 502)]
    {
        let (gateway, backend) = with_solver(vec![]);
        let mut client = gateway.client();
        client.send(challenge("a.test"));
        let script = "<script>alert(1)</script>";
        let length = script.len();
        let _server = backend.answer(format!(
            "HTTP/1.1 {status} X\r\nContent-Type: text/html\r\nX-Content-Type-Options: no\r\nRefresh: 0\r\nLocation: //b.test\r\nContent-Length: {}\r\n\r\n{}",
            if status == 204 { 0 } else { length },
            if status == 204 { "" } else { script },
        ));
        let (head, body) = client.answer();
        assert_eq!(head.status(), passed, "{status}");
        let mut names: Vec<_> = head.headers.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        assert!(head.get("content-type").unwrap().starts_with("text/plain"), "{head:?}");
        assert_eq!((head.get("location"), head.get("refresh")), (None, None));
        assert_eq!(body.contains("<script>"), passed == status, "{body}");
        if passed == status {
            let known = [
                "cache-control",
                "content-length",
                "content-type",
                "date",
                "x-content-type-options",
                "x-request-id",
            ];
            assert_eq!(names, known, "{status}");
            assert_eq!(head.get("x-content-type-options"), Some("nosniff"));
        }
    }
}
