//! `tidegate serve` from a folder: start, change, log, end.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::program::*;

#[test]
fn it_prints_one_line_for_each_address_and_ready() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let program = Program::start(&mut serve(folder.path()));
    let text = program.says("ready\n");
    let names: Vec<_> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["https", "http", "admin", "ready"]);
    let answer = get(program.address("admin"), "/readyz");
    assert!(answer.contains("ready: table generation 1"), "{answer}");
    let table = get(program.address("admin"), "/debug/table");
    assert!(table.contains(&format!("127.0.0.1:{port}")), "{table}");
}

#[test]
fn the_table_tells_what_a_rule_says_of_its_connections() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "timeouts: {idle: 2h, maxDuration: 12h, maxDurationJitter: 20, writeStall: 0s, close: 1500ms}
    keepalive: {clientPing: 20s, pongTimeout: 7s}
    frames: PassThrough
    limits: {maxMessageBytes: 65536}
    loadBalancing: {policy: RoundRobin, slowStart: 0s, rebalance: {maxPercentPerMinute: 7}}
    retry: {connectAttempts: 4}
    drain: {closeCode: 1013, onRouteRemoved: Close, spread: 1m30s}
    backendRefs";
    let text = route("echo", "/", 1).replace("backendRefs", policy);
    fs::write(inside(&folder, "route.yaml"), text).unwrap();
    let program = Program::start(&mut serve(folder.path()));
    let answer = get_until(program.address("admin"), "/debug/table", "\"generation\": 1");
    let entry = &first_match(&answer);
    assert_eq!(
        entry["timeouts"],
        json!({
            "connect": 5.0, "upgrade": 10.0, "idle": 7200.0,
            "maxDuration": 43200.0, "maxDurationJitter": 20, "writeStall": null, "close": 1.5,
        })
    );
    assert_eq!(
        entry["keepalive"],
        json!({"clientPing": 20.0, "backendPing": null, "pongTimeout": 7.0})
    );
    assert_eq!(entry["frames"], "PassThrough");
    assert_eq!(
        entry["limits"],
        json!({"maxMessageBytes": 65536, "messagesPerSecond": null, "framesPerSecond": 20_000})
    );
    assert_eq!(
        entry["loadBalancing"],
        json!({"policy": "RoundRobin", "slowStart": null, "rebalancePercentPerMinute": 7})
    );
    assert_eq!(entry["connectAttempts"], 4);
    assert_eq!(
        entry["drain"],
        json!({
            "closeCode": 1013,
            "onRouteRemoved": "Close", "onEndpointTerminating": "Keep", "spread": 90.0,
        })
    );
}

/// The first match of the first host of an answer to /debug/table.
fn first_match(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut table: Value = serde_json::from_str(body).unwrap();
    table["hosts"][0]["matches"][0].take()
}

#[test]
fn endpoints_of_other_zones_are_told_from_those_of_the_own_one() {
    let folder = tempfile::tempdir().unwrap();
    let endpoints = "endpoints:
- {addresses: [127.0.0.1], hints: {forZones: [{name: a}]}}
- {addresses: [127.0.0.2], hints: {forZones: [{name: b}]}}";
    let text = route("echo", "/", 1).replace("endpoints: [{addresses: [127.0.0.1]}]", endpoints);
    fs::write(inside(&folder, "route.yaml"), text).unwrap();
    let endpoint =
        |address: &str, local| json!({"address": address, "state": "Ready", "local": local});
    for (zone, local) in [("b", [true, false]), ("", [true, true]), ("c", [true, true])] {
        let program = Program::start(serve(folder.path()).env("TIDEGATE_ZONE", zone));
        let answer = get_until(program.address("admin"), "/debug/table", "\"generation\": 1");
        let mut addresses = ["127.0.0.1:1", "127.0.0.2:1"];
        if zone == "b" {
            // Those that come first stand first.
            addresses.reverse();
        }
        let [first, second] = addresses;
        assert_eq!(
            first_match(&answer)["backends"][0]["endpoints"],
            json!([endpoint(first, local[0]), endpoint(second, local[1])]),
            "{zone:?}"
        );
    }
}

#[test]
fn settings_can_come_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tidegate();
    command
        .arg("serve")
        .env("TIDEGATE_SOURCE", folder.path())
        .env("TIDEGATE_HTTPS_LISTEN", "127.0.0.1:0,127.0.0.1:0")
        .env("TIDEGATE_HTTP_LISTEN", "off")
        .env("TIDEGATE_ADMIN_LISTEN", "off")
        .env("TIDEGATE_LOG_FORMAT", "json");
    let program = Program::start(&mut command);
    let text = program.says("ready\n");
    assert_eq!(text.lines().filter(|line| line.starts_with("https ")).count(), 2, "{text}");
    let log = program.logs("\"message\":\"ready\"");
    assert!(log.lines().all(|line| line.starts_with('{')), "{log}");
}

#[test]
fn a_changed_folder_is_served_anew_while_open_sockets_stay() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let program = Program::start(&mut serve(folder.path()));
    let (http, admin) = (program.address("http"), program.address("admin"));
    let mut open = TcpStream::connect(http).unwrap();
    upgrade(&mut open, "/");
    fs::remove_file(inside(&folder, "route.yaml")).unwrap();
    get_until(admin, "/readyz", "table generation 2");
    assert!(get(http, "/").starts_with("HTTP/1.1 404 "));
    echo(&mut open);
    fs::write(inside(&folder, "again.yml"), route("again", "/again", port)).unwrap();
    get_until(admin, "/readyz", "table generation 3");
    let mut new = TcpStream::connect(http).unwrap();
    upgrade(&mut new, "/again");
    echo(&mut new);
    echo(&mut open);
}

