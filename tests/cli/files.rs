//! The limit on open files: reached with upgraded sockets, passed, and left again.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::program::*;

/// Small, so that a test comes to it; large enough for the program's own files.
const LIMIT: usize = 160;

/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// An upgrade's request with the RFC's example key.
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// `serve` under a hard limit on open files.
fn limited(source: &std::path::Path) -> Program {
    let unlimited = serve(source);
    let mut command = Command::new("sh");
    command.env_clear().args(["-c", &format!("ulimit -n {LIMIT}; exec \"$@\""), "sh"]);
    command.arg(unlimited.get_program()).args(unlimited.get_args());
    Program::start(&mut command)
}

/// The sum of a metric's series with these labels.
fn metric(admin: SocketAddr, name: &str, labels: &[&str]) -> u64 {
    let text = get(admin, "/metrics");
    let series = text.lines().filter(|line| {
        line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label))
    });
    series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

fn accept_errors(admin: SocketAddr) -> u64 {
    metric(admin, "tidegate_accept_errors_total", &["reason=\"file_limit\""])
}

fn refused_for_files(admin: SocketAddr) -> u64 {
    metric(admin, "tidegate_upgrade_failures_total", &["reason=\"limit_files\""])
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        thread::park_timeout(LOOK);
    }
}

/// Sends an upgrade's request and leaves its answer unread.
fn ask(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(REQUEST.as_bytes()).unwrap();
    stream
}

/// The head of the answer.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

/// Opens WebSockets until one is refused; the refusal's head comes with them.
fn fill(address: SocketAddr) -> (Vec<TcpStream>, String) {
    let mut open = Vec::new();
    loop {
        assert!(open.len() < LIMIT, "more sockets than files");
        let mut stream = ask(address);
        let answer = head(&mut stream);
        if !answer.starts_with("http/1.1 101 ") {
            return (open, answer);
        }
        open.push(stream);
    }
}

fn admin_port_answers(admin: SocketAddr) {
    assert!(get(admin, "/livez").starts_with("HTTP/1.1 200 "));
    assert!(get(admin, "/readyz").contains("ready: table generation 1"));
}

#[test]
fn at_the_limit_on_files_clients_are_told_and_open_sockets_and_the_admin_port_go_on() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let program = limited(folder.path());
    let (http, admin) = (program.address("http"), program.address("admin"));
    let (mut open, refusal) = fill(http);
    assert!(open.len() >= 20, "only {} sockets of {LIMIT} files", open.len());
    assert!(refusal.starts_with("http/1.1 503 "), "{refusal}");
    for line in ["tidegate-reason: limit_files", "retry-after: 5", "connection: close"] {
        assert!(refusal.contains(line), "{line}: {refusal}");
    }
    program.logs("reason=\"limit_files\"");
    assert_eq!(refused_for_files(admin), 1);
    assert_eq!(accept_errors(admin), 0, "it was accepted");
    open.iter_mut().for_each(echo);
    admin_port_answers(admin);
    // Once some have gone there is place for as many.
    open.drain(..5);
    wait_until("five are closed", || {
        metric(admin, "tidegate_connections_open", &[]) == open.len() as u64
    });
    for _ in 0..5 {
        let mut stream = TcpStream::connect(http).unwrap();
        upgrade(&mut stream, "/");
        open.push(stream);
    }
    open.iter_mut().for_each(echo);
}

