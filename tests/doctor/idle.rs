//! How long a quiet socket lives, and whether pings prolong it.

use std::time::Duration;

use serde_json::Value;

use crate::{
    Finding, examine,
    server::{echo, grant, head, plain, speak},
};

/// The quiet time after which the server cuts; half of it is how late a ping may be on a busy machine.
const LIFE: Duration = Duration::from_secs(2);

fn idle(port: u16, limit: &str, exit_code: i32) -> Finding {
    examine(&format!("ws://127.0.0.1:{port}/"), &["--idle", limit], exit_code)
}

/// That it was cut when the server did it.
#[track_caller]
fn assert_cut(seen: &Value, end: &str) {
    assert_eq!(seen["end"], end, "{seen}");
    let after = seen["after_ms"].as_u64().unwrap();
    assert!((1_900..15_000).contains(&after), "{seen}");
}

#[test]
fn a_quiet_socket_that_is_held_is_well() {
    let found = idle(echo(crate::program::DEADLINE), "1s", 0);
    assert_eq!(found.seen("idle")["end"], "held");
    assert!(found.seen("idle")["pinged"].is_null());
}

#[test]
fn one_that_is_cut_is_held_with_pings() {
    let found = idle(echo(LIFE), "20s", 18);
    assert_eq!(found.says(), [("idle_cut", "load_balancer")]);
    assert_cut(found.seen("idle"), "closed");
    assert_eq!(found.seen("idle")["pinged"]["held"], true, "{}", found.text);
    assert!(found.evidence().contains("Pings prevent it"), "{}", found.text);
}

#[test]
fn a_limit_on_the_whole_life_is_told_from_an_idle_time_out() {
    let port = plain(|stream| {
        let head = head(stream);
        if head.is_empty() {
            return;
        }
        grant(stream, &head, "");
        let ends = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            std::thread::park_timeout(LIFE);
            let _ = ends.shutdown(std::net::Shutdown::Both);
        });
        speak(stream);
    });
    let found = idle(port, "20s", 18);
    assert_eq!(found.seen("idle")["pinged"]["held"], false, "{}", found.text);
    assert!(found.evidence().contains("whole life"), "{}", found.text);
}

#[test]
fn a_goodbye_is_the_servers_own() {
    let port = plain(|stream| {
        let head = head(stream);
        if head.is_empty() {
            return;
        }
        grant(stream, &head, "");
        stream.set_read_timeout(Some(LIFE)).unwrap();
        speak(stream);
        let _ = std::io::Write::write_all(stream, b"\x88\x02\x03\xe9");
    });
    let found = idle(port, "20s", 18);
    assert_eq!(found.says(), [("idle_cut", "server")]);
    assert_cut(found.seen("idle"), "close_frame");
    assert_eq!(found.seen("idle")["close"]["code"], 1001);
}

#[test]
fn one_that_is_forgotten_without_a_word_is_found_by_a_ping() {
    let port = plain(|stream| {
        let head = head(stream);
        if head.is_empty() {
            return;
        }
        grant(stream, &head, "");
        stream.set_read_timeout(Some(LIFE)).unwrap();
        speak(stream);
        // Open, and deaf, until the client leaves.
        stream.set_read_timeout(None).unwrap();
        let _ = std::io::Read::read_to_end(stream, &mut Vec::new());
    });
    let found =
        examine(&format!("ws://127.0.0.1:{port}/"), &["--idle", "3s", "--timeout", "500ms"], 18);
    assert_eq!(found.says(), [("idle_cut", "firewall")]);
    assert_eq!(found.seen("idle")["end"], "dead");
    assert_eq!(found.seen("idle")["pinged"]["held"], true, "{}", found.text);
}