#[test]
fn the_log_has_a_line_for_open_close_and_refusal_and_never_a_query_string() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let mut command = serve(folder.path());
    let program = Program::start(command.args(["--log-format", "json", "--log-level", "debug"]));
    let http = program.address("http");
    let mut stream = TcpStream::connect(http).unwrap();
    upgrade(&mut stream, "/room?access_token=s3cret");
    echo(&mut stream);
    drop(stream);
    get(http, "/plain?access_token=s3cret");
    program.logs("\"event\":\"close\"");
    let log = program.logs("\"event\":\"refused\"");
    assert!(!log.contains("s3cret"), "{log}");
    let line = |event: &str| {
        let wanted = format!("\"event\":\"{event}\"");
        let line = log.lines().find(|line| line.contains(&wanted)).unwrap();
        serde_json::from_str::<Value>(line).unwrap()
    };
    let (open, close, refused) = (line("open"), line("close"), line("refused"));
    assert_eq!(open["path"], "/room");
    assert_eq!(open["route"], "echo");
    assert_eq!(open["request_id"], close["request_id"]);
    assert_eq!(close["cause"], "client_closed");
    assert_eq!((&close["bytes_up"], &close["messages_down"]), (&11.into(), &1.into()));
    assert_eq!((&refused["reason"], &refused["status"]), (&"not_websocket".into(), &426.into()));
}

#[test]
fn a_termination_signal_says_goodbye_with_1012_and_exits_0() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let mut program = Program::start(&mut serve(folder.path()));
    let mut stream = TcpStream::connect(program.address("http")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    upgrade(&mut stream, "/");
    echo(&mut stream);
    program.signal("TERM");
    let mut close = [0; 4];
    stream.read_exact(&mut close).unwrap();
    assert_eq!((close[0], &close[2..]), (0x88, &1012_u16.to_be_bytes()[..]));
    drop(stream);
    assert_eq!(program.ends().code(), Some(0));
    program.logs("cause=\"drain\"");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let mut program = Program::start(&mut serve(folder.path()));
    // A client that does not answer a Close frame would be waited for.
    let mut stream = TcpStream::connect(program.address("http")).unwrap();
    upgrade(&mut stream, "/");
    program.signal("TERM");
    program.logs("shutting down");
    program.signal("TERM");
    assert_eq!(program.ends().code(), Some(1));
    program.logs("ended at once by a second signal");
}

#[test]
fn the_crd_is_printed_and_a_reader_that_leaves_is_no_panic() {
    let (code, out, _) = run(tidegate().arg("crd"));
    assert_eq!(code, Some(0));
    assert!(out.contains("kind: CustomResourceDefinition"), "{out}");
    let mut child =
        tidegate().arg("crd").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    child.wait().unwrap();
    assert!(!err.contains("panicked"), "{err}");
}

#[test]
fn help_names_every_command_and_the_way_to_try_it() {
    let (code, out, _) = run(tidegate().arg("--help"));
    assert_eq!(code, Some(0));
    for word in ["serve", "dev", "crd", "Try it without a cluster: tidegate dev"] {
        assert!(out.contains(word), "{word}: {out}");
    }
    let (code, out, _) = run(tidegate().arg("--version"));
    assert_eq!((code, out.trim()), (Some(0), concat!("tidegate ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn it_takes_as_many_files_as_the_system_lets_it_have() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -Sn 256; ulimit -Hn 1024; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_tidegate"));
    command.args([
        "serve",
        "--https-listen",
        "off",
        "--http-listen",
        "127.0.0.1:0",
        "--admin-listen",
        "off",
        "--source",
    ]);
    let program = Program::start(command.arg(folder.path()));
    program.says("ready\n");
    let limits = fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[3..5], ["1024", "1024"], "{line}");
}

#[test]
fn freed_memory_is_given_back_by_threads_of_the_allocator_unless_the_environment_says_else() {
    let threads = |command: &mut std::process::Command| {
        let program = Program::start(command);
        program.says("ready\n");
        let tasks = fs::read_dir(format!("/proc/{}/task", program.id())).unwrap();
        let names =
            tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
        names.filter(|name| name.starts_with("jemalloc")).count()
    };
    let folder = tempfile::tempdir().unwrap();
    assert!(threads(&mut serve(folder.path())) > 0);
    let mut other = serve(folder.path());
    assert_eq!(threads(other.env("_RJEM_MALLOC_CONF", "background_thread:false")), 0);
}

#[test]
fn an_echo_backend_that_lingers_serves_on_after_sigterm_and_then_says_goodbye() {
    let args = ["echo-backend", "--listen", "127.0.0.1:0", "--linger", "2"];
    let mut program = Program::start(tidegate().args(args));
    let text = program.says("echo backend on ");
    let address: SocketAddr = text.trim().rsplit(' ').next().unwrap().parse().unwrap();
    let open = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        upgrade(&mut stream, "/");
        stream
    };
    let mut before = open();
    let signalled = Instant::now();
    program.signal("TERM");
    echo(&mut before);
    let mut after = open();
    echo(&mut after);
    for stream in [&mut before, &mut after] {
        let mut goodbye = [0; 4];
        stream.read_exact(&mut goodbye).unwrap();
        assert_eq!(goodbye, *b"\x88\x02\x03\xe9");
        stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]).unwrap();
        assert_eq!(stream.read(&mut goodbye).unwrap(), 0);
    }
    assert_eq!(program.ends().code(), Some(0));
    assert!(signalled.elapsed() >= Duration::from_secs(2), "it lingered");
}
