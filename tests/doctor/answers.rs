//! Servers and boxes that answer the upgrade in each way there is.

use std::io::{Read, Write};

use crate::{
    examine,
    server::{closed_port, echo, grant, head, plain, speak, value},
};

/// The verdict on a server in clear text that answers each request so.
#[track_caller]
fn answering(answer: &'static str, says: (&str, &str), exit_code: i32) -> crate::Finding {
    let port = plain(move |stream| {
        head(stream);
        stream.write_all(answer.replace('\n', "\r\n").as_bytes()).unwrap();
    });
    let found = examine(&format!("ws://127.0.0.1:{port}/ws"), &[], exit_code);
    assert_eq!(found.says(), [says], "{}", found.text);
    found
}

#[test]
fn a_server_that_echoes_is_well() {
    let port = echo(crate::program::DEADLINE);
    let found = examine(&format!("ws://127.0.0.1:{port}/"), &["--send", "hello"], 0);
    assert_eq!(found.says(), []);
    assert!(found.seen("messages")["pong_ms"].is_number(), "{}", found.text);
    assert_eq!(found.seen("messages")["echoed"], true);
    // In clear text there is no TLS to be seen, and who refused it is no question.
    assert!(!found.steps().contains("tls") && !found.steps().contains("get"));
}

#[test]
fn a_port_at_which_nothing_listens_is_refused() {
    let found = examine(&format!("ws://127.0.0.1:{}/", closed_port()), &[], 11);
    assert_eq!(found.says(), [("port_refused", "server")]);
}

#[test]
fn a_name_that_does_not_exist_ends_at_the_resolver() {
    let found = examine("wss://no.such.host.invalid/", &[], 10);
    assert_eq!(found.says(), [("resolution_failed", "resolver")]);
    assert_eq!(found.steps(), ["resolve"].into());
}

#[test]
fn refusals_are_told_from_upgrades_that_were_lost() {
    let refused = ("upgrade_refused", "server");
    let found = answering("HTTP/1.1 403 No\nContent-Length: 8\n\nGo away.", refused, 14);
    assert!(found.evidence().contains("403: Go away."), "{}", found.text);
    answering("HTTP/1.1 302 Found\nLocation: /login?next=x\n\n", refused, 14);
    let lost = ("upgrade_stripped", "unknown");
    let found = answering("HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", lost, 15);
    assert_eq!(found.seen("get")["answer"]["status"], 200);
    answering("HTTP/1.1 426 Upgrade Required\nContent-Length: 0\n\n", lost, 15);
}

#[test]
fn the_head_of_an_answer_is_found_behind_interim_ones() {
    let found = answering(
        "HTTP/1.1 103 Hints\nLink: x\n\nHTTP/1.1 404 No\n\n",
        ("upgrade_refused", "server"),
        14,
    );
    assert_eq!(found.seen("upgrade")["answer"]["status"], 404);
}

#[test]
fn what_is_no_http_and_what_ends_without_an_answer_is_blocked() {
    answering("SSH-2.0-OpenSSH_9.2\n", ("upgrade_blocked", "server"), 15);
    answering("", ("upgrade_blocked", "unknown"), 15);
}

#[test]
fn a_101_of_another_request_is_not_taken() {
    let cached = "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n\n";
    let found = answering(cached, ("bad_accept", "server"), 15);
    assert!(found.evidence().contains("does not fit the key"), "{}", found.text);
}

#[test]
fn a_server_without_pongs_passes_no_messages() {
    let port = plain(|stream| {
        let head = head(stream);
        grant(stream, &head, "");
        // Until the client has had enough.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let found = examine(&format!("ws://127.0.0.1:{port}/"), &["--timeout", "300ms"], 17);
    assert_eq!(found.says(), [("no_messages", "unknown")]);
}

#[test]
fn a_close_at_once_is_a_refusal_with_its_words() {
    let port = plain(|stream| {
        let head = head(stream);
        grant(stream, &head, "");
        stream.write_all(b"\x88\x07\x03\xf0token").unwrap();
    });
    let found = examine(&format!("ws://127.0.0.1:{port}/"), &[], 14);
    assert_eq!(found.says(), [("upgrade_refused", "server")]);
    assert!(found.evidence().contains("Close 1008 (token)"), "{}", found.text);
}

#[test]
fn subprotocols_are_offered_and_their_loss_is_told() {
    let chooses = plain(|stream| {
        let head = head(stream);
        let offered = value(&head, "sec-websocket-protocol").unwrap_or_default().to_owned();
        let last = offered.rsplit(", ").next().unwrap_or_default();
        grant(stream, &head, &format!("Sec-WebSocket-Protocol: {last}\r\n"));
        speak(stream);
    });
    let both = ["--subprotocol", "graphql-ws", "--subprotocol", "mqtt"];
    let found = examine(&format!("ws://127.0.0.1:{chooses}/"), &both, 0);
    assert_eq!(found.seen("upgrade")["chosen"], "mqtt");
    let loses = echo(crate::program::DEADLINE);
    let found = examine(&format!("ws://127.0.0.1:{loses}/"), &both, 16);
    assert_eq!(found.says(), [("subprotocol_lost", "server")]);
    let denies = plain(|stream| {
        let head = head(stream);
        if value(&head, "sec-websocket-protocol").is_some() {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
        } else {
            grant(stream, &head, "");
            speak(stream);
        }
    });
    let found = examine(&format!("ws://127.0.0.1:{denies}/"), &both, 16);
    assert_eq!(found.says(), [("subprotocol_denied", "server")]);
}

#[test]
fn headers_and_origin_are_sent_in_clear_text_too_and_never_printed() {
    let port = plain(|stream| {
        let head = head(stream);
        let right = value(&head, "authorization") == Some("Bearer hush")
            && value(&head, "origin") == Some("https://app.example")
            && head.starts_with("GET /ws?token=hush HTTP/1.1\r\n");
        if right {
            grant(stream, &head, "Set-Cookie: sid=hush\r\n");
            speak(stream);
        }
    });
    let url = format!("ws://127.0.0.1:{port}/ws?token=hush");
    let more = ["--header", "Authorization: Bearer hush", "--origin", "https://app.example"];
    let found = examine(&url, &more, 0);
    assert!(!found.text.contains("hush"), "{}", found.text);
}
