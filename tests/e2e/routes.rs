//! What becomes of routes that are deleted, in conflict, or wrong.

use serde_json::{Value, json};

use crate::support::{
    App, Client, Namespace, Release, eventually, expect_eq, objects, try_kubectl,
};

#[test]
fn after_its_deletion_a_route_answers_404_no_route_and_an_open_socket_lives_on() {
    let release = Release::shared();
    let app = App::start(&release, "deleted", 1);
    let mut socket = app.open(release.load_balancer());

    app.namespace.delete("wsr/chat");
    // The route's certificate is gone with it.
    let client = Client::trusting_anyone(&app.client.host);
    for replica in release.pods() {
        eventually(&format!("{} answers 404", replica.name), 20, || {
            let refused = client.refused(replica.https())?;
            expect_eq(&(refused.status, refused.reason.as_str()), &(404, "no_route"))?;
            let says_why = refused.body.contains("No WebSocketRoute has this hostname");
            expect_eq(&says_why, &true).map_err(|_| refused.body)
        });
    }
    let refused = client.refused(release.load_balancer()).expect("it is refused");
    assert_eq!((refused.status, refused.reason.as_str()), (404, "no_route"));
    socket.echo("still here");
}

/// Deleting one of two routes of a host leaves the other alone.
#[test]
fn after_its_deletion_the_other_route_of_the_host_is_served() {
    let release = Release::shared();
    let app = App::start(&release, "one-of-two", 1);
    let mut other = objects::route("chat", &app.client.host);
    other["metadata"]["name"] = "news".into();
    other["spec"]["rules"][0]["matches"] =
        json!([{ "path": { "type": "Prefix", "value": "/news" } }]);
    app.namespace.apply(&[&other]);
    app.namespace.wait_for("Programmed", "wsr/news");
    app.namespace.delete("wsr/chat");

    let news = app.client.at("/news/today");
    for replica in release.pods() {
        eventually(&format!("{} answers 404 beside /news", replica.name), 20, || {
            let refused = app.client.at("/new").refused(replica.https())?;
            expect_eq(&(refused.status, refused.reason.as_str()), &(404, "no_route"))
        });
        let socket = news.open(replica.https());
        socket.unwrap_or_else(|failure| panic!("{}", String::from(failure))).echo("news");
    }
}

#[test]
fn the_loser_of_a_conflict_is_told_who_won_and_follows_when_the_winner_goes() {
    let _release = Release::shared();
    let app = App::prepare("conflict", 1);
    let namespace = &app.namespace;
    let mut routes = ["a-first", "b-second"].map(|name| {
        let mut route = objects::route("chat", &app.client.host);
        route["metadata"]["name"] = name.into();
        route
    });
    // The older route has precedence; of two that are made within the same second, the first by name.
    for route in &mut routes {
        namespace.apply(&[route]);
    }

    namespace.wait_for("Programmed", "wsr/a-first");
    let message = namespace.eventually("b-second", "Accepted", "False", "Conflicted");
    assert!(message.contains(&format!("{}/a-first", namespace.name)), "{message}");
    namespace.eventually("b-second", "Programmed", "False", "NotProgrammed");

    namespace.delete("wsr/a-first");
    namespace.wait_for("Programmed", "wsr/b-second");
    namespace.eventually("b-second", "Accepted", "True", "Accepted");
}

