//! Every cause of an end, played over real sockets in clear text and over TLS: what each side is told, frame by frame, that
//! nothing comes behind it, and what is counted.

use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use socket2::SockRef;
use tidegate::{gateway::frames::Violation, table::FrameChecks};

use crate::support::{Frame, OpCode, Peer, Stage, Wire, eventually, send_all};

mod breaches;
mod rates;

const MASK: Option<[u8; 4]> = Some([0xa1, 0xb2, 0xc3, 0xd4]);
const UP: &str = "client_to_backend";
const DOWN: &str = "backend_to_client";
const TO_CLIENT: &str = "gateway_to_client";
const TO_BACKEND: &str = "gateway_to_backend";

/// The role of a peer in a test that is played with either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Client,
    Backend,
}

impl Who {
    const BOTH: [Self; 2] = [Self::Client, Self::Backend];

    /// Itself first, then the other one.
    fn first(self, (client, server): (Peer, Peer)) -> (Peer, Peer) {
        if self == Self::Client { (client, server) } else { (server, client) }
    }

    fn mask(self) -> Option<[u8; 4]> {
        if self == Self::Client { MASK } else { None }
    }

    /// A sound frame of its own.
    fn frame(self, fin: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
        Frame::part(fin, opcode, payload, self.mask())
    }

    fn says_close(self, code: u16) -> Vec<u8> {
        self.frame(true, OpCode::Close, &code.to_be_bytes())
    }

    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }

    /// The direction label of what it sends.
    const fn sends(self) -> &'static str {
        match self {
            Self::Client => UP,
            Self::Backend => DOWN,
        }
    }

    /// The direction label of what the gateway sends to it.
    const fn is_told(self) -> &'static str {
        match self {
            Self::Client => TO_CLIENT,
            Self::Backend => TO_BACKEND,
        }
    }

    /// Reads our Close frame, which must be masked towards the backend alone, and checks its words.
    #[track_caller]
    fn hears(self, peer: &mut Peer, code: u16, reason: &str) {
        let frame = peer.frame();
        assert_eq!(frame.close(), (code, reason.to_owned()));
        assert_eq!((frame.fin, frame.masked), (true, self == Self::Backend));
    }
}

/// Both are told so; both answer; nothing else comes.
#[track_caller]
fn assert_farewell(
    (mut client, mut server): (Peer, Peer),
    to_client: (u16, &str),
    to_backend: (u16, &str),
) {
    Who::Client.hears(&mut client, to_client.0, to_client.1);
    Who::Backend.hears(&mut server, to_backend.0, to_backend.1);
    client.send(Who::Client.says_close(to_client.0));
    server.send(Who::Backend.says_close(to_backend.0));
    assert!(client.ended().is_empty() && server.ended().is_empty());
}

#[test]
fn who_closes_first_is_the_cause_and_both_close_frames_pass_unchanged() {
    for wire in Wire::BOTH {
        for who in Who::BOTH {
            let stage = Stage::new(wire, |rule| rule.timeouts.close = Duration::from_secs(60));
            let (mut first, mut second) = who.first(stage.open());
            let close = who.frame(true, OpCode::Close, b"\x0f\xa1see you");
            first.send(&close);
            assert_eq!(second.bytes(close.len()), close);
            let answer = who.other().frame(true, OpCode::Close, b"\x03\xe8");
            second.send(&answer);
            assert_eq!(first.bytes(answer.len()), answer);
            // The gateway ends the client's connection as a server does, and waits for the backend to do so.
            let (mut client, mut server) = who.first((first, second));
            assert!(client.ended().is_empty());
            drop(client);
            assert!(server.ended().is_empty());
            drop(server);
            let cause = if who == Who::Client { "client_closed" } else { "backend_closed" };
            let codes = [(who.sends(), "4xxx"), (who.other().sends(), "1000")];
            stage.assert_ended(cause, 1, &codes);
        }
    }
}

