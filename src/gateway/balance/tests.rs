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
            .map(|port| Endpoint { address: ([127, 0, 0, 1], *port).into() })
            .collect(),
    }
}

#[test]
fn without_endpoints_or_weight_nothing_is_chosen() {
    let load = EndpointLoad::default();
    for backends in [vec![], vec![backend(1, &[])], vec![backend(0, &[1])]] {
        assert!(load.choose(&backends, 7).is_none());
    }
}

#[test]
fn a_backend_without_endpoints_leaves_its_share_to_the_others() {
    let backends = [backend(1000, &[]), backend(1, &[7])];
    for random in 0..50 {
        assert_eq!(
            EndpointLoad::default().choose(&backends, random).unwrap().1.address().port(),
            7
        );
    }
}

#[test]
fn connections_are_shared_out_by_weight() {
    let backends = [backend(3, &[1]), backend(1, &[2]), backend(0, &[3])];
    let mut counts = HashMap::<u16, u32>::new();
    for random in 0..400 {
        let (_, seat) = EndpointLoad::default().choose(&backends, random).unwrap();
        *counts.entry(seat.address().port()).or_default() += 1;
    }
    assert_eq!(counts, HashMap::from([(1, 300), (2, 100)]));
}

#[test]
fn a_seat_is_given_back_when_dropped() {
    let (load, backends) = (EndpointLoad::default(), [backend(1, &[1, 2])]);
    let (_, first) = load.choose(&backends, 0).unwrap();
    let (_, second) = load.choose(&backends, 0).unwrap();
    assert_ne!(first.address(), second.address());
    let freed = first.address();
    drop(first);
    assert_eq!(load.choose(&backends, 0).unwrap().1.address(), freed);
    drop(second);
    assert!(load.live.lock().unwrap().is_empty());
}

proptest! {
    #[test]
    fn live_connections_stay_even(ports in 1_u16..12, randoms in prop::collection::vec(any::<u64>(), 1..100)) {
        let (load, backends) = (EndpointLoad::default(), [backend(1, &(1..=ports).collect::<Vec<_>>())]);
        let seats: Vec<_> = randoms.iter().map(|random| load.choose(&backends, *random).unwrap().1).collect();
        let live = load.live.lock().unwrap();
        let counts: Vec<usize> = (1..=ports).map(|port| live.get(&([127, 0, 0, 1], port).into()).copied().unwrap_or(0)).collect();
        drop(live);
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        drop(seats);
    }
}
