//! Requests that two servers could read differently: refused, or read by the backend exactly as by the gateway.

use tidegate::table::{HttpMode, Rule};

use crate::support::{Backend, Harness, Head, host, rule, upgrade_request};

fn forwarding(backend: &Backend) -> Harness {
    let rule = Rule { http: HttpMode::Forward, ..rule(&[backend.address()]) };
    Harness::start(vec![host("a.test", rule)])
}

#[track_caller]
fn assert_refused(request: impl AsRef<[u8]>) {
    assert_refused_as(request, 400, "bad_handshake");
}

#[track_caller]
fn assert_refused_as(request: impl AsRef<[u8]>, status: u16, reason: &str) {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let (head, _) = gateway.ask(request);
    assert_eq!(head.status(), status, "{head:?}");
    backend.assert_untouched();
    let labels = [("reason", reason)];
    gateway.await_metric("tidegate_upgrade_failures_total", &labels, 1.0);
}

/// The head that the backend sees, and all that follows it until the gateway hangs up.
#[track_caller]
fn seen_by_backend(request: impl AsRef<[u8]>) -> (Head, String) {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send(request);
    let (mut server, asked) =
        backend.answer("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.answer().1, "ok");
    drop(client);
    server.finish();
    let rest = server.rest();
    (asked, String::from_utf8(rest).unwrap())
}

#[test]
fn of_content_length_and_transfer_encoding_only_one_reaches_the_backend() {
    let (asked, body) = seen_by_backend(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
    );
    assert_eq!(asked.all("content-length"), Vec::<&str>::new());
    assert_eq!(asked.all("transfer-encoding"), ["chunked"]);
    assert_eq!(body, "2\r\nhi\r\n0\r\n\r\n");
}

#[test]
fn a_request_with_content_length_and_transfer_encoding_is_the_last_of_its_connection() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (_server, _) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.answer().0.status(), 200);
    assert!(client.rest().is_empty(), "the connection ends without a second answer");
    backend.assert_untouched();
}

#[test]
fn two_different_content_lengths_are_refused() {
    assert_refused(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    );
}

#[test]
fn equal_content_lengths_become_one() {
    let (asked, body) = seen_by_backend(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    );
    assert_eq!(asked.all("content-length"), ["2"]);
    assert_eq!(body, "hi");
}

#[test]
fn content_lengths_that_are_no_plain_number_are_refused() {
    for length in ["+2", "-1", "0x2", "2 2", "2, 3", "99999999999999999999"] {
        assert_refused(format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\nhi"
        ));
    }
}

#[test]
fn transfer_encodings_that_do_not_end_in_chunked_are_refused() {
    for coding in ["identity", "chunked, gzip", "xchunked", "chunked;q=1"] {
        assert_refused(format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
        ));
    }
}

