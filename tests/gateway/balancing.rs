//! Where connections go: to the endpoint with the fewest, counted until they end.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, channel},
};

use tidegate::table::{HttpMode, Rule};

use crate::support::{
    Backend, DEADLINE, Harness, Head, Peer, host, rule, switching, upgrade_request,
};

/// What one of several backends took: its number, the connection, and the request.
type Taken = (usize, Peer, Head);

/// Backends that hand every connection with its request's head to the test.
fn backends<const N: usize>() -> ([SocketAddr; N], Receiver<Taken>) {
    let (sender, taken) = channel();
    let addresses = std::array::from_fn(|number| {
        let backend = Backend::bind();
        let address = backend.address();
        let sender = sender.clone();
        std::thread::spawn(move || {
            loop {
                let mut peer = backend.accept();
                let head = peer.head();
                if sender.send((number, peer, head)).is_err() {
                    break;
                }
            }
        });
        address
    });
    (addresses, taken)
}

/// An open connection: which backend has it, and both ends.
#[track_caller]
fn open(gateway: &Harness, taken: &Receiver<Taken>) -> (usize, Peer, Peer) {
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let (number, mut server, _) = taken.recv_timeout(DEADLINE).unwrap();
    server.send(switching(""));
    assert_eq!(client.head().status(), 101);
    (number, client, server)
}

#[track_caller]
fn await_open(gateway: &Harness, count: usize) {
    gateway.await_metric("tidegate_connections_open", &[], count as f64);
}

#[test]
fn held_connections_are_spread_evenly() {
    let (addresses, taken) = backends::<2>();
    let gateway = Harness::start(vec![host("a.test", rule(&addresses))]);
    let mut counts = [0_u32; 2];
    let _held: Vec<_> = (0..10)
        .map(|round| {
            let connection = open(&gateway, &taken);
            counts[connection.0] += 1;
            assert!(counts[0].abs_diff(counts[1]) == (round + 1) % 2, "{counts:?}");
            connection
        })
        .collect();
    assert_eq!(counts, [5, 5]);
}

#[test]
fn the_endpoint_that_lost_a_connection_gets_the_next_one() {
    let (addresses, taken) = backends::<2>();
    let gateway = Harness::start(vec![host("a.test", rule(&addresses))]);
    let mut held: Vec<_> = (0..6).map(|_| open(&gateway, &taken)).collect();
    for number in [0, 1, 1, 0, 0] {
        let index = held.iter().position(|(at, ..)| *at == number).unwrap();
        drop(held.swap_remove(index));
        await_open(&gateway, 5);
        held.push(open(&gateway, &taken));
        assert_eq!(held.last().unwrap().0, number);
    }
}

#[test]
fn the_workers_share_one_count() {
    let (addresses, taken) = backends::<4>();
    let gateway = Harness::with(vec![host("a.test", rule(&addresses))], |settings| {
        settings.workers = 3;
    });
    let mut counts = [0; 4];
    let _held: Vec<_> = (0..12)
        .map(|_| {
            let connection = open(&gateway, &taken);
            counts[connection.0] += 1;
            connection
        })
        .collect();
    assert_eq!(counts, [3; 4]);
}

/// With nothing left over from before, two held connections take both endpoints, however often it is tried.
#[track_caller]
fn assert_counts_are_even(gateway: &Harness, taken: &Receiver<Taken>) {
    for _ in 0..6 {
        let (first, second) = (open(gateway, taken), open(gateway, taken));
        assert_ne!(first.0, second.0);
        drop((first, second));
        await_open(gateway, 0);
    }
}

#[test]
fn the_count_goes_back_when_connections_end() {
    let (addresses, taken) = backends::<2>();
    let gateway = Harness::start(vec![host("a.test", rule(&addresses))]);
    drop((0..5).map(|_| open(&gateway, &taken)).collect::<Vec<_>>());
    await_open(&gateway, 0);
    assert_counts_are_even(&gateway, &taken);
}

#[test]
fn refused_upgrades_leave_nothing_in_the_count() {
    let (addresses, taken) = backends::<2>();
    let gateway = Harness::start(vec![host("a.test", rule(&addresses))]);
    for answer in ["HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "no HTTP\r\n\r\n", ""] {
        let mut client = gateway.client();
        client.send(upgrade_request("a.test"));
        let (_, mut server, _) = taken.recv_timeout(DEADLINE).unwrap();
        server.send(answer);
        drop(server);
        assert_ne!(client.answer().0.status(), 101);
    }
    assert_counts_are_even(&gateway, &taken);
}

#[test]
fn a_forwarded_answer_counts_until_its_body_has_ended() {
    let (addresses, taken) = backends::<2>();
    let rule = Rule { http: HttpMode::Forward, ..rule(&addresses) };
    let gateway = Harness::start(vec![host("a.test", rule)]);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (busy, mut server, _) = taken.recv_timeout(DEADLINE).unwrap();
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
    client.head();
    for _ in 0..4 {
        let other = open(&gateway, &taken);
        assert_ne!(other.0, busy, "the answer is still under way");
        drop(other);
        await_open(&gateway, 0);
    }
    server.send("lf");
    assert_eq!(client.bytes(4), b"half");
    assert_counts_are_even(&gateway, &taken);
}

#[test]
fn a_backend_of_weight_zero_and_one_without_endpoints_get_nothing() {
    let (addresses, taken) = backends::<2>();
    let mut rule = rule(&addresses[..1]);
    let with = |endpoints: &[SocketAddr], weight| {
        let mut backend = crate::support::rule(endpoints).backends.remove(0);
        backend.weight = weight;
        backend
    };
    rule.backends.push(with(&addresses[1..], 0));
    rule.backends.push(with(&[], 1000));
    let gateway = Harness::start(vec![host("a.test", rule)]);
    let held: Vec<_> = (0..5).map(|_| open(&gateway, &taken)).collect();
    assert!(held.iter().all(|(number, ..)| *number == 0));
}
