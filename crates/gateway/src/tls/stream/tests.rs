//! The stream against rustls's own buffered connections, over loopback sockets.

mod peer;

use std::{
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use rustls::{
    ServerConnection, SupportedProtocolVersion,
    client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
    version::{TLS12, TLS13},
};
use socket2::SockRef;
use tokio::{io::AsyncReadExt, time::timeout};

use self::peer::{Peer, as_client, as_server, client_config, server_config, sockets};
use super::*;
use crate::{request_head::Awaited, transport::Transport};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// Runs a test, on a runtime that looks at its sockets after every step.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().event_interval(1).build();
    let late = "it ends within the deadline";
    runtime.unwrap().block_on(async { timeout(Duration::from_secs(10), test).await.expect(late) })
}

/// Reads so many bytes into buffers of a size.
async fn read<C: Connection>(stream: &mut TlsStream<C>, count: usize, size: usize) -> Vec<u8> {
    let (mut got, mut buffer) = (Vec::new(), vec![0; size]);
    while got.len() < count {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "ended after {} bytes", got.len());
        got.extend(&buffer[..read]);
    }
    got
}

/// Polls once.
async fn now<C: Connection, T>(
    stream: &mut TlsStream<C>,
    mut poll: impl FnMut(Pin<&mut TlsStream<C>>, &mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    let once = std::future::poll_fn(|cx| Poll::Ready(poll(Pin::new(stream), cx)));
    // tokio's own budget is no answer of the socket.
    tokio::task::unconstrained(once).await
}

/// The error that a stream gives for a failure of TLS.
#[track_caller]
fn tls_failure<T: fmt::Debug>(result: io::Result<T>) -> rustls::Error {
    let error = result.expect_err("TLS has failed");
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.expect("an error of rustls is inside").clone()
}

#[track_caller]
fn assert_holds_no_buffer<C>(stream: &TlsStream<C>) {
    let held = [&stream.received, &stream.plain.bytes, &stream.unsent.bytes];
    assert_eq!(held.map(Vec::capacity), [0; 3]);
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(31) >> 3) as u8).collect()
}

/// Both ways, with the peer's records cut into chunks of these sizes, one after the other.
async fn exchange<C: Connection>(
    (mut stream, mut peer): (TlsStream<C>, Peer),
    messages: &[usize],
    chunks: &[usize],
    buffer: usize,
) {
    let mut sizes = chunks.iter().cycle();
    for &length in messages {
        let data = pattern(length);
        peer.tls.writer().write_all(&data).unwrap();
        let records = peer.records();
        let send = async {
            let mut rest = &records[..];
            while !rest.is_empty() {
                let (chunk, more) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                peer.tcp.write_all(chunk).await.unwrap();
                rest = more;
                tokio::task::yield_now().await;
            }
        };
        let (got, ()) = tokio::join!(read(&mut stream, length, buffer), send);
        assert!(got == data, "what is read is what was written");
        let answer = async {
            for part in data.chunks(buffer) {
                stream.write_all(part).await.unwrap();
            }
            stream.flush().await.unwrap();
        };
        let (got, ()) = tokio::join!(peer.read(length), answer);
        assert!(got == data, "what is written is what is read");
    }
    assert_holds_no_buffer(&stream);
}

