//! How backends answer upgrades: in pieces, too early, with heads that are unusual, or not at all. What they may not answer is in
//! `upgrade_safety`.

use crate::support::{Frame, Peer, Stage, Wire, switching};

const INTERIM: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";

/// A client that has asked, and the backend, which has read the request, over either wire.
fn asked(wire: Wire) -> (Stage, Peer, Peer) {
    let stage = Stage::new(wire, |_| {});
    let (client, mut server) = stage.ask_with(b"");
    server.head();
    (stage, client, server)
}

/// Sends byte by byte.
fn drip(peer: &mut Peer, bytes: &[u8]) {
    for byte in bytes {
        peer.send([*byte]);
    }
}

#[track_caller]
fn assert_open(client: &mut Peer, server: &mut Peer) {
    client.send(Frame::from_client("up"));
    assert_eq!(server.text(), "up");
    server.send(Frame::from_server("down"));
    assert_eq!(client.text(), "down");
}

#[test]
fn a_101_that_comes_byte_by_byte_behind_interim_answers_is_one() {
    for wire in Wire::BOTH {
        let (_stage, mut client, mut server) = asked(wire);
        let answer = format!("{INTERIM}{}", switching("X-Pod: a\r\n"));
        drip(&mut server, &[answer.as_bytes(), &Frame::from_server("first")].concat());
        let head = client.head();
        assert_eq!((head.status(), head.get("x-pod"), head.get("link")), (101, Some("a"), None));
        assert_eq!(client.text(), "first");
        assert_open(&mut client, &mut server);
    }
}

#[test]
fn frames_right_behind_the_101_arrive_first_however_many() {
    for wire in Wire::BOTH {
        let (_stage, mut client, mut server) = asked(wire);
        // More than is read with a head.
        let frames: Vec<u8> =
            (0..2000).flat_map(|n| Frame::from_server(&format!("frame {n}"))).collect();
        server.send([switching("").as_bytes(), &frames].concat());
        assert_eq!(client.head().status(), 101);
        assert!(client.bytes(frames.len()) == frames, "{wire:?}");
        assert_open(&mut client, &mut server);
    }
}

#[test]
fn what_a_101_says_of_a_body_is_taken_for_nothing_and_not_passed_on() {
    for lines in ["Content-Length: 7\r\n", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"] {
        let (_stage, mut client, mut server) = asked(Wire::Clear);
        server.send([switching(lines).as_bytes(), &Frame::from_server("first")].concat());
        let head = client.head();
        assert_eq!((head.status(), head.get("content-length")), (101, None));
        assert_eq!(head.get("transfer-encoding"), None);
        assert_eq!(client.text(), "first");
        assert_open(&mut client, &mut server);
    }
}

#[test]
fn a_refusal_that_comes_byte_by_byte_is_passed_on_whole() {
    for wire in Wire::BOTH {
        for answer in [
            "HTTP/1.1 200 OK\r\nX-Pod: a\r\nContent-Length: 11\r\n\r\nno sockets.",
            "HTTP/1.1 200 OK\r\nX-Pod: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno \r\n8\r\nsockets.\r\n0\r\n\r\n",
        ] {
            let (_stage, mut client, mut server) = asked(wire);
            drip(&mut server, format!("{INTERIM}{answer}").as_bytes());
            let (head, body) = client.answer();
            assert_eq!((head.status(), head.get("x-pod")), (200, Some("a")));
            assert_eq!(head.get("tidegate-reason"), Some("backend_refused"));
            assert_eq!(body, "no sockets.");
            // The request came once, and nothing after it.
            assert!(server.ended().is_empty());
        }
    }
}

#[test]
fn a_refusal_that_comes_before_the_request_was_read_is_passed_on() {
    for wire in Wire::BOTH {
        let stage = Stage::new(wire, |_| {});
        let (mut client, mut server) = stage.ask_with(b"");
        server.send("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nfull");
        let (head, body) = client.answer();
        assert_eq!((head.status(), head.get("retry-after"), &*body), (503, Some("7"), "full"));
        assert_eq!(server.head().start, "GET / HTTP/1.1");
        assert!(server.ended().is_empty());
    }
}

#[track_caller]
fn assert_bad_gateway(stage: &Stage, client: &mut Peer, detail: &str) {
    let (head, body) = client.answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (502, Some("backend_bad_handshake")));
    assert!(body.contains(detail), "{body}");
    let labels = [("reason", "backend_bad_handshake"), ("route", "route")];
    stage.gateway.await_metric("tidegate_upgrade_failures_total", &labels, 1.0);
    stage.gateway.await_metric("tidegate_backend_connections_open", &[], 0.0);
}

#[test]
fn an_answer_with_too_many_headers_is_none() {
    for status in ["101 Switching Protocols", "403 Forbidden"] {
        let (stage, mut client, mut server) = asked(Wire::Clear);
        let answer = switching(&"X: y\r\n".repeat(98));
        server.send(answer.replace("101 Switching Protocols", status));
        assert_bad_gateway(&stage, &mut client, "is not HTTP, or its head is too long");
    }
    let (_stage, mut client, mut server) = asked(Wire::Clear);
    server.send(switching(&"X: y\r\n".repeat(97)));
    assert_eq!(client.head().status(), 101);
}

#[test]
fn a_backend_that_breaks_off_within_its_head_has_not_answered() {
    for wire in Wire::BOTH {
        for begun in ["", INTERIM, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"] {
            let (stage, mut client, mut server) = asked(wire);
            server.send(begun).finish();
            assert_bad_gateway(&stage, &mut client, "broke off before it answered");
            let (stage, mut client, mut server) = asked(wire);
            server.send(begun);
            server.reset();
            assert_bad_gateway(&stage, &mut client, "broke off before it answered");
        }
    }
}
