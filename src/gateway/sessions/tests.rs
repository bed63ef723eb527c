use super::*;
use crate::table::{
    Drain, FrameChecks, HttpMode, Keepalive, Limits, LoadBalancing, ObjectRef, Plaintext, Timeouts,
};

fn rule(name: &str, on_route_removed: OnChange) -> Arc<Rule> {
    Arc::new(Rule {
        route: ObjectRef { namespace: "n".into(), name: "r".into() },
        name: name.into(),
        plaintext: Plaintext::Refuse,
        http: HttpMode::Refuse,
        timeouts: Timeouts::default(),
        keepalive: Keepalive::default(),
        frames: FrameChecks::Strict,
        limits: Limits::default(),
        load_balancing: LoadBalancing::default(),
        connect_attempts: 3,
        drain: Drain { on_route_removed, ..Drain::default() },
        backends: Vec::new(),
    })
}

fn origin(rule: &Arc<Rule>, port: u16) -> Origin {
    Origin {
        hostname: "a.test".into(),
        rule: Arc::clone(rule),
        endpoint: ([10, 0, 0, 1], port).into(),
    }
}

fn groups(sessions: &Sessions) -> usize {
    sessions.groups.borrow().len()
}

#[test]
fn a_rule_is_one_group_an_endpoint_however_often_it_was_published() {
    let sessions = Rc::new(Sessions::default());
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
    let sessions = Rc::new(Sessions::default());
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
    let sessions = Rc::new(Sessions::default());
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
    let sessions = Rc::new(Sessions::default());
    let rule = rule("0", OnChange::Close);
    let _first = sessions.enter(origin(&rule, 1));
    let group = sessions.take_unjudged().groups.remove(0);
    group.pass(Some(Sentence { cause: CloseCause::RouteRemoved, number: 1 }));
    let second = sessions.enter(origin(&rule, 1));
    let unjudged = sessions.take_unjudged();
    assert_eq!((unjudged.groups.len(), unjudged.members.len()), (0, 1));
    assert!(Rc::ptr_eq(&unjudged.members[0].1, &second.session));
}

#[test]
fn a_group_gives_the_memory_of_a_busy_hour_back() {
    let sessions = Rc::new(Sessions::default());
    let rule = rule("0", OnChange::Keep);
    let mut entries: Vec<_> = (0..1000).map(|_| sessions.enter(origin(&rule, 1))).collect();
    let group = Rc::clone(&entries[0].group);
    entries.truncate(10);
    let capacity = group.live.borrow().capacity();
    assert!(capacity <= 40, "{capacity}");
}