fn chunk_sizes() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    let few = prop::collection::vec(1..3_000_usize, 1..4);
    let many = prop::collection::vec(1..50_000_usize, 1..4);
    prop_oneof![
        (few, prop::collection::vec(1..=7_usize, 1..9)),
        (many, prop::collection::vec(1..40_000_usize, 1..9)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_split_of_the_records_gives_the_same_plaintext(
        (messages, chunks) in chunk_sizes(),
        buffer in 1..40_000_usize,
        version in prop::sample::select(&VERSIONS[..]),
        server: bool,
    ) {
        // A buffer of a few bytes for a long message makes a record of each byte.
        let buffer = buffer.max(messages.iter().max().unwrap() / 100);
        run(async {
            if server {
                exchange(as_server(server_config(version)).await, &messages, &chunks, buffer).await;
            } else {
                exchange(as_client(server_config(version)).await, &messages, &chunks, buffer).await;
            }
        });
    }
}

#[test]
fn a_reader_with_little_room_gets_a_record_bit_by_bit() {
    run(async {
        let (mut stream, mut peer) = as_server(server_config(&TLS13)).await;
        let data = pattern(RECORD);
        peer.send(&data).await;
        assert!(read(&mut stream, 7, 7).await == data[..7]);
        assert_eq!(stream.plain.rest().len(), RECORD - 7);
        assert!(read(&mut stream, RECORD - 7, 1000).await == data[7..]);
        assert_holds_no_buffer(&stream);
    });
}

#[test]
fn a_slow_receiver_pins_no_more_than_two_records_and_gets_everything() {
    for version in VERSIONS {
        run(async {
            let (mut stream, mut peer) = as_server(server_config(version)).await;
            SockRef::from(&stream.tcp).set_send_buffer_size(16 * 1024).unwrap();
            let data = pattern(8_000_000);
            let mut sent = 0;
            // Until the sockets are full.
            while let Poll::Ready(count) =
                now(&mut stream, |stream, cx| stream.poll_write(cx, &data[sent..])).await
            {
                let count = count.unwrap();
                assert!((1..=RECORDS_PER_WRITE * RECORD).contains(&count));
                sent += count;
            }
            let pinned = stream.unsent.bytes.capacity();
            assert!((1..WIRE_OUT).contains(&pinned), "{pinned}");
            let rest = async {
                stream.write_all(&data[sent..]).await.unwrap();
                stream.flush().await.unwrap();
            };
            let (got, ()) = tokio::join!(peer.read(data.len()), rest);
            assert!(got == data);
            assert_holds_no_buffer(&stream);
        });
    }
}

#[test]
fn nothing_is_written_behind_our_close_notify() {
    run(async {
        let (mut stream, mut peer) = as_server(server_config(&TLS13)).await;
        let data = pattern(RECORD);
        let mut sent = 0;
        while let Poll::Ready(count) = now(&mut stream, |s, cx| s.poll_write(cx, &data)).await {
            sent += count.unwrap();
        }
        // It waits behind what the socket did not take.
        assert!(now(&mut stream, |stream, cx| stream.poll_shutdown(cx)).await.is_pending());
        let error = stream.write(b"too late").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let (got, shut) = tokio::join!(peer.read(sent), stream.shutdown());
        shut.unwrap();
        assert_eq!(got.len(), sent);
        while peer.receive().await.unwrap() {}
        assert_eq!(peer.tls.reader().read(&mut [0; 8]).unwrap(), 0);
        assert!(peer.plaintext.is_empty());
    });
}

#[test]
fn after_the_close_notify_of_the_peer_reading_ends_and_writing_goes_on() {
    run(async {
        let (mut stream, mut peer) = as_server(server_config(&TLS13)).await;
        peer.tls.writer().write_all(b"last words").unwrap();
        peer.tls.send_close_notify();
        peer.flush().await;
        assert_eq!(read(&mut stream, 10, 100).await, b"last words");
        for _ in 0..2 {
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        }
        stream.write_all(b"an answer").await.unwrap();
        assert_eq!(peer.read(9).await, b"an answer");
        stream.shutdown().await.unwrap();
        while peer.receive().await.unwrap() {}
        // `Ok(0)`: the end was announced by close_notify.
        assert_eq!(peer.tls.reader().read(&mut [0; 8]).unwrap(), 0);
        let error = stream.write(b"too late").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn after_our_shutdown_the_peer_is_still_read() {
    for version in VERSIONS {
        run(async {
            let (mut stream, mut peer) = as_client(server_config(version)).await;
            stream.write_all(b"a question").await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(peer.read(10).await, b"a question");
            while peer.receive().await.unwrap() {}
            assert_eq!(peer.tls.reader().read(&mut [0; 8]).unwrap(), 0);
            peer.send(b"an answer").await;
            assert_eq!(read(&mut stream, 9, 100).await, b"an answer");
        });
    }
}

#[test]
fn an_end_without_close_notify_is_unexpected_and_writing_goes_on() {
    run(async {
        let (mut stream, mut peer) = as_server(server_config(&TLS13)).await;
        peer.send(b"last words").await;
        peer.tcp.shutdown().await.unwrap();
        assert_eq!(read(&mut stream, 10, 100).await, b"last words");
        for _ in 0..2 {
            let error = stream.read(&mut [0; 8]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        stream.write_all(b"an answer").await.unwrap();
        assert_eq!(peer.read(9).await, b"an answer");
    });
}

/// The peer changes its keys again and again, and asks for new ones of ours.
async fn assert_keys_can_change<C: Connection>((mut stream, mut peer): (TlsStream<C>, Peer)) {
    for _ in 0..3 {
        peer.tls.refresh_traffic_keys().unwrap();
        peer.send(b"under new keys").await;
        assert_eq!(read(&mut stream, 14, 100).await, b"under new keys");
        stream.write_all(b"under ours").await.unwrap();
        assert_eq!(peer.read(10).await, b"under ours");
    }
    peer.tls.refresh_traffic_keys().unwrap();
    peer.send(b"x").await;
    assert_eq!(read(&mut stream, 1, 100).await, b"x");
    // The answer to a key update goes before the close_notify, which is under the new keys.
    stream.shutdown().await.unwrap();
    while peer.receive().await.unwrap() {}
    assert_eq!(peer.tls.reader().read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn the_peer_may_change_its_keys_at_any_time() {
    run(async {
        assert_keys_can_change(as_server(server_config(&TLS13)).await).await;
        assert_keys_can_change(as_client(server_config(&TLS13)).await).await;
    });
}

#[test]
fn a_bad_record_fails_after_what_came_before_it_and_is_answered_by_an_alert() {
    for version in VERSIONS {
        run(async {
            let (mut stream, mut peer) = as_server(server_config(version)).await;
            peer.tls.writer().write_all(b"sound").unwrap();
            let mut wire = peer.records();
            wire.extend([23, 3, 3, 0, 32]);
            wire.extend([0; 32]);
            peer.tcp.write_all(&wire).await.unwrap();
            assert_eq!(read(&mut stream, 5, 100).await, b"sound");
            for _ in 0..2 {
                let failure = tls_failure(stream.read(&mut [0; 8]).await);
                assert_eq!(failure, rustls::Error::DecryptError);
            }
            let told = peer.receive().await.unwrap_err();
            assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
            assert_eq!(tls_failure(stream.write(b"more").await), rustls::Error::DecryptError);
            // Nothing is said behind a fatal alert, but the socket is shut.
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            peer.tcp.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty(), "{rest:?}");
        });
    }
}

#[test]
fn an_alert_is_not_held_back_with_the_tickets() {
    run(async {
        let mut config = server_config(&TLS13);
        config.send_tls13_tickets = 1;
        let (mut stream, mut peer) = as_server(config).await;
        peer.tcp.write_all(&[&[23, 3, 3, 0, 32][..], &[0; 32]].concat()).await.unwrap();
        assert_eq!(tls_failure(stream.read(&mut [0; 8]).await), rustls::Error::DecryptError);
        let alert = rustls::AlertDescription::BadRecordMac;
        assert_eq!(peer.receive().await, Err(rustls::Error::AlertReceived(alert)));
    });
}

#[test]
fn a_fatal_alert_of_the_peer_is_an_error_that_says_so() {
    run(async {
        let (mut stream, mut peer) = as_server(server_config(&TLS13)).await;
        let mut forged = &[&[23, 3, 3, 0, 32][..], &[0; 32]].concat()[..];
        peer.tls.read_tls(&mut forged).unwrap();
        peer.tls.process_new_packets().unwrap_err();
        peer.flush().await;
        let failure = tls_failure(stream.read(&mut [0; 8]).await);
        let alert = rustls::AlertDescription::BadRecordMac;
        assert_eq!(failure, rustls::Error::AlertReceived(alert));
    });
}

#[test]
fn a_ticket_that_comes_in_pieces_disturbs_neither_direction() {
    run(async {
        let mut config = server_config(&TLS13);
        config.max_fragment_size = Some(40);
        config.send_tls13_tickets = 2;
        let (server_config, client_config) = (Arc::new(config), client_config());
        let connect = async || {
            let (ours, theirs) = sockets().await;
            let name = "a.test".try_into().unwrap();
            let tls = UnbufferedClientConnection::new(Arc::clone(&client_config), name).unwrap();
            let server = ServerConnection::new(Arc::clone(&server_config)).unwrap();
            let mut peer = Peer::new(server, theirs);
            let server = async {
                while peer.tls.is_handshaking() {
                    peer.flush().await;
                    assert!(peer.receive().await.unwrap());
                }
                peer.records()
            };
            let client = TlsStream::handshake(ours, tls, Vec::new());
            let (stream, tickets) = tokio::join!(client, server);
            (stream.unwrap(), peer, tickets)
        };
        let (mut stream, mut peer, tickets) = connect().await;
        assert!(tickets.len() > 200, "there are tickets");
        for piece in tickets.chunks(70) {
            peer.tcp.write_all(piece).await.unwrap();
            // Nothing for the reader, but it looks at what came.
            stream.tcp.readable().await.unwrap();
            let mut buffer = [0; 8];
            let read =
                now(&mut stream, |stream, cx| stream.poll_read(cx, &mut ReadBuf::new(&mut buffer)));
            assert!(read.await.is_pending());
            stream.write_all(b"between").await.unwrap();
            assert_eq!(peer.read(7).await, b"between");
        }
        peer.send(b"data").await;
        assert_eq!(read(&mut stream, 4, 100).await, b"data");
        assert_holds_no_buffer(&stream);
        let (next, ..) = connect().await;
        assert_eq!(next.tls.common().handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    });
}

#[test]
fn the_ticket_for_a_client_is_sent_together_with_the_first_answer() {
    run(async {
        let mut config = server_config(&TLS13);
        config.send_tls13_tickets = 1;
        let (mut stream, mut peer) = as_server(config).await;
        peer.send(b"question").await;
        assert_eq!(read(&mut stream, 8, 100).await, b"question");
        stream.flush().await.unwrap();
        let held = stream.unsent.rest().len();
        assert!((1..CORK).contains(&held), "{held}");
        stream.write_all(b"answer").await.unwrap();
        assert_holds_no_buffer(&stream);
        assert!(peer.receive().await.unwrap());
        assert_eq!(peer.plaintext, b"answer", "with one read");
        let rustls::Connection::Client(client) = &peer.tls else { panic!("it is a client") };
        assert!(client.tls13_tickets_received() > 0);
    });
}

#[test]
fn the_end_of_a_handshake_is_acknowledged_at_once() {
    run(async {
        let (stream, _peer) = as_server(server_config(&TLS13)).await;
        let mut transport = Transport::Server(Box::new(stream));
        let quick = |transport: &Transport| {
            let Transport::Server(stream) = transport else { unreachable!() };
            SockRef::from(&stream.tcp).tcp_quickack().unwrap()
        };
        assert!(!quick(&transport), "the kernel waits for a write of ours to acknowledge with");
        transport.wait_for_head(Awaited::Head);
        assert!(quick(&transport));
    });
}

#[test]
fn tickets_do_not_wait_for_a_write_that_does_not_come_soon() {
    run(async {
        let mut config = server_config(&TLS13);
        config.send_tls13_tickets = 1;
        let (stream, mut peer) = as_server(config).await;
        assert!(stream.unsent() > 0);
        let mut transport = Transport::Server(Box::new(stream));
        transport.wait_for_head(Awaited::Rest);
        let Transport::Server(mut stream) = transport else { unreachable!() };
        assert_holds_no_buffer(&stream);
        stream.write_all(b"answer").await.unwrap();
        while peer.plaintext.is_empty() {
            assert!(peer.receive().await.unwrap());
        }
        assert_eq!(peer.plaintext, b"answer");
        let rustls::Connection::Client(client) = &peer.tls else { panic!("it is a client") };
        assert!(client.tls13_tickets_received() > 0);
    });
}

#[test]
fn a_peer_that_ends_within_the_handshake_is_unexpected() {
    run(async {
        let (ours, mut theirs) = sockets().await;
        let tls = UnbufferedServerConnection::new(Arc::new(server_config(&TLS13))).unwrap();
        theirs.write_all(&[22, 3, 1]).await.unwrap();
        theirs.shutdown().await.unwrap();
        let error = TlsStream::handshake(ours, tls, Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_handshake_message_in_ever_more_records_is_cut_off() {
    run(async {
        let (ours, mut theirs) = sockets().await;
        let tls = UnbufferedServerConnection::new(Arc::new(server_config(&TLS13))).unwrap();
        // A ClientHello of 65,280 bytes, one in each record.
        let mut records: Vec<u8> =
            [22, 3, 1, 0, 1].repeat(UnbufferedServerConnection::MAX_FLIGHT / 5);
        records = records.chunks(5).flat_map(|header| [header, &[0]].concat()).collect();
        for (at, byte) in [1, 0, 0xff, 0].into_iter().enumerate() {
            records[at * 6 + 5] = byte;
        }
        let error = TlsStream::handshake(ours, tls, Vec::new());
        let (error, sent) = tokio::join!(error, theirs.write_all(&records));
        assert_eq!(error.unwrap_err().to_string(), "the handshake is too long");
        sent.unwrap();
    });
}

#[test]
fn a_message_that_never_ends_is_cut_off_after_the_handshake_too() {
    run(async {
        let (mut stream, mut peer) = as_server(server_config(&TLS13)).await;
        peer.send(b"more").await;
        stream.received = vec![0; WIRE_IN];
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.to_string(), "a TLS message is too long");
    });
}
