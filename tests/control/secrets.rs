//! Which Secrets are read: all, those with labels, or those that routes refer to, by name.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::{Value, json};

use crate::{
    api_server::{ApiServer, Fault},
    objects::{route, serve, served, service},
    program::{Program, get_until},
};

/// A Secret with a certificate of its own.
fn secret(namespace: &str, name: &str) -> Value {
    let made = rcgen::generate_simple_self_signed([format!("{name}.example.com")]).unwrap();
    let data = [("tls.crt", made.cert.pem()), ("tls.key", made.signing_key.serialize_pem())];
    let data = data.into_iter().map(|(key, pem)| (key.to_owned(), ByteString(pem.into_bytes())));
    let secret = Secret { data: Some(data.collect()), ..Secret::default() };
    let mut secret = serde_json::to_value(secret).unwrap();
    secret["metadata"] = json!({ "namespace": namespace, "name": name });
    secret["type"] = "kubernetes.io/tls".into();
    secret
}

/// A route that shows the Secret of its name.
fn with_certificate(namespace: &str, name: &str) -> Value {
    let mut route = route(namespace, name);
    route["spec"]["tls"] = json!({ "secretName": name });
    route
}

/// Says what RBAC says of a Secret that there is no right to.
fn forbid(server: &ApiServer, name: &str) {
    let said =
        "secrets is forbidden: User \"system:serviceaccount:edge:tidegate\" cannot list resource";
    server.fail(&format!("metadata.name%3D{name}"), Fault::Status(403, said, None));
}

/// Status and reason of ResolvedRefs, and its message, once it has this reason.
fn resolved(server: &ApiServer, name: &str, reason: &str) -> String {
    server.until(&format!("ResolvedRefs of {name} is {reason}"), |server| {
        let route = server.get("websocketroutes", "chat", name)?;
        let condition = &route["status"]["conditions"][1];
        (condition["reason"] == *reason).then(|| condition["message"].as_str().unwrap().to_owned())
    })
}

fn shown(program: &Program, name: &str) {
    let line = format!("namespace=\"chat\",secret=\"{name}\"");
    get_until(program.address("admin"), "/metrics", &line);
}

#[test]
fn only_the_secrets_that_routes_refer_to_are_asked_for_each_by_its_name() {
    let server = ApiServer::start();
    server.apply("services", service("chat"));
    server.apply("secrets", secret("chat", "chat"));
    server.apply("secrets", secret("chat", "unrelated"));
    server.apply("websocketroutes", with_certificate("chat", "chat"));
    let program = Program::start(serve(&server).args(["--secrets", "referenced"]));
    resolved(&server, "chat", "ResolvedRefs");
    shown(&program, "chat");

    // A second one, which comes after its route.
    server.apply("websocketroutes", with_certificate("chat", "late"));
    let message = resolved(&server, "late", "InvalidCertificateRef");
    assert!(message.contains("there is no Secret chat/late"), "{message}");
    server.apply("secrets", secret("chat", "late"));
    resolved(&server, "late", "ResolvedRefs");
    shown(&program, "late");

    // A renewal comes by the same watch, and so does the end of one.
    server.delete("secrets", "chat", "late");
    resolved(&server, "late", "InvalidCertificateRef");

    let asked = server.asked("/secrets");
    assert!(!asked.is_empty());
    for asked in &asked {
        assert!(asked.path.starts_with("/api/v1/namespaces/chat/secrets?"), "{}", asked.path);
        assert!(asked.path.contains("fieldSelector=metadata.name%3D"), "{}", asked.path);
        assert!(!asked.path.contains("unrelated"), "{}", asked.path);
    }
    assert_eq!(served(&program, "chat.example.com"), 426);
}

#[test]
fn a_secret_that_may_not_be_read_is_a_condition_of_its_route_with_the_role_to_create() {
    let server = ApiServer::start();
    server.apply("services", service("chat"));
    for name in ["chat", "mine"] {
        server.apply("secrets", secret("chat", name));
        server.apply("websocketroutes", with_certificate("chat", name));
    }
    forbid(&server, "mine");
    let program = Program::start(serve(&server).args(["--secrets", "referenced"]));
    let message = resolved(&server, "mine", "SecretNotReadable");
    for part in [
        "spec.tls.secretName: this gateway may not read Secret chat/mine",
        "kubectl create role tidegate-mine --namespace chat --verb=list,watch --resource=secrets --resource-name=mine",
        "--serviceaccount=edge:tidegate",
    ] {
        assert!(message.contains(part), "{message}");
    }
    // The others are as they would be without it, and the gateway is ready.
    resolved(&server, "chat", "ResolvedRefs");
    shown(&program, "chat");
    get_until(program.address("admin"), "/readyz", "ready: table generation ");
    server.mend();
    resolved(&server, "mine", "ResolvedRefs");
    shown(&program, "mine");
}

#[test]
fn what_no_route_refers_to_any_more_is_let_go_and_there_is_an_end_to_what_is_read() {
    let server = ApiServer::start();
    server.apply("services", service("chat"));
    for number in 0..3 {
        let name = format!("r{number}");
        let mut route = with_certificate("chat", &name);
        route["metadata"]["creationTimestamp"] =
            format!("2026-01-0{}T00:00:00Z", number + 1).into();
        server.apply("secrets", secret("chat", &name));
        server.apply("websocketroutes", route);
    }
    // A tenth of it for each namespace.
    let mut command = serve(&server);
    command.args(["--secrets", "referenced", "--max-referenced-secrets", "20"]);
    let program = Program::start(&mut command);
    resolved(&server, "r0", "ResolvedRefs");
    resolved(&server, "r1", "ResolvedRefs");
    let message = resolved(&server, "r2", "BudgetExceeded");
    assert!(message.contains("raise --max-referenced-secrets"), "{message}");
    server.delete("websocketroutes", "chat", "r0");
    resolved(&server, "r2", "ResolvedRefs");
    shown(&program, "r2");
    // It is no longer followed: what changes of it is not asked for.
    let before = server.asked("metadata.name%3Dr0").len();
    server.cut_watches();
    server.until("the others are listed anew", |server| {
        (server.asked("metadata.name%3Dr2").len() > 2).then_some(())
    });
    assert_eq!(server.asked("metadata.name%3Dr0").len(), before);
}

#[test]
fn labels_choose_among_the_secrets() {
    let server = ApiServer::start();
    server.apply("services", service("chat"));
    server.apply("websocketroutes", with_certificate("chat", "chat"));
    let _program =
        Program::start(serve(&server).args(["--secret-selector", "tidegate.io/serve=true"]));
    let message = resolved(&server, "chat", "InvalidCertificateRef");
    assert!(
        message.contains("with the labels that this gateway reads (tidegate.io/serve=true)"),
        "{message}"
    );
    for asked in server.asked("/secrets") {
        assert!(asked.path.contains("labelSelector=tidegate.io%2Fserve%3Dtrue"), "{}", asked.path);
    }
}