#[test]
fn a_spec_that_can_never_work_is_refused_by_the_api_server_in_our_words() {
    let _release = Release::shared();
    let namespace = Namespace::new("refused");
    let good = objects::route("chat", "chat.example.test");
    for (path, value, sentence) in [
        ("/spec/hostnames/0", json!("*.*.example.test"), "a hostname is lower-case DNS labels"),
        (
            "/spec/hostnames/0",
            json!("192.0.2.1"),
            "clients that dial an IP address send no server name",
        ),
        (
            "/spec/rules/0/backendRefs/0",
            json!({ "name": "chat", "port": 8080, "weight": 0 }),
            "at least one backendRef needs a weight above 0",
        ),
        ("/spec/tls", json!({ "secretName": "a", "secretRef": { "name": "b" } }), "but not both"),
        (
            "/spec/rules/0",
            json!({ "backendRefs": [{ "name": "chat", "port": 8080 }], "timeouts": { "connect": "0s" } }),
            "an upgrade always has a deadline",
        ),
        (
            "/spec/rules/0",
            json!({ "backendRefs": [{ "name": "chat", "port": 8080 }], "timeouts": { "idle": "5 minutes" } }),
            "spec.rules[0].timeouts.idle",
        ),
        (
            "/spec/rules/0",
            json!({ "backendRefs": [{ "name": "chat", "port": 8080 }], "keepalive": { "clientPing": "1h" } }),
            "keepalive.clientPing must be shorter than timeouts.idle",
        ),
        (
            "/spec/rules/0",
            json!({ "backendRefs": [{ "name": "chat", "port": 8080 }], "drain": { "closeCode": 1006 } }),
            "closeCode must be 1000",
        ),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).expect("the route has it") = value;
        let error = namespace.try_apply(&[&bad]).expect_err("it makes no sense");
        assert!(error.contains(sentence), "{path}: expected {sentence:?} in: {error}");
    }
    namespace.apply(&[&good]);
}

/// By kubectl before it sends it, and by the API server whoever sends it.
#[test]
fn a_misspelt_field_is_refused_by_name() {
    let _release = Release::shared();
    let namespace = Namespace::new("misspelt");
    let mut route = objects::route("chat", "chat.example.test");
    route["spec"]["rules"][0]["timeout"] = json!({ "idle": "5m" });
    let error = namespace.try_apply(&[&route]).expect_err("there is no such field");
    assert!(error.contains("unknown field \"") && error.contains("timeout\""), "{error}");

    let path = format!(
        "--raw=/apis/tidegate.io/v1alpha1/namespaces/{}/websocketroutes?fieldValidation=Strict",
        namespace.name
    );
    let create =
        |route: &Value| try_kubectl(&["create", &path, "--filename=-"], Some(&route.to_string()));
    let error = create(&route).expect_err("there is no such field");
    assert!(error.contains("unknown field \"spec.rules[0].timeout\""), "{error}");
    route["spec"]["rules"][0].as_object_mut().expect("a rule").remove("timeout");
    create(&route).expect("the rest is sound");
}

/// Routes of another class are another controller's: neither served nor touched.
#[test]
fn a_route_of_another_class_is_left_alone() {
    let release = Release::shared();
    let app = App::start(&release, "other-class", 1);
    let mut route = objects::route("chat", &app.namespace.host("other"));
    route["metadata"]["name"] = "other".into();
    route["spec"]["className"] = "someone-else".into();
    app.namespace.apply(&[&route]);

    // A change that follows is seen by all, so this one was as well.
    let mut route = objects::route("chat", &app.client.host);
    route["spec"]["rules"][0]["matches"] = json!([{ "path": { "value": "/seen" } }]);
    app.namespace.apply(&[&route]);
    for replica in release.pods() {
        eventually("the later change is served", 20, || {
            Ok(app.client.at("/seen").open(replica.https()).map(|_| ())?)
                .and_then(|()| expect_eq(&app.client.refused(replica.https())?.status, &404))
        });
        let client = Client::trusting_anyone(&app.namespace.host("other"));
        let refused = client.refused(replica.https()).expect("it is not served");
        assert_eq!(refused.reason, "no_route");
    }
    eventually("the later change has its status", 20, || {
        let found = app.namespace.condition("chat", "Programmed").unwrap_or_default();
        expect_eq(&found.observed_generation, &2)
    });
    assert!(app.namespace.get("wsr/other")["status"].is_null());
}
