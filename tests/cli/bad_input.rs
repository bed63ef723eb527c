//! Bad input gets one clear sentence and an exit code, or harms nobody else.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use crate::program::*;

#[test]
fn an_unknown_flag_is_named_and_exits_2() {
    let (code, out, err) = run(tidegate().args(["serve", "--sauce", "x"]));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(
        err.contains("unexpected argument '--sauce' found") && err.contains("--source"),
        "{err}"
    );
}

#[test]
fn an_address_that_is_none_is_explained() {
    let (code, _, err) = run(tidegate().args(["serve", "--https-listen", "443"]));
    assert_eq!(code, Some(2));
    assert!(err.contains("expected ADDRESS:PORT, such as 0.0.0.0:443"), "{err}");
    let (code, _, err) = run(tidegate().args(["serve", "--trusted-proxies", "10.0.0.0/99"]));
    assert_eq!(code, Some(2));
    assert!(err.contains("expected a network in CIDR notation"), "{err}");
}

#[test]
fn a_name_that_is_none_is_explained() {
    for (flag, values, told) in [
        ("--publish-service", &["tidegate", "a/b/c", "A/b", "a.b/c", "/c"][..], "NAMESPACE/NAME"),
        (
            "--publish-address",
            &["gate.example.com:443", "https://gate", "203.0.113", "203.0.113.777", ""],
            "expected an IP address or a hostname",
        ),
        (
            "--watch-namespace",
            &["chat.example.com", "Chat", "", "chat,,games"],
            "expected the name of a namespace",
        ),
    ] {
        for value in values {
            let (code, _, err) = run(tidegate().args(["serve", flag, value]));
            assert_eq!(code, Some(2), "{flag} {value:?} is taken");
            assert!(err.contains(told), "{flag} {value:?}: {err}");
        }
    }
    let both = ["serve", "--publish-service", "a/b", "--publish-address", "203.0.113.7"];
    let (code, _, err) = run(tidegate().args(both));
    assert!(code == Some(2) && err.contains("cannot be used with"), "{err}");
    let (code, _, err) = run(tidegate().args(["serve", "--snapshot-secrets"]));
    assert!(code == Some(2) && err.contains("--snapshot <DIR>"), "{err}");
}

#[test]
fn a_duration_that_is_none_is_explained() {
    for flag in ["--drain-delay", "--drain-spread", "--drain-timeout"] {
        let (code, _, err) = run(tidegate().args(["serve", flag, "5"]));
        assert_eq!(code, Some(2));
        assert!(err.contains(&format!("invalid value '5' for '{flag} <DURATION>'")), "{err}");
        assert!(err.contains("such as 1h30m, 10s or 500ms"), "{err}");
    }
}

#[test]
fn a_spread_that_leaves_no_time_to_answer_is_an_error_of_usage() {
    let serve = |spread: &str, timeout: &str| {
        let drain = ["--drain-spread", spread, "--drain-timeout", timeout];
        // Where it is right it goes on to this.
        run(tidegate()
            .args(["serve", "--source", "/nowhere", "--admin-listen", "off"])
            .args(["--https-listen", "127.0.0.1:0", "--http-listen", "off"])
            .args(drain))
    };
    for (spread, timeout) in [("1m", "60s"), ("61s", "1m"), ("0s", "0s")] {
        let (code, out, err) = serve(spread, timeout);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.starts_with("error: --drain-spread ("), "{err}");
        assert!(err.contains("must be shorter than --drain-timeout ("), "{err}");
    }
    let (code, _, err) = serve("59s", "1m");
    assert_eq!(code, Some(1), "{err}");
    let (code, _, err) = run(tidegate().arg("serve").env("TIDEGATE_DRAIN_TIMEOUT", "45s"));
    assert_eq!(code, Some(2));
    assert!(
        err.contains("--drain-spread (45s) must be shorter than --drain-timeout (45s)"),
        "{err}"
    );
}

#[test]
fn a_folder_that_cannot_be_read_is_one_sentence() {
    for source in ["/nowhere/at/all", "/etc/hostname"] {
        let (code, out, err) = run(&mut serve(source.as_ref()));
        assert_eq!(code, Some(1), "{err}");
        assert!(!out.contains("ready"), "{out}");
        let last = err.lines().last().unwrap();
        assert!(last.starts_with("tidegate: ") && last.contains(source), "{err}");
    }
}

#[test]
fn nothing_to_listen_on_is_an_error() {
    let (code, _, err) = run(tidegate().args([
        "serve",
        "--source",
        "/tmp",
        "--https-listen",
        "off",
        "--http-listen",
        "off",
    ]));
    assert_eq!(code, Some(1));
    assert!(err.contains("there is nothing to serve"), "{err}");
}

