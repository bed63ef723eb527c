//! What stands in the status of routes, and which Events tell of it.

use serde_json::{Value, json};

use crate::{
    api_server::{ApiServer, Fault},
    objects::{chat, route, serve, service},
    program::Program,
};

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// Type, reason and count of all Events, in the order of their making.
fn events(server: &ApiServer) -> Vec<(String, String, i64)> {
    let mut events = server.all("events");
    events.sort_by_key(|event| event["eventTime"].as_str().unwrap().to_owned());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let told = events.iter().map(|event| {
        let count = event["series"]["count"].as_i64().unwrap_or(1);
        (text(&event["type"]), text(&event["reason"]), count)
    });
    told.collect()
}

fn event(kind: &str, reason: &str, count: i64) -> (String, String, i64) {
    (kind.to_owned(), reason.to_owned(), count)
}

#[test]
fn a_status_names_hostnames_and_the_addresses_of_the_published_service_as_they_change() {
    let server = chat();
    let mut command = serve(&server);
    let program = Program::start(command.args(["--publish-service", "front/balancer"]));
    program.logs("there is no Service front/balancer");
    let status = server.status_of("chat", "chat");
    assert_eq!(status["hostnames"], json!(["chat.example.com"]));
    assert_eq!(status["addresses"], Value::Null);

    let balancer = |ingress: Value| {
        json!({
            "metadata": { "namespace": "front", "name": "balancer" },
            "spec": { "externalIPs": ["198.51.100.1"] },
            "status": { "loadBalancer": { "ingress": ingress } },
        })
    };
    let other = json!({ "metadata": { "namespace": "front", "name": "other" }, "spec": { "externalIPs": ["198.51.100.9"] } });
    server.apply("services", other);
    for (ingress, wanted) in [
        (json!([]), json!([{ "type": "IPAddress", "value": "198.51.100.1" }])),
        (
            json!([{ "ip": "203.0.113.7" }, { "hostname": "lb.example.net" }]),
            json!([
                { "type": "IPAddress", "value": "203.0.113.7" },
                { "type": "Hostname", "value": "lb.example.net" },
            ]),
        ),
    ] {
        server.apply("services", balancer(ingress));
        server.until("the addresses are written", |server| {
            let route = server.get("websocketroutes", "chat", "chat")?;
            (route["status"]["addresses"] == wanted).then_some(())
        });
    }
    assert!(!program.log_so_far().contains("forbidden"));
    server.delete("services", "front", "balancer");
    server.until("the addresses are gone", |server| {
        let route = server.get("websocketroutes", "chat", "chat")?;
        route["status"]["addresses"].is_null().then_some(())
    });
    let generation = crate::objects::metric(&program, "tidegate_table_generation");
    assert_eq!(generation, Some(1.0), "addresses are no matter of the table");
}

#[test]
fn given_addresses_are_written_as_they_are() {
    let server = chat();
    let mut command = serve(&server);
    let _program =
        Program::start(command.args(["--publish-address", "2001:db8::7,gate.example.com"]));
    let wanted = json!([
        { "type": "IPAddress", "value": "2001:db8::7" },
        { "type": "Hostname", "value": "gate.example.com" },
    ]);
    assert_eq!(server.status_of("chat", "chat")["addresses"], wanted);
}

/// A published Service that may not be read holds nothing else back, and leaves the addresses that are stored.
#[test]
fn a_published_service_that_cannot_be_read_leaves_the_stored_addresses() {
    let server = chat();
    let program = Program::start(serve(&server).args(["--publish-address", "203.0.113.7"]));
    let before = server.status_of("chat", "chat");
    program.signal("TERM");
    drop(program);
    server.delete("services", "chat", "chat");
    server.fail(
        "/namespaces/front/services",
        Fault::Status(403, "services \"balancer\" is forbidden", None),
    );
    let program = Program::start(serve(&server).args(["--publish-service", "front/balancer"]));
    program.logs("cannot read the Service of --publish-service");
    let status = server.until("the status is written", |server| {
        let status = server.get("websocketroutes", "chat", "chat")?["status"].clone();
        (condition(&status, "ResolvedRefs")["status"] == "False").then_some(status)
    });
    assert_eq!(status["addresses"], before["addresses"]);
}

