use super::*;

const WHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 1);

fn address() -> SocketAddr {
    WHERE.into()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Ejections at a time that moves on.
struct Scene {
    ejections: Ejections,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        Self { ejections: Ejections::default(), now: Instant::now() }
    }

    fn miss(&mut self) {
        self.ejections.missed(address(), None, Fault::Tcp, self.now);
    }

    fn reach(&mut self) {
        self.ejections.reached(address(), None, self.now);
    }

    fn holds(&self) -> bool {
        self.ejections.holds(address(), None, self.now)
    }

    /// How long it is ejected for from now on.
    fn length(&self) -> Duration {
        let mut length = Duration::ZERO;
        while self.ejections.holds(address(), None, self.now + length) {
            length += seconds(1);
        }
        length
    }

    /// A trial at the end of an ejection.
    fn try_it(&mut self) {
        self.now += self.length();
        self.ejections.chosen(address(), None, self.now);
        assert!(self.holds(), "the others wait");
    }
}

#[test]
fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
    let mut scene = Scene::new();
    scene.miss();
    scene.reach();
    scene.miss();
    assert!(!scene.holds());
    scene.miss();
    assert_eq!(scene.length(), SHORTEST);
    assert!(!scene.ejections.holds(([127, 0, 0, 1], 2).into(), None, scene.now));
}

#[test]
fn each_ejection_lasts_twice_as_long_up_to_the_longest() {
    let mut scene = Scene::new();
    scene.miss();
    scene.miss();
    let mut lengths = vec![scene.length()];
    for _ in 0..40 {
        scene.try_it();
        scene.miss();
        lengths.push(scene.length());
    }
    assert_eq!(lengths[..5], [10, 20, 40, 60, 60].map(seconds));
    assert_eq!(lengths[40], LONGEST);
}

#[test]
fn an_ejection_ends_where_the_endpoint_is_reached_and_the_next_begins_where_it_left_off() {
    let mut scene = Scene::new();
    scene.miss();
    scene.miss();
    scene.try_it();
    scene.reach();
    assert!(!scene.holds());
    scene.miss();
    assert!(!scene.holds(), "one may be chance, again");
    scene.miss();
    assert_eq!(scene.length(), 2 * SHORTEST);
}

#[test]
fn after_its_probation_an_endpoint_begins_anew() {
    let mut scene = Scene::new();
    scene.miss();
    scene.miss();
    scene.try_it();
    scene.reach();
    scene.now += PROBATION;
    scene.miss();
    scene.miss();
    assert_eq!(scene.length(), SHORTEST);
}

#[test]
fn who_was_on_the_way_when_it_was_ejected_makes_it_no_longer() {
    let mut scene = Scene::new();
    scene.miss();
    scene.miss();
    scene.now += seconds(1);
    scene.miss();
    scene.miss();
    assert_eq!(scene.length(), SHORTEST - seconds(1));
}

#[test]
fn what_fails_in_tls_is_ejected_for_these_settings_alone() {
    let mut scene = Scene::new();
    let tls = |name: &str| BackendTls::unverified(name).unwrap();
    let (ours, other) = (tls("a.test"), tls("b.test"));
    let now = scene.now;
    for _ in 0..2 {
        scene.ejections.missed(address(), Some(&ours), Fault::Tls, now);
    }
    assert!(scene.ejections.holds(address(), Some(&ours), now));
    assert!(scene.ejections.holds(address(), Some(&tls("a.test")), now), "the same, made anew");
    assert!(!scene.ejections.holds(address(), Some(&other), now));
    assert!(!scene.ejections.holds(address(), None, now));
    // A connection that does not come about is everybody's concern.
    for _ in 0..2 {
        scene.ejections.missed(address(), Some(&ours), Fault::Tcp, now);
    }
    assert!(scene.ejections.holds(address(), Some(&other), now));
    scene.ejections.reached(address(), Some(&other), now);
    assert!(!scene.ejections.holds(address(), None, now));
    assert!(scene.ejections.holds(address(), Some(&ours), now), "its TLS was not heard of");
}

#[test]
fn what_nobody_hears_of_any_more_is_forgotten() {
    let mut scene = Scene::new();
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let start = scene.now;
    for (port, seconds) in [(1, 0), (2, 61), (3, 119)] {
        let now = start + Duration::from_secs(seconds);
        scene.ejections.missed(at(port), None, Fault::Tcp, now);
    }
    let mut kept: Vec<_> = scene.ejections.records.keys().map(|(it, _)| it.port()).collect();
    kept.sort_unstable();
    assert_eq!(kept, [2, 3]);
    scene.ejections.reached(at(2), None, start);
    scene.ejections.forget(at(3));
    assert!(scene.ejections.records.is_empty());
}
