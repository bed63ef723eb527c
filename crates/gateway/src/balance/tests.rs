mod slow_start;

use std::time::Duration;

use fastrand::Rng;
use proptest::prelude::*;
use tidegate_table::{Endpoint, EndpointState, HashOn, ObjectRef};

use super::*;

const READY: EndpointState = EndpointState::Ready;
const LEAVING: EndpointState = EndpointState::Terminating { serving: true };

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn backend(weight: u32, ports: &[u16]) -> Backend {
    backend_of(weight, ports.iter().map(|port| Endpoint::ready(address(*port))))
}

fn backend_of(weight: u32, endpoints: impl IntoIterator<Item = Endpoint>) -> Backend {
    Backend {
        service: ObjectRef { namespace: "n".into(), name: format!("s{weight}") },
        port: 80,
        weight,
        tls: None,
        endpoints: endpoints.into_iter().collect(),
    }
}

fn endpoint(port: u16, state: EndpointState, local: bool) -> Endpoint {
    Endpoint { address: address(port), state, local }
}

fn how(policy: Policy, slow_start: Option<Duration>) -> LoadBalancing {
    LoadBalancing { policy, slow_start, rebalance_percent: 0 }
}

/// What is known of endpoints, and what chooses among them, at one instant.
struct Scene {
    load: EndpointLoad,
    how: LoadBalancing,
    random: Rng,
    now: Instant,
    key: Option<u64>,
}

impl Scene {
    fn new(policy: Policy) -> Self {
        Self {
            load: EndpointLoad::default(),
            how: how(policy, None),
            random: Rng::with_seed(4),
            now: Instant::now(),
            key: None,
        }
    }

    fn least() -> Self {
        Self::new(Policy::LeastConnections)
    }

    fn try_choose<'a>(
        &mut self,
        backends: &'a [Backend],
        tried: &[SocketAddr],
    ) -> Option<(&'a Backend, EndpointPermit)> {
        let wanted = PickRequest { backends, how: &self.how, key: self.key, tried };
        self.load.choose(&wanted, self.random.u64(..), self.now)
    }

    #[track_caller]
    fn choose(&mut self, backends: &[Backend]) -> EndpointPermit {
        self.try_choose(backends, &[]).expect("an endpoint").1
    }

    /// The port that is chosen; its seat is given back.
    #[track_caller]
    fn port(&mut self, backends: &[Backend]) -> u16 {
        self.choose(backends).address().port()
    }

    /// How often each port is chosen, all seats given back.
    fn tally(&mut self, backends: &[Backend], count: usize) -> HashMap<u16, usize> {
        let mut tally = HashMap::new();
        for _ in 0..count {
            *tally.entry(self.port(backends)).or_default() += 1;
        }
        tally
    }

    /// The ports that many choices lead to, all seats kept until the end.
    fn chosen(&mut self, backends: &[Backend]) -> Vec<u16> {
        let seats: Vec<_> = (0..12).map(|_| self.choose(backends)).collect();
        let mut ports: Vec<_> = seats.iter().map(|seat| seat.address().port()).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    fn live(&self, port: u16) -> usize {
        self.load.state().known.get(&address(port)).map_or(0, |known| known.live)
    }

    /// As the survey of a table does.
    fn survey(&self, number: u64, ports: &[u16]) {
        let ready: Vec<_> = ports.iter().map(|port| address(*port)).collect();
        for part in ready.chunks(2) {
            self.load.mark_ready(part, number, self.now);
        }
        self.load.finish_survey(number, &HashSet::new());
    }

    /// Ejects an endpoint.
    fn eject(&mut self, port: u16) {
        let backends = [backend(1, &[port])];
        for _ in 0..ejection::FAILURES {
            self.choose(&backends).missed(&backends[0], Fault::Tcp, self.now);
        }
    }
}

