//! The log where standard error is not read: nobody waits for it, and the end comes all the same.

use std::{io::Read, net::TcpStream};

use crate::program::*;

/// Serves, and logs until lines are dropped: what is in the pipe and in the program's own buffers is no longer read.
fn with_a_full_log(folder: &tempfile::TempDir) -> (Program, impl Read) {
    let (program, log) = Program::start_unread(&mut serve(folder.path()));
    let (http, admin) = (program.address("http"), program.address("admin"));
    let path = format!("/refused/{}", "x".repeat(7000));
    let dropped = |metrics: &str| {
        let line =
            metrics.lines().find(|line| line.starts_with("tidegate_log_lines_dropped_total"));
        line.unwrap().rsplit_once(' ').unwrap().1 != "0"
    };
    // Each line is longer than its path, and there is room for a bit more than 2 MiB.
    for _ in 0..8 {
        for _ in 0..64 {
            assert!(get(http, &path).starts_with("HTTP/1.1 404 "));
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
        assert_eq!(line.matches("event=\"refused\"").count(), line.matches("/refused/").count());
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
