use tidegate_table::{
    Endpoint, EndpointState, LoadBalancing, MatchKey, PathKind, RouteEntry, VirtualHost,
};

use super::*;

fn address(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 80).into()
}

/// A rule that moves all it may, with one backend of these endpoints.
fn rule(name: &str, endpoints: &[(u8, EndpointState)]) -> Arc<Rule> {
    let balancing = LoadBalancing { rebalance_percent: 100, ..LoadBalancing::default() };
    let mut rule =
        Rule { load_balancing: balancing, ..Rule::with_defaults(ObjectRef::new("n", "r"), name) };
    rule.backends.push(Backend {
        service: rule.route.clone(),
        port: 80,
        weight: 1,
        tls: None,
        endpoints: endpoints
            .iter()
            .map(|&(number, state)| Endpoint { state, ..Endpoint::ready(address(number)) })
            .collect(),
    });
    Arc::new(rule)
}

const READY: EndpointState = EndpointState::Ready;

/// A ledger in which rules have so many connections at endpoints.
fn ledger(counts: &[(&Arc<Rule>, u8, usize)]) -> (ConnectionCounts, Vec<Arc<RuleEndpoint>>) {
    let ledger = ConnectionCounts::new(2);
    let places = counts
        .iter()
        .map(|&(rule, number, count)| {
            let key = PlaceKey { rule: Arc::clone(rule), endpoint: address(number) };
            let place = ledger.place(key);
            place.set(0, count / 2);
            place.set(1, count - count / 2);
            place
        })
        .collect();
    (ledger, places)
}

/// How many are told to go in five minutes, by endpoint. Those come back at once, to `other`; their old connections stay to
/// the end.
fn moved(
    rules: &[Arc<Rule>],
    ledger: &ConnectionCounts,
    other: &RuleEndpoint,
) -> HashMap<SocketAddr, usize> {
    let mut planner = Planner { random: Rng::with_seed(1), movers: HashMap::new() };
    let mut moved = HashMap::new();
    for tick in 1..=300 {
        for (place, delay) in planner.tick(tick, rules, &ledger.all()) {
            assert!(delay <= TICK);
            other.set(0, other.of_worker(0) + 1);
            *moved.entry(place.key().endpoint).or_default() += 1;
        }
    }
    moved
}

#[test]
fn those_that_have_been_told_to_go_are_told_once() {
    let rule = rule("0", &[(1, READY), (2, READY)]);
    let (ledger, places) = ledger(&[(&rule, 1, 400), (&rule, 2, 0)]);
    let moved = moved(&[rule], &ledger, &places[1]);
    assert_eq!(moved.len(), 1);
    let count = moved[&address(1)];
    assert!((190..=200).contains(&count), "{count}");
    assert_eq!(places[0].staying(), 400 - count);
}

#[test]
fn rules_that_share_endpoints_look_at_all_of_their_connections() {
    // Uneven each by itself, even together: new connections are balanced by all.
    let endpoints = [(1, READY), (2, READY)];
    let (first, second) = (rule("a", &endpoints), rule("b", &endpoints));
    let (even, places) = ledger(&[(&first, 1, 300), (&second, 2, 300)]);
    assert!(moved(&[first.clone(), second.clone()], &even, &places[1]).is_empty());
    // What one rule moves the other does not move again.
    let (uneven, places) = ledger(&[(&first, 1, 300), (&second, 1, 300), (&first, 2, 0)]);
    let count = moved(&[first, second], &uneven, &places[2])[&address(1)];
    assert!((285..=300).contains(&count), "{count}");
}

#[test]
fn only_endpoints_that_take_new_connections_count() {
    let leaving = EndpointState::Terminating { serving: true };
    for other in [EndpointState::NotReady, leaving] {
        // There is nowhere to go.
        let rule = rule("0", &[(1, READY), (2, other)]);
        let (ledger, places) = ledger(&[(&rule, 1, 400)]);
        assert!(moved(&[rule], &ledger, &places[0]).is_empty(), "{other:?}");
    }
    let rule = rule("0", &[(1, leaving), (2, leaving)]);
    let (leaving, places) = ledger(&[(&rule, 1, 400)]);
    assert!(moved(std::slice::from_ref(&rule), &leaving, &places[0]).is_empty());
    let mut weightless = Rule::clone(&rule);
    weightless.backends[0].weight = 0;
    assert!(moved(&[Arc::new(weightless)], &leaving, &places[0]).is_empty());
}

#[test]
fn rules_that_ask_for_it_are_found_once_whatever_their_matches() {
    let asks = rule("0", &[]);
    let silent = Arc::new(Rule::with_defaults(ObjectRef::new("n", "r"), "1"));
    let entry = |path: &str, rule: &Arc<Rule>| RouteEntry {
        key: Arc::new(MatchKey {
            kind: PathKind::Prefix,
            path: path.into(),
            headers: Vec::new(),
            query: Vec::new(),
            subprotocols: Vec::new(),
        }),
        rule: Arc::clone(rule),
    };
    let hosts = ["a.test", "b.test"].map(|name| {
        let entries = [entry("/a", &asks), entry("/b", &asks), entry("/c", &silent)];
        VirtualHost::new(name, None, entries)
    });
    assert_eq!(rules(&RoutingTable::new(hosts)), [asks]);
}

#[test]
fn a_worker_is_asked_as_often_as_it_has_connections() {
    let rule = rule("0", &[(1, READY), (2, READY)]);
    let (_ledger, places) = ledger(&[(&rule, 1, 400)]);
    places[0].set(0, 300);
    places[0].set(1, 100);
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..2).map(|_| tokio::sync::mpsc::channel(ORDERS)).unzip();
    let mut planner = Planner { random: Rng::with_seed(2), movers: HashMap::new() };
    for _ in 0..400 {
        places[0].begin_leaving();
        planner.order(&places[0], Instant::now(), &senders);
    }
    let asked: Vec<_> = receivers.iter().map(Receiver::len).collect();
    assert!((270..=330).contains(&asked[0]), "{asked:?}");
    // One that has ended takes no order: nobody leaves for that.
    drop(receivers);
    assert_eq!(places[0].staying(), 0);
    planner.order(&places[0], Instant::now(), &senders);
    assert_eq!(places[0].staying(), 1);
}
