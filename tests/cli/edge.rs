//! What `serve` makes of what comes to port 80: challenges of ACME, and upgrades that something on the way has stripped.

use std::fs;

use serde_json::Value;

use crate::program::*;

const CHALLENGE: &str = "/.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA";

/// The Service of a solver as cert-manager makes it, for `fresh.test` and the token above, and where it listens.
fn solver(port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: cm-acme-http-solver-x7k2p
  labels:
    acme.cert-manager.io/http01-solver: \"true\"
    acme.cert-manager.io/http-domain: \"369361927\"
    acme.cert-manager.io/http-token: \"1055133264\"
spec: {{ports: [{{name: http, port: 8089}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: cm-1, labels: {{kubernetes.io/service-name: cm-acme-http-solver-x7k2p}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    )
}

#[test]
fn a_challenge_reaches_the_solver_that_its_labels_name_unless_that_is_turned_off() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    fs::write(inside(&folder, "solver.yaml"), solver(port)).unwrap();
    let ask = |program: &Program| {
        get_with(program.address("http"), CHALLENGE, "Host: fresh.test\r\nCookie: a=b\r\n")
    };
    let program = Program::start(serve(folder.path()).args(["--log-format", "json"]));
    program.says("ready\n");
    let answer = ask(&program);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains(&format!("GET {CHALLENGE}\n")), "{answer}");
    assert!(answer.contains("\nhost: fresh.test\n") && !answer.contains("cookie"), "{answer}");
    let log = program.logs("\"event\":\"acme_challenge\"");
    assert!(log.contains("cm-acme-http-solver-x7k2p"), "{log}");
    let table = get(program.address("admin"), "/debug/table");
    assert!(table.contains("cm-acme-http-solver-x7k2p"), "{table}");
    let metrics = get(program.address("admin"), "/metrics");
    assert!(metrics.contains("tidegate_acme_challenges_total{code=\"200\"} 1"), "{metrics}");

    let program = Program::start(serve(folder.path()).arg("--acme-http01=false"));
    program.says("ready\n");
    let answer = ask(&program);
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("tidegate-reason: no_route"), "{answer}");
}

#[test]
fn the_log_of_a_stripped_upgrade_tells_what_was_seen_of_the_way_and_repeats_no_address() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let program = Program::start(serve(folder.path()).args(["--log-format", "json"]));
    program.says("ready\n");
    let lines = "Host: localhost\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nVia: 1.1 proxy\r\nX-Forwarded-For: 192.0.2.77, 192.0.2.78\r\nX-BlueCoat-Via: 0123456789abcdef\r\n";
    let answer = get_with(program.address("http"), "/room?token=s3cret", lines);
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    let log = program.logs("upgrade_stripped");
    let line = log.lines().find(|line| line.contains("upgrade_stripped")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["http"], "1.1");
    assert_eq!(line["missing"], "upgrade,connection");
    assert_eq!(line["via"], "1.1 proxy");
    assert_eq!(line["forwarded_for"], 2);
    assert_eq!(line["proxies"], "x-forwarded-for,x-bluecoat-via");
    for secret in ["s3cret", "192.0.2.7", "0123456789abcdef"] {
        assert!(!log.contains(secret), "{log}");
    }
    let id = line["request_id"].as_str().unwrap();
    assert!(answer.contains(&format!("x-request-id: {id}\r\n")), "{answer}");
}