#[track_caller]
fn assert_near(count: usize, expected: usize, of: usize) {
    // Five standard deviations: chance is seeded, but a change of the code changes it.
    let share = expected as f64 / of as f64;
    let bound = 5.0 * (of as f64 * share * (1.0 - share)).sqrt();
    assert!((count as f64 - expected as f64).abs() <= bound, "{count} of {of}, not {expected}");
}

#[test]
fn without_endpoints_or_weight_nothing_is_chosen() {
    let out = [EndpointState::NotReady, EndpointState::Terminating { serving: false }];
    let out = out.into_iter().zip(1..).map(|(state, port)| endpoint(port, state, true));
    for policy in [Policy::LeastConnections, Policy::RoundRobin, by_address()] {
        for backends in [
            vec![],
            vec![backend(1, &[])],
            vec![backend(0, &[1])],
            vec![backend_of(1, out.clone())],
        ] {
            let mut scene = Scene::new(policy.clone());
            assert!(scene.try_choose(&backends, &[]).is_none());
            scene.key = Some(1);
            assert!(scene.try_choose(&backends, &[]).is_none());
        }
    }
}

fn by_address() -> Policy {
    Policy::ConsistentHash(HashOn::ClientIp)
}

#[test]
fn a_backend_without_endpoints_leaves_its_share_to_the_others() {
    let backends = [backend(1000, &[]), backend(1, &[7])];
    assert_eq!(Scene::least().tally(&backends, 50), HashMap::from([(7, 50)]));
}

#[test]
fn connections_are_shared_out_by_weight() {
    let backends = [backend(3, &[1, 4]), backend(1, &[2]), backend(0, &[3])];
    for policy in [Policy::LeastConnections, Policy::RoundRobin, by_address()] {
        let mut scene = Scene::new(policy);
        let tally = scene.tally(&backends, 4000);
        assert_near(tally[&1] + tally[&4], 3000, 4000);
        assert_near(tally[&2], 1000, 4000);
        assert_near(tally[&1], 1500, 4000);
        assert_eq!(tally.len(), 3);
    }
}

#[test]
fn a_seat_is_given_back_when_dropped() {
    let (mut scene, backends) = (Scene::least(), [backend(1, &[1, 2])]);
    let (first, second) = (scene.choose(&backends), scene.choose(&backends));
    assert_ne!(first.address(), second.address());
    let freed = first.address();
    drop(first);
    assert_eq!(scene.port(&backends), freed.port());
    drop(second);
    assert!(scene.load.state().known.is_empty());
}

#[test]
fn what_was_tried_is_not_tried_again_whichever_backend_has_it() {
    let backends = [backend(9, &[1, 2]), backend(1, &[3])];
    for (policy, key) in
        [(Policy::LeastConnections, None), (Policy::RoundRobin, None), (by_address(), Some(3))]
    {
        let mut scene = Scene { key, ..Scene::new(policy) };
        for _ in 0..30 {
            let mut tried = Vec::new();
            while let Some((_, seat)) = scene.try_choose(&backends, &tried) {
                tried.push(seat.address());
            }
            tried.sort_unstable();
            assert_eq!(tried, [1, 2, 3].map(address));
        }
    }
}

#[test]
fn ready_endpoints_come_before_terminating_ones_and_local_before_remote() {
    let mut scene = Scene::least();
    let leaving = backend_of(1000, [endpoint(1, LEAVING, true), endpoint(2, LEAVING, true)]);
    let mixed = backend_of(
        1,
        [endpoint(3, READY, false), endpoint(4, READY, true), endpoint(5, LEAVING, true)],
    );
    let mut order = Vec::new();
    while let Some((_, seat)) = scene.try_choose(&[leaving.clone(), mixed.clone()], &order) {
        order.push(seat.address());
    }
    let ports: Vec<_> = order.iter().map(SocketAddr::port).collect();
    assert_eq!(ports[..2], [4, 3]);
    assert_eq!(ports.len(), 5);
}