#[test]
fn a_log_level_that_cannot_be_read_is_named() {
    let (code, _, err) = run(tidegate().args(["serve", "--log-level", "info,=,"]));
    assert_eq!(code, Some(1));
    assert!(err.contains("log level \"info,=,\" cannot be read"), "{err}");
}

#[test]
fn a_taken_port_is_an_error_that_names_its_owner_and_the_next_free_one() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = run(tidegate()
        .args(["serve", "--http-listen", "off", "--admin-listen", "off", "--https-listen"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("--source")
        .arg(folder.path()));
    assert_eq!(code, Some(1));
    let me = format!("(pid {})", std::process::id());
    assert!(err.contains(&format!("port {port} is taken by ")) && err.contains(&me), "{err}");
    assert!(err.contains("is free: --https-listen 127.0.0.1:"), "{err}");
}

#[test]
fn invalid_yaml_is_named_with_file_and_line_and_the_other_files_are_served() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    fs::write(inside(&folder, "broken.yaml"), "kind: WebSocketRoute\nspec: [unclosed\n").unwrap();
    fs::write(
        inside(&folder, "typo.yaml"),
        route("typo", "/typo", port).replace("plaintext", "plaintxt"),
    )
    .unwrap();
    let program = Program::start(&mut serve(folder.path()));
    let http = program.address("http");
    program.logs("broken.yaml");
    let log = program.logs("typo.yaml");
    assert!(log.contains("plaintxt"), "{log}");
    let mut stream = TcpStream::connect(http).unwrap();
    upgrade(&mut stream, "/");
    echo(&mut stream);
}

#[test]
fn a_file_that_turns_bad_keeps_its_last_good_content() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let program = Program::start(&mut serve(folder.path()));
    let http = program.address("http");
    let mut before = TcpStream::connect(http).unwrap();
    upgrade(&mut before, "/");
    fs::write(inside(&folder, "route.yaml"), "]").unwrap();
    program.logs("route.yaml");
    echo(&mut before);
    let mut after = TcpStream::connect(http).unwrap();
    upgrade(&mut after, "/");
    echo(&mut after);
}

#[test]
fn an_api_server_that_is_away_is_tried_on_and_said_and_the_program_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: \"http://{closed}\"}}}}]\n\
         users: [{{name: u, user: {{}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
    );
    fs::write(inside(&folder, "config"), kubeconfig).unwrap();
    let mut command = tidegate();
    command.args([
        "serve",
        "--https-listen",
        "127.0.0.1:0",
        "--http-listen",
        "off",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    command.arg("--kubeconfig").arg(inside(&folder, "config"));
    let mut program = Program::start(&mut command);
    program.logs(&closed.to_string());
    let text = program.says("admin ");
    let line = text.lines().find(|line| line.starts_with("admin ")).unwrap();
    let admin = line["admin ".len()..].parse().unwrap();
    let answer = get_until(admin, "/readyz", "not ready: still to be read: ");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("websocketroutes"), "{answer}");
    assert!(get(admin, "/livez").starts_with("HTTP/1.1 200 "));
    assert!(!program.says("admin ").contains("ready"));
    program.signal("TERM");
    assert_eq!(program.ends().code(), Some(0));
}

#[test]
fn a_kubeconfig_that_cannot_be_read_is_one_sentence() {
    let (code, _, err) = run(tidegate().args([
        "serve",
        "--https-listen",
        "127.0.0.1:0",
        "--http-listen",
        "off",
        "--admin-listen",
        "off",
        "--kubeconfig",
        "/nowhere",
    ]));
    assert_eq!(code, Some(1));
    assert!(
        err.lines().last().unwrap().starts_with("tidegate: ") && err.contains("/nowhere"),
        "{err}"
    );
}

#[test]
fn garbage_on_the_tls_port_is_counted_and_disturbs_nobody() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let program = Program::start(&mut serve(folder.path()));
    let (https, http, admin) =
        (program.address("https"), program.address("http"), program.address("admin"));
    let mut good = TcpStream::connect(http).unwrap();
    upgrade(&mut good, "/");
    let mut bad = TcpStream::connect(https).unwrap();
    bad.set_read_timeout(Some(DEADLINE)).unwrap();
    bad.write_all(&[0xff; 512]).unwrap();
    let mut answer = Vec::new();
    // An alert, then the end, or a reset where our bytes were still on their way.
    let _ = bad.read_to_end(&mut answer);
    get_until(admin, "/metrics", "tidegate_tls_handshake_failures_total{reason=\"not_tls\"} 1");
    echo(&mut good);
}
