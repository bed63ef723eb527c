use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

fn status(conditions: &[(&str, &str, &str, &str)]) -> WebSocketRouteStatus {
    let condition = |(type_, status, reason, message): &(&str, &str, &str, &str)| Condition {
        type_: (*type_).to_owned(),
        status: (*status).to_owned(),
        reason: (*reason).to_owned(),
        message: (*message).to_owned(),
        observed_generation: None,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    };
    let conditions = conditions.iter().map(condition).collect();
    WebSocketRouteStatus { conditions, ..WebSocketRouteStatus::default() }
}

fn told(before: &WebSocketRouteStatus, after: &WebSocketRouteStatus) -> Vec<(bool, String)> {
    news(before, after).into_iter().map(|news| (news.warning, news.reason)).collect()
}

fn warning(reason: &str) -> (bool, String) {
    (true, reason.to_owned())
}

fn normal(reason: &str) -> (bool, String) {
    (false, reason.to_owned())
}

const ACCEPTED: (&str, &str, &str, &str) = ("Accepted", "True", "Accepted", "");
const RESOLVED: (&str, &str, &str, &str) = ("ResolvedRefs", "True", "ResolvedRefs", "");
const PROGRAMMED: (&str, &str, &str, &str) = ("Programmed", "True", "Programmed", "Served.");
const NOT_PROGRAMMED: (&str, &str, &str, &str) = ("Programmed", "False", "NotProgrammed", "See.");
const NO_BACKEND: (&str, &str, &str, &str) = ("ResolvedRefs", "False", "BackendNotFound", "No.");

#[test]
fn what_was_stored_before_is_no_news() {
    let well = status(&[ACCEPTED, RESOLVED, PROGRAMMED]);
    assert_eq!(told(&well, &well), []);
    // Neither are other words for the same state.
    let other = status(&[ACCEPTED, RESOLVED, ("Programmed", "True", "Programmed", "Served, but.")]);
    assert_eq!(told(&well, &other), []);
}

#[test]
fn a_new_route_that_is_well_is_told_once() {
    let well = status(&[ACCEPTED, RESOLVED, PROGRAMMED]);
    assert_eq!(told(&WebSocketRouteStatus::default(), &well), [normal("Programmed")]);
}

#[test]
fn what_turns_bad_is_a_warning_and_what_recovers_is_not() {
    let well = status(&[ACCEPTED, RESOLVED, PROGRAMMED]);
    let unresolved = status(&[ACCEPTED, NO_BACKEND, PROGRAMMED]);
    assert_eq!(told(&well, &unresolved), [warning("BackendNotFound")]);
    assert_eq!(told(&unresolved, &well), [normal("ResolvedRefs")]);
    let forbidden =
        status(&[ACCEPTED, ("ResolvedRefs", "False", "RefNotPermitted", ""), PROGRAMMED]);
    assert_eq!(told(&unresolved, &forbidden), [warning("RefNotPermitted")], "another reason");
}

#[test]
fn a_condition_that_only_points_to_another_is_not_told_beside_it() {
    let well = status(&[ACCEPTED, RESOLVED, PROGRAMMED]);
    let invalid = ("Accepted", "False", "Invalid", "Wrong.");
    let rejected = status(&[invalid, ("ResolvedRefs", "False", "Invalid", ""), NOT_PROGRAMMED]);
    assert_eq!(told(&well, &rejected), [warning("Invalid")]);
    assert_eq!(told(&rejected, &well), [normal("Programmed")]);
    let in_part = status(&[
        ACCEPTED,
        RESOLVED,
        NOT_PROGRAMMED,
        ("PartiallyInvalid", "True", "Conflicted", ""),
    ]);
    assert_eq!(told(&well, &in_part), [warning("Conflicted")]);
    assert_eq!(told(&in_part, &well), [normal("Programmed")]);
    let alone = status(&[ACCEPTED, RESOLVED, NOT_PROGRAMMED]);
    assert_eq!(told(&well, &alone), [warning("NotProgrammed")]);
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let long = "é".repeat(800);
    let after =
        status(&[ACCEPTED, ("ResolvedRefs", "False", "BackendNotFound", &long), PROGRAMMED]);
    let note = &news(&status(&[ACCEPTED, RESOLVED, PROGRAMMED]), &after)[0].note;
    assert!(note.len() <= NOTE_LIMIT && note.len() > NOTE_LIMIT - 4 && note.ends_with('…'));
}

#[tokio::test]
async fn who_tells_never_waits() {
    let (queue, mut waiting) = mpsc::channel(2);
    let mut herald = EventSender { queue, dropped: 0 };
    let route = ObjectRef { namespace: "chat".into(), name: "chat".into() };
    let well = status(&[ACCEPTED, RESOLVED, PROGRAMMED]);
    for _ in 0..5 {
        herald.tell(&route, None, news(&WebSocketRouteStatus::default(), &well));
    }
    assert_eq!(herald.dropped, 3);
    waiting.recv().await.unwrap();
    herald.tell(&route, None, news(&WebSocketRouteStatus::default(), &well));
    assert_eq!((herald.dropped, waiting.len()), (0, 2));
}

#[test]
fn an_event_in_a_namespace_that_goes_away_is_no_fault() {
    let refused = |cause: &str| {
        let status = serde_json::json!({
            "code": 403,
            "reason": "Forbidden",
            "details": { "causes": [{ "reason": cause, "message": "namespace x is being terminated" }] },
        });
        kube::Error::Api(serde_json::from_value(status).unwrap())
    };
    assert!(namespace_ends(&refused("NamespaceTerminating")));
    assert!(!namespace_ends(&refused("FieldValueForbidden")));
}
