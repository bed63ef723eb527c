//! Where connections go: by the rule's policy, to endpoints that are ready, with counts that outlive tables.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use tidegate::table::{
    Endpoint, EndpointState, HashOn, HttpMode, LoadBalancing, Policy, RoutingTable, Rule,
};

use crate::support::{
    Backend, DEADLINE, Harness, Head, Peer, eventually, host, rule, switching, upgrade_request,
    upgrade_with,
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
    open_by(gateway, taken, &upgrade_request("a.test"))
}

/// The same with a request of one's own.
#[track_caller]
fn open_by(gateway: &Harness, taken: &Receiver<Taken>, request: &str) -> (usize, Peer, Peer) {
    let mut client = gateway.client();
    client.send(request);
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

/// A rule that chooses endpoints in this way, without a slow start.
fn rule_by(policy: Policy, addresses: &[SocketAddr]) -> Rule {
    let load_balancing = LoadBalancing { policy, slow_start: None, ..LoadBalancing::default() };
    Rule { load_balancing, ..rule(addresses) }
}

fn publish(gateway: &Harness, rule: Rule) {
    assert!(gateway.table.publish(RoutingTable::new([host("a.test", rule)])).is_some());
}

#[test]
fn counts_outlive_the_table_that_the_connections_came_by() {
    let (addresses, taken) = backends::<3>();
    let least = |addresses: &[SocketAddr]| rule_by(Policy::LeastConnections, addresses);
    let gateway = Harness::start(vec![host("a.test", least(&addresses[..2]))]);
    let mut counts = [0; 3];
    let mut held = Vec::new();
    let mut open_some = |count: usize, counts: &mut [usize; 3]| {
        for _ in 0..count {
            let connection = open(&gateway, &taken);
            counts[connection.0] += 1;
            held.push(connection);
        }
    };
    open_some(6, &mut counts);
    assert_eq!(counts, [3, 3, 0]);
    publish(&gateway, least(&addresses));
    open_some(3, &mut counts);
    assert_eq!(counts, [3, 3, 3]);
    // Out of the table, and back in it.
    publish(&gateway, least(&addresses[1..]));
    publish(&gateway, least(&addresses));
    open_some(3, &mut counts);
    assert_eq!(counts, [4, 4, 4]);
}

#[test]
fn round_robin_takes_one_endpoint_after_the_other() {
    let (addresses, taken) = backends::<3>();
    let gateway = Harness::start(vec![host("a.test", rule_by(Policy::RoundRobin, &addresses))]);
    let order: Vec<_> = (0..9)
        .map(|_| {
            let connection = open(&gateway, &taken);
            let number = connection.0;
            drop(connection);
            await_open(&gateway, 0);
            number
        })
        .collect();
    assert_eq!(order[..3], order[3..6]);
    assert_eq!(order[..3], order[6..]);
    let mut each = order[..3].to_vec();
    each.sort_unstable();
    assert_eq!(each, [0, 1, 2]);
}

/// Requests that differ in what the rule names, by a number; and a request without it.
fn requests(hash_on: &HashOn) -> (fn(usize) -> String, String) {
    let nameless = upgrade_request("a.test");
    let by_number: fn(usize) -> String = match hash_on {
        HashOn::Header(_) => |number| upgrade_with("a.test", &format!("X-Tenant: t{number}\r\n")),
        HashOn::Cookie(_) => {
            |number| upgrade_with("a.test", &format!("Cookie: a=b; sid=s{number}\r\n"))
        }
        HashOn::QueryParam(_) => |number| {
            upgrade_request("a.test").replacen("GET /", &format!("GET /?room=r{number}&"), 1)
        },
        HashOn::ClientIp => unreachable!("tests come from one address"),
    };
    (by_number, nameless)
}

#[test]
fn what_has_the_same_key_goes_to_the_same_endpoint_and_what_has_none_to_the_least_busy() {
    let (addresses, taken) = backends::<4>();
    for hash_on in [
        HashOn::Header(http::HeaderName::from_static("x-tenant")),
        HashOn::Cookie("sid".into()),
        HashOn::QueryParam("room".into()),
    ] {
        let (request, nameless) = requests(&hash_on);
        let policy = Policy::ConsistentHash(hash_on);
        let gateway = Harness::start(vec![host("a.test", rule_by(policy.clone(), &addresses))]);
        let place = |number| open_by(&gateway, &taken, &request(number));
        let first: Vec<_> = (0..12).map(place).collect();
        let second: Vec<_> = (0..12).map(place).collect();
        let numbers = |held: &[(usize, Peer, Peer)]| -> Vec<_> {
            held.iter().map(|(number, ..)| *number).collect()
        };
        assert_eq!(numbers(&first), numbers(&second));
        let mut distinct = numbers(&first);
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 2, "{distinct:?}");
        // Another table without one of them: the others keep their keys.
        publish(&gateway, rule_by(policy, &addresses[1..]));
        for (number, (before, ..)) in first.iter().enumerate() {
            let (after, ..) = place(number);
            assert!(after != 0 && (*before == 0 || after == *before), "{before} {after}");
        }
        drop((first, second));
        await_open(&gateway, 0);
        let held: Vec<_> = (0..3).map(|_| open_by(&gateway, &taken, &nameless)).collect();
        let mut spread = numbers(&held);
        spread.sort_unstable();
        assert_eq!(spread, [1, 2, 3]);
    }
}

