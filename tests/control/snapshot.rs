//! A start while the API server is away.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::{
    api_server::{ApiServer, Fault},
    objects::{chat, metric, route, serve, served},
    program::{Program, get, get_until, inside},
};

/// A folder in which the program has kept what `server` has.
fn kept(server: &ApiServer) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(serve(server).arg("--snapshot").arg(folder.path()));
    assert_eq!(served(&program, "chat.example.com"), 426);
    let file = inside(&folder, "tidegate-snapshot.json");
    server.until("a snapshot", |_| fs::metadata(&file).ok());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    folder
}

#[test]
fn a_start_without_the_api_server_serves_what_was_kept_until_it_is_back() {
    let server = chat();
    let folder = kept(&server);
    server.fail("/", Fault::Status(503, "shutting down", None));
    server.apply("websocketroutes", route("chat", "new"));
    let before = server.get("websocketroutes", "chat", "chat").unwrap();
    let mut command = serve(&server);
    let program = Program::start(command.arg("--snapshot").arg(folder.path()));
    // Ready means that a table serves.
    assert_eq!(served(&program, "chat.example.com"), 426);
    assert_eq!(served(&program, "new.example.com"), 404);
    let log = program.logs("serves until the source has been read");
    assert!(log.contains("a snapshot of 20"), "{log}");
    assert_eq!(metric(&program, "tidegate_snapshot_serving"), Some(1.0));
    let ready = get_until(program.address("admin"), "/readyz", "degraded: a snapshot of 20");
    assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");

    server.mend();
    server.until("what is new is served", |_| {
        (served(&program, "new.example.com") == 426).then_some(())
    });
    program.logs("no snapshot serves any more");
    assert_eq!(metric(&program, "tidegate_snapshot_serving"), Some(0.0));
    assert!(!get(program.address("admin"), "/readyz").contains("snapshot"));
    let after = server.get("websocketroutes", "chat", "chat").unwrap();
    assert_eq!(before, after, "a snapshot has no say in statuses");
}

#[test]
fn without_a_usable_snapshot_it_waits_as_it_does_without_the_flag() {
    let server = chat();
    server.fail("/", Fault::Status(503, "shutting down", None));
    let folder = tempfile::tempdir().unwrap();
    fs::write(inside(&folder, "tidegate-snapshot.json"), "{").unwrap();
    let program = Program::start(serve(&server).arg("--snapshot").arg(folder.path()));
    program.logs("cannot be used");
    server.mend();
    assert_eq!(served(&program, "chat.example.com"), 426);
    // What could not be read is replaced.
    server.until("a sound snapshot", |_| {
        let text = fs::read_to_string(inside(&folder, "tidegate-snapshot.json")).unwrap();
        text.contains("chat.example.com").then_some(())
    });
}
