//! A real gateway, directly and behind boxes that lose the upgrade.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

use crate::{
    examine,
    program::{Program, echo_backend, folder, route, serve},
    server::{head, plain},
};

/// A gateway with a route for ws://localhost/, and its echo backend.
fn gateway() -> (Program, Program, SocketAddr, tempfile::TempDir) {
    let (backend, port) = echo_backend();
    let folder = folder(port);
    let gateway = Program::start(&mut serve(folder.path()));
    let address = gateway.address("http");
    (gateway, backend, address, folder)
}

/// A proxy that changes each request's head.
fn proxy(to: SocketAddr, change: impl Fn(String) -> String + Send + Sync + 'static) -> u16 {
    plain(move |client| {
        let head = head(client);
        if head.is_empty() {
            return;
        }
        let mut server = TcpStream::connect(to).unwrap();
        server.write_all(change(head).as_bytes()).unwrap();
        let (mut from, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let copying = thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut back);
            let _ = back.shutdown(std::net::Shutdown::Both);
        });
        let _ = std::io::copy(client, &mut server);
        let _ = server.shutdown(std::net::Shutdown::Write);
        copying.join().unwrap();
    })
}

/// A head without some of its lines.
fn without(head: &str, names: &[&str]) -> String {
    let keep = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        !names.contains(&&*name)
    };
    let lines: Vec<&str> = head.split("\r\n").filter(keep).collect();
    lines.join("\r\n")
}

#[test]
fn a_sound_way_to_it_is_told_with_the_id_of_its_log_line() {
    let (gateway, _backend, address, _folder) = gateway();
    let url = format!("ws://localhost:{}/", address.port());
    let found = examine(&url, &["--send", "hello"], 0);
    assert_eq!(found.seen("messages")["echoed"], true);
    let answer = found.seen("upgrade")["answer"]["headers"].as_array().unwrap().clone();
    let id = answer.iter().find(|pair| pair[0] == "x-request-id").unwrap()[1].as_str().unwrap();
    gateway.logs(id);
}

#[test]
fn its_refusal_is_the_owners_to_mend_and_no_box_is_blamed() {
    let (gateway, backend, address, folder) = gateway();
    let url = format!("ws://127.0.0.1:{}/", address.port());
    let found = examine(&url, &[], 14);
    assert_eq!(found.says(), [("upgrade_refused", "gateway")]);
    assert!(found.document["diagnoses"][0]["summary"].as_str().unwrap().contains("no_route"));
    let evidence = found.evidence();
    let (_, id) = evidence.split_once("request_id ").unwrap();
    gateway.logs(&id[..32]);
    drop(backend);
    let found = examine(&format!("ws://localhost:{}/", address.port()), &[], 14);
    assert_eq!(found.says().last(), Some(&("upgrade_refused", "backend")), "{}", found.text);
    drop(folder);
}

#[test]
fn a_route_for_other_subprotocols_is_told_from_a_path_without_a_route() {
    let (_backend, port) = echo_backend();
    let folder = tempfile::tempdir().unwrap();
    let chosen = route("echo", "/", port)
        .replace("{path: {value: /}}", "{path: {value: /}, subprotocols: [mqtt]}");
    std::fs::write(folder.path().join("route.yaml"), chosen).unwrap();
    let gateway = Program::start(&mut serve(folder.path()));
    let url = format!("ws://localhost:{}/", gateway.address("http").port());
    for offer in [&[][..], &["--subprotocol", "graphql-ws"]] {
        assert_eq!(examine(&url, offer, 16).says(), [("subprotocol_denied", "gateway")]);
    }
    examine(&url, &["--subprotocol", "mqtt"], 0);
}

#[test]
fn boxes_that_lose_the_upgrade_are_told_from_it() {
    let (_gateway, _backend, address, _folder) = gateway();
    let found = |change: fn(String) -> String| {
        let port = proxy(address, change);
        let found = examine(&format!("ws://localhost:{port}/"), &[], 15);
        let (code, culprit) = *found.says().last().unwrap();
        (code.to_owned(), culprit.to_owned())
    };
    let code = |change| found(change).0;
    assert_eq!(code(|head| without(&head, &["upgrade", "connection"])), "upgrade_stripped");
    assert_eq!(code(|head| without(&head, &["connection"])), "upgrade_stripped");
    assert_eq!(code(|head| head.replacen("HTTP/1.1", "HTTP/1.0", 1)), "upgrade_http10");
}

#[test]
fn a_box_that_answers_upgrades_alone_is_not_taken_for_it() {
    let (_gateway, _backend, address, _folder) = gateway();
    let port = plain(move |client| {
        let head = head(client);
        if head.contains("Upgrade: websocket") {
            client.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").unwrap();
        } else if !head.is_empty() {
            let mut server = TcpStream::connect(address).unwrap();
            server.write_all(head.as_bytes()).unwrap();
            let mut answer = Vec::new();
            server.read_to_end(&mut answer).unwrap();
            client.write_all(&answer).unwrap();
        }
    });
    let found = examine(&format!("ws://localhost:{port}/"), &[], 15);
    assert_eq!(found.says().last(), Some(&("upgrade_blocked", "unknown")), "{}", found.text);
}
