//! Backends that die: what their clients are told, and that new upgrades find those that live.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use tidegate::table::{Endpoint, EndpointState, HttpMode, Rule};

use crate::support::{
    Backend, EchoProcess, Frame, Harness, Peer, host, open_over, raise_file_limit, rule,
    upgrade_request,
};

const FAILURES: &str = "tidegate_backend_connect_failures_total";
const EJECTIONS: &str = "tidegate_backend_ejections_total";

/// An open connection and the name of the backend that took it.
#[track_caller]
fn connect(gateway: &Harness) -> (Peer, String) {
    let mut client = gateway.client();
    client.send(upgrade_request("a.test"));
    let head = client.head();
    assert_eq!(head.status(), 101, "{head:?}");
    let name = head.get("x-backend").unwrap().to_owned();
    (client, name)
}

#[track_caller]
fn assert_echoes(client: &mut Peer) {
    client.send(Frame::from_client("there?"));
    assert_eq!(client.text(), "there?");
}

/// An address where nobody listens.
fn dead() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// An address that answers nothing to who connects: its backlog is full.
struct Hole {
    socket: Socket,
    _queued: Vec<TcpStream>,
}

impl Hole {
    fn dig() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let mut hole = Self { socket, _queued: Vec::new() };
        let address = hole.address();
        let patience = Duration::from_millis(100);
        while let Ok(stream) = TcpStream::connect_timeout(&address, patience) {
            hole._queued.push(stream);
        }
        hole
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap().as_socket().unwrap()
    }
}

#[test]
fn every_client_of_a_killed_backend_is_told_to_come_again_and_no_other_notices() {
    raise_file_limit();
    let names = ["a", "b", "c", "d"];
    let mut backends = names.map(|name| Some(EchoProcess::start(name)));
    let addresses: Vec<_> = backends.iter().flatten().map(|backend| backend.address).collect();
    let gateway = Harness::with(vec![host("a.test", rule(&addresses))], |settings| {
        settings.workers = 2;
    });
    let clients: Vec<_> = (0..400).map(|_| connect(&gateway)).collect();
    let (of_killed, others): (Vec<_>, Vec<_>) =
        clients.into_iter().partition(|(_, name)| name == "a" || name == "b");
    assert_eq!((of_killed.len(), others.len()), (200, 200));
    let limit = Instant::now() + Duration::from_secs(2);
    backends[..2].iter_mut().for_each(|backend| backend.take().unwrap().kill());
    for (mut client, _) in of_killed {
        let left = limit.saturating_duration_since(Instant::now());
        client.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
        assert_eq!(client.close(), (1012, "the backend has gone: connect again".into()));
        assert!(client.rest().is_empty());
    }
    // They come again, together; nobody is told that there is no backend.
    let again: Vec<_> = (0..100).map(|_| connect(&gateway)).collect();
    for (mut client, name) in others.into_iter().chain(again) {
        assert!(name == "c" || name == "d");
        assert_echoes(&mut client);
    }
    assert!(gateway.metric("tidegate_upgrade_failures_total", &[]).total_cmp(&0.0).is_eq());
    // Each of the two was tried twice, and was passed over from then on.
    assert!(gateway.metric(FAILURES, &[("route", "route")]).total_cmp(&4.0).is_eq());
    assert!(gateway.metric(EJECTIONS, &[("route", "route")]).total_cmp(&2.0).is_eq());
}

#[test]
fn an_endpoint_that_vanished_does_not_use_up_the_time_of_the_next() {
    let (hole, backend) = (Hole::dig(), Backend::bind());
    let mut rule = rule(&[hole.address(), backend.address()]);
    let connect = Duration::from_secs(2);
    rule.timeouts.connect = connect;
    let gateway = Harness::start(vec![host("a.test", rule)]);
    let begun = Instant::now();
    let held: Vec<_> = (0..6)
        .map(|_| {
            let mut client = gateway.client();
            (open_over(&mut client, &backend), client)
        })
        .collect();
    assert!(begun.elapsed() >= connect, "the first two that were sent there had to wait");
    assert!(begun.elapsed() < connect * 2, "the time was used up");
    assert!(gateway.metric(FAILURES, &[]).total_cmp(&2.0).is_eq());
    drop(held);
}

#[test]
fn as_many_endpoints_are_tried_as_the_rule_says_and_the_last_failure_is_told() {
    let dead: Vec<_> = (0..5).map(|_| dead()).collect();
    for attempts in [1, 3, 10] {
        let rule = Rule { connect_attempts: attempts, ..rule(&dead) };
        let gateway = Harness::start(vec![host("a.test", rule)]);
        for round in 1..=2 {
            let (head, _) = gateway.ask(upgrade_request("a.test"));
            assert_eq!(
                (head.status(), head.get("tidegate-reason")),
                (502, Some("backend_connect"))
            );
            let tried = f64::from(attempts.min(5) * round);
            assert!(gateway.metric(FAILURES, &[]).total_cmp(&tried).is_eq());
        }
        let labels = [("reason", "backend_connect")];
        assert!(gateway.metric("tidegate_upgrade_failures_total", &labels).total_cmp(&2.0).is_eq());
    }
}

#[test]
fn the_only_endpoint_has_the_whole_time_and_is_tried_once() {
    let hole = Hole::dig();
    let mut rule = rule(&[hole.address()]);
    rule.timeouts.connect = Duration::from_millis(400);
    let gateway = Harness::start(vec![host("a.test", rule)]);
    let begun = Instant::now();
    let (head, _) = gateway.ask(upgrade_request("a.test"));
    assert_eq!((head.status(), head.get("tidegate-reason")), (504, Some("backend_timeout")));
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert!(gateway.metric(FAILURES, &[]).total_cmp(&1.0).is_eq());
}

#[test]
fn plain_requests_that_are_forwarded_find_another_endpoint_as_well() {
    let backend = Backend::bind();
    let rule = Rule { http: HttpMode::Forward, ..rule(&[dead(), backend.address(), dead()]) };
    let gateway = Harness::start(vec![host("a.test", rule)]);
    for _ in 0..4 {
        let mut client = gateway.client();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody");
        let (mut server, _) = backend.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(server.bytes(4), b"body");
        assert_eq!(client.answer().0.status(), 200);
    }
    assert!(gateway.metric(FAILURES, &[]) <= 4.0, "each dead one was tried twice at most");
}

#[test]
fn endpoints_that_cannot_be_used_take_no_part_of_the_time() {
    let hole = Hole::dig();
    let mut rule = rule(&[hole.address()]);
    let unusable = |state| Endpoint { state, ..Endpoint::ready(dead()) };
    let states = [EndpointState::NotReady, EndpointState::Terminating { serving: false }];
    let all = states.map(unusable).into_iter().chain([Endpoint::ready(hole.address())]);
    rule.backends[0].endpoints = all.collect();
    rule.timeouts.connect = Duration::from_millis(400);
    let gateway = Harness::start(vec![host("a.test", rule)]);
    let begun = Instant::now();
    assert_eq!(gateway.ask(upgrade_request("a.test")).0.status(), 504);
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert!(gateway.metric(FAILURES, &[]).total_cmp(&1.0).is_eq());
}
