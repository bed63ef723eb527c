//! Pods that speak TLS themselves.

use serde_json::{Value, json};

use crate::support::{App, Authority, Client, Namespace, Release, eventually, expect_eq, objects};

/// An echo Deployment that serves TLS with the certificate of the Secret `pods-tls`.
fn tls_deployment() -> Value {
    let mut deployment = objects::deployment("chat", 1);
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["volumes"] =
        json!([{ "name": "tls", "secret": { "secretName": "pods-tls", "defaultMode": 0o440 } }]);
    let container = &mut pod["containers"][0];
    container["args"] = json!([
        "echo-backend",
        "--listen=[::]:8080",
        "--tls-cert=/tls/tls.crt",
        "--tls-key=/tls/tls.key",
    ]);
    container["volumeMounts"] = json!([{ "name": "tls", "mountPath": "/tls", "readOnly": true }]);
    container["readinessProbe"]["httpGet"]["scheme"] = "HTTPS".into();
    deployment
}

#[test]
fn the_certificate_of_a_wss_backend_is_verified() {
    let release = Release::shared();
    let namespace = Namespace::new("wss-backend");
    let (public, inner) = (Authority::new(), Authority::new());
    let host = namespace.host("chat");
    let pods = inner.issue(&[&format!("chat.{}.svc", namespace.name)]);
    let mut service = objects::service("chat");
    service["spec"]["ports"][0]["appProtocol"] = "kubernetes.io/wss".into();
    let mut route = objects::route("chat", &host);
    namespace.apply(&[
        &objects::tls_secret("pods-tls", &pods),
        &objects::tls_secret("chat-tls", &public.issue(&[&host])),
        &objects::ca_config_map("pods-ca", &inner),
        &tls_deployment(),
        &service,
        &route,
    ]);
    namespace.wait_for_rollout("chat");

    // How it is to be verified has to be said.
    let message = namespace.eventually("chat", "ResolvedRefs", "False", "InvalidBackendTLS");
    assert!(message.contains("caCertificateRef"), "{message}");

    route["spec"]["rules"][0]["backendRefs"][0]["tls"] =
        json!({ "caCertificateRef": { "kind": "ConfigMap", "name": "pods-ca" } });
    namespace.apply(&[&route]);
    let client = Client::new(&host, public.client_config());
    let app = App { namespace, authority: public, client };
    app.wait_until_served(&release);
    let mut old = app.open(release.load_balancer());
    old.echo("encrypted twice");

    // With another authority in the ConfigMap the pods are not who they should be.
    app.namespace.apply(&[&objects::ca_config_map("pods-ca", &Authority::new())]);
    for replica in release.pods() {
        eventually(&format!("{} refuses the pods' certificate", replica.name), 20, || {
            let refused = app.client.refused(replica.https())?;
            expect_eq(&(refused.status, refused.reason.as_str()), &(502, "backend_connect"))
        });
    }
    old.echo("still here");

    // A name that the certificate is not for.
    app.namespace.apply(&[&objects::ca_config_map("pods-ca", &inner)]);
    app.wait_until_served(&release);
    route["spec"]["rules"][0]["backendRefs"][0]["tls"]["hostname"] = "other.example.test".into();
    app.namespace.apply(&[&route]);
    for replica in release.pods() {
        eventually(&format!("{} refuses the pods' name", replica.name), 20, || {
            expect_eq(&app.client.refused(replica.https())?.reason.as_str(), &"backend_connect")
        });
    }

    // Not verifying is a choice that has to be made in so many words.
    route["spec"]["rules"][0]["backendRefs"][0]["tls"] = json!({ "insecureSkipVerify": true });
    app.namespace.apply(&[&route]);
    app.wait_until_served(&release);
    old.echo("and here");
}
