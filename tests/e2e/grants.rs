//! Certificates of another namespace: only with a ReferenceGrant, a kind that may not even be installed.

use serde_json::{Value, json};

use crate::support::{App, Namespace, Release, objects, try_kubectl};

/// Gateway API's kind, as far as the program reads it. Taken away when dropped.
pub(crate) struct ReferenceGrants;

impl ReferenceGrants {
    const CRD: &str = "crd/referencegrants.gateway.networking.k8s.io";

    pub(crate) fn install() -> Self {
        let texts = |names: &[&str]| {
            let properties =
                names.iter().map(|&name| (name.to_owned(), json!({ "type": "string" })));
            let properties: serde_json::Map<_, _> = properties.collect();
            json!({ "type": "array", "items": { "type": "object", "properties": properties } })
        };
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": "referencegrants.gateway.networking.k8s.io",
                "annotations": { "api-approved.kubernetes.io": "unapproved, a stand-in for tests" },
            },
            "spec": {
                "group": "gateway.networking.k8s.io",
                "scope": "Namespaced",
                "names": { "kind": "ReferenceGrant", "plural": "referencegrants", "singular": "referencegrant" },
                "versions": [{
                    "name": "v1beta1",
                    "served": true,
                    "storage": true,
                    "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                        "spec": { "type": "object", "properties": {
                            "from": texts(&["group", "kind", "namespace"]),
                            "to": texts(&["group", "kind", "name"]),
                        } },
                    } } },
                }],
            },
        });
        try_kubectl(&["create", "--filename=-"], Some(&crd.to_string()))
            .expect("it is not there yet");
        let installed = Self;
        try_kubectl(&["wait", "--for=condition=Established", "--timeout=30s", Self::CRD], None)
            .unwrap_or_else(|error| panic!("{error}"));
        installed
    }
}

impl Drop for ReferenceGrants {
    fn drop(&mut self) {
        if let Err(error) = try_kubectl(&["delete", "--wait", "--timeout=30s", Self::CRD], None) {
            eprintln!("{error}");
        }
    }
}

fn grant(from: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": { "name": "certificates" },
        "spec": {
            "from": [{ "group": "tidegate.io", "kind": "WebSocketRoute", "namespace": from }],
            "to": [{ "group": "", "kind": "Secret", "name": secret }],
        },
    })
}

#[test]
fn a_secret_of_another_namespace_takes_a_grant_also_where_the_kind_is_not_installed() {
    let release = Release::shared();
    let app = App::prepare("borrower", 1);
    let owner = Namespace::new("owner");
    let identity = app.authority.issue(&[&app.client.host]);
    owner.apply(&[&objects::tls_secret("shared-tls", &identity)]);
    let mut route = objects::route("chat", &app.client.host);
    route["spec"]["tls"] =
        json!({ "secretRef": { "name": "shared-tls", "namespace": owner.name } });
    app.namespace.apply(&[&route]);
    let refused = || app.namespace.eventually("chat", "ResolvedRefs", "False", "RefNotPermitted");

    let message = refused();
    assert!(message.contains("the kind ReferenceGrant is not installed"), "{message}");
    app.namespace.eventually("chat", "Programmed", "False", "NotProgrammed");
    // Everything else works: this is how all the other tests run, too.
    App::start(&release, "bystander", 1).open(release.load_balancer()).echo("hello");

    let _installed = ReferenceGrants::install();
    // A grant for another Secret grants nothing.
    owner.apply(&[&grant(&app.namespace.name, "another")]);
    crate::support::eventually("the message tells of the missing grant", 40, || {
        let found = app.namespace.condition("chat", "ResolvedRefs").unwrap_or_default();
        match found.message.contains("no ReferenceGrant in namespace") {
            true => Ok(()),
            false => Err(found.message),
        }
    });
    refused();

    owner.apply(&[&grant(&app.namespace.name, "shared-tls")]);
    app.wait_until_served(&release);
    let mut socket = app.open(release.load_balancer());
    assert_eq!(socket.certificate, identity.der);
    socket.echo("granted");

    // What was given can be taken; who is connected stays so.
    owner.delete("referencegrants.gateway.networking.k8s.io/certificates");
    refused();
    socket.echo("still here");
}
