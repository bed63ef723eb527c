//! Tests that take the shared installation away, or the API server: they run alone (.config/nextest.toml).

mod control_plane;
mod nodes;
mod rollout;
mod soak;

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{
    App, Hanging, ROOT, Release, certificate_shown, eventually, expect_eq, get, kubectl, objects,
    try_kubectl,
};

/// `helm uninstall` says goodbye to every connection, and leaves the kind and the routes; a new installation
/// serves them again.
#[test]
fn uninstalling_leaves_the_routes_for_the_next_installation() {
    let release = Release::shared();
    let app = App::start(&release, "uninstall", 1);
    let mut socket = app.open(release.load_balancer());
    socket.echo("hello");
    let before = app.namespace.get("wsr/chat");

    release.uninstall();
    let close = socket.read_to_end(Duration::from_secs(10)).expect("its replica is gone");
    assert_eq!(close.expect("a Close frame").code, CloseCode::Restart);
    kubectl(&["get", "crd/websocketroutes.tidegate.io"]);
    // A replica may see that its Service has gone before it loses its rights, and takes the address back then.
    let without_address = |mut route: Value| {
        route["status"].as_object_mut().expect("it has one").remove("addresses");
        route["metadata"].as_object_mut().expect("it has some").remove("resourceVersion");
        route
    };
    assert_eq!(without_address(app.namespace.get("wsr/chat")), without_address(before.clone()));
    assert!(release.pods().is_empty());

    release.install(&[]);
    for replica in release.pods() {
        eventually("the route is served again", 20, || {
            Ok(app.client.open(replica.https()).map(|_| ())?)
        });
    }
    app.open(release.load_balancer()).echo("hello again");
    // Nothing about the route has changed, so no condition is written again.
    eventually("its status is what it was", 20, || {
        expect_eq(&app.namespace.get("wsr/chat")["status"], &before["status"])
    });
}

/// While the API server hangs, sockets live on, new ones are opened, and the replicas stay ready; afterwards
/// changes are served again.
#[test]
fn clients_do_not_notice_an_api_server_that_hangs() {
    let release = Release::shared();
    let app = App::start(&release, "outage", 2);
    let (address, replicas) = (release.load_balancer(), release.pods());
    let mut old: Vec<_> = replicas.iter().map(|replica| app.open(replica.https())).collect();

    let hanging = Hanging::stop("kube-apiserver");
    let begin = Instant::now();
    try_kubectl(&["get", "--raw=/readyz", "--request-timeout=1s"], None)
        .expect_err("the API server hangs");
    // Longer than the leader's deadline to renew its Lease.
    while begin.elapsed() < Duration::from_secs(12) {
        for replica in &replicas {
            app.open(replica.https()).echo("new");
            let (status, text) = get(replica.admin(), "/readyz").expect("the admin port answers");
            assert_eq!(status, 200, "{text}");
        }
        app.open(address).echo("new, through the load balancer");
        old.iter_mut().for_each(|socket| socket.echo("still here"));
    }
    let leading = || replicas.iter().filter_map(|pod| pod.metrics().sum("tidegate_leader", &[]));
    assert_eq!(leading().sum::<f64>(), 0.0, "who cannot renew the Lease does not lead");
    drop(hanging);

    eventually("the API server answers again", 30, || {
        try_kubectl(&["get", "--raw=/readyz"], None).map(|_| ())
    });
    let renewed = app.authority.issue(&[&app.client.host]);
    app.namespace.apply(&[&objects::tls_secret("chat-tls", &renewed)]);
    for replica in &replicas {
        eventually("a change is served again", 90, || {
            let shown = certificate_shown(&app.client.host, replica.https())?;
            expect_eq(&(shown == renewed.der), &true)
        });
    }
    eventually("one leads again", 60, || expect_eq(&leading().sum::<f64>(), &1.0));
    old.iter_mut().for_each(|socket| socket.echo("still here"));
    release.expect_not_restarted(&replicas);
    await_readiness(&["nodes", "pods"]);
}

/// Waits until all of these kinds are ready: nodes that could not report for a while may have been taken for dead. They
/// are until the controller manager has read their Leases again, between two tries of which it may pause for a minute.
#[track_caller]
fn await_readiness(kinds: &[&str]) {
    for what in kinds {
        let all =
            ["wait", "--for=condition=Ready", "--timeout=10s", "--all", "--all-namespaces", what];
        eventually(&format!("all {what} are ready"), 100, || try_kubectl(&all, None));
    }
}

/// What manifests/install.yaml holds, with the image under test; taken away when dropped.
struct PlainManifests(String);

impl PlainManifests {
    fn apply() -> Self {
        let file = format!("{ROOT}/manifests/install.yaml");
        let text = fs::read_to_string(&file).expect("it is there");
        let image = "image: \"ghcr.io/tidegate/tidegate:0.1.0\"";
        assert!(text.contains(image), "{file} has no {image}");
        // As short as in the other installations.
        let drain = ("--drain-delay=5s", "--drain-delay=1s");
        assert!(text.contains(drain.0), "{file} has no {}", drain.0);
        let text = text.replace(image, &format!("image: {}", objects::IMAGE));
        let manifests = Self(text.replace(drain.0, drain.1));
        let apply = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        try_kubectl(&apply, Some(&manifests.0)).unwrap_or_else(|error| panic!("{error}"));
        manifests
    }
}

impl Drop for PlainManifests {
    fn drop(&mut self) {
        // Not the CRD, which would take the routes of all tests along, nor the namespace.
        let stays = ["\nkind: CustomResourceDefinition\n", "\nkind: Namespace\n"];
        let objects = self.0.split("\n---\n");
        let rest: Vec<_> =
            objects.filter(|object| !stays.iter().any(|kind| object.contains(kind))).collect();
        let delete = ["delete", "--wait", "--timeout=60s", "--filename=-"];
        if let Err(error) = try_kubectl(&delete, Some(&rest.join("\n---\n"))) {
            eprintln!("{error}");
        }
    }
}

/// The plain manifests do what the chart does.
#[test]
fn the_plain_manifests_serve_the_same_routes() {
    let release = Release::shared();
    let mut app = App::start(&release, "manifests", 1);
    release.uninstall();

    let installed = PlainManifests::apply();
    release.kubectl(&["rollout", "status", "--timeout=60s", "deployment/tidegate"]);
    // The status is of the other installation; for this one there must be something to write.
    let mut route = objects::route("chat", &app.client.host);
    route["spec"]["rules"][0]["matches"] = json!([{ "path": { "value": "/plain" } }]);
    app.namespace.apply(&[&route]);
    eventually("the status speaks of the changed route", 30, || {
        let found = app.namespace.condition("chat", "Programmed").unwrap_or_default();
        expect_eq(&(found.status.as_str(), found.observed_generation), &("True", 2))
    });
    app.client = app.client.at("/plain");
    app.wait_until_served(&release);
    app.open(release.load_balancer()).echo("hello");

    drop(installed);
    release.install(&[]);
    app.wait_until_served(&release);
}