#[test]
fn a_backend_whose_local_endpoints_are_ejected_keeps_its_share() {
    let mut scene = Scene::least();
    let backends = [
        backend_of(1, [endpoint(1, READY, true), endpoint(2, READY, false)]),
        backend_of(1, [endpoint(3, READY, true)]),
    ];
    assert_eq!(scene.chosen(&backends), [1, 3]);
    scene.eject(1);
    assert_eq!(scene.chosen(&backends), [2, 3]);
}

#[test]
fn terminating_endpoints_that_serve_come_before_ejected_ready_ones() {
    let mut scene = Scene::least();
    let backends = [backend_of(1, [endpoint(1, READY, true), endpoint(2, LEAVING, true)])];
    assert_eq!(scene.chosen(&backends), [1]);
    scene.eject(1);
    assert_eq!(scene.chosen(&backends), [2]);
    scene.eject(2);
    assert_eq!(scene.chosen(&backends), [1]);
}

#[test]
fn an_ejected_endpoint_is_tried_once_when_its_time_is_up() {
    let (mut scene, backends) = (Scene::least(), [backend(1, &[1, 2]), backend(1, &[3])]);
    let start = scene.now;
    let seat = scene.choose(&backends[..1]);
    let (dead, other) = (seat.address().port(), 3 - seat.address().port());
    assert!(!seat.missed(&backends[0], Fault::Tcp, start));
    drop(seat);
    assert_eq!(scene.chosen(&backends), [1, 2, 3], "one failure is no ejection");
    assert!(scene.choose(&[backend(1, &[dead])]).missed(&backends[0], Fault::Tcp, start));
    // It has the fewest connections.
    assert_eq!(scene.chosen(&backends), [other, 3]);
    scene.now = start + ejection::SHORTEST - Duration::from_millis(1);
    assert_eq!(scene.chosen(&backends), [other, 3]);
    scene.now = start + ejection::SHORTEST;
    let trial = scene.choose(&[backend(1, &[dead])]);
    assert_eq!(scene.chosen(&backends), [other, 3], "one tries, the others wait");
    trial.reached(&backends[0], scene.now);
    drop(trial);
    assert_eq!(scene.chosen(&backends), [1, 2, 3]);
}

#[test]
fn where_all_are_ejected_all_are_tried() {
    for (policy, key) in [(Policy::LeastConnections, None), (Policy::RoundRobin, None)] {
        let mut scene = Scene { key, ..Scene::new(policy) };
        scene.eject(1);
        scene.eject(2);
        assert_eq!(scene.chosen(&[backend(1, &[1, 2])]), [1, 2]);
    }
}

#[test]
fn a_backend_whose_endpoints_are_all_ejected_leaves_its_share_to_the_others() {
    let mut scene = Scene::least();
    scene.eject(1);
    assert_eq!(scene.chosen(&[backend(1000, &[1]), backend(1, &[2])]), [2]);
}

#[test]
fn an_endpoint_that_becomes_ready_again_is_not_ejected_any_more() {
    let mut scene = Scene::least();
    scene.survey(1, &[1, 2]);
    scene.eject(1);
    assert_eq!(scene.chosen(&[backend(1, &[1, 2])]), [2]);
    scene.survey(2, &[1, 2]);
    assert_eq!(scene.chosen(&[backend(1, &[1, 2])]), [2], "it was ready all the time");
    scene.survey(3, &[2]);
    scene.survey(4, &[1, 2]);
    assert_eq!(scene.chosen(&[backend(1, &[1, 2])]), [1, 2]);
}

#[test]
fn what_fails_before_the_first_survey_is_not_forgotten_by_it() {
    let mut scene = Scene::least();
    scene.eject(1);
    scene.survey(1, &[1, 2]);
    assert_eq!(scene.chosen(&[backend(1, &[1, 2])]), [2]);
}

