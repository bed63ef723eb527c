//! Where routes may lead: not back to the gateway, not to addresses that are no pods', and to loopback where that is permitted.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    thread,
    time::Instant,
};

use crate::program::*;

/// A route of this name in clear text, plain requests forwarded, to one address.
fn route_to(name: &str, ip: &str, port: u16) -> String {
    let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
    format!(
        "apiVersion: tidegate.io/v1alpha1
kind: WebSocketRoute
metadata: {{name: {name}}}
spec:
  hostnames: [{name}.example]
  plaintext: Allow
  rules:
  - http: Forward
    backendRefs: [{{name: {name}, port: 80}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{name: ws, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: {family}
ports: [{{name: ws, port: {port}}}]
endpoints: [{{addresses: [\"{ip}\"]}}]
---
"
    )
}

/// The status line's code of a plain request for this name, and the whole answer.
fn ask_for(http: SocketAddr, name: &str, path: &str) -> (String, String) {
    let answer = get_with(http, path, &format!("Host: {name}.example\r\n"));
    (answer.split(' ').nth(1).unwrap_or_default().to_owned(), answer)
}

/// Asks until the route is in service.
fn until_served(http: SocketAddr, name: &str) {
    let end = Instant::now() + DEADLINE;
    while ask_for(http, name, "/").0 == "404" {
        assert!(Instant::now() < end, "{name} is never served");
        thread::park_timeout(std::time::Duration::from_millis(20));
    }
}

/// Ports that are ours stay ours in each form of our address, also where loopback is permitted: no request goes round, and no
/// admin page is handed out on a public name.
#[test]
fn no_route_leads_back_to_the_gateway() {
    let source = folder(9);
    let mut command = tidegate();
    command.args(["serve", "--https-listen", "off", "--http-listen", "127.0.0.1:0"]);
    command.args(["--http-listen", "[::]:0", "--admin-listen", "[::]:0", "--workers", "1"]);
    command.args(["--drain-delay", "0s", "--drain-spread", "0s", "--drain-timeout", "5s"]);
    command.args(["--allow-loopback-endpoints", "true", "--source"]).arg(source.path());
    let program = Program::start(&mut command);
    let text = program.says("ready");
    let listeners: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| line.strip_prefix("http ").or_else(|| line.strip_prefix("admin ")))
        .map(|address| address.parse().unwrap())
        .collect();
    assert_eq!(listeners.len(), 3, "{text}");
    let (v4, any, admin) = (listeners[0], listeners[1], listeners[2]);

    // What is reached by all of this machine's addresses, in each of their forms; and by the one alone.
    let forms =
        ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "0.0.0.0", "::"];
    let to = |port| forms.iter().map(move |ip| (*ip, port));
    let mine = [("127.0.0.1", v4.port()), ("::ffff:127.0.0.1", v4.port())];
    let all: Vec<_> = to(any.port()).chain(to(admin.port())).chain(mine).collect();
    let names: Vec<_> = (0..all.len()).map(|number| format!("back-{number}")).collect();
    let manifest: String =
        names.iter().zip(&all).map(|(name, (ip, port))| route_to(name, ip, *port)).collect();
    fs::write(source.path().join("back.yaml"), manifest).unwrap();

    for (name, (ip, port)) in names.iter().zip(&all) {
        until_served(v4, name);
        for path in ["/", "/debug/table", "/metrics"] {
            let (status, answer) = ask_for(v4, name, path);
            assert_eq!(status, "503", "{ip} port {port}: {answer}");
            assert!(!answer.contains("tidegate_") && !answer.contains("hostname"), "{answer}");
        }
        // The log is written by a thread of its own, and may come after the answers.
        let log = program.logs(&format!("/{name}: EndpointNotPermitted"));
        let line = log.lines().find(|line| {
            line.contains(&format!("/{name}: EndpointNotPermitted")) && line.contains("is left out")
        });
        assert!(line.is_some(), "{name} ({ip} port {port}) has no condition:\n{log}");
    }
    // Nobody but us has asked: nothing went round.
    let metrics = get(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), admin.port()), "/metrics");
    assert!(!metrics.contains("tidegate_upstream_connect_failures_total{"), "{metrics}");
}

#[test]
fn loopback_is_dialled_where_it_is_permitted_and_metadata_never_are() {
    let (_backend, port) = echo_backend();
    for (flag, served) in [(None, true), (Some("false"), false), (Some("true"), true)] {
        let source = folder(9);
        let manifest = route_to("own", "127.0.0.1", port)
            + &route_to("metadata", "169.254.169.254", port)
            + &route_to("group", "224.0.0.1", port);
        fs::write(source.path().join("more.yaml"), manifest).unwrap();
        let mut command = serve(source.path());
        if let Some(flag) = flag {
            command.args(["--allow-loopback-endpoints", flag]);
        }
        let program = Program::start(&mut command);
        let http = program.address("http");
        let (status, answer) = ask_for(http, "own", "/");
        assert_eq!(status != "503", served, "{flag:?}: {answer}");
        for name in ["metadata", "group"] {
            let (status, answer) = ask_for(http, name, "/");
            assert_eq!(status, "503", "{answer}");
            program.logs(&format!("/{name}: EndpointNotPermitted"));
        }
    }
}
