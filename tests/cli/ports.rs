//! No local port left towards an endpoint: told apart from an endpoint that cannot be reached. In a network namespace of
//! its own, where there are few ports.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
};

use crate::program::*;

/// Says to the test, started once more, that it is in the namespace.
const INSIDE: &str = "TIDEGATE_TEST_INSIDE_NETNS";

/// Local ports in there.
const PORTS: usize = 8;

/// Asks for an upgrade; the head and the body of the answer.
fn ask(address: &str, path: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    if !answer.starts_with(b"HTTP/1.1 101 ") {
        while !answer.ends_with(b".\n") {
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
    }
    (stream, String::from_utf8(answer).unwrap())
}

#[test]
fn without_a_local_port_the_refusal_says_so_and_other_endpoints_are_reached() {
    if std::env::var_os(INSIDE).is_some() {
        return run_out_of_ports();
    }
    let me = std::env::current_exe().unwrap();
    let script = format!(
        "ip link set lo up && echo 40000 {} > /proc/sys/net/ipv4/ip_local_port_range && exec \"$@\"",
        40_000 + PORTS - 1
    );
    let test = "ports::without_a_local_port_the_refusal_says_so_and_other_endpoints_are_reached";
    let mut command = Command::new("unshare");
    command.args(["--net", "--map-root-user", "sh", "-c", &script, "sh"]);
    let (code, out, err) = run(command.arg(me).args(["--exact", test]).env(INSIDE, "1"));
    assert!(code == Some(0) && out.contains("1 passed"), "{code:?}\n{out}\n{err}");
}

fn run_out_of_ports() {
    let backend = Program::start(tidegate().args(["echo-backend", "--listen", "0.0.0.0:9000"]));
    backend.says("echo backend on ");
    let folder = folder(9000);
    let other =
        route("other", "/other", 9000).replace("addresses: [127.0.0.1]", "addresses: [127.0.0.9]");
    fs::write(inside(&folder, "other.yaml"), other).unwrap();
    let mut command = tidegate();
    command.args(["serve", "--https-listen", "off", "--http-listen", "0.0.0.0:8080"]);
    command.args(["--admin-listen", "127.0.0.1:9090", "--source"]).arg(folder.path());
    let program = Program::start(&mut command);
    program.says("ready\n");
    // Our own ports are as few: these all go to one address, the others to another.
    let mut open = Vec::new();
    for _ in 0..PORTS {
        let (stream, answer) = ask("127.0.0.1:8080", "/");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        open.push(stream);
    }
    let (_, refusal) = ask("127.0.0.2:8080", "/");
    assert!(refusal.starts_with("HTTP/1.1 502 "), "{refusal}");
    assert!(refusal.contains("tidegate-reason: backend_connect"), "{refusal}");
    assert!(
        refusal.ends_with("has run out of local ports towards the backend's endpoint.\n"),
        "{refusal}"
    );
    program.logs("os error 99");
    let metrics = get(program.address("admin"), "/metrics");
    let series = "tidegate_backend_ports_exhausted_total{namespace=\"default\",route=\"echo\"} 1\n";
    assert!(metrics.contains(series), "{metrics}");
    open.iter_mut().for_each(echo);
    // The same local ports do for another endpoint.
    let (mut stream, answer) = ask("127.0.0.3:8080", "/other");
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    echo(&mut stream);
}
