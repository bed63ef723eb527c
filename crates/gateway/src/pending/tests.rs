use std::future::pending;

use prometheus::Registry;

use super::*;

const HEAD: usize = 16 * 1024;

fn connections(limits: PendingLimits, files: usize) -> Arc<PendingConnections> {
    let metrics = Arc::new(GatewayMetrics::register(&Registry::new()).unwrap());
    let files = Arc::new(FileBudget::new(files, 0, 0));
    Arc::new(PendingConnections::new(
        limits,
        HEAD,
        vec!["10.0.0.0/8".parse().unwrap()],
        files,
        metrics,
    ))
}

fn limits(connections: usize, per_client: usize, memory: usize) -> PendingLimits {
    PendingLimits {
        connections: Some(connections),
        per_client: Some(per_client),
        memory: Some(memory),
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A connection that waits for its client, and its task.
fn waiting(
    all: &Arc<PendingConnections>,
    client: &str,
) -> (Arc<Pending>, tokio::task::JoinHandle<()>) {
    assert_eq!(all.make_room(address(client)), Room::Free);
    let one = Arc::new(all.enter(address(client)));
    let task = tokio::spawn(pending());
    all.attach(one.id(), task.abort_handle());
    (one, task)
}

async fn ends(task: tokio::task::JoinHandle<()>) {
    assert!(task.await.unwrap_err().is_cancelled());
}

#[test]
fn every_reason_for_an_end_is_counted_from_0_on() {
    let registry = Registry::new();
    let metrics = Arc::new(GatewayMetrics::register(&registry).unwrap());
    let files = Arc::new(FileBudget::new(100, 0, 0));
    let _all = PendingConnections::new(PendingLimits::default(), HEAD, Vec::new(), files, metrics);
    let families = registry.gather();
    let evicted =
        families.iter().find(|family| family.name().ends_with("_connections_evicted_total"));
    let reasons = evicted.expect("it is there").get_metric().len();
    assert_eq!(reasons, Evicted::ALL.len());
}

#[tokio::test]
async fn where_it_is_full_the_longest_wait_of_who_has_most_ends_for_the_next_one() {
    let all = connections(limits(3, 9, 1 << 20), 1000);
    let (_honest, honest_task) = waiting(&all, "192.0.2.1");
    let (first, first_task) = waiting(&all, "192.0.2.2");
    let (_second, second_task) = waiting(&all, "192.0.2.2");
    let (_third, _) = waiting(&all, "192.0.2.3");
    ends(first_task).await;
    assert!(!honest_task.is_finished() && !second_task.is_finished());
    assert_eq!(all.metrics.pending_connections.get(), 3);
    drop(first);
    assert_eq!((all.metrics.pending_connections.get(), all.state().leaving), (3, 0));
}

#[tokio::test]
async fn one_client_has_no_more_than_its_limit_and_a_proxy_is_not_held_to_it() {
    let all = connections(limits(9, 2, 1 << 20), 1000);
    let (_first, first_task) = waiting(&all, "2001:db8::1");
    let (_second, second_task) = waiting(&all, "2001:db8::2");
    let (_third, _) = waiting(&all, "2001:db8::3");
    ends(first_task).await;
    assert!(!second_task.is_finished());
    let proxied: Vec<_> = (0..5).map(|_| waiting(&all, "10.1.2.3")).collect();
    tokio::task::yield_now().await;
    assert!(proxied.iter().all(|(_, task)| !task.is_finished()));
}

#[tokio::test]
async fn a_client_that_keeps_us_busy_with_all_it_may_have_gets_no_more_and_keeps_nobody_out() {
    let all = connections(limits(9, 2, 1 << 20), 1000);
    let arriving: Vec<_> = (0..2).map(|_| all.enter(address("192.0.2.1"))).collect();
    assert_eq!(all.make_room(address("192.0.2.1")), Room::Free, "none is waited for yet");
    drop(arriving);
    let busy: Vec<_> = (0..2).map(|_| waiting(&all, "192.0.2.1")).collect();
    busy.iter().for_each(|(one, _)| one.works());
    assert_eq!(all.make_room(address("192.0.2.1")), Room::Refused);
    assert_eq!(all.make_room(address("192.0.2.2")), Room::Free);
    tokio::task::yield_now().await;
    assert!(busy.iter().all(|(_, task)| !task.is_finished()));
    assert_eq!(all.metrics.pending_connections.get(), 2);
    // One that waits for the client again goes for the next.
    busy[0].0.waits(0);
    assert_eq!(all.make_room(address("192.0.2.1")), Room::Free);
}

#[tokio::test]
async fn a_kept_connection_counts_with_the_head_that_may_come_and_is_ended_where_that_is_too_much()
{
    let each = cost::KEPT_ALIVE + HEAD;
    let all = connections(limits(9, 9, 2 * each + 2 * cost::SOCKET), 1000);
    let kept: Vec<_> = (0..3).map(|_| waiting(&all, "192.0.2.1")).collect();
    for (one, _) in &kept[..2] {
        drop(one.answer());
    }
    assert_eq!(all.state().order.held(), 2 * each + cost::SOCKET);
    drop(kept[2].0.answer());
    tokio::task::yield_now().await;
    assert!(kept[0].1.is_finished() && !kept[2].1.is_finished());
    assert!(all.state().order.held() <= 2 * each);
}

#[tokio::test]
async fn those_that_wait_for_us_or_are_answered_are_not_ended_and_who_comes_next_waits() {
    let all = connections(limits(2, 9, 1 << 20), 1000);
    let (working, working_task) = waiting(&all, "192.0.2.1");
    let (answered, answered_task) = waiting(&all, "192.0.2.1");
    working.works();
    let answering = answered.answer();
    let (other, other_task) = waiting(&all, "192.0.2.1");
    other.works();
    assert_eq!(all.make_room(address("192.0.2.2")), Room::Full);
    // Kept alive for another request: it counts again, and goes first.
    drop(answering);
    assert_eq!(all.make_room(address("192.0.2.2")), Room::Full, "two too many");
    ends(answered_task).await;
    assert!(!working_task.is_finished() && !other_task.is_finished());
}

#[tokio::test]
async fn an_upgraded_connection_is_never_without_a_request_again() {
    let all = connections(limits(9, 9, 1 << 20), 1000);
    let (upgraded, _) = waiting(&all, "192.0.2.1");
    let answering = upgraded.answer();
    answering.upgraded();
    drop(answering);
    assert_eq!((all.metrics.pending_connections.get(), all.state().order.count()), (0, 0));
    upgraded.waits(5);
    assert_eq!(all.state().order.count(), 0);
}

#[tokio::test]
async fn memory_beyond_the_limit_is_taken_from_who_holds_most() {
    let all = connections(limits(9, 9, 100_000), 1000);
    let (small, small_task) = waiting(&all, "192.0.2.1");
    small.waits(16_000);
    let (first, first_task) = waiting(&all, "192.0.2.2");
    first.waits(60_000);
    let (second, second_task) = waiting(&all, "192.0.2.2");
    second.waits(20_000);
    assert!(!first_task.is_finished());
    second.waits(60_000);
    ends(first_task).await;
    assert!(!small_task.is_finished() && !second_task.is_finished());
    assert_eq!(all.state().order.held(), 76_000);
}

#[tokio::test]
async fn where_files_run_short_connections_without_a_request_make_way() {
    // 150 for sockets towards endpoints of 166 in all, less 18 to spare.
    let all = connections(limits(1000, 1000, 1 << 20), 214);
    let _established: Vec<_> = (0..122).map(|_| all.files.backend().unwrap()).collect();
    let silent: Vec<_> = (0..16)
        .map(|_| {
            let file = all.files.client().unwrap();
            (waiting(&all, "192.0.2.1"), file)
        })
        .collect();
    let (_next, _) = waiting(&all, "192.0.2.2");
    tokio::task::yield_now().await;
    let ended = silent.iter().filter(|((_, task), _)| task.is_finished()).count();
    assert_eq!(ended, 1, "a few there may always be");
    assert!(silent[0].0.1.is_finished());
}

#[tokio::test]
async fn what_was_told_to_end_before_it_had_a_task_ends_with_it() {
    let all = connections(limits(9, 9, 1 << 20), 1000);
    let one = all.enter(address("192.0.2.1"));
    let id = one.id();
    all.evict(&mut all.state(), id, Evicted::Files);
    let task = tokio::spawn(pending());
    all.attach(id, task.abort_handle());
    ends(task).await;
}

#[test]
fn one_line_tells_of_many() {
    let (mut log, start) = (EvictionLog::default(), Instant::now());
    assert_eq!(log.add(start), Some(1));
    assert_eq!(log.add(start + LOG_EVERY / 2), None);
    assert_eq!(log.add(start + LOG_EVERY), Some(2));
}
