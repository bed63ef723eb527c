//! Tests that take the shared installation away, or the API server: they run alone (.config/nextest.toml).

use std::{
    fs,
    time::{Duration, Instant},
};

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
    assert_eq!(close.expect("a Close frame").code, CloseCode::Away);
    kubectl(&["get", "crd/websocketroutes.tidegate.io"]);
    assert_eq!(app.namespace.get("wsr/chat"), before);
    assert!(release.pods().is_empty());

    release.install(&[]);
    for replica in release.pods() {
        eventually("the route is served again", 20, || {
            Ok(app.client.open(replica.https()).map(|_| ())?)
        });
    }
    app.open(release.load_balancer()).echo("hello again");
    // Nothing about the route has changed, so nothing is written.
    assert_eq!(app.namespace.get("wsr/chat")["status"], before["status"]);
}

/// While the API server hangs, sockets live on, new ones are opened, and the replicas stay ready; afterwards
/// changes are served again.
#[test]
fn clients_do_not_notice_an_api_server_that_hangs() {
    let release = Release::shared();
    let app = App::start(&release, "outage", 2);
    let (address, replicas) = (release.load_balancer(), release.pods());
    let mut old: Vec<_> = replicas.iter().map(|replica| app.open(replica.https())).collect();

    let hanging = Hanging::stop("kube-apiserver", |_| true);
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
    let after = release.pods();
    assert!(after.iter().all(|pod| pod.restarts == 0), "{after:?}");
    // Nodes that could not report for so long may have been taken for dead.
    for what in ["nodes", "pods"] {
        let all =
            ["wait", "--for=condition=Ready", "--timeout=30s", "--all", "--all-namespaces", what];
        kubectl(&all);
    }
}

/// The plain manifests do what the chart does.
#[test]
fn the_plain_manifests_serve_the_same_routes() {
    let release = Release::shared();
    let app = App::start(&release, "manifests", 1);
    release.uninstall();

    let file = fs::read_to_string(format!("{ROOT}/manifests/install.yaml")).expect("it is there");
    let image = "image: \"ghcr.io/tidegate/tidegate:0.1.0\"";
    assert!(file.contains(image), "manifests/install.yaml has no {image}");
    let text = file.replace(image, &format!("image: {}", objects::IMAGE));
    try_kubectl(&["apply", "--server-side", "--force-conflicts", "--filename=-"], Some(&text))
        .unwrap_or_else(|error| panic!("{error}"));
    release.kubectl(&["rollout", "status", "--timeout=60s", "deployment/tidegate"]);
    app.wait_until_served(&release);
    app.open(release.load_balancer()).echo("hello");

    // All but the CRD, which would take the routes of all tests along, and the namespace.
    let rest: Vec<_> = text
        .split("\n---\n")
        .filter(|object| !object.contains("\nkind: CustomResourceDefinition\n"))
        .filter(|object| !object.contains("\nkind: Namespace\n"))
        .collect();
    assert!(rest.len() > 5, "{rest:#?}");
    try_kubectl(
        &["delete", "--wait", "--timeout=60s", "--filename=-"],
        Some(&rest.join("\n---\n")),
    )
    .unwrap_or_else(|error| panic!("{error}"));
    release.install(&[]);
    app.wait_until_served(&release);
}
