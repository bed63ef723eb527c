//! Every replica serves; one writes statuses.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    App, Crowd, Hanging, Manner, Metrics, Pod, Release, eventually, expect_eq, get, kill_replica,
};

/// The replica that holds the Lease, once it is the only one that says so, and the others.
fn leader(release: &Release, seconds: u64) -> (Pod, Vec<Pod>) {
    eventually("exactly one replica leads, the one that holds the Lease", seconds, || {
        let holder = release.lease_holder()?;
        let (leaders, others): (Vec<_>, Vec<_>) = release
            .pods()
            .into_iter()
            .partition(|pod| pod.metrics().sum("tidegate_leader", &[]) == Some(1.0));
        match <[Pod; 1]>::try_from(leaders) {
            Ok([leader]) if leader.name == holder => Ok((leader, others)),
            other => Err(format!("the Lease is held by {holder}; leading: {other:?}")),
        }
    })
}

fn statuses_written(pod: &Pod) -> f64 {
    pod.metrics().sum("tidegate_status_writes_total", &[]).unwrap_or(0.0)
}

#[test]
fn one_replica_holds_the_lease_and_writes_statuses_and_another_takes_over() {
    let release = Release::own("replicas", &["--wait"]);
    let (first, others) = leader(&release, 30);
    assert_eq!(others.len(), 1);
    let app = App::start(&release, "replicas-app", 1);

    let route = app.namespace.get("wsr/chat");
    let manager = format!("tidegate/{}", release.class);
    assert_eq!(status_managers(&app), [manager.as_str()], "{route:#}");
    assert!(statuses_written(&first) >= 1.0);
    assert_eq!(statuses_written(&others[0]), 0.0, "only the leader writes");
    let survivor = &others[0];
    let mut socket = app.open(survivor.https());

    // The leader goes, and while nobody leads the route is broken.
    release.kubectl(&["delete", "pod", &first.name, "--wait=false"]);
    app.namespace.kubectl(&[
        "patch",
        "wsr/chat",
        "--type=merge",
        &format!("--patch={}", json!({ "spec": { "tls": { "secretName": "missing" } } }),),
    ]);
    // The Lease is given back by whoever ends in order, so it does not take the whole of its duration.
    let (second, _) = leader(&release, 12);
    assert_ne!(second.name, first.name);
    eventually("the status speaks of the changed route", 20, || {
        let found = app.namespace.condition("chat", "ResolvedRefs").unwrap_or_default();
        let is = (found.status.as_str(), found.reason.as_str(), found.observed_generation);
        expect_eq(&is, &("False", "InvalidCertificateRef", 2))
    });
    assert!(statuses_written(&second) >= 1.0);
    assert_eq!(status_managers(&app), [manager.as_str()]);
    let lease = release.lease().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(lease["leaseTransitions"], 1, "{lease:#}");
    // What the other replica does is none of its connections' business.
    socket.echo("still here");
}

#[test]
fn when_the_leader_hangs_another_takes_over_and_it_does_not_lead_when_it_wakes_up() {
    let release = Release::own("hanging", &["--wait"]);
    let (first, others) = leader(&release, 30);
    let app = App::start(&release, "hanging-app", 1);
    let hanging = Hanging::stop_replica(&first.name);

    // Not before the Lease has run out: 15 s, and up to two between two looks at it.
    eventually("the other one leads", 25, || {
        expect_eq(&others[0].metrics().sum("tidegate_leader", &[]), &Some(1.0))
    });
    break_route(&app);
    drop(hanging);
    eventually("it knows that it leads no more", 10, || {
        let (status, text) = get(first.admin(), "/metrics")?;
        expect_eq(&status, &200)?;
        expect_eq(&Metrics::new(text).sum("tidegate_leader", &[]), &Some(0.0))
    });
    let (second, _) = leader(&release, 10);
    assert_eq!(second.name, others[0].name);
    let found = app.namespace.condition("chat", "ResolvedRefs").expect("it has been written");
    assert_eq!((found.status.as_str(), found.observed_generation), ("False", 2));
}

