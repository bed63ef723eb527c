//! A gateway to test, peers to test it with, and certificates for both.

mod certificates;
mod crowd;
mod flow;
mod frames;
mod harness;
mod peer;
mod stage;

use std::time::{Duration, Instant};

pub use self::{
    certificates::{Authority, Certificate, client_config, only_tls12, server_config},
    crowd::{EchoProcess, assert_even, goodbyes, raise_file_limit},
    flow::{await_standstill, send_all},
    frames::{Frame, OpCode},
    harness::{Harness, Hosts, echo_backend, host, open_over, prefix, rule, rule_of, tls_host},
    peer::{ACCEPT, Backend, Head, KEY, Peer, switching, upgrade_request, upgrade_with},
    stage::{Stage, Wire},
};

/// Everything that a test waits for happens within it; only a failing test takes so long.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Polls until `condition` holds; `what` says what was waited for.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