#[test]
fn round_robin_takes_one_after_the_other_whatever_they_have() {
    let (mut scene, backends) = (Scene::new(Policy::RoundRobin), [backend(1, &[1, 2, 3])]);
    let held: Vec<_> = (0..9).map(|_| Scene::least().choose(&backends)).collect();
    let ports: Vec<_> = (0..7).map(|_| scene.port(&backends)).collect();
    assert_eq!(ports, [1, 2, 3, 1, 2, 3, 1]);
    drop(held);
    // The next in line is gone; then there are more.
    let ports: Vec<_> = (0..3).map(|_| scene.port(&[backend(1, &[1, 3])])).collect();
    assert_eq!(ports, [3, 1, 3]);
    let ports: Vec<_> = (0..4).map(|_| scene.port(&[backend(1, &[1, 2, 3, 4])])).collect();
    assert_eq!(ports, [4, 1, 2, 3]);
    // Which takes two turns of it.
    scene.eject(1);
    let ports: Vec<_> = (0..4).map(|_| scene.port(&[backend(1, &[1, 2, 3, 4])])).collect();
    assert_eq!(ports, [2, 3, 4, 2]);
}

#[test]
fn each_backend_has_its_own_turns_which_are_forgotten_with_it() {
    let mut scene = Scene::new(Policy::RoundRobin);
    let (one, other) = ([backend(1, &[1, 2])], [backend(2, &[1, 2])]);
    for expected in [1, 2, 1] {
        assert_eq!((scene.port(&one), scene.port(&other)), (expected, expected));
    }
    let kept = HashSet::from([key::of_backend(&one[0])]);
    scene.load.finish_survey(1, &kept);
    assert_eq!((scene.port(&one), scene.port(&other)), (2, 1));
}

#[test]
fn many_endpoints_are_kept_even_by_two_choices() {
    let ports: Vec<u16> = (1..=100).collect();
    let (mut scene, backends) = (Scene::least(), [backend(1, &ports)]);
    let seats: Vec<_> = (0..5000).map(|_| scene.choose(&backends)).collect();
    let counts: Vec<_> = ports.iter().map(|port| scene.live(*port)).collect();
    // At random without a second choice the least would have about 30 and the most about 70.
    assert!(*counts.iter().min().unwrap() >= 45, "{counts:?}");
    assert!(*counts.iter().max().unwrap() <= 54, "{counts:?}");
    drop(seats);
}

#[test]
fn of_many_endpoints_any_that_is_left_is_found() {
    let ports: Vec<u16> = (1..=50).collect();
    let (mut scene, backends) = (Scene::least(), [backend(1, &ports)]);
    let mut tried = Vec::new();
    while let Some((_, seat)) = scene.try_choose(&backends, &tried) {
        tried.push(seat.address());
    }
    assert_eq!(tried.len(), 50);
}

#[test]
fn counts_outlive_the_table_and_ids() {
    let (mut scene, before) = (Scene::least(), [backend(1, &[1, 2])]);
    scene.survey(1, &[1, 2]);
    let held: Vec<_> = (0..6).map(|_| scene.choose(&before)).collect();
    // Another table with another Service in front of the same pods, and one more.
    scene.survey(2, &[1, 2, 3]);
    scene.now += Duration::from_secs(1);
    let after = [backend(2, &[1, 2, 3])];
    let more: Vec<_> = (0..3).map(|_| scene.choose(&after)).collect();
    assert_eq!([1, 2, 3].map(|port| scene.live(port)), [3, 3, 3]);
    // Out of the table and back: the connections are still there.
    scene.survey(3, &[]);
    drop(more);
    assert_eq!([1, 2, 3].map(|port| scene.live(port)), [3, 3, 0]);
    assert_eq!(scene.load.state().known.len(), 2);
    scene.survey(4, &[1, 2, 3]);
    assert_eq!(scene.port(&after), 3);
    drop(held);
    scene.survey(5, &[]);
    assert!(scene.load.state().known.is_empty());
}

#[test]
fn keys_are_shared_out_by_weight_and_evenly_within_each_backend() {
    let backends = [backend(3, &[1, 2, 3]), backend(1, &[4, 5])];
    let mut scene = Scene::new(by_address());
    let mut tally = HashMap::<u16, usize>::new();
    for key in 0..6000 {
        scene.key = Some(key);
        *tally.entry(scene.port(&backends)).or_default() += 1;
    }
    for (port, expected) in [(1, 1500), (2, 1500), (3, 1500), (4, 750), (5, 750)] {
        assert_near(tally[&port], expected, 6000);
    }
}

