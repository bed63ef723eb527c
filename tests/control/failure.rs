//! An API server that is away, slow or wrong: the last table serves, it is said, and it is tried again with pauses.

use serde_json::json;

use crate::{
    api_server::{ApiServer, Fault},
    objects::{chat, metric, route, serve, served},
    program::{Program, get, get_until},
};

/// Waits until the kind is up to date, or no longer.
fn until_synced(server: &ApiServer, program: &Program, kind: &str, synced: bool) {
    let name = format!("tidegate_source_synced{{kind=\"{kind}\"}}");
    server.until(&format!("{name} {synced}"), |_| {
        (metric(program, &name) == Some(f64::from(u8::from(synced)))).then_some(())
    });
}

/// A change while all is well again: it must be served.
fn changes_are_served(server: &ApiServer, program: &Program, name: &str) {
    server.apply("websocketroutes", route("chat", name));
    server.until(&format!("{name} is served"), |_| {
        (served(program, &format!("{name}.example.com")) == 426).then_some(())
    });
}

/// The pauses between the next requests with this in their path, in milliseconds.
fn pauses(server: &ApiServer, part: &str, count: usize) -> Vec<u128> {
    let before = server.asked(part).len();
    let asked = server.until("requests", |server| {
        let asked = server.asked(part).split_off(before);
        (asked.len() > count).then_some(asked)
    });
    let pauses = asked.windows(2).map(|pair| (pair[1].at - pair[0].at).as_millis());
    pauses.take(count).collect()
}

#[test]
fn answers_that_are_errors_leave_the_last_table_and_are_told() {
    let server = chat();
    let program = Program::start(&mut serve(&server));
    server.status_of("chat", "chat");
    let faults = [
        (Fault::Status(500, "etcdserver: leader changed", None), "etcdserver: leader changed"),
        (Fault::Status(503, "shutting down", None), "shutting down"),
        (Fault::Status(401, "Unauthorized", None), "Unauthorized"),
        (
            Fault::Status(403, "it is forbidden", None),
            "ClusterRole with the verbs get, list and watch",
        ),
        (
            Fault::Status(404, "page not found", None),
            "the API server does not know websocketroutes",
        ),
    ];
    for (number, (fault, told)) in faults.into_iter().enumerate() {
        server.fail("/", fault);
        server.cut_watches();
        until_synced(&server, &program, "websocketroutes", false);
        program.logs(told);
        let ready = get_until(program.address("admin"), "/readyz", told);
        assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
        assert!(ready.contains("degraded: "), "{ready}");
        assert_eq!(served(&program, "chat.example.com"), 426);
        server.mend();
        until_synced(&server, &program, "websocketroutes", true);
        changes_are_served(&server, &program, &format!("after-{number}"));
    }
    server.until("all is well again", |_| {
        (!get(program.address("admin"), "/readyz").contains("degraded")).then_some(())
    });
}

/// RFC 9110 §10.2.3, as the API server's priority and fairness uses it.
#[test]
fn an_api_server_that_asks_for_a_pause_gets_it() {
    let server = chat();
    let program = Program::start(&mut serve(&server));
    server.status_of("chat", "chat");
    server.fail("/websocketroutes?", Fault::Status(429, "too many requests", Some(3)));
    server.cut_watches();
    program.logs("too many requests");
    assert!(pauses(&server, "/websocketroutes?", 1)[0] >= 3_000);
    assert_eq!(served(&program, "chat.example.com"), 426);
    server.mend();
    until_synced(&server, &program, "websocketroutes", true);
    changes_are_served(&server, &program, "afterwards");
}

#[test]
fn errors_are_met_with_ever_longer_pauses() {
    let server = chat();
    let program = Program::start(&mut serve(&server));
    server.status_of("chat", "chat");
    server.fail("/services", Fault::Status(500, "oh", None));
    server.cut_watches();
    // Half a second, a second, two: or a quarter less.
    let pauses = pauses(&server, "/services", 3);
    assert!(pauses[0] >= 375 && pauses[1] >= 750 && pauses[2] >= 1_500, "{pauses:?} ms");
    let said = program.log_so_far();
    let said = said.lines().filter(|line| line.contains("cannot read Services")).count();
    assert_eq!(said, 1, "it is said once");
}

#[test]
fn a_watch_that_is_cut_in_the_middle_of_an_object_or_too_old_is_begun_anew() {
    let server = chat();
    let program = Program::start(&mut serve(&server));
    server.status_of("chat", "chat");
    let watches = || server.asked("websocketroutes?&watch=true").len();
    for round in 0..3 {
        let before = watches();
        server.cut_watches();
        server.until("it is watched again", |_| (watches() > before).then_some(()));
        changes_are_served(&server, &program, &format!("round-{round}"));
    }
    // What changed while nobody watched is seen, though it can no longer be told piece by piece; what went, goes.
    server.fail("/websocketroutes?", Fault::Hang);
    server.cut_watches();
    server.apply("websocketroutes", route("chat", "new"));
    server.delete("websocketroutes", "chat", "chat");
    server.forget_history();
    server.mend();
    let new = || (served(&program, "new.example.com"), served(&program, "chat.example.com"));
    server.until("what is new is served", |_| (new() == (426, 404)).then_some(()));
    assert!(!program.log_so_far().contains("too old"), "that is the day's work");
}