#[test]
fn who_ends_without_a_close_frame_is_the_cause_and_the_other_side_is_told() {
    for wire in Wire::BOTH {
        for who in Who::BOTH {
            let stage = Stage::new(wire, |_| {});
            let (mut first, mut second) = who.first(stage.open());
            first.send(who.frame(true, OpCode::Text, b"last words"));
            drop(first);
            assert_eq!(second.text(), "last words");
            let (cause, code, reason) = match who {
                Who::Client => ("client_closed", 1001, "the client has gone"),
                Who::Backend => ("backend_closed", 1012, "the backend has gone: connect again"),
            };
            who.other().hears(&mut second, code, reason);
            second.send(who.other().says_close(code));
            assert!(second.ended().is_empty());
            drop(second);
            let code = code.to_string();
            stage.assert_ended(
                cause,
                1,
                &[(who.other().is_told(), &code), (who.other().sends(), &code)],
            );
        }
    }
}

#[test]
fn a_close_frame_that_was_not_answered_is_answered_by_the_gateway() {
    for who in Who::BOTH {
        let stage = Stage::new(Wire::Clear, |_| {});
        let (mut first, mut second) = who.first(stage.open());
        first.send(who.says_close(4001));
        assert_eq!(second.frame().close().0, 4001);
        drop(second);
        who.hears(&mut first, 4001, "");
        assert!(first.ended().is_empty());
        drop(first);
        let cause = if who == Who::Client { "client_closed" } else { "backend_closed" };
        stage.assert_ended(cause, 1, &[(who.sends(), "4xxx"), (who.is_told(), "4xxx")]);
    }
}

#[test]
fn a_code_that_may_not_be_sent_passes_unchecked_but_is_not_sent_back() {
    for who in Who::BOTH {
        let stage = Stage::new(Wire::Clear, |rule| rule.frames = FrameChecks::PassThrough);
        let (mut first, mut second) = who.first(stage.open());
        first.send(who.says_close(1006));
        assert_eq!(second.frame().close().0, 1006);
        drop(second);
        assert_eq!((first.frame().payload, first.ended()), (Vec::new(), Vec::new()));
        drop(first);
        let cause = if who == Who::Client { "client_closed" } else { "backend_closed" };
        stage.assert_ended(cause, 1, &[(who.sends(), "invalid"), (who.is_told(), "none")]);
    }
}

#[test]
fn a_silent_connection_ends_as_idle() {
    for wire in Wire::BOTH {
        let idle = Duration::from_millis(100);
        let stage = Stage::new(wire, |rule| rule.timeouts.idle = Some(idle));
        let begun = Instant::now();
        let pair = stage.open();
        assert_farewell(pair, (1001, "idle timeout"), (1001, "idle timeout"));
        assert!(begun.elapsed() >= idle);
        let codes = [(TO_CLIENT, "1001"), (TO_BACKEND, "1001"), (UP, "1001"), (DOWN, "1001")];
        stage.assert_ended("idle", 1, &codes);
    }
}

#[test]
fn a_connection_ends_at_its_maximum_duration_however_busy_it_is() {
    for wire in Wire::BOTH {
        let limit = Duration::from_millis(200);
        let stage = Stage::new(wire, |rule| {
            rule.timeouts.max_duration = Some(limit);
            rule.timeouts.max_duration_jitter = 0;
            rule.drain.close_code = 4999;
        });
        let begun = Instant::now();
        let (mut client, mut server) = stage.open();
        let to_client = loop {
            server.send(Frame::from_server("tick"));
            let frame = client.frame();
            if frame.opcode == OpCode::Close as u8 {
                break frame;
            }
        };
        assert!(begun.elapsed() >= limit);
        assert_eq!(to_client.close(), (4999, "maximum duration reached".into()));
        Who::Backend.hears(&mut server, 1001, "maximum duration reached");
        client.send(Who::Client.says_close(1000));
        server.send(Who::Backend.says_close(1000));
        assert!(client.ended().is_empty() && server.ended().is_empty());
        let codes = [(TO_CLIENT, "4xxx"), (TO_BACKEND, "1001"), (UP, "1000"), (DOWN, "1000")];
        stage.assert_ended("max_duration", 1, &codes);
    }
}

