use tidegate_table::{Drain, ObjectRef};

use super::*;

fn sessions() -> Rc<Registry> {
    Rc::new(Registry::new(0, ConnectionCounts::new(1), Arc::default()))
}

fn rule(name: &str, on_route_removed: OnChange) -> Arc<Rule> {
    let drain = Drain { on_route_removed, ..Drain::default() };
    Arc::new(Rule { drain, ..Rule::with_defaults(ObjectRef::new("n", "r"), name) })
}

fn origin(rule: &Arc<Rule>, port: u16) -> Origin {
    Origin {
        hostname: "a.test".into(),
        rule: Arc::clone(rule),
        endpoint: ([10, 0, 0, 1], port).into(),
    }
}

fn groups(sessions: &Registry) -> usize {
    sessions.homes.borrow().values().map(|home| home.groups.borrow().len()).sum()
}

#[test]
fn a_rule_is_one_group_an_endpoint_however_often_it_was_published() {
    let sessions = sessions();
    let entries: Vec<_> =
        (0..4).map(|_| sessions.enter(origin(&rule("0", OnChange::Keep), 1))).collect();
    assert_eq!((groups(&sessions), sessions.count()), (1, 4));
    let other_endpoint = sessions.enter(origin(&rule("0", OnChange::Keep), 2));
    let other_rule = sessions.enter(origin(&rule("1", OnChange::Keep), 1));
    let other_policy = sessions.enter(origin(&rule("0", OnChange::Close), 1));
    assert_eq!((groups(&sessions), sessions.count()), (4, 7));
    drop((other_endpoint, other_rule, other_policy));
    assert_eq!(groups(&sessions), 1);
    drop(entries);
    assert_eq!((groups(&sessions), sessions.count()), (0, 0));
}

#[test]
fn whoever_leaves_the_others_are_still_reached() {
    let sessions = sessions();
    let rule = rule("0", OnChange::Keep);
    let mut entries: Vec<_> = (0..100).map(|_| sessions.enter(origin(&rule, 1))).collect();
    for _ in 0..90 {
        entries.swap_remove(fastrand::usize(..entries.len()));
        let asked = Request::Close(CloseCause::Drain);
        sessions.live().iter().for_each(|session| session.ask(asked));
        assert_eq!(sessions.live().len(), entries.len());
        assert!(entries.iter().all(|entry| entry.session().request() == Some(asked)));
        entries.iter().for_each(|entry| entry.session.request.set(None));
    }
}

#[test]
fn only_what_a_change_may_end_is_looked_at() {
    let sessions = sessions();
    let keep = sessions.enter(origin(&rule("0", OnChange::Keep), 1));
    assert!(sessions.endable().is_empty() && sessions.take_unjudged().groups.is_empty());
    let close = sessions.enter(origin(&rule("1", OnChange::Close), 1));
    let second = sessions.enter(origin(&rule("1", OnChange::Close), 1));
    assert_eq!(sessions.endable().len(), 1);
    let unjudged = sessions.take_unjudged();
    assert_eq!((unjudged.groups.len(), unjudged.members.len()), (1, 0));
    assert_eq!(unjudged.groups[0].members().len(), 2);
    drop((close, second));
    assert!(sessions.endable().is_empty());
    drop(keep);
}

#[test]
fn who_comes_into_a_group_that_is_being_ended_is_told_of() {
    let sessions = sessions();
    let rule = rule("0", OnChange::Close);
    let _first = sessions.enter(origin(&rule, 1));
    let group = sessions.take_unjudged().groups.remove(0);
    group.pass(Some(CloseDecision { cause: CloseCause::RouteRemoved, number: 1 }));
    let second = sessions.enter(origin(&rule, 1));
    let unjudged = sessions.take_unjudged();
    assert_eq!((unjudged.groups.len(), unjudged.members.len()), (0, 1));
    assert!(Rc::ptr_eq(&unjudged.members[0].1, &second.session));
}

#[test]
fn a_group_gives_the_memory_of_a_busy_hour_back() {
    let sessions = sessions();
    let rule = rule("0", OnChange::Keep);
    let mut entries: Vec<_> = (0..1000).map(|_| sessions.enter(origin(&rule, 1))).collect();
    let group = Rc::clone(&entries[0].group);
    entries.truncate(10);
    let capacity = group.live.borrow().capacity();
    assert!(capacity <= 40, "{capacity}");
}

#[test]
fn the_ledger_is_told_of_every_connection_and_of_those_that_are_moved() {
    let ledger = ConnectionCounts::new(2);
    let of_worker = |worker| Rc::new(Registry::new(worker, ledger.clone(), Arc::default()));
    let (first, second) = (of_worker(0), of_worker(1));
    let rule = rule("0", OnChange::Keep);
    let mut entries: Vec<_> = (0..3).map(|_| first.enter(origin(&rule, 1))).collect();
    let other = second.enter(Origin { hostname: "b.test".into(), ..origin(&rule, 1) });
    let place = ledger.all().remove(0);
    assert_eq!((place.of_worker(0), place.of_worker(1), place.staying()), (3, 1, 4));
    let mut random = fastrand::Rng::with_seed(1);
    for round in 1..=3 {
        place.begin_leaving();
        assert!(first.move_one(&place, &mut random), "round {round}");
        assert_eq!(place.staying(), 4 - round);
    }
    assert!(!first.move_one(&place, &mut random), "all have been asked");
    let moving = Some(Request::Close(CloseCause::Rebalance));
    assert!(entries.iter().all(|entry| entry.session().request() == moving));
    entries.pop();
    assert_eq!((place.of_worker(0), place.staying()), (2, 1), "it left as it was told");
    drop((entries, other));
    assert_eq!((place.of_worker(0), place.of_worker(1), place.staying()), (0, 0, 0));
    drop(place);
    assert!(ledger.all().is_empty() && first.homes.borrow().is_empty());
}
