//! What people read, and what is no sensible question.

use crate::{
    program::{run, tidegate},
    server::{closed_port, echo},
};

#[test]
fn the_text_has_a_line_for_each_step_and_a_verdict() {
    let port = echo(crate::program::DEADLINE);
    let url = format!("ws://127.0.0.1:{port}/ws?token=hush");
    let (code, out, _) = run(tidegate().args(["doctor", &url]));
    assert_eq!(code, Some(0));
    assert!(!out.contains("..."), "{out}");
    assert!(out.starts_with(&format!("tidegate doctor ws://127.0.0.1:{port}/ws\n")), "{out}");
    for wanted in
        ["ok    connect   127.0.0.1:", "ok    upgrade   HTTP/1.1 101, ", "ok    messages  pong"]
    {
        assert!(out.contains(wanted), "{out}");
    }
    assert!(out.contains("note: This is clear text") && out.contains("exit code 0"), "{out}");
    assert!(!out.contains("hush") && !out.contains('\x1b'), "{out}");
}

#[test]
fn a_long_step_is_announced_once_where_there_is_no_terminal() {
    let port = echo(crate::program::DEADLINE);
    let (code, out, _) =
        run(tidegate().args(["doctor", &format!("ws://127.0.0.1:{port}/"), "--idle", "3s"]));
    assert_eq!(code, Some(0));
    assert_eq!(out.matches("  ...   idle: ").count(), 1, "{out}");
    assert!(out.contains("ok    idle      a quiet socket was held for 3.0 s"), "{out}");
}

#[test]
fn verdicts_are_as_wide_as_a_terminal() {
    let url = format!("ws://127.0.0.1:{}/", closed_port());
    let (code, out, _) = run(tidegate().args(["doctor", &url]));
    assert_eq!(code, Some(11));
    let (_, verdict) = out.split_once("\n\n").unwrap().1.split_once("\n\n").unwrap();
    assert!(verdict.contains("[port_refused]") && verdict.contains("\n  who   "), "{out}");
    assert!(verdict.lines().all(|line| line.chars().count() <= 100), "{verdict}");
}

#[test]
fn arguments_that_make_no_sense_end_with_2() {
    let good = "ws://127.0.0.1/";
    let refused = |arguments: &[&str], wanted: &str| {
        let (code, out, err) = run(tidegate().arg("doctor").args(arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {out}{err}");
        assert!(err.contains(wanted) && !err.contains("hush"), "{arguments:?}: {err}");
    };
    refused(&["chat.example.com"], "expected a URL");
    refused(&["wss://u:p@chat.example.com/"], "--header");
    refused(&[good, "--header", "Host: x"], "belongs to the handshake");
    refused(&[good, "--subprotocol", "a b"], "expected a token");
    refused(&[good, "--pin", "abc"], "64 hexadecimal digits");
    refused(&[good, "--idle", "0s"], "more than zero");
    refused(&[good, "--proxy", "socks5://joe:hush@127.0.0.1"], "--proxy: expected a proxy");
    refused(&[good, "--ca", "/no/such/file"], "--ca /no/such/file");
    let (code, _, err) =
        run(tidegate().args(["doctor", good]).env("ALL_PROXY", "socks5://joe:hush@127.0.0.1"));
    assert_eq!(code, Some(2));
    assert!(err.contains("ALL_PROXY") && !err.contains("hush"), "{err}");
}
