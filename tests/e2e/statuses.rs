//! What a status says beside its conditions, which Events tell of it, and what stays of it for another class.

use serde_json::{Value, json};

use crate::support::{App, Namespace, Release, eventually, expect_eq, objects};

/// Type and reason of the Events of the routes in a namespace.
fn told(namespace: &Namespace) -> Vec<(String, String)> {
    let of_routes = "--field-selector=involvedObject.kind=WebSocketRoute";
    let text = namespace.kubectl(&["get", "events", of_routes, "--output=json"]);
    let list: Value = serde_json::from_str(&text).expect("a list");
    let events = list["items"].as_array().expect("its items");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    events.iter().map(|event| (text(&event["type"]), text(&event["reason"]))).collect()
}

fn event(kind: &str, reason: &str) -> (String, String) {
    (kind.to_owned(), reason.to_owned())
}

#[test]
fn a_status_names_the_load_balancer_and_events_tell_of_changes() {
    let release = Release::shared();
    let app = App::start(&release, "status", 1);
    let address = release.load_balancer().ip().to_string();
    let status = || app.namespace.get("wsr/chat")["status"].clone();
    eventually("the status names the address", 20, || {
        expect_eq(&status()["addresses"], &json!([{ "type": "IPAddress", "value": address }]))
    });
    assert_eq!(status()["hostnames"], json!([app.client.host]));

    app.namespace.delete("service/chat");
    for wanted in [event("Normal", "Programmed"), event("Warning", "BackendNotFound")] {
        eventually(&format!("an Event {wanted:?}"), 20, || {
            let told = told(&app.namespace);
            match told.contains(&wanted) {
                true => Ok(()),
                false => Err(format!("{told:?}")),
            }
        });
    }
    // Nobody tells the same beside the one that writes statuses.
    assert_eq!(told(&app.namespace).len(), 2);
}

#[test]
fn a_route_that_goes_to_another_class_keeps_its_sockets_and_loses_its_status() {
    let release = Release::shared();
    let app = App::start(&release, "class", 1);
    let mut socket = app.open(release.load_balancer());
    let reviewed = json!([{ "op": "add", "path": "/status/conditions/-", "value": {
        "type": "example.com/Reviewed", "status": "True", "reason": "Reviewed", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }}])
    .to_string();
    app.namespace.kubectl(&[
        "patch",
        "wsr/chat",
        "--subresource=status",
        "--type=json",
        "--patch",
        &reviewed,
    ]);

    let mut route = objects::route("chat", &app.client.host);
    route["spec"]["className"] = "another".into();
    app.namespace.apply(&[&route]);
    eventually("only what others wrote is left", 20, || {
        let status = app.namespace.get("wsr/chat")["status"].take();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let types: Vec<_> = conditions.iter().map(|condition| condition["type"].clone()).collect();
        expect_eq(&types, &vec![json!("example.com/Reviewed")])?;
        expect_eq(&status["hostnames"].is_null(), &true)
    });
    socket.echo("still here");

    route["spec"]["className"] = "tidegate".into();
    app.namespace.apply(&[&route]);
    app.namespace.wait_for("Programmed", "wsr/chat");
}