#[test]
fn a_key_has_the_same_place_in_every_zone() {
    let mut scene = Scene::new(by_address());
    let zone = |near: u16| backend_of(1, [1, 2, 3].map(|port| endpoint(port, READY, port == near)));
    for key in 0..20 {
        scene.key = Some(key);
        let place = scene.port(&[backend(1, &[1, 2, 3])]);
        assert!((1..=3).all(|near| scene.port(&[zone(near)]) == place));
    }
    scene.key = None;
    assert_eq!(scene.tally(&[zone(2)], 9), HashMap::from([(2, 9)]));
}

#[test]
fn a_key_whose_endpoint_is_ejected_has_one_other_until_it_is_back() {
    let backends = [backend(1, &[1, 2, 3, 4, 5])];
    let mut scene = Scene { key: Some(77), ..Scene::new(by_address()) };
    let home = scene.port(&backends);
    let others: Vec<u16> = (1..=5).filter(|port| *port != home).collect();
    scene.eject(home);
    let away = scene.tally(&backends, 20);
    assert_eq!(away.len(), 1);
    let next = scene.port(&[backend(1, &others)]);
    assert!(away.contains_key(&next), "the one that it would have without that one");
    scene.now += ejection::SHORTEST;
    let trial = scene.choose(&backends);
    assert_eq!(trial.address().port(), home);
    trial.reached(&backends[0], scene.now);
    assert_eq!(scene.tally(&backends, 20), HashMap::from([(home, 20)]));
}

proptest! {
    #[test]
    fn live_connections_stay_even(ports in 1_u16..=16, count in 1..200_usize, seed in any::<u64>()) {
        let backends = [backend(1, &(1..=ports).collect::<Vec<_>>())];
        let mut scene = Scene { random: Rng::with_seed(seed), ..Scene::least() };
        let seats: Vec<_> = (0..count).map(|_| scene.choose(&backends)).collect();
        let counts: Vec<_> = (1..=ports).map(|port| scene.live(port)).collect();
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        drop(seats);
        prop_assert!(scene.load.state().known.is_empty());
    }

    /// When an endpoint comes or goes, only keys that it has or had move.
    #[test]
    fn only_the_keys_of_an_endpoint_that_comes_or_goes_move(
        ports in prop::collection::hash_set(1..500_u16, 2..40),
        keys in prop::collection::vec(any::<u64>(), 1..100),
    ) {
        let ports: Vec<u16> = ports.into_iter().collect();
        let (changing, rest) = ports.split_first().unwrap();
        let mut scene = Scene::new(by_address());
        for key in keys {
            scene.key = Some(key);
            let with = scene.port(&[backend(1, &ports)]);
            let without = scene.port(&[backend(1, rest)]);
            prop_assert!(with == *changing || with == without);
        }
    }

    /// More weight for a backend moves keys to it, and no others.
    #[test]
    fn only_keys_that_a_heavier_backend_takes_move(
        weights in prop::collection::vec(1..100_u32, 2..5),
        more in 1..100_u32,
        keys in prop::collection::vec(any::<u64>(), 1..100),
    ) {
        let named = |weights: &[u32]| -> Vec<Backend> {
            let backends = weights.iter().zip(1_u16..);
            let of = |weight, port| Backend { port, weight, ..backend(1, &[port]) };
            backends.map(|(weight, port)| of(*weight, port)).collect()
        };
        let before = named(&weights);
        let after = named(&[&[weights[0] + more], &weights[1..]].concat());
        let mut scene = Scene::new(by_address());
        for key in keys {
            scene.key = Some(key);
            let (before, after) = (scene.port(&before), scene.port(&after));
            prop_assert!(after == 1 || after == before);
        }
    }
}
