use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn record(step: Step) -> LeaseSpec {
    match step {
        Step::Create(record) | Step::Take(record) => record,
        Step::Wait => panic!("another one holds the Lease"),
    }
}

/// A leader since `now`, and what it wrote.
fn leader(now: Instant) -> (Elector, LeaseSpec) {
    let mut elector = Elector::new("a".to_owned());
    let spec = record(elector.next(None, now, wall(0)));
    elector.written(spec.clone(), now);
    (elector, spec)
}

#[test]
fn without_a_lease_one_is_created() {
    let now = Instant::now();
    let (elector, spec) = leader(now);
    assert_eq!(spec.holder_identity.as_deref(), Some("a"));
    assert_eq!((spec.lease_transitions, spec.lease_duration_seconds), (Some(0), Some(15)));
    assert!(elector.is_leader(now + 9 * SECOND));
}

#[test]
fn a_leader_that_cannot_renew_stops_before_another_may_begin() {
    let now = Instant::now();
    let (elector, spec) = leader(now);
    assert!(!elector.is_leader(now + RENEW_DEADLINE));
    let mut other = Elector::new("b".to_owned());
    // It first looks right when the leader wrote.
    assert_eq!(other.next(Some(&spec), now, wall(0)), Step::Wait);
    assert_eq!(other.next(Some(&spec), now + 14 * SECOND, wall(14)), Step::Wait);
    let taken = record(other.next(Some(&spec), now + 15 * SECOND, wall(15)));
    assert_eq!(taken.holder_identity.as_deref(), Some("b"));
    assert_eq!(taken.lease_transitions, Some(1));
    assert_eq!(taken.acquire_time, Some(MicroTime(wall(15))));
}

#[test]
fn each_renewal_is_waited_for_anew_whatever_the_clocks_say() {
    let start = Instant::now();
    let (mut first, mut spec) = leader(start);
    let mut other = Elector::new("b".to_owned());
    for round in 0..50_u32 {
        let now = start + 10 * round * SECOND;
        // The holder's clock jumps an hour back and forth.
        let its_clock = wall(i64::from(round) - 3600 * i64::from(round % 2));
        spec = record(first.next(Some(&spec), now, its_clock));
        first.written(spec.clone(), now);
        let later = now + SECOND;
        assert_eq!(other.next(Some(&spec), later, wall(10 * i64::from(round))), Step::Wait);
        assert!(first.is_leader(later) && !other.is_leader(later));
    }
}

#[test]
fn renewing_keeps_the_time_of_acquisition_and_the_count() {
    let now = Instant::now();
    let (mut elector, spec) = leader(now);
    let renewed = record(elector.next(Some(&spec), now + 2 * SECOND, wall(2)));
    assert_eq!(renewed.acquire_time, spec.acquire_time);
    assert_eq!(renewed.lease_transitions, spec.lease_transitions);
    assert_eq!(renewed.renew_time, Some(MicroTime(wall(2))));
}

#[test]
fn a_released_lease_is_taken_at_once() {
    let now = Instant::now();
    let (elector, spec) = leader(now);
    let released = elector.release(&spec, wall(1));
    assert_eq!(released.holder_identity, None);
    let mut other = Elector::new("b".to_owned());
    let taken = record(other.next(Some(&released), now, wall(1)));
    assert_eq!(taken.lease_transitions, Some(1));
}

#[test]
fn whoever_sees_another_holder_no_longer_leads() {
    let now = Instant::now();
    let (mut elector, spec) = leader(now);
    let stolen = LeaseSpec { holder_identity: Some("b".to_owned()), ..spec };
    assert_eq!(elector.next(Some(&stolen), now + SECOND, wall(1)), Step::Wait);
    assert!(!elector.is_leader(now + SECOND));
}

#[test]
fn the_length_written_by_the_holder_counts() {
    let now = Instant::now();
    let (_, spec) = leader(now);
    let long = LeaseSpec { lease_duration_seconds: Some(60), ..spec };
    let mut other = Elector::new("b".to_owned());
    assert_eq!(other.next(Some(&long), now, wall(0)), Step::Wait);
    assert_eq!(other.next(Some(&long), now + 59 * SECOND, wall(59)), Step::Wait);
    assert!(matches!(other.next(Some(&long), now + 60 * SECOND, wall(60)), Step::Take(_)));
}
