//! A hostname policy that goes by the labels of namespaces: they are watched where it does, and only there.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    api_server::{ApiServer, Fault},
    objects::{route, serve, served, service},
    program::{Program, get_until},
};

const BY_LABEL: &str =
    "default: Deny\nrules: [{hostnames: ['*'], namespaceSelector: {matchLabels: {stage: live}}}]\n";
const BY_NAME: &str = "default: Deny\nrules: [{hostnames: ['*'], namespaces: [chat]}]\n";

/// Two namespaces with a route each, and a place for the policy.
fn two_namespaces() -> (ApiServer, tempfile::TempDir, PathBuf) {
    let server = ApiServer::start();
    for name in ["chat", "games"] {
        server.apply("services", service(name));
        server.apply("websocketroutes", route(name, name));
        server.apply("namespaces", namespace(name, if name == "chat" { "live" } else { "test" }));
    }
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    (server, folder, policy)
}

fn namespace(name: &str, stage: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": name, "labels": { "stage": stage } },
    })
}

fn until_served(server: &ApiServer, program: &Program, hostname: &str, status: u16) {
    let what = format!("{hostname} is answered {status}");
    server.until(&what, |_| (served(program, hostname) == status).then_some(()));
}

#[test]
fn labels_decide_as_they_change_and_are_asked_for_only_where_the_policy_goes_by_them() {
    let (server, _folder, policy) = two_namespaces();
    fs::write(&policy, BY_NAME).unwrap();
    let program = Program::start(serve(&server).arg("--hostname-policy").arg(&policy));
    until_served(&server, &program, "chat.example.com", 426);
    until_served(&server, &program, "games.example.com", 404);
    assert!(server.asked("/v1/namespaces?").is_empty());
    let refused = server.status_of("games", "games")["conditions"][0].clone();
    assert_eq!(refused["reason"], "HostnameNotPermitted", "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("does not let namespace games have games.example.com"), "{message}");

    fs::write(&policy, BY_LABEL).unwrap();
    server.until("labels are watched", |server| {
        (server.asked("/v1/namespaces?").len() >= 2).then_some(())
    });
    server.apply("namespaces", namespace("games", "live"));
    server.apply("namespaces", namespace("chat", "test"));
    until_served(&server, &program, "games.example.com", 426);
    until_served(&server, &program, "chat.example.com", 404);
    let synced = "tidegate_source_synced{kind=\"namespaces\"} 1";
    get_until(program.address("admin"), "/metrics", synced);
}

#[test]
fn labels_that_may_not_be_read_select_nothing_and_hold_nothing_else_back() {
    let (server, _folder, policy) = two_namespaces();
    fs::write(
        &policy,
        BY_LABEL.replace("default: Deny", "default: Contest").replace("'*'", "games.example.com"),
    )
    .unwrap();
    server.fail("/v1/namespaces?", Fault::Status(403, "namespaces is forbidden", None));
    let program = Program::start(serve(&server).arg("--hostname-policy").arg(&policy));
    until_served(&server, &program, "chat.example.com", 426);
    assert_eq!(served(&program, "games.example.com"), 404);
    let ready = get_until(program.address("admin"), "/readyz", "degraded: cannot read Namespaces");
    assert!(ready.contains("ClusterRole") && ready.contains("namespaces"), "{ready}");
    server.mend();
    server.apply("namespaces", namespace("games", "live"));
    until_served(&server, &program, "games.example.com", 426);
}