#[test]
fn a_client_is_known_by_the_address_that_a_trusted_proxy_gives() {
    let (addresses, taken) = backends::<4>();
    let rule = rule_by(Policy::ConsistentHash(HashOn::ClientIp), &addresses);
    let gateway = Harness::with(vec![host("a.test", rule)], |settings| {
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let place = |client: usize| {
        let header = format!("X-Forwarded-For: 192.0.2.{client}\r\n");
        open_by(&gateway, &taken, &upgrade_with("a.test", &header))
    };
    let held: Vec<_> = (0..12).map(|client| (client, place(client))).collect();
    for (client, (number, ..)) in &held {
        assert_eq!(place(*client).0, *number);
    }
    assert!(held.iter().any(|(_, connection)| connection.0 != held[0].1.0));
}

#[test]
fn where_none_is_ready_those_that_terminate_but_serve_take_connections() {
    let (addresses, taken) = backends::<3>();
    let with = |states: [EndpointState; 3]| {
        let mut rule = rule_by(Policy::LeastConnections, &[]);
        let endpoints = addresses.into_iter().zip(states);
        let of = |(address, state)| Endpoint { state, ..Endpoint::ready(address) };
        rule.backends[0].endpoints = endpoints.map(of).collect();
        rule
    };
    let leaving = |serving| EndpointState::Terminating { serving };
    let states = [EndpointState::Ready, leaving(true), leaving(false)];
    let gateway = Harness::start(vec![host("a.test", with(states))]);
    let mut held: Vec<_> = (0..3).map(|_| open(&gateway, &taken)).collect();
    assert!(held.iter().all(|(number, ..)| *number == 0));
    publish(&gateway, with([EndpointState::NotReady, leaving(true), leaving(false)]));
    held.extend((0..3).map(|_| open(&gateway, &taken)));
    assert!(held[3..].iter().all(|(number, ..)| *number == 1));
    publish(&gateway, with([EndpointState::NotReady, leaving(false), leaving(false)]));
    let (head, _) = gateway.ask(upgrade_request("a.test"));
    assert_eq!((head.status(), head.get("tidegate-reason")), (503, Some("no_endpoints")));
    // Nothing of this touched those that are open.
    await_open(&gateway, 6);
}

#[test]
fn endpoints_of_the_own_zone_are_preferred_and_the_others_tried_where_they_fail() {
    let (addresses, taken) = backends::<2>();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let zoned = |local: SocketAddr, remote: SocketAddr| {
        let mut rule = rule_by(Policy::LeastConnections, &[]);
        let remote = Endpoint { local: false, ..Endpoint::ready(remote) };
        rule.backends[0].endpoints = [Endpoint::ready(local), remote].into_iter().collect();
        rule
    };
    let gateway = Harness::start(vec![host("a.test", zoned(addresses[1], addresses[0]))]);
    let held: Vec<_> = (0..4).map(|_| open(&gateway, &taken)).collect();
    assert!(held.iter().all(|(number, ..)| *number == 1));
    publish(&gateway, zoned(dead, addresses[0]));
    let held: Vec<_> = (0..4).map(|_| open(&gateway, &taken)).collect();
    assert!(held.iter().all(|(number, ..)| *number == 0));
}

#[test]
fn a_new_endpoint_waits_for_its_share_while_others_are_there() {
    let (addresses, taken) = backends::<3>();
    const HOUR: Duration = Duration::from_secs(3600);
    let slow = |addresses: &[SocketAddr], slow_start| {
        let mut rule = rule_by(Policy::LeastConnections, addresses);
        rule.load_balancing.slow_start = Some(slow_start);
        rule
    };
    let gateway = Harness::start(vec![host("a.test", slow(&addresses[..1], HOUR))]);
    let mut held: Vec<_> = (0..3).map(|_| open(&gateway, &taken)).collect();
    publish(&gateway, slow(&addresses[..2], HOUR));
    held.extend((0..5).map(|_| open(&gateway, &taken)));
    assert!(held.iter().all(|(number, ..)| *number == 0), "it would have the fewest");
    publish(&gateway, slow(&addresses[2..], HOUR));
    assert_eq!(open(&gateway, &taken).0, 2, "where all are new none has to wait");
    publish(&gateway, slow(&addresses[..2], Duration::from_millis(1)));
    eventually("the time of the new one has come", || {
        held.push(open(&gateway, &taken));
        held.last().is_some_and(|(number, ..)| *number == 1)
    });
}