#[test]
fn jitter_spreads_the_ends_of_what_opened_together() {
    let limit = Duration::from_millis(1200);
    let stage = Stage::new(Wire::Clear, |rule| {
        rule.timeouts.max_duration = Some(limit);
        rule.timeouts.max_duration_jitter = 75;
    });
    let begun = Instant::now();
    let pairs: Vec<_> = (0..24).map(|_| stage.open()).collect();
    let ends: Vec<_> = pairs
        .into_iter()
        .map(|(mut client, server)| {
            std::thread::spawn(move || {
                let close = client.close();
                drop(server);
                (begun.elapsed(), close)
            })
        })
        .collect();
    let ends: Vec<_> = ends.into_iter().map(|end| end.join().unwrap()).collect();
    assert!(ends.iter().all(|(_, (code, _))| *code == 1012), "{ends:?}");
    // None before a quarter of the time; and not all at one end of what is left.
    assert!(ends.iter().all(|(at, _)| *at >= limit / 4), "{ends:?}");
    let (first, last) = (ends.iter().min().unwrap().0, ends.iter().max().unwrap().0);
    assert!(last - first > limit / 5, "{ends:?}");
    stage.gateway.await_metric(
        "tidegate_connections_closed_total",
        &[("cause", "max_duration")],
        24.0,
    );
}

#[test]
fn a_peer_that_answers_no_ping_is_given_up_and_the_other_is_told() {
    for wire in Wire::BOTH {
        for who in Who::BOTH {
            let (ping, pong) = (Duration::from_millis(30), Duration::from_millis(60));
            let stage = Stage::new(wire, |rule| {
                match who {
                    Who::Client => rule.keepalive.client_ping = Some(ping),
                    Who::Backend => rule.keepalive.backend_ping = Some(ping),
                }
                rule.keepalive.pong_timeout = pong;
            });
            let begun = Instant::now();
            let (mut mute, mut other) = who.first(stage.open());
            let frame = mute.frame();
            assert_eq!((frame.opcode, frame.masked), (9, who == Who::Backend));
            who.hears(&mut mute, 1001, "no answer to a ping");
            assert!(begun.elapsed() >= ping + pong);
            // What it says now is too late.
            mute.send(who.frame(true, OpCode::Text, b"late"));
            assert!(mute.ended().is_empty());
            let (code, reason) = match who {
                Who::Client => (1001, "the client does not answer"),
                Who::Backend => (1012, "the backend does not answer: connect again"),
            };
            who.other().hears(&mut other, code, reason);
            other.send(who.other().says_close(code));
            assert!(other.ended().is_empty());
            drop(mute);
            let code = code.to_string();
            let codes = [
                (who.is_told(), "1001"),
                (who.other().is_told(), &*code),
                (who.other().sends(), &*code),
            ];
            stage.assert_ended("pong_timeout", 1, &codes);
        }
    }
}

#[test]
fn a_peer_that_never_reads_is_reset_and_the_other_is_told() {
    for wire in Wire::BOTH {
        for who in Who::BOTH {
            let stage = Stage::new(wire, |rule| {
                rule.timeouts.write_stall = Some(Duration::from_millis(200));
            });
            let (stuck, talker) = who.first(stage.open());
            let mut socket = Peer::over(&stuck.socket);
            let frame = who.other().frame(true, OpCode::Binary, &vec![7; 64 * 1024]);
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = Arc::clone(&stop);
            let talking = std::thread::spawn(move || {
                let mut talker = talker;
                // What is sent after the end is thrown away: it never blocks for good.
                while !stopped.load(Relaxed) {
                    talker.send(&frame);
                    if talker.has_input() {
                        break;
                    }
                }
                let (code, reason) = match who {
                    Who::Client => (1001, "the client takes nothing"),
                    Who::Backend => (1013, "the backend takes nothing"),
                };
                who.other().hears(&mut talker, code, reason);
                talker.send(who.other().says_close(code));
                assert!(talker.ended().is_empty());
            });
            let closed = "tidegate_connections_closed_total";
            eventually("it has ended", || stage.gateway.metric(closed, &[]) > 0.0);
            stop.store(true, Relaxed);
            talking.join().unwrap();
            // What it finds now ends in a reset, not in an orderly end.
            assert!(socket.is_reset(), "the stalled socket is not reset");
            drop(stuck);
            let code = if who == Who::Client { "1001" } else { "1013" };
            let codes = [(who.other().is_told(), code), (who.other().sends(), code)];
            stage.assert_ended("write_stall", 1, &codes);
        }
    }
}

