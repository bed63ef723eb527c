//! The log where standard error is not read: nobody waits for it, and the end comes all the same.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use crate::program::*;

/// Serves, and logs until lines are dropped: what is in the pipe and in the program's own buffers is no longer read.
fn with_a_full_log(folder: &tempfile::TempDir) -> (Program, impl Read) {
    let (program, log) = Program::start_unread(&mut serve(folder.path()));
    let (http, admin) = (program.address("http"), program.address("admin"));
    let path = format!("/ws/{}", "x".repeat(500));
    let dropped = |metrics: &str| {
        let line =
            metrics.lines().find(|line| line.starts_with("tidegate_log_lines_dropped_total"));
        line.unwrap().rsplit_once(' ').unwrap().1 != "0"
    };
    // Each connection has two lines, of which one is longer than its path, and there is room for a bit more than 2 MiB.
    for _ in 0..40 {
        for _ in 0..100 {
            upgrade(&mut TcpStream::connect(http).unwrap(), &path);
        }
        if dropped(&get(admin, "/metrics")) {
            return (program, log);
        }
    }
    panic!("no line was dropped");
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up_and_its_lines_are_whole_or_not_there() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    std::fs::write(inside(&folder, "route.yaml"), route("echo", "/ws", port)).unwrap();
    let (mut program, mut log) = with_a_full_log(&folder);
    let mut stream = TcpStream::connect(program.address("http")).unwrap();
    upgrade(&mut stream, "/ws");
    echo(&mut stream);
    drop(stream);
    program.signal("TERM");
    assert_eq!(program.ends().code(), Some(0));
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    // The last one was on its way into the pipe when the program ended.
    let (whole, _) = text.rsplit_once('\n').unwrap();
    for line in whole.lines() {
        assert_eq!(line.matches("tidegate").count(), 1, "{line}");
        assert_eq!(line.matches("event=\"open\"").count(), line.matches("path=\"/ws").count());
    }
}

#[test]
fn an_error_ends_the_program_though_nobody_reads_it() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    std::fs::write(inside(&folder, "route.yaml"), route("echo", "/ws", port)).unwrap();
    let (mut program, _log) = with_a_full_log(&folder);
    // A client that does not answer a Close frame is waited for.
    let mut stream = TcpStream::connect(program.address("http")).unwrap();
    upgrade(&mut stream, "/ws");
    let admin = program.address("admin");
    program.signal("TERM");
    get_until(admin, "/readyz", "shutting down");
    program.signal("TERM");
    assert_eq!(program.ends().code(), Some(1));
}

/// What `serve` logs in such a format of what `clients` do at its address in clear text; its metrics as well.
fn logged(
    format: &str,
    folder: &tempfile::TempDir,
    clients: impl FnOnce(&Program),
) -> (String, String) {
    let mut program = Program::start(serve(folder.path()).args(["--log-format", format]));
    clients(&program);
    let metrics = get(program.address("admin"), "/metrics");
    program.signal("TERM");
    assert_eq!(program.ends().code(), Some(0));
    (program.logs("shut down"), metrics)
}

const FORMATS: [&str; 2] = ["text", "json"];

#[test]
fn a_client_that_is_refused_again_and_again_does_not_flush_the_log() {
    for format in FORMATS {
        let folder = folder(1);
        std::fs::write(inside(&folder, "route.yaml"), route("echo", "/ws", 1)).unwrap();
        let path = format!("/refused/{}", "x".repeat(12_000));
        let begun = Instant::now();
        let (log, metrics) = logged(format, &folder, |program| {
            for _ in 0..300 {
                assert!(get(program.address("http"), &path).starts_with("HTTP/1.1 404 "));
            }
        });
        let lines: Vec<_> = log.lines().filter(|line| line.contains("/refused/")).collect();
        let most = 20 + 5 * (begun.elapsed().as_secs() as usize + 1);
        assert!((20..=most).contains(&lines.len()), "{} of at most {most}", lines.len());
        for line in &lines {
            assert!(line.len() < 1500 && line.contains("(11497 bytes more)"), "{line}");
        }
        let name = "tidegate_log_refusals_left_out_total ";
        let left_out = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(lines.len() + left_out.parse::<usize>().unwrap(), 300);
        let counted = metrics.lines().any(|line| {
            line.starts_with("tidegate_upgrade_failures_total") && line.ends_with(" 300")
        });
        assert!(counted, "all of them are counted: {metrics}");
    }
}

#[test]
fn what_clients_send_moves_no_cursor_and_turns_no_line() {
    for format in FORMATS {
        let folder = folder(1);
        let (log, _) = logged(format, &folder, |program| {
            let lines = "Host: localhost\r\nVia: \u{9b}2J\r\n";
            get_with(program.address("http"), "/\u{9b}31m\u{202e}\u{2028}", lines);
            program.logs("refused");
        });
        let nasty = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2028}".contains(c);
        assert!(!log.contains(nasty), "{log:?}");
        if format == "json" {
            log.lines()
                .for_each(|line| drop(serde_json::from_str::<serde_json::Value>(line).unwrap()));
        }
    }
}

#[test]
fn a_subprotocol_is_logged_only_if_the_rule_names_it_and_never_quoted() {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = backend.local_addr().unwrap().port();
    // Sends back whatever it is offered, as some do with tokens.
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = backend.accept() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if socket.read_exact(&mut byte).is_err() {
                    break;
                }
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            let offer = head.lines().find(|line| line.starts_with("sec-websocket-protocol"));
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{}\r\n\r\n",
                offer.unwrap()
            );
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    let secret = "base64url.bearer.authorization.k8s.io.s3cr3t";
    for format in FORMATS {
        let folder = folder(port);
        let named = "  - matches: [{path: {value: /mqtt}, subprotocols: [mqtt]}]\n    backendRefs: [{name: echo, port: 80}]\n";
        let text = route("echo", "/", port).replacen("---\n", &format!("{named}---\n"), 1);
        std::fs::write(inside(&folder, "route.yaml"), text).unwrap();
        let (log, _) = logged(format, &folder, |program| {
            let ask = |path: &str, offer: &str| {
                let mut client = TcpStream::connect(program.address("http")).unwrap();
                write!(
                    client,
                    "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     Sec-WebSocket-Protocol: {offer}\r\n\r\n"
                )
                .unwrap();
                let mut start = [0; 12];
                client.read_exact(&mut start).unwrap();
                String::from_utf8(start.to_vec()).unwrap()
            };
            assert!(ask("/secret", secret).ends_with(" 101"));
            assert!(ask("/mqtt", "mqtt").ends_with(" 101"));
            assert!(ask("/no-token", &format!("{secret} x")).ends_with(" 400"));
            program.logs("/no-token");
        });
        assert!(!log.contains("s3cr3t"), "{log}");
        let opened: Vec<_> = log.lines().filter(|line| line.contains("upgrade_ms")).collect();
        assert_eq!(opened.len(), 2, "{log}");
        assert!(!opened[0].contains("subprotocol") && opened[1].contains("mqtt"), "{log}");
        assert!(opened[1].contains("subprotocol"), "{log}");
    }
}
