use proptest::prelude::*;

use super::*;
use crate::table::ObjectRef;

fn backend(weight: u32, ports: &[u16]) -> Backend {
    Backend {
        service: ObjectRef { namespace: "n".into(), name: format!("s{weight}") },
        port: 80,
        weight,
        tls: None,
        endpoints: ports
            .iter()
            .map(|port| Endpoint::ready(([127, 0, 0, 1], *port).into()))
            .collect(),
    }
}

fn choose(load: &EndpointLoad, backends: &[Backend], random: u64) -> Seat {
    load.choose(backends, &[], random, Instant::now()).unwrap().1
}

/// The ports that many choices at one instant lead to, all seats kept until the end.
fn chosen(load: &EndpointLoad, backends: &[Backend], now: Instant) -> Vec<u16> {
    let seats: Vec<_> =
        (0..12).map(|random| load.choose(backends, &[], random, now).unwrap().1).collect();
    let mut ports: Vec<_> = seats.iter().map(|seat| seat.address().port()).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[test]
fn without_endpoints_or_weight_nothing_is_chosen() {
    let load = EndpointLoad::default();
    for backends in [vec![], vec![backend(1, &[])], vec![backend(0, &[1])]] {
        assert!(load.choose(&backends, &[], 7, Instant::now()).is_none());
    }
}

#[test]
fn a_backend_without_endpoints_leaves_its_share_to_the_others() {
    let backends = [backend(1000, &[]), backend(1, &[7])];
    for random in 0..50 {
        assert_eq!(choose(&EndpointLoad::default(), &backends, random).address().port(), 7);
    }
}

#[test]
fn connections_are_shared_out_by_weight() {
    let backends = [backend(3, &[1]), backend(1, &[2]), backend(0, &[3])];
    let mut counts = HashMap::<u16, u32>::new();
    for random in 0..400 {
        let seat = choose(&EndpointLoad::default(), &backends, random);
        *counts.entry(seat.address().port()).or_default() += 1;
    }
    assert_eq!(counts, HashMap::from([(1, 300), (2, 100)]));
}

#[test]
fn a_seat_is_given_back_when_dropped() {
    let (load, backends) = (EndpointLoad::default(), [backend(1, &[1, 2])]);
    let first = choose(&load, &backends, 0);
    let second = choose(&load, &backends, 0);
    assert_ne!(first.address(), second.address());
    let freed = first.address();
    drop(first);
    assert_eq!(choose(&load, &backends, 0).address(), freed);
    drop(second);
    assert!(load.state().live.is_empty());
}

#[test]
fn what_was_tried_is_not_tried_again_whichever_backend_has_it() {
    let (load, backends) = (EndpointLoad::default(), [backend(9, &[1, 2]), backend(1, &[3])]);
    for random in 0..30 {
        let (mut tried, now) = (Vec::new(), Instant::now());
        while let Some((_, seat)) = load.choose(&backends, &tried, random, now) {
            tried.push(seat.address());
        }
        tried.sort_unstable();
        assert_eq!(tried, [1, 2, 3].map(|port| ([127, 0, 0, 1], port).into()));
    }
}

#[test]
fn an_endpoint_that_was_missed_is_passed_over_until_its_time_is_up_and_then_tried_once() {
    let (load, backends) = (EndpointLoad::default(), [backend(1, &[1, 2]), backend(1, &[3])]);
    let start = Instant::now();
    let missed = load.choose(&backends[..1], &[], 0, start).unwrap().1;
    let (dead, other) = (missed.address().port(), 3 - missed.address().port());
    missed.missed(start);
    // It has the fewest connections.
    drop(missed);
    assert_eq!(chosen(&load, &backends, start), [other, 3]);
    let late = start + EJECTION;
    assert_eq!(chosen(&load, &backends, late - Duration::from_millis(1)), [other, 3]);
    let trial = load.choose(&backends[..1], &[], 0, late).unwrap().1;
    assert_eq!(trial.address().port(), dead);
    assert_eq!(chosen(&load, &backends, late), [other, 3], "one tries, the others wait");
    trial.reached();
    drop(trial);
    assert_eq!(chosen(&load, &backends, late), [1, 2, 3]);
}

#[test]
fn where_all_were_missed_all_are_tried() {
    let (load, backends) = (EndpointLoad::default(), [backend(1, &[1, 2])]);
    let now = Instant::now();
    let seats = [0, 0].map(|random| load.choose(&backends, &[], random, now).unwrap().1);
    seats.iter().for_each(|seat| seat.missed(now));
    drop(seats);
    assert_eq!(chosen(&load, &backends, now), [1, 2]);
}

#[test]
fn a_backend_whose_endpoints_were_all_missed_leaves_its_share_to_the_others() {
    let (load, backends) = (EndpointLoad::default(), [backend(1000, &[1]), backend(1, &[2])]);
    let now = Instant::now();
    load.choose(&backends[..1], &[], 0, now).unwrap().1.missed(now);
    assert_eq!(chosen(&load, &backends, now), [2]);
}

#[test]
fn misses_that_nobody_asks_for_any_more_are_forgotten() {
    let load = EndpointLoad::default();
    let start = Instant::now();
    for (port, at) in [(1, start), (2, start + EJECTION), (3, start + 2 * EJECTION)] {
        load.choose(&[backend(1, &[port])], &[], 0, at).unwrap().1.missed(at);
    }
    let mut kept: Vec<_> = load.state().ejected.keys().map(SocketAddr::port).collect();
    kept.sort_unstable();
    assert_eq!(kept, [2, 3]);
}

proptest! {
    #[test]
    fn live_connections_stay_even(ports in 1_u16..12, randoms in prop::collection::vec(any::<u64>(), 1..100)) {
        let (load, backends) = (EndpointLoad::default(), [backend(1, &(1..=ports).collect::<Vec<_>>())]);
        let seats: Vec<_> = randoms.iter().map(|random| choose(&load, &backends, *random)).collect();
        let live = load.state().live.clone();
        let counts: Vec<usize> = (1..=ports).map(|port| live.get(&([127, 0, 0, 1], port).into()).copied().unwrap_or(0)).collect();
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        drop(seats);
    }
}