#[test]
fn a_client_that_reads_slowly_but_steadily_does_not_stall() {
    for wire in Wire::BOTH {
        let stall = Duration::from_secs(1);
        let stage = Stage::new(wire, |rule| rule.timeouts.write_stall = Some(stall));
        let (mut client, server) = stage.open();
        SockRef::from(&client.socket).set_recv_buffer_size(16 * 1024).unwrap();
        let payload = vec![7; 32 * 1024];
        send_all(server, Frame::bytes(OpCode::Binary, &payload, None), 10_000);
        let begin = Instant::now();
        // Less than 200 KiB a second: the kernel tells of no progress for longer than the time to stall.
        while begin.elapsed() < stall * 3 {
            client.bytes(4096);
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert_eq!(stage.gateway.metric("tidegate_connections_closed_total", &[]), 0.0);
    }
}

#[test]
fn a_reader_that_takes_a_little_now_and_then_stalls_all_the_same() {
    for wire in Wire::BOTH {
        let stall = Duration::from_secs(2);
        let stage = Stage::new(wire, |rule| rule.timeouts.write_stall = Some(stall));
        let (client, server) = stage.open();
        SockRef::from(&client.socket).set_recv_buffer_size(4096).unwrap();
        send_all(server, Frame::bytes(OpCode::Binary, &vec![7; 32 * 1024], None), 1000);
        let closed = "tidegate_connections_closed_total";
        let mut socket = &client.socket;
        eventually("it has ended", || {
            // A byte at a time, far below 512 bytes a second.
            let _ = std::io::Read::read(&mut socket, &mut [0]);
            std::thread::park_timeout(Duration::from_millis(50));
            stage.gateway.metric(closed, &[]) > 0.0
        });
        stage.gateway.await_cause("write_stall");
    }
}

#[test]
fn a_gateway_that_shuts_down_says_so_to_both() {
    for wire in Wire::BOTH {
        let mut stage = Stage::new(wire, |rule| rule.drain.close_code = 3000);
        let pair = stage.open();
        let running = stage.gateway.take_gateway();
        let down = std::thread::spawn(move || running.shut_down());
        let words = "gateway is shutting down";
        assert_farewell(pair, (3000, words), (1001, words));
        down.join().unwrap();
        let codes = [(TO_CLIENT, "3xxx"), (TO_BACKEND, "1001"), (UP, "3xxx"), (DOWN, "1001")];
        stage.assert_ended("drain", 1, &codes);
    }
}

#[test]
fn a_reset_of_either_side_is_told_to_the_other() {
    for wire in Wire::BOTH {
        for who in Who::BOTH {
            let stage = Stage::new(wire, |_| {});
            let (gone, mut other) = who.first(stage.open());
            gone.reset();
            let (code, reason) = match who {
                Who::Client => (1001, "the client has gone"),
                Who::Backend => (1012, "the backend has gone: connect again"),
            };
            who.other().hears(&mut other, code, reason);
            assert!(other.ended().is_empty());
            drop(other);
            stage.assert_ended("reset", 1, &[(who.other().is_told(), &code.to_string())]);
        }
    }
}

#[test]
fn broken_tls_of_either_side_is_told_to_the_other() {
    for who in Who::BOTH {
        let stage = Stage::new(Wire::Tls, |_| {});
        let (broken, mut other) = who.first(stage.open());
        // A record of application data that no key has made, past the TLS of that peer.
        let forged = [&[23, 3, 3, 0, 32][..], &[0; 32]].concat();
        Peer::over(&broken.socket).send(forged);
        let (code, reason) = match who {
            Who::Client => (1001, "the client has gone"),
            Who::Backend => (1012, "the backend has gone: connect again"),
        };
        who.other().hears(&mut other, code, reason);
        assert!(other.ended().is_empty());
        drop((broken, other));
        stage.assert_ended("tls_error", 1, &[(who.other().is_told(), &code.to_string())]);
    }
}
