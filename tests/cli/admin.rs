//! The admin port: whom it answers, and who cannot keep it from answering.

use std::{io::Read, net::TcpStream, os::unix::fs::PermissionsExt, process::Command};

use crate::program::*;

/// `serve` as people start it: what tests switch on is off.
fn plain(source: &std::path::Path, more: &[&str]) -> Program {
    let mut command = serve_with_drain(source, ["0s", "0s", "5s"]);
    Program::start(command.args(["--workers", "1"]).args(more))
}

#[test]
fn the_table_is_not_told_unless_asked_for() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let program = plain(folder.path(), &[]);
    program.says("ready\n");
    let answer = get(program.address("admin"), "/debug/table");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("--debug-endpoints"), "{answer}");
    for flag in ["--debug-endpoints", "--debug-endpoints=true"] {
        let program = plain(folder.path(), &[flag]);
        program.says("ready\n");
        let answer = get(program.address("admin"), "/debug/table?host=localhost");
        assert!(answer.contains(&format!("127.0.0.1:{port}")), "{answer}");
    }
}

#[test]
fn a_rebound_name_is_not_answered_unless_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let host = "Host: metrics.example.com\r\n";
    let program = plain(folder.path(), &[]);
    program.says("ready\n");
    let answer = get_with(program.address("admin"), "/metrics", host);
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    let program = plain(folder.path(), &["--admin-host", "metrics.example.com"]);
    program.says("ready\n");
    let answer = get_with(program.address("admin"), "/metrics", host);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (code, _, err) = run(tidegate().args(["serve", "--admin-host", "a:80"]));
    assert_eq!(code, Some(2));
    assert!(err.contains("expected a hostname without a port"), "{err}");
}

/// With 1,024 files 1,200 connections that say nothing were enough to starve the data ports, and the admin port itself.
#[test]
fn idle_connections_starve_neither_the_data_ports_nor_the_admin_port() {
    rlimit::increase_nofile_limit(8_192).unwrap();
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let unlimited = serve(folder.path());
    let mut command = Command::new("sh");
    command.env_clear().args(["-c", "ulimit -n 1024; exec \"$@\"", "sh"]);
    command.arg(unlimited.get_program()).args(unlimited.get_args());
    let program = Program::start(&mut command);
    program.says("ready\n");
    let (admin, http) = (program.address("admin"), program.address("http"));
    let idle: Vec<_> = (0..1_200)
        .map(|_| {
            let stream = TcpStream::connect(admin).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream
        })
        .collect();
    assert!(get(admin, "/livez").contains("alive"));
    // It came after all of them, so all have been accepted by now, and most let go.
    let files = std::fs::read_dir(format!("/proc/{}/fd", program.id())).unwrap().count();
    assert!(files < 300, "{files} files are open");
    let mut open = TcpStream::connect(http).unwrap();
    upgrade(&mut open, "/");
    echo(&mut open);
    assert!(get(admin, "/readyz").contains("ready: "));
    // The first ones were let go.
    let ended = idle.iter().take(1_000).filter(|stream| {
        let mut stream: &TcpStream = stream;
        !matches!(stream.read(&mut [0]), Ok(1..))
    });
    assert_eq!(ended.count(), 1_000);
}

/// Its name must be no one's to guess, and nobody else's to look into.
#[test]
fn the_folder_of_dev_is_private() {
    let home = tempfile::tempdir().unwrap();
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port().to_string()
    };
    let mut command = tidegate();
    command.arg("dev").env("HOME", home.path()).env("TMPDIR", home.path());
    command.env("PORT", free()).env("TLS_PORT", free()).env("ADMIN_PORT", free());
    let program = Program::start(&mut command);
    program.says("Ctrl-C ends it.");
    let entries = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap());
    let made: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("tidegate-dev-"))
        .collect();
    assert_eq!(made.len(), 1, "{made:?}");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&made[0].path()), 0o700);
    let name = made[0].file_name().to_string_lossy().into_owned();
    let random = name.strip_prefix("tidegate-dev-").unwrap();
    assert!(random.bytes().any(|byte| !byte.is_ascii_digit()) && random.len() >= 16, "{name}");
    for file in std::fs::read_dir(made[0].path()).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}
