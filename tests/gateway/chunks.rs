//! Frames that come in a few bytes at a time, cut anywhere: what arrives is what was sent. Seeded, so that a failure can be played again.

use fastrand::Rng;

use crate::support::{
    Authority, Frame, Harness, OpCode, Peer, Stage, Wire, client_config, echo_backend, host, rule,
    tls_host, upgrade_request,
};

/// Payload lengths around those where headers change, and others.
fn length(rng: &mut Rng) -> usize {
    match rng.u8(..8) {
        0 => 0,
        1 => rng.usize(124..129),
        2 => rng.usize(129..2000),
        _ => rng.usize(1..40),
    }
}

fn noise(rng: &mut Rng, length: usize) -> Vec<u8> {
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

/// A message in one to five fragments, control frames between some of them; its frames and its payload.
fn message(rng: &mut Rng, masked: bool, control: bool) -> (Vec<u8>, Vec<u8>) {
    let (mut frames, mut whole) = (Vec::new(), Vec::new());
    let fragments = if rng.bool() { 1 } else { rng.usize(2..6) };
    for number in 0..fragments {
        let mask = masked.then(|| rng.u32(..).to_ne_bytes());
        let length = length(rng);
        let payload = noise(rng, length);
        let opcode = if number == 0 { OpCode::Binary } else { OpCode::Continuation };
        frames.extend(Frame::part(number + 1 == fragments, opcode, &payload, mask));
        whole.extend(payload);
        if control && rng.u8(..3) == 0 {
            let opcode = if rng.bool() { OpCode::Ping } else { OpCode::Pong };
            let length = rng.usize(..126);
            frames.extend(Frame::bytes(opcode, &noise(rng, length), mask));
        }
    }
    (frames, whole)
}

fn stream(rng: &mut Rng, masked: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < 6000 {
        bytes.extend(message(rng, masked, true).0);
    }
    bytes
}

/// Cuts one to seven bytes off.
fn chunk<'b>(rng: &mut Rng, rest: &mut &'b [u8]) -> &'b [u8] {
    let (chunk, left) = rest.split_at(rng.usize(1..8).min(rest.len()));
    *rest = left;
    chunk
}

#[test]
fn both_directions_arrive_unchanged_however_they_are_cut() {
    for wire in Wire::BOTH {
        let stage = Stage::new(wire, |_| {});
        for seed in 0..3 {
            let mut rng = Rng::with_seed(seed);
            let (up, down) = (stream(&mut rng, true), stream(&mut rng, false));
            // The first of them together with the handshake.
            let (early_up, mut late_up) = up.split_at(rng.usize(..200));
            let (early_down, mut late_down) = down.split_at(rng.usize(..200));
            let (mut client, mut server) = stage.open_with(early_up, early_down);
            while !(late_up.is_empty() && late_down.is_empty()) {
                client.send(chunk(&mut rng, &mut late_up));
                server.send(chunk(&mut rng, &mut late_down));
            }
            assert!(server.bytes(up.len()) == up, "seed {seed}, {wire:?}");
            assert!(client.bytes(down.len()) == down, "seed {seed}, {wire:?}");
            client.send(Frame::client_close(1000, ""));
            assert_eq!(server.close().0, 1000);
            server.send(Frame::server_close(1000, ""));
            assert_eq!(client.close().0, 1000);
            assert!(client.rest().is_empty());
        }
    }
}

/// Sends messages in pieces and reads their echoes, one after the other.
fn assert_echoes(mut client: Peer, seed: u64) {
    client.send(upgrade_request("a.test"));
    assert_eq!(client.head().status(), 101);
    let mut rng = Rng::with_seed(seed);
    for number in 0..40 {
        let (frames, whole) = message(&mut rng, true, false);
        let mut rest = &*frames;
        while !rest.is_empty() {
            client.send(chunk(&mut rng, &mut rest));
        }
        let echo = client.frame();
        assert!(echo.payload == whole, "message {number} of seed {seed} came back changed");
    }
}

#[test]
fn messages_of_all_sizes_and_fragmentations_are_echoed_however_they_are_cut() {
    let gateway = Harness::start(vec![host("a.test", rule(&[echo_backend()]))]);
    assert_echoes(gateway.client(), 7);
    let authority = Authority::new();
    let identity = authority.certify("a.test").identity("a", false);
    let gateway = Harness::start(vec![tls_host("a.test", &identity, rule(&[echo_backend()]))]);
    assert_echoes(gateway.tls_client(&client_config(&authority.pem), "a.test"), 8);
}