#[test]
fn transfer_encoding_in_http_1_0_is_refused() {
    assert_refused(
        "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
}

#[test]
fn a_folded_header_line_is_refused() {
    assert_refused("GET / HTTP/1.1\r\nHost: a.test\r\nX-A: 1\r\n Host: b.test\r\n\r\n");
}

#[test]
fn a_space_before_the_colon_is_refused() {
    assert_refused("GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length : 5\r\n\r\n");
}

#[test]
fn a_null_or_a_bare_cr_in_a_header_is_refused() {
    assert_refused("GET / HTTP/1.1\r\nHost: a.test\r\nX-A: 1\0\r\n\r\n");
    assert_refused("GET / HTTP/1.1\r\nHost: a.test\r\nX-A: 1\rX-B: 2\r\n\r\n");
}

#[test]
fn bare_line_feeds_reach_the_backend_as_whole_line_ends() {
    let (asked, rest) = seen_by_backend("GET /a HTTP/1.1\nHost: a.test\nX-A: 1\n\n");
    assert_eq!(asked.start, "GET /a HTTP/1.1");
    assert_eq!((asked.get("host"), asked.get("x-a")), (Some("a.test"), Some("1")));
    assert_eq!(rest, "");
}

#[test]
fn an_absolute_target_decides_over_the_host_header_and_the_backend_sees_it_there() {
    let (asked, _) = seen_by_backend("GET http://a.test/x?y=1 HTTP/1.1\r\nHost: b.test\r\n\r\n");
    assert_eq!(asked.start, "GET /x?y=1 HTTP/1.1");
    assert_eq!(asked.get("host"), Some("a.test"));
}

#[test]
fn an_absolute_target_of_a_host_that_is_not_served_is_not_served_for_its_host_header() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let (head, _) = gateway.ask("GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!((head.status(), head.get("tidegate-reason")), (404, Some("no_route")));
    backend.assert_untouched();
}

#[test]
fn a_request_with_two_hosts_or_none_is_refused() {
    assert_refused("GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n");
    assert_refused("GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n");
    assert_refused("GET / HTTP/1.1\r\n\r\n");
}

#[test]
fn a_host_that_is_no_host_is_refused() {
    for host in ["a.test/x", "u@a.test", "a.test b.test", ":80", "\u{e4}.test"] {
        assert_refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
}

#[test]
fn a_path_with_dot_segments_is_refused() {
    for path in ["/a/../b", "/a/%2e%2E/b", "/a/./b", "/a\\..\\b"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_refused_as(request, 400, "bad_path");
    }
}

#[test]
fn a_get_for_an_authority_is_refused() {
    assert_refused("GET a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n");
    assert_refused("GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_refused_as("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", 400, "bad_path");
}

#[test]
fn codings_that_nobody_would_decode_are_refused() {
    for coding in
        ["gzip, chunked", "gzip,chunked", "chunked, chunked", "gzip\r\nTransfer-Encoding: chunked"]
    {
        assert_refused_as(
            format!(
                "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
            ),
            501,
            "transfer_coding",
        );
    }
}

#[test]
fn a_list_of_content_lengths_does_not_pass_from_either_side() {
    assert_refused("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5, 5\r\n\r\nhello");
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (_server, _) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello");
    let (head, body) = client.answer();
    assert_eq!((head.all("content-length"), &*body), (vec!["5"], "hello"));
}

#[test]
fn a_body_that_breaks_its_chunked_coding_is_the_clients_fault() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi");
    let mut server = backend.accept();
    server.head();
    client.send("zz\r\n");
    server.rest();
    let failures = "tidegate_upgrade_failures_total";
    gateway.await_metric(failures, &[("reason", "bad_handshake"), ("route", "route")], 1.0);
    assert!(
        gateway.metric(failures, &[("reason", "backend_bad_handshake")]).total_cmp(&0.0).is_eq()
    );
}

#[test]
fn an_answer_in_a_coding_that_nobody_would_decode_is_refused() {
    for upgrade in [true, false] {
        for lines in ["Transfer-Encoding: gzip, chunked", "Transfer-Encoding: gzip"] {
            let backend = Backend::bind();
            let gateway = forwarding(&backend);
            let mut client = gateway.client();
            let plain = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned();
            client.send(if upgrade { upgrade_request("a.test") } else { plain });
            let answer = format!("HTTP/1.1 403 Forbidden\r\n{lines}\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
            let (_server, _) = backend.answer(answer);
            let (head, _) = client.answer();
            assert_eq!(
                (head.status(), head.get("tidegate-reason")),
                (502, Some("backend_bad_handshake")),
                "{lines} {upgrade}"
            );
        }
    }
}

#[test]
fn connect_makes_no_tunnel() {
    assert_refused("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n");
}

#[test]
fn a_body_that_breaks_its_chunked_coding_never_ends_well() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhiGET /smuggled HTTP/1.1\r\n\r\n");
    let mut server = backend.accept();
    server.head();
    let seen = String::from_utf8(server.rest()).unwrap();
    assert!(!seen.contains("smuggled") && !seen.contains("0\r\n\r\n"), "{seen:?}");
}

#[test]
fn a_backend_cannot_switch_protocols_where_no_upgrade_was_asked() {
    let backend = Backend::bind();
    let gateway = forwarding(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (_server, _) = backend.answer(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nRAW",
    );
    let (head, _) = client.answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (502, Some("backend_bad_handshake")));
    client.finish();
    assert!(client.rest().is_empty());
}

#[test]
fn an_answer_with_a_folded_or_ambiguous_head_is_refused() {
    for lines in ["X-A: 1\r\n b\r\n", "Content-Length: 2\r\nContent-Length: 3\r\n"] {
        let backend = Backend::bind();
        let gateway = forwarding(&backend);
        let mut client = gateway.client();
        client.send(upgrade_request("a.test"));
        let (_server, _) = backend.answer(format!("HTTP/1.1 403 Forbidden\r\n{lines}\r\nabc"));
        let (head, _) = client.answer();
        assert_eq!(head.get("tidegate-reason"), Some("backend_bad_handshake"), "{lines:?}");
    }
}
