use super::*;

/// A scene in which the endpoints 1 to `old` are long known and have many connections, and one more has just become ready.
fn with_a_new_one(policy: Policy, old: u16) -> (Scene, [Backend; 1], Vec<EndpointPermit>) {
    let mut scene = Scene::new(policy);
    scene.how.slow_start = Some(Duration::from_secs(30));
    let ports: Vec<u16> = (1..=old).collect();
    scene.survey(1, &ports);
    let held = (0..old * 50).map(|_| scene.choose(&[backend(1, &ports)])).collect();
    let ports: Vec<u16> = (1..=old + 1).collect();
    scene.survey(2, &ports);
    (scene, [backend(1, &ports)], held)
}

#[test]
fn a_new_endpoint_is_not_sent_the_whole_herd() {
    let (mut scene, backends, _held) = with_a_new_one(Policy::LeastConnections, 3);
    let start = scene.now;
    for (seconds, share) in [(0, 0), (3, 100), (15, 500), (27, 900), (30, 1000), (300, 1000)] {
        scene.now = start + Duration::from_secs(seconds);
        let count = scene.tally(&backends, 1000).remove(&4).unwrap_or(0);
        assert_near(count, share, 1000);
    }
}

#[test]
fn the_share_of_a_new_endpoint_grows_with_round_robin_and_with_two_choices_too() {
    let (mut scene, backends, _held) = with_a_new_one(Policy::RoundRobin, 3);
    let start = scene.now;
    for (seconds, share) in [(0, 0), (30, 1000)] {
        scene.now = start + Duration::from_secs(seconds);
        assert_eq!(scene.tally(&backends, 4000).remove(&4).unwrap_or(0), share);
    }
    scene.now = start + Duration::from_secs(15);
    let tally = scene.tally(&backends, 4000);
    // Of each round with 3 or 4 turns it has half a one.
    assert_near(tally[&4], 4000 / 7, 4000);
    assert!([2, 3].iter().all(|port| tally[port].abs_diff(tally[&1]) < 2), "{tally:?}");

    let (mut scene, backends, _held) = with_a_new_one(Policy::LeastConnections, 39);
    let start = scene.now;
    // It wins whenever it is drawn as the first or the second.
    for (seconds, share) in [(0, 0), (15, 10_000 / 40), (30, 10_000 / 20)] {
        scene.now = start + Duration::from_secs(seconds);
        let count = scene.tally(&backends, 10_000).remove(&40).unwrap_or(0);
        assert!(count.abs_diff(share) <= share / 5, "{count}, not {share}");
    }
}

#[test]
fn an_endpoint_is_new_before_it_was_surveyed_and_all_are_old_at_the_beginning() {
    let mut scene = Scene::least();
    scene.how.slow_start = Some(Duration::from_secs(30));
    assert_eq!(scene.chosen(&[backend(1, &[1, 2])]), [1, 2], "before the first table");
    scene.survey(1, &[1, 2]);
    assert_eq!(scene.chosen(&[backend(1, &[1, 2])]), [1, 2]);
    assert_eq!(scene.chosen(&[backend(1, &[1, 2, 3])]), [1, 2]);
    scene.how.slow_start = None;
    assert_eq!(scene.chosen(&[backend(1, &[1, 2, 3])]), [1, 2, 3]);
}

#[test]
fn where_all_are_new_none_is() {
    let mut scene = Scene::least();
    scene.how.slow_start = Some(Duration::from_secs(30));
    scene.survey(1, &[1, 2]);
    scene.survey(2, &[3, 4]);
    for policy in [Policy::LeastConnections, Policy::RoundRobin] {
        scene.how.policy = policy;
        assert_eq!(scene.chosen(&[backend(1, &[3, 4])]), [3, 4]);
    }
}

#[test]
fn consistent_hashing_has_no_slow_start_and_no_key_means_least_connections() {
    let (mut scene, backends, _held) = with_a_new_one(by_address(), 3);
    let new = (0..1000).filter(|key: &u64| {
        scene.key = Some(*key);
        scene.port(&backends) == 4
    });
    assert_near(new.count(), 250, 1000);
    scene.key = None;
    scene.how.slow_start = None;
    assert_eq!(scene.tally(&backends, 50), HashMap::from([(4, 50)]));
}