#[test]
fn past_the_limit_silent_connections_make_way_and_who_asks_is_told() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let program = limited(folder.path());
    let (http, admin) = (program.address("http"), program.address("admin"));
    let (mut open, _) = fill(http);
    // Of those who say nothing only a few keep their sockets.
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(http).unwrap()).collect();
    program.logs("connections that send no request are ended");
    let refusal = head(&mut ask(http));
    assert!(refusal.contains("tidegate-reason: limit_files"), "{refusal}");
    assert_eq!(accept_errors(admin), 0, "accept goes on");
    open.iter_mut().for_each(echo);
    admin_port_answers(admin);
    let told = program.log_so_far().matches("connections that send no request").count();
    assert_eq!(told, 1, "{}", program.log_so_far());
    let left = open.len() / 2;
    drop(open.split_off(left));
    wait_until("half of them are closed", || {
        metric(admin, "tidegate_connections_open", &[]) == left as u64
    });
    let mut stream = ask(http);
    assert!(head(&mut stream).starts_with("http/1.1 101 "));
    echo(&mut stream);
    open.iter_mut().for_each(echo);
    drop(silent);
}

#[test]
fn files_that_others_have_taken_are_no_fault_of_the_backend() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let program = limited(folder.path());
    let (http, admin) = (program.address("http"), program.address("admin"));
    // One is accepted while there are files, and asks once there are none: the limit is lowered to what is open, for nobody who
    // only connects can take those that the data plane counts on.
    let mut early = TcpStream::connect(http).unwrap();
    early.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(early, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let plain = head(&mut early);
    assert!(plain.starts_with("http/1.1 426 "), "{plain}");
    let length = plain.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    early.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
    let limit = |files: u64| {
        let (pid, all) = (program.id().try_into().unwrap(), LIMIT as u64);
        rlimit::prlimit(pid, rlimit::Resource::NOFILE, Some((files, all)), None).unwrap();
    };
    limit(3);
    let mut late = Vec::new();
    wait_until("all files are taken", || {
        late.push(TcpStream::connect(http).unwrap());
        program.log_so_far().contains("connections cannot be accepted")
    });
    early.write_all(REQUEST.as_bytes()).unwrap();
    let refusal = head(&mut early);
    assert!(refusal.contains("tidegate-reason: limit_files"), "{refusal}");
    assert!(program.logs("reason=\"limit_files\"").contains("os error 24"));
    limit(LIMIT as u64);
    drop(late);
    let mut stream = TcpStream::connect(http).unwrap();
    upgrade(&mut stream, "/");
    echo(&mut stream);
    assert!(accept_errors(admin) >= 1);
}

#[test]
fn silent_connections_make_way_for_upgrades_where_files_run_short() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let program = limited(folder.path());
    let (http, admin) = (program.address("http"), program.address("admin"));
    let mut silent: Vec<_> = (0..LIMIT).map(|_| TcpStream::connect(http).unwrap()).collect();
    let mut open = Vec::new();
    for _ in 0..20 {
        silent.extend((0..5).map(|_| TcpStream::connect(http).unwrap()));
        let mut stream = ask(http);
        let answer = head(&mut stream);
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        open.push(stream);
    }
    open.iter_mut().for_each(echo);
    assert!(metric(admin, "tidegate_pending_connections_evicted_total", &[]) >= LIMIT as u64);
    assert_eq!(refused_for_files(admin), 0);
    program.logs("connections that send no request are ended");
    admin_port_answers(admin);
    // The first ones have gone, the last ones are there.
    let mut byte = [0];
    silent[0].set_read_timeout(Some(DEADLINE)).unwrap();
    assert!(!matches!(silent[0].read(&mut byte), Ok(1..)), "it has ended");
    let last = silent.last_mut().unwrap();
    last.set_nonblocking(true).unwrap();
    let error = last.read(&mut byte).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn the_limits_on_connections_without_a_request_can_be_set() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let mut command = serve(folder.path());
    command.args(["--max-pending-connections", "2", "--max-pending-per-client", "2"]);
    let program = Program::start(command.args(["--max-pending-memory", "1"]));
    program.says("ready\n");
    let (http, admin) = (program.address("http"), program.address("admin"));
    let mut silent = Vec::new();
    wait_until("one of them is ended", || {
        silent.push(TcpStream::connect(http).unwrap());
        metric(admin, "tidegate_pending_connections_evicted_total", &["reason=\"client\""]) >= 1
    });
}
