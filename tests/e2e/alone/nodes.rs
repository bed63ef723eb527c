//! A node is drained, or loses its power.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    App, Arrivals, Crowd, Manner, Part, Release, eventually, expect_eq, kubectl, try_kubectl,
};

/// The node that goes. Backends that are to stay are on the other one.
const GOES: &str = "node2";
const STAYS: &str = "node1";

/// A node that takes no new pods; until this is dropped.
struct Cordoned;

impl Drop for Cordoned {
    fn drop(&mut self) {
        if let Err(error) = try_kubectl(&["uncordon", GOES], None) {
            eprintln!("{error}");
        }
    }
}

/// Whether the PodDisruptionBudget would let this pod go now.
fn may_go(release: &Release, pod: &str) -> Result<(), String> {
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": pod, "namespace": release.namespace },
        "deleteOptions": { "dryRun": ["All"] },
    });
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", release.namespace);
    let create = ["create", "--raw", &path, "--filename=-"];
    try_kubectl(&create, Some(&eviction.to_string())).map(|_| ())
}

/// The sockets of the replica there are told goodbye and find a place at the other one at the first try; the others do
/// not notice. While no other pod is ready in its place, the budget holds the other replica.
#[test]
fn draining_a_node_moves_its_sockets_and_no_upgrade_fails() {
    const MEMBERS: usize = 200;
    let settings = [
        "--wait",
        "--set=service.type=LoadBalancer",
        "--set=drain.delay=5s,drain.spread=5s,drain.timeout=10s",
    ];
    let release = Release::own("drained", &settings);
    let app = App::start_on(STAYS, &release, "drained-app", 2);
    let address = release.load_balancer();
    let pods = release.pods();
    let on = |node| pods.iter().find(|pod| pod.node == node).expect("one on each node");
    let (goes, stays) = (on(GOES), on(STAYS));
    let crowd = Crowd::gather(&app.client, &[address], MEMBERS, Manner::RETURNS);
    let moving = goes.metrics().sum("tidegate_connections_open", &[]).unwrap_or(0.0) as usize;
    assert!(moving > MEMBERS / 4, "{moving} connections");
    let arrivals = Arrivals::begin(&app.client, &[address]);

    let _cordoned = Cordoned;
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let drain = scope.spawn(|| {
            kubectl(&[
                "drain",
                GOES,
                "--ignore-daemonsets",
                "--delete-emptydir-data",
                "--force",
                "--timeout=60s",
            ]);
            begin.elapsed()
        });
        eventually("its pod is on its way out", 20, || {
            let staying = release.pods().iter().any(|pod| pod.name == goes.name);
            expect_eq(&staying, &false)
        });
        let refused = may_go(&release, &stays.name).expect_err("the other one must stay");
        assert!(refused.contains("disruption budget"), "{refused}");
        let took = drain.join().expect("the drain succeeds");
        eprintln!("the node was drained in {took:?}");
    });
    eventually("everybody has a socket", 20, || expect_eq(&crowd.open(), &MEMBERS));
    eventually("another replica is ready in its place", 30, || may_go(&release, &stays.name));
    let (count, slowest) = arrivals.expect_all_opened();
    let chronicle = crowd.disperse();
    eprintln!("{count} new sockets, the slowest after {slowest:?}; {}", chronicle.summary());
    let told = chronicle.ended.iter().filter(|ended| ended.code == Some(1012)).count();
    // Some of the arrivals were counted as well.
    assert!(told <= moving && told + 2 >= moving, "{told} of {moving} were told");
    assert_eq!(told, chronicle.ended.len());
    assert_eq!(chronicle.returned.len(), told);
    assert!(chronicle.failed.is_empty() && chronicle.disorder.is_empty());
    let last = chronicle.returned.iter().max().expect("some have returned");
    // Delay, spread, and the eviction's own time.
    let took = last.duration_since(begin);
    assert!(took < Duration::from_secs(5 + 5 + 5), "the last came back after {took:?}");
}

/// Nobody says a word: neither to the clients of the replica there, nor to those whose backend was there. Clients that look
/// for a sign of life themselves are back within the time that docs/availability.md tells.
#[test]
fn clients_come_back_from_a_node_that_loses_its_power() {
    const MEMBERS: usize = 200;
    // An answer is missed 2 to 4 s after the message. Then an attempt may run into the dead node before the load balancer
    // sees that it is dead, and one into a dead backend.
    const BACK_WITHIN: Duration = Duration::from_secs(20);
    let manner = Manner {
        patience: Duration::from_secs(3),
        opening: Duration::from_secs(6),
        ..Manner::RETURNS
    };
    let release = Release::own("power", &["--wait", "--set=service.type=LoadBalancer"]);
    let app = App::start(&release, "power-app", 4);
    let address = release.load_balancer();
    let pods = release.pods();
    // The one that writes the statuses goes.
    let leader = eventually("the Lease is held", 20, || release.lease_holder());
    let (goes, stays) = match pods.as_slice() {
        [first, second] if first.name == leader => (first, second),
        [second, first] if first.name == leader => (first, second),
        other => panic!("{leader} leads {other:?}"),
    };
    assert_ne!(goes.node, stays.node, "{pods:?}");
    let crowd = Crowd::gather(&app.client, &[address], MEMBERS, manner);
    let lost = goes.metrics().sum("tidegate_connections_open", &[]).unwrap_or(0.0) as usize;
    assert!(lost > MEMBERS / 4, "{lost} connections");

    let power = Part::stop(&goes.node);
    let begin = Instant::now();
    eventually("its sockets are missed", 10, || {
        let ended = crowd.chronicle().ended.len();
        if ended >= lost { Ok(()) } else { Err(format!("{ended} of {lost}")) }
    });
    eventually("everybody has a socket again", 30, || expect_eq(&crowd.open(), &MEMBERS));
    let took = begin.elapsed();
    let missed = crowd.chronicle().ended.iter().map(|ended| ended.at - begin).max();
    eprintln!("the last was missed after {missed:?}, everybody was back after {took:?}");
    assert!(took < BACK_WITHIN, "the last came back after {took:?}");
    // Through the one that is left, and from now on without a failure.
    let arrivals = Arrivals::begin(&app.client, &[address]);
    eventually("the other replica leads", 30, || {
        expect_eq(&stays.metrics().sum("tidegate_leader", &[]), &Some(1.0))
    });
    app.namespace.kubectl(&[
        "patch",
        "wsr/chat",
        "--type=merge",
        "--patch={\"spec\":{\"plaintext\":\"Redirect\"}}",
    ]);
    eventually("it writes statuses", 20, || {
        let found = app.namespace.condition("chat", "Programmed").unwrap_or_default();
        expect_eq(&found.observed_generation, &2)
    });
    let (count, slowest) = arrivals.expect_all_opened();
    eprintln!("{count} new sockets, the slowest after {slowest:?}");

    power.start();
    kubectl(&["wait", "--for=condition=Ready", "--timeout=90s", &format!("node/{}", goes.node)]);
    eventually("both replicas serve again", 90, || {
        let pods = release.pods();
        expect_eq(&pods.len(), &2)?;
        pods.iter().try_for_each(|pod| Ok(app.client.open(pod.https()).map(|_| ())?))
    });
    let chronicle = crowd.disperse();
    eprintln!("{}", chronicle.summary());
    assert!(chronicle.disorder.is_empty());
}
