//! An installation that reads some namespaces only, with rights in those alone.

use serde_json::json;

use crate::support::{App, Release, eventually, objects, try_kubectl};

#[test]
fn with_roles_in_one_namespace_it_serves_that_namespace_and_no_other() {
    let app = App::prepare("scope", 1);
    let inside = &app.namespace;
    let outside = App::prepare("scope-outside", 1);
    let watched = format!("--set=watchNamespaces={{{}}}", inside.name);
    let release = Release::own("scoped", &["--wait", &watched]);

    let account = format!("--as=system:serviceaccount:{}:{}", release.namespace, release.name);
    let may = |scope: &str| {
        let answer = try_kubectl(&["auth", "can-i", &account, "list", "secrets", scope], None);
        answer.is_ok_and(|answer| answer.trim() == "yes")
    };
    assert!(may(&format!("--namespace={}", inside.name)));
    assert!(!may("--all-namespaces") && !may(&format!("--namespace={}", outside.namespace.name)));

    let route = |app: &App| {
        let mut route = objects::route("chat", &app.client.host);
        route["spec"]["className"] = release.class.clone().into();
        route
    };
    // One that refers to a Secret outside, and one that lies there.
    let mut reaching = route(&app);
    reaching["metadata"]["name"] = "reaching".into();
    reaching["spec"]["hostnames"] = json!([inside.host("reaching")]);
    reaching["spec"]["tls"] =
        json!({ "secretRef": { "name": "chat-tls", "namespace": outside.namespace.name } });
    outside.namespace.apply(&[&route(&outside)]);
    inside.apply(&[&route(&app), &reaching]);
    inside.wait_for("Programmed", "wsr/chat");
    let message = inside.eventually("reaching", "ResolvedRefs", "False", "RefNotPermitted");
    assert!(message.contains("which this gateway does not read (--watch-namespace)"), "{message}");
    let replica = release.pods().remove(0);
    eventually("the route inside is served", 20, || {
        Ok(app.client.open(replica.https()).map(|_| ())?)
    });
    app.open(replica.https()).echo("hello");
    assert!(
        outside.namespace.condition("chat", "Accepted").is_none(),
        "it tells of what it cannot read"
    );
    let log = release.log();
    assert!(!log.to_ascii_lowercase().contains("forbidden"), "{log}");
}
