//! Secrets read by name alone: the gateway's ServiceAccount has a right to those that tenants give it, and to no other.

use serde_json::json;

use crate::support::{
    App, Release, certificate_shown, eventually, expect_eq, get, kubectl, objects, try_kubectl,
};

#[test]
fn secrets_are_read_by_name_with_a_right_for_each() {
    let release = Release::own("by-name", &["--wait", "--set=secrets.access=referenced"]);
    let account = format!("system:serviceaccount:{}:{}", release.namespace, release.name);
    let may = |verb: &str, what: &str, scope: &str| {
        let arguments = ["auth", "can-i", &format!("--as={account}"), verb, what, scope];
        try_kubectl(&arguments, None).is_ok_and(|answer| answer.trim() == "yes")
    };
    let app = App::prepare("by-name-app", 1);
    let inside = format!("--namespace={}", app.namespace.name);
    for verb in ["get", "list", "watch"] {
        assert!(!may(verb, "secrets", "--all-namespaces"), "it may {verb} all Secrets");
        assert!(!may(verb, "secrets", &inside), "it may {verb} the Secrets of {inside}");
    }

    // Without a right the route says which one to give, by the very words of the condition.
    let mut route = objects::route("chat", &app.client.host);
    route["spec"]["className"] = release.class.clone().into();
    app.namespace.apply(&[&route]);
    let message = app.namespace.eventually("chat", "ResolvedRefs", "False", "SecretNotReadable");
    let create_role = format!(
        "kubectl create role tidegate-chat-tls --namespace {} --verb=list,watch --resource=secrets \
         --resource-name=chat-tls",
        app.namespace.name
    );
    let create_binding = format!(
        "kubectl create rolebinding tidegate-chat-tls --namespace {} --role=tidegate-chat-tls \
         --serviceaccount={}:{}",
        app.namespace.name, release.namespace, release.name
    );
    for command in [&create_role, &create_binding] {
        assert!(message.contains(command), "{command}: {message}");
        kubectl(&command.split(' ').skip(1).collect::<Vec<_>>());
    }
    app.namespace.eventually("chat", "ResolvedRefs", "True", "ResolvedRefs");
    assert!(!may("list", "secrets", &inside), "the right is for one Secret");
    let replica = release.pods().remove(0);
    eventually("the certificate is shown", 30, || {
        Ok(app.client.open(replica.https()).map(|_| ())?)
    });
    app.open(replica.https()).echo("hello");

    // A renewal comes by the same watch.
    let renewed = app.authority.issue(&[&app.client.host]);
    app.namespace.apply(&[&objects::tls_secret("chat-tls", &renewed)]);
    eventually("the renewed certificate is shown", 30, || {
        let shown = certificate_shown(&app.client.host, replica.https())?;
        expect_eq(&(shown == renewed.der), &true)
    });

    // A second route, to a Secret without a right: the first is served on.
    let mut other = route.clone();
    other["metadata"]["name"] = "other".into();
    other["spec"]["hostnames"] = json!([app.namespace.host("other")]);
    other["spec"]["tls"] = json!({ "secretName": "other-tls" });
    app.namespace.apply(&[&other]);
    app.namespace.eventually("other", "ResolvedRefs", "False", "SecretNotReadable");
    app.open(replica.https()).echo("hello");
    let (status, text) = get(replica.admin(), "/readyz").expect("it answers");
    assert_eq!(status, 200, "{text}");
}
