//! Some namespaces only.

use serde_json::json;

use crate::{
    api_server::{ApiServer, Fault},
    objects::{route, serve, served, service},
    program::{Program, get, get_until},
};

/// A server with the same in three namespaces, which knows nothing of the cluster as a whole.
fn three_namespaces() -> ApiServer {
    let server = ApiServer::start();
    for namespace in ["chat", "games", "other"] {
        server.apply("services", service(namespace));
        server.apply("websocketroutes", route(namespace, namespace));
    }
    for everywhere in ["/v1/secrets", "/v1/services", "/v1/configmaps", "/v1alpha1/websocketroutes"]
    {
        server.fail(everywhere, Fault::Status(403, "no rights in the cluster", None));
    }
    server
}

#[test]
fn what_lies_outside_of_the_watched_namespaces_is_not_asked_for() {
    let server = three_namespaces();
    let mut reaching = route("games", "reaching");
    reaching["spec"]["tls"] = json!({ "secretRef": { "name": "tls", "namespace": "other" } });
    server.apply("websocketroutes", reaching);
    let mut command = serve(&server);
    command.args(["--watch-namespace", "chat", "--watch-namespace", "games"]);
    let program = Program::start(command.args(["--watch-namespace", "chat"]));
    assert_eq!(served(&program, "chat.example.com"), 426);
    assert_eq!(served(&program, "games.example.com"), 426);
    assert_eq!(served(&program, "other.example.com"), 404);
    let message = server.status_of("games", "reaching")["conditions"][1]["message"].clone();
    let message = message.as_str().unwrap();
    assert!(message.contains("of namespace other, which this gateway does not read"), "{message}");
    server.status_of("chat", "chat");
    assert!(server.get("websocketroutes", "other", "other").unwrap()["status"].is_null());
    assert!(server.asked("/namespaces/other/").is_empty());
    assert_eq!(server.asked("/namespaces/chat/secrets?").len(), 2, "one list, one watch");
    assert!(!program.log_so_far().contains("no rights in the cluster"));
}

#[test]
fn a_namespace_that_cannot_be_read_leaves_the_others_as_they_are() {
    let server = three_namespaces();
    let program = Program::start(serve(&server).args(["--watch-namespace", "chat,games"]));
    assert_eq!(served(&program, "games.example.com"), 426);
    server.fail("/namespaces/games/websocketroutes", Fault::Status(403, "no more", None));
    server.cut_watches();
    let log = program.logs("cannot read WebSocketRoutes of namespace games: no more");
    assert!(log.contains("give the ServiceAccount a Role in namespace games"), "{log}");
    let ready = get_until(
        program.address("admin"),
        "/readyz",
        "degraded: cannot read WebSocketRoutes of namespace games",
    );
    assert!(ready.contains("ready: table generation "), "{ready}");
    server.delete("websocketroutes", "chat", "chat");
    get_until(program.address("admin"), "/debug/table", "games.example.com");
    server.until("the route of the other namespace is gone", |_| {
        (served(&program, "chat.example.com") == 404).then_some(())
    });
    assert_eq!(served(&program, "games.example.com"), 426);
    server.mend();
    program.logs("WebSocketRoutes of namespace games are read now");
    // The log is told first.
    server.until("nothing is degraded any more", |_| {
        let ready = get(program.address("admin"), "/readyz");
        (ready.contains("ready") && !ready.contains("degraded")).then_some(())
    });
}