/// The leader is killed and gone for good: another one takes over when the Lease has run out, once, and keeps it. One that
/// is killed and comes back in its place goes on to lead.
#[test]
fn when_the_leader_is_killed_another_takes_over_within_the_leases_time_and_keeps_it() {
    let release = Release::own("killed", &["--wait"]);
    let (first, others) = leader(&release, 30);
    let survivor = &others[0];
    let app = App::start(&release, "killed-app", 1);
    let crowd = Crowd::gather(&app.client, &[survivor.https()], 20, Manner::STAYS);

    // The kubelet starts its container again, under the same name: that is the same candidate.
    kill_replica(&first.name);
    eventually("the killed one leads again", 30, || {
        let (status, text) = get(first.admin(), "/metrics")?;
        expect_eq(&status, &200)?;
        expect_eq(&Metrics::new(text).sum("tidegate_leader", &[]), &Some(1.0))
    });
    let lease = release.lease().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(lease["leaseTransitions"], 0, "{lease:#}");

    // It hangs and its pod is deleted: so it is killed and cannot let go of the Lease, and another pod comes in its place.
    let hanging = Hanging::stop_replica(&first.name);
    let renewed = Instant::now();
    release.kubectl(&["delete", "pod", &first.name, "--force", "--grace-period=0"]);
    hanging.forget();
    let mut holders = BTreeSet::new();
    // The other one, or the one in its place.
    let second = eventually("another one leads", 25, || {
        holders.extend(release.lease()?["holderIdentity"].as_str().map(str::to_owned));
        let mut others = release.pods().into_iter().filter(|pod| pod.name != first.name);
        let leads = |pod: &Pod| match get(pod.admin(), "/metrics") {
            Ok((200, text)) => Metrics::new(text).sum("tidegate_leader", &[]) == Some(1.0),
            _ => false,
        };
        others.find(leads).ok_or_else(|| format!("who held the Lease so far: {holders:?}"))
    });
    // The duration of the Lease, and the pauses between two looks at it.
    let took = renewed.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(20)).contains(&took), "{took:?}");
    // From now on for as long as a Lease lasts, in which the new pod has become a candidate as well.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(15) || release.pods().len() < 2 {
        let (leading, _) = leader(&release, 20);
        holders.extend([leading.name]);
        assert!(since.elapsed() < Duration::from_secs(60), "no pod came in its place");
    }
    assert_eq!(holders, [first.name, second.name.clone()].into());
    let lease = release.lease().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(lease["leaseTransitions"], 1, "{lease:#}");
    let written: Vec<_> =
        release.pods().iter().map(|pod| (pod.name.clone(), statuses_written(pod))).collect();
    break_route(&app);
    for (name, before) in written {
        let pods = release.pods();
        let pod = pods.iter().find(|pod| pod.name == name).expect("it is still there");
        let more = statuses_written(pod) - before;
        assert_eq!(more > 0.0, name == second.name, "{name} has written {more} statuses");
    }
    crowd.disperse().expect_unharmed();
}

/// Has something to write, and waits until it is written.
fn break_route(app: &App) {
    app.namespace.kubectl(&[
        "patch",
        "wsr/chat",
        "--type=merge",
        "--patch={\"spec\":{\"tls\":{\"secretName\":\"missing\"}}}",
    ]);
    app.namespace.eventually("chat", "ResolvedRefs", "False", "InvalidCertificateRef");
}

/// Who wrote the status of the route, by its managedFields.
fn status_managers(app: &App) -> Vec<String> {
    let text =
        app.namespace.kubectl(&["get", "wsr/chat", "--show-managed-fields", "--output=json"]);
    let route: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    let fields = route["metadata"]["managedFields"].as_array().into_iter().flatten();
    fields
        .filter(|entry| entry["subresource"] == "status")
        .filter_map(|entry| entry["manager"].as_str().map(str::to_owned))
        .collect()
}
