use proptest::prelude::*;

use super::*;

fn address(client: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, client])
}

#[test]
fn a_client_is_an_ipv4_address_however_written_or_an_ipv6_network() {
    let client = |text: &str| client_of(text.parse().unwrap());
    assert_eq!(client("::ffff:192.0.2.7"), client("192.0.2.7"));
    assert_ne!(client("192.0.2.8"), client("192.0.2.7"));
    assert_eq!(client("2001:db8:0:1::1"), client("2001:db8:0:1:ffff::2"));
    assert_ne!(client("2001:db8:0:1::1"), client("2001:db8:0:2::1"));
}

#[test]
fn the_longest_wait_of_who_has_most_goes_first() {
    let mut order = Order::default();
    let wait = |order: &mut Order<()>, client| {
        let id = order.enter(address(client), false, ());
        order.set_phase(id, Phase::Waiting);
        id
    };
    let honest = wait(&mut order, 1);
    let first = wait(&mut order, 2);
    let second = wait(&mut order, 2);
    assert_eq!(order.of_heaviest(), Some(first));
    // Who sends something waits anew.
    order.set_phase(first, Phase::Working);
    assert_eq!(order.of_heaviest(), Some(honest), "one each, and this client came first");
    order.set_phase(first, Phase::Waiting);
    assert_eq!(order.of_heaviest(), Some(second));
    assert_eq!(order.of_client(address(1)), Some(honest));
}

#[test]
fn a_proxy_counts_as_many_clients() {
    let mut order = Order::default();
    let wait = |order: &mut Order<()>, client, proxy| {
        let id = order.enter(address(client), proxy, ());
        order.set_phase(id, Phase::Waiting);
        id
    };
    let through_proxy = wait(&mut order, 1, true);
    for _ in 1..PROXY_WEIGHT {
        wait(&mut order, 1, true);
    }
    let other = wait(&mut order, 2, false);
    let another = wait(&mut order, 2, false);
    assert_eq!(order.of_heaviest(), Some(other));
    order.leave(another);
    for _ in 0..PROXY_WEIGHT {
        wait(&mut order, 1, true);
    }
    assert_eq!(order.of_heaviest(), Some(through_proxy));
}

#[test]
fn who_holds_most_gives_memory_back_and_those_that_wait_for_us_do_not() {
    let mut order = Order::default();
    let enter = |order: &mut Order<()>, client, held, phase| {
        let id = order.enter(address(client), false, ());
        order.set_phase(id, phase);
        order.hold(id, held);
        id
    };
    let small = enter(&mut order, 1, 10, Phase::Waiting);
    let first = enter(&mut order, 2, 40, Phase::Waiting);
    let working = enter(&mut order, 2, 40, Phase::Working);
    let second = enter(&mut order, 2, 40, Phase::Waiting);
    assert_eq!(order.held(), 130);
    assert!(order.of_holders(130).is_empty());
    assert_eq!(order.of_holders(100), [first]);
    assert_eq!(order.of_holders(0), [first, second, small]);
    order.set_phase(working, Phase::Out);
    assert_eq!(order.held(), 90);
}

/// What is done, to one of the clients or of the connections.
#[derive(Clone, Copy, Debug)]
enum Action {
    Enter(u8),
    Phase(usize, Phase),
    Hold(usize, usize),
    Leave(usize),
}

const PHASES: [Phase; 3] = [Phase::Waiting, Phase::Working, Phase::Out];

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (0..5_u8).prop_map(Action::Enter),
        5 => (any::<usize>(), prop::sample::select(&PHASES[..]))
            .prop_map(|(id, phase)| Action::Phase(id, phase)),
        1 => (any::<usize>(), 0..100_usize).prop_map(|(id, held)| Action::Hold(id, held)),
        2 => any::<usize>().prop_map(Action::Leave),
    ]
}

/// The same by looking at everything.
#[derive(Clone, Copy, Debug)]
struct Plain {
    id: usize,
    client: u8,
    phase: Phase,
    since: usize,
    held: usize,
}

proptest! {
    #[test]
    fn it_says_what_looking_at_everything_says(actions in prop::collection::vec(action(), 1..200)) {
        let mut order = Order::default();
        let mut all: Vec<Plain> = Vec::new();
        for (now, action) in actions.into_iter().enumerate() {
            let pick = |index: usize| (!all.is_empty()).then(|| index % all.len());
            match action {
                Action::Enter(client) => {
                    let id = order.enter(address(client), client == 0, ());
                    all.push(Plain { id, client, phase: Phase::Working, since: now, held: 0 });
                }
                Action::Phase(index, phase) => {
                    let Some(index) = pick(index) else { continue };
                    order.set_phase(all[index].id, phase);
                    all[index].phase = phase;
                    all[index].since = now;
                    if phase == Phase::Out {
                        all[index].held = 0;
                    }
                }
                Action::Hold(index, held) => {
                    let Some(index) = pick(index) else { continue };
                    if all[index].phase == Phase::Out {
                        continue;
                    }
                    order.hold(all[index].id, held);
                    all[index].held = held;
                }
                Action::Leave(index) => {
                    let Some(index) = pick(index) else { continue };
                    order.leave(all.swap_remove(index).id);
                }
            }
            let waits = |client| {
                all.iter().filter(move |one| one.client == client && one.phase == Phase::Waiting)
            };
            let load = |client: u8| {
                waits(client).count().div_ceil(if client == 0 { PROXY_WEIGHT } else { 1 })
            };
            let most = (0..5).map(load).max().unwrap_or(0);
            match order.of_heaviest() {
                None => prop_assert_eq!(most, 0),
                Some(id) => {
                    let chosen = all.iter().find(|one| one.id == id).unwrap();
                    prop_assert_eq!(load(chosen.client), most);
                    let oldest = waits(chosen.client).min_by_key(|one| one.since).unwrap();
                    prop_assert_eq!(oldest.id, id);
                }
            }
            prop_assert_eq!(order.held(), all.iter().map(|one| one.held).sum::<usize>());
            prop_assert_eq!(order.count(), all.iter().filter(|one| one.phase != Phase::Out).count());
            for client in 0..5 {
                let count = all.iter().filter(|one| one.client == client && one.phase != Phase::Out);
                prop_assert_eq!(order.count_of(address(client)), count.count());
            }
        }
        for one in all {
            order.leave(one.id);
        }
        prop_assert!(order.clients.is_empty() && order.by_address.is_empty());
    }
}
