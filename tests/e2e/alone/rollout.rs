//! `helm upgrade` with many sockets open.

use std::{
    collections::BTreeSet,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::support::{
    App, Arrivals, Crowd, Ended, Manner, Release, eventually, expect_eq, setting,
};

/// The log of a pod, to its end.
struct Log(Child);

impl Log {
    fn follow(release: &Release, pod: &str) -> Self {
        let child = Command::new("kubectl")
            .args(["--namespace", &release.namespace, "logs", "--follow", pod])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("these tests are started by tests/e2e/run"))
    }

    fn read(self) -> String {
        let output = self.0.wait_with_output().expect("it has ended");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Every socket of the old replicas is told goodbye, its client finds a place at the first try, and the clients do not come
/// all at once. The old replicas end by themselves, and two are available at every moment.
#[test]
fn a_rolling_upgrade_says_goodbye_to_every_socket_and_no_upgrade_fails() {
    // A debug build under test, beside its clients and the cluster: 1,000 are for the soak.
    let members = setting("TIDEGATE_E2E_ROLLOUT", 300) as usize;
    let settings = [
        "--wait",
        "--set=service.type=LoadBalancer",
        "--set=drain.delay=5s,drain.spread=15s,drain.timeout=25s",
    ];
    let release = Release::own("rollout", &settings);
    let app = App::start(&release, "rollout-app", 2);
    let address = release.load_balancer();
    let old: Vec<_> = release.pods().into_iter().map(|pod| pod.name).collect();
    let logs: Vec<_> = old.iter().map(|pod| Log::follow(&release, pod)).collect();
    // They are many for a debug build: each speaks seldom.
    let manner = Manner {
        pause: Duration::from_secs(5),
        patience: Duration::from_secs(20),
        ..Manner::RETURNS
    };
    let crowd = Crowd::gather(&app.client, &[address], members, manner);
    for pod in release.pods() {
        let open = pod.metrics().sum("tidegate_connections_open", &[]).unwrap_or(0.0);
        assert!(open >= members as f64 / 4.0, "{} has {open} connections", pod.name);
    }
    let arrivals = Arrivals::begin(&app.client, &[address]);

    let over = AtomicBool::new(false);
    let begin = Instant::now();
    let fewest = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut fewest = usize::MAX;
            while !over.load(Ordering::Relaxed) {
                let path = "--output=jsonpath={.status.availableReplicas}";
                let text = release.kubectl(&["get", "deployment", &release.name, path]);
                fewest = fewest.min(text.parse().unwrap_or(0));
            }
            fewest
        });
        release
            .helm("upgrade", &[&settings[..], &["--set=podAnnotations.rollout=second"]].concat());
        // 5 s, 25 s and 5 s to spare; the later one has begun after the new ones were ready.
        eventually("the old replicas are gone", 75, || {
            let left = release.pods_left().iter().filter(|pod| old.contains(pod)).count();
            expect_eq(&left, &0)
        });
        over.store(true, Ordering::Relaxed);
        watch.join().expect("it does not panic")
    });
    eprintln!("the old replicas were gone after {:?}", begin.elapsed());
    eventually("everybody has a socket", 20, || expect_eq(&crowd.open(), &members));
    let (count, slowest) = arrivals.expect_all_opened();
    let chronicle = crowd.disperse();
    eprintln!("{count} new sockets, the slowest after {slowest:?}; {}", chronicle.summary());

    assert_eq!(fewest, 2, "the fewest replicas that were available");
    let told = |ended: &&Ended| ended.code == Some(1012);
    assert_eq!(chronicle.ended.iter().filter(told).count(), chronicle.ended.len());
    let whose: BTreeSet<_> = chronicle.ended.iter().map(|ended| ended.member).collect();
    assert_eq!(whose.len(), members, "each had a socket with an old replica");
    assert!(chronicle.failed.is_empty() && chronicle.disorder.is_empty());
    expect_even(&chronicle.returned);
    for log in logs.into_iter().map(Log::read) {
        let last = log.lines().last().unwrap_or_default();
        assert!(last.contains("shut down") && !log.contains("cut"), "{last}");
    }
}

/// No second has more than three times the mean of all.
#[track_caller]
fn expect_even(moments: &[Instant]) {
    let first = *moments.iter().min().expect("some have returned");
    let seconds = moments.iter().map(|moment| (*moment - first).as_secs() as usize);
    let mut counts = vec![0_usize; 1 + seconds.clone().max().unwrap_or(0)];
    seconds.for_each(|second| counts[second] += 1);
    let mean = moments.len() as f64 / counts.len() as f64;
    eprintln!("returns in each second: {counts:?}, {mean:.0} on the average");
    assert!(counts.iter().all(|count| *count as f64 <= 3.0 * mean), "{counts:?}");
    assert!(counts.len() >= 10, "they came back within {} s", counts.len());
}

/// So that a mean of quiet seconds does not hide a wave.
#[test]
#[should_panic(expected = "[1, 1, 8")]
fn a_wave_is_not_even() {
    let begin = Instant::now();
    let moments: Vec<_> = [0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10]
        .map(|second| begin + Duration::from_millis(second * 1000 + 10))
        .into();
    expect_even(&moments);
}