/// Only what the class itself has written goes; the new class is free to write at any time.
#[test]
fn a_route_that_goes_to_another_class_loses_the_status_that_this_one_wrote() {
    let server = chat();
    let mut foreign = route("chat", "foreign");
    foreign["spec"]["className"] = "other".into();
    foreign["status"] = json!({ "conditions": [], "observedGeneration": 1 });
    server.apply("websocketroutes", foreign);
    let program = Program::start(&mut serve(&server));
    server.status_of("chat", "chat");
    let mut other = route("chat", "chat");
    other["spec"]["className"] = "other".into();
    server.apply("websocketroutes", other);
    server.until("the status is withdrawn", |server| {
        let route = server.get("websocketroutes", "chat", "chat")?;
        route["status"].is_null().then_some(())
    });
    program.logs("WebSocketRoute chat/chat is of another class now");
    // Back again: written as at first.
    server.apply("websocketroutes", route("chat", "chat"));
    let status = server.status_of("chat", "chat");
    assert_eq!(condition(&status, "Programmed")["status"], "True");
    let written = server.asked("/foreign/status");
    assert!(written.is_empty(), "what another class wrote is left alone: {written:#?}");
}

#[test]
fn events_tell_of_changes_and_not_of_starts() {
    let server = chat();
    let program = Program::start(&mut serve(&server));
    server.until("a first Event", |server| (events(server).len() == 1).then_some(()));
    assert_eq!(events(&server), [event("Normal", "Programmed", 1)]);
    let first = &server.all("events")[0];
    assert_eq!(first["regarding"]["uid"], "chat-chat");
    assert_eq!(first["reportingInstance"], "replica-0");
    assert_eq!(first["metadata"]["namespace"], "chat");

    // The same comes and goes: the second time it is counted.
    for count in 1..=2 {
        server.delete("services", "chat", "chat");
        let gone = event("Warning", "BackendNotFound", count);
        server.until("a warning", |server| events(server).contains(&gone).then_some(()));
        server.apply("services", service("chat"));
        let back = event("Normal", "Programmed", count + 1);
        server.until("all is well", |server| events(server).contains(&back).then_some(()));
    }
    assert_eq!(events(&server).len(), 2);

    let asked = server.asked("/events").len();
    program.signal("TERM");
    drop(program);
    let _program = Program::start(&mut serve(&server));
    // A change that can be seen to have been told after the start.
    server.delete("services", "chat", "chat");
    server.until("another warning", |server| (server.asked("/events").len() > asked).then_some(()));
    assert_eq!(events(&server).len(), 3);
    assert_eq!(events(&server)[2], event("Warning", "BackendNotFound", 1));
}

#[test]
fn events_that_cannot_be_recorded_hold_no_status_back() {
    let server = chat();
    server.fail("/events", Fault::Hang);
    let program = Program::start(&mut serve(&server));
    server.status_of("chat", "chat");
    for round in 0..3 {
        server.delete("services", "chat", "chat");
        let not_found = |server: &ApiServer| {
            let status = server.get("websocketroutes", "chat", "chat")?["status"].clone();
            (condition(&status, "ResolvedRefs")["reason"] == "BackendNotFound").then_some(())
        };
        server.until(&format!("status {round} without the Service"), not_found);
        server.apply("services", service("chat"));
        let found = |server: &ApiServer| not_found(server).is_none().then_some(());
        server.until(&format!("status {round} with it"), found);
    }
    server.mend();
    server.fail("/events", Fault::Status(403, "events.events.k8s.io is forbidden", None));
    program.logs("with the verbs create and patch on events");
    server.mend();
    server.delete("services", "chat", "chat");
    program.logs("Events are recorded again");
}