#[test]
fn an_api_server_that_hangs_is_told_and_holds_nothing_up() {
    let server = chat();
    let program = Program::start(&mut serve(&server));
    server.status_of("chat", "chat");
    server.fail("/", Fault::Hang);
    server.cut_watches();
    program.logs("Lease home/tidegate-tidegate: the Kubernetes API does not answer in time");
    assert_eq!(served(&program, "chat.example.com"), 426);
    server.mend();
    changes_are_served(&server, &program, "afterwards");
    program.logs("held; this process writes the statuses");
    server.status_of("chat", "afterwards");
}

/// Before the CRD is there, it waits and says so; it is not ready.
#[test]
fn a_kind_that_comes_later_is_waited_for() {
    let server = chat();
    server.fail("/websocketroutes", Fault::Status(404, "page not found", None));
    let program = Program::start(&mut serve(&server));
    program.logs("install the CustomResourceDefinition");
    server.mend();
    assert_eq!(served(&program, "chat.example.com"), 426);
    until_synced(&server, &program, "websocketroutes", true);
}

/// Deleting the CRD deletes the routes, each with its event: they are gone then. That the kind is not known takes nothing
/// along; and when it is back, so are they.
#[test]
fn a_crd_that_is_deleted_and_made_again_takes_its_routes_along_and_brings_them_back() {
    let server = chat();
    server.apply("websocketroutes", route("chat", "news"));
    let program = Program::start(&mut serve(&server));
    assert_eq!(served(&program, "chat.example.com"), 426);
    for name in ["chat", "news"] {
        server.delete("websocketroutes", "chat", name);
    }
    let answers = || ["chat", "news"].map(|name| served(&program, &format!("{name}.example.com")));
    server.until("the routes are gone", |_| (answers() == [404, 404]).then_some(()));
    server.fail("/websocketroutes", Fault::Status(404, "page not found", None));
    server.cut_watches();
    program.logs("the API server does not know websocketroutes");
    server.mend();
    changes_are_served(&server, &program, "chat");
    server.status_of("chat", "chat");
}

/// Nothing waits for ReferenceGrants; what they would permit says that they may not be read.
#[test]
fn reference_grants_that_may_not_be_read_hold_nothing_back() {
    let server = chat();
    let mut reaching = route("chat", "reaching");
    reaching["spec"]["tls"] = json!({ "secretRef": { "name": "tls", "namespace": "other" } });
    server.apply("websocketroutes", reaching);
    server.fail("/referencegrants", Fault::Status(403, "referencegrants is forbidden", None));
    let program = Program::start(&mut serve(&server));
    assert_eq!(served(&program, "chat.example.com"), 426);
    let message = || server.status_of("chat", "reaching")["conditions"][1]["message"].clone();
    assert!(message().as_str().unwrap().contains("may not read ReferenceGrants"), "{}", message());
    program.logs("until then routes cannot use Secrets of other namespaces");
    let ready = get(program.address("admin"), "/readyz");
    assert!(ready.contains("degraded: cannot read ReferenceGrants"), "{ready}");
    server.mend();
    server.until("it says what is missing now", |_| {
        message().as_str().unwrap().contains("no ReferenceGrant in namespace other").then_some(())
    });
    assert!(!get(program.address("admin"), "/readyz").contains("degraded"));
}

/// An API server that is just starting may not know the kind for a moment: what was granted stays granted.
#[test]
fn reference_grants_that_seem_gone_stay() {
    let server = chat();
    let grant = json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
        "metadata": { "namespace": "other", "name": "grant" },
        "spec": {
            "from": [{ "group": "tidegate.io", "kind": "WebSocketRoute", "namespace": "chat" }],
            "to": [{ "group": "", "kind": "Secret" }],
        },
    });
    server.apply("referencegrants", grant);
    let mut reaching = route("chat", "reaching");
    reaching["spec"]["tls"] = json!({ "secretRef": { "name": "tls", "namespace": "other" } });
    server.apply("websocketroutes", reaching);
    let program = Program::start(&mut serve(&server));
    let reason = || server.status_of("chat", "reaching")["conditions"][1]["reason"].clone();
    assert_eq!(reason(), "InvalidCertificateRef", "permitted, but there is no such Secret");
    server.fail("/referencegrants", Fault::Status(404, "page not found", None));
    server.cut_watches();
    until_synced(&server, &program, "referencegrants", false);
    changes_are_served(&server, &program, "meanwhile");
    assert_eq!(reason(), "InvalidCertificateRef");
    server.mend();
    until_synced(&server, &program, "referencegrants", true);
    server.delete("referencegrants", "other", "grant");
    server.until("it is not permitted any more", |_| (reason() == "RefNotPermitted").then_some(()));
}
