use tidegate_api::{Reason, RouteAddress};

use super::*;
use crate::translate::ConditionOutput;

fn desired(generation: i64, programmed: bool, message: &str) -> RouteStatus {
    let condition = |kind, status, reason, message: &str| ConditionOutput {
        kind,
        status,
        reason,
        message: message.to_owned(),
    };
    let reason = if programmed { Reason::Programmed } else { Reason::NotProgrammed };
    RouteStatus {
        observed_generation: Some(generation),
        hostnames: vec!["chat.example.com".to_owned()],
        addresses: Some(vec![RouteAddress::new("203.0.113.7")]),
        conditions: vec![
            condition(ConditionType::Accepted, true, Reason::Accepted, "The route is accepted."),
            condition(ConditionType::Programmed, programmed, reason, message),
        ],
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn times(status: &WebSocketRouteStatus) -> Vec<(&str, &str, Timestamp)> {
    let conditions = status.conditions.iter();
    conditions.map(|c| (c.type_.as_str(), c.status.as_str(), c.last_transition_time.0)).collect()
}

#[test]
fn a_first_status_is_written_with_the_time_of_writing() {
    let status = to_write(&desired(1, true, "Served."), &WebSocketRouteStatus::default(), at(0));
    let status = status.expect("there was none");
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(times(&status), [("Accepted", "True", at(0)), ("Programmed", "True", at(0))]);
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(1)));
}

#[test]
fn the_same_status_is_not_written_again() {
    let stored = to_write(&desired(1, true, "Served."), &WebSocketRouteStatus::default(), at(0));
    assert_eq!(to_write(&desired(1, true, "Served."), &stored.unwrap(), at(9)), None);
}

#[test]
fn only_a_condition_whose_status_changes_gets_a_new_time() {
    let stored = to_write(&desired(1, true, "Served."), &WebSocketRouteStatus::default(), at(0));
    let stored = stored.unwrap();
    let message = to_write(&desired(2, true, "Served, but."), &stored, at(5)).unwrap();
    assert_eq!(times(&message), [("Accepted", "True", at(0)), ("Programmed", "True", at(0))]);
    assert_eq!(message.conditions[1].message, "Served, but.");
    let flipped = to_write(&desired(2, false, "No."), &stored, at(5)).unwrap();
    assert_eq!(times(&flipped), [("Accepted", "True", at(0)), ("Programmed", "False", at(5))]);
}

#[test]
fn what_speaks_of_a_newer_spec_stays() {
    let stored = to_write(&desired(3, true, "Served."), &WebSocketRouteStatus::default(), at(0));
    assert_eq!(to_write(&desired(2, false, "No."), &stored.unwrap(), at(5)), None);
}

#[test]
fn conditions_of_others_are_left_alone_and_leftovers_of_ours_are_not() {
    let stored = to_write(&desired(1, true, "Served."), &WebSocketRouteStatus::default(), at(0));
    let mut stored = stored.unwrap();
    let mut foreign = stored.conditions[0].clone();
    foreign.type_ = "example.com/Reviewed".to_owned();
    stored.conditions.insert(0, foreign.clone());
    assert_eq!(to_write(&desired(1, true, "Served."), &stored, at(5)), None);
    foreign.type_ = "PartiallyInvalid".to_owned();
    stored.conditions.push(foreign);
    let status = to_write(&desired(1, true, "Served."), &stored, at(5)).expect("one is too many");
    assert_eq!(status.conditions.len(), 2);
}

#[test]
fn what_was_written_counts_until_the_source_has_seen_it() {
    let written = to_write(&desired(1, true, "Served."), &WebSocketRouteStatus::default(), at(0));
    let written = written.unwrap();
    let mut memory = RouteState::new(Some("u".to_owned()));
    memory.written = Some((Some("7".to_owned()), Wanted::Write(written.clone())));
    let mut observed = ObservedRoute {
        uid: Some("u".to_owned()),
        resource_version: Some("7".to_owned()),
        ..ObservedRoute::default()
    };
    assert_eq!(memory.stored(&observed), &written);
    observed.resource_version = Some("8".to_owned());
    assert_eq!(memory.stored(&observed), &observed.status);
}

#[test]
fn other_addresses_are_written_and_unknown_ones_leave_the_stored() {
    let stored = to_write(&desired(1, true, "Served."), &WebSocketRouteStatus::default(), at(0));
    let stored = stored.unwrap();
    assert_eq!(stored.hostnames, ["chat.example.com"]);
    let mut next = desired(1, true, "Served.");
    next.addresses = None;
    assert_eq!(to_write(&next, &stored, at(5)), None);
    next.addresses = Some(vec![RouteAddress::new("lb.example.net")]);
    let moved = to_write(&next, &stored, at(5)).expect("the address is another");
    assert_eq!(moved.addresses, [RouteAddress::new("lb.example.net")]);
    assert_eq!(moved.conditions, stored.conditions, "no condition has changed");
    next.hostnames.clear();
    assert!(to_write(&next, &moved, at(6)).is_some_and(|status| status.hostnames.is_empty()));
}
