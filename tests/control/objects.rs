//! Objects, and the program beside the API server.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    program::{Program, get, tidegate},
};

/// A route of the class `tidegate` for its own hostname, to the Service `chat`, in clear text.
pub fn route(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "WebSocketRoute",
        "metadata": { "namespace": namespace, "name": name },
        "spec": {
            "className": "tidegate", "plaintext": "Allow",
            "hostnames": [format!("{name}.example.com")],
            "rules": [{ "backendRefs": [{ "name": "chat", "port": 80 }] }],
        },
    })
}

/// The Service `chat`.
pub fn service(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "namespace": namespace, "name": "chat" },
        "spec": { "ports": [{ "port": 80 }] },
    })
}

/// The command of the program as one replica, with its objects from `server`.
pub fn serve(server: &ApiServer) -> Command {
    let mut command = tidegate();
    command.args(["serve", "--https-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    command.args(["--admin-listen", "127.0.0.1:0", "--drain-delay", "0s", "--drain-spread", "0s"]);
    command.args([
        "--drain-timeout",
        "5s",
        "--workers",
        "1",
        "--identity",
        "replica-0",
        "--debug-endpoints",
    ]);
    command.arg("--kubeconfig").arg(server.kubeconfig());
    command
}

/// The namespace `chat` with its Service and a route of that name.
pub fn chat() -> ApiServer {
    let server = ApiServer::start();
    server.apply("services", service("chat"));
    server.apply("websocketroutes", route("chat", "chat"));
    server
}

/// The status code of a request for this hostname: 426 where a route serves it, 404 where none does.
pub fn served(program: &Program, hostname: &str) -> u16 {
    let mut stream = std::net::TcpStream::connect(program.address("http")).unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: {hostname}\r\nConnection: close\r\n\r\n");
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A metric of the program without labels, or with these as they are written.
pub fn metric(program: &Program, name: &str) -> Option<f64> {
    let text = get(program.address("admin"), "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}
