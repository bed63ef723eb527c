//! The samples of manifests/samples, as a newcomer would use them.

use crate::support::{App, Authority, Client, Namespace, ROOT, Release, eventually, objects};

/// The first sample, word for word but for the image and the namespace, with a certificate as its comment asks for.
#[test]
fn the_minimal_sample_works_as_written() {
    let release = Release::shared();
    let namespace = Namespace::new("sample");
    let file = format!("{ROOT}/manifests/samples/minimal.yaml");
    let text = std::fs::read_to_string(&file).expect("the sample is there");
    let image = "image: ghcr.io/tidegate/tidegate:0.1.0";
    assert!(text.contains(image), "{file} has no {image}");
    let text = text
        .replace(image, &format!("image: {}", objects::IMAGE))
        .replace("name: chat\n---", &format!("name: {}\n---", namespace.name))
        .replace("namespace: chat", &format!("namespace: {}", namespace.name));
    crate::support::try_kubectl(&["apply", "--filename=-"], Some(&text))
        .unwrap_or_else(|error| panic!("{error}"));

    let authority = Authority::new();
    let host = "chat.example.com";
    namespace.apply(&[&objects::tls_secret("chat-tls", &authority.issue(&[host]))]);
    namespace.wait_for_rollout("chat");
    let client = Client::new(host, authority.client_config()).at("/ws");
    let app = App { namespace, authority, client };
    app.wait_until_served(&release);
    app.open(release.load_balancer()).echo("hello");
}

/// What a newcomer reads first.
#[test]
fn kubectl_explains_the_fields_of_a_route() {
    let _release = Release::shared();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    // Right after the first installation, the API server may not have the new kind in its discovery yet.
    let explained = || crate::support::try_kubectl(&["explain", "wsr.spec"], None);
    let spec = words(&eventually("kubectl explains WebSocketRoute", 30, explained));
    assert!(
        spec.contains("Which WebSocket connections to serve, and where to route them."),
        "{spec}"
    );
    for field in ["className", "hostnames", "plaintext", "rules", "tls"] {
        assert!(spec.contains(&format!(" {field} <")), "{field}: {spec}");
    }
    let timeouts = words(&crate::support::kubectl(&["explain", "wsr.spec.rules.timeouts"]));
    let idle = "Close the connection after this long without traffic in either direction";
    assert!(timeouts.contains(idle), "{timeouts}");
}
