//! Kubernetes objects, in the smallest shape that works. Tests change what they are about.

use serde_json::{Value, json};

use super::{Authority, Identity};

/// The image under test, which also holds the echo backend.
pub const IMAGE: &str = "docker.io/library/tidegate:test";

/// Pods that echo, and say who they are.
pub fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 5,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "fsGroup": 65532,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "containers": [{
                        "name": "echo",
                        "image": IMAGE,
                        "imagePullPolicy": "Never",
                        "args": ["echo-backend", "--listen=[::]:8080"],
                        "ports": [{ "name": "ws", "containerPort": 8080 }],
                        "readinessProbe": {
                            "httpGet": { "path": "/", "port": "ws" },
                            "periodSeconds": 1,
                            // Many tests and much else may run beside it.
                            "timeoutSeconds": 5,
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": { "drop": ["ALL"] },
                        },
                    }],
                },
            },
        },
    })
}

/// The Service of such pods.
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": {
            "selector": { "app": name },
            "ports": [{ "name": "ws", "port": 8080, "targetPort": "ws" }],
        },
    })
}

/// A Secret of type kubernetes.io/tls.
pub fn tls_secret(name: &str, identity: &Identity) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": { "name": name },
        "stringData": { "tls.crt": identity.chain, "tls.key": identity.key },
    })
}

/// The certificate of an authority.
pub fn ca_config_map(name: &str, authority: &Authority) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name },
        "data": { "ca.crt": authority.pem() },
    })
}

/// A route of that name to the Service of that name, with the certificate in `NAME-tls`.
pub fn route(name: &str, host: &str) -> Value {
    json!({
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "WebSocketRoute",
        "metadata": { "name": name },
        "spec": {
            "hostnames": [host],
            "tls": { "secretName": format!("{name}-tls") },
            "rules": [{ "backendRefs": [{ "name": name, "port": 8080 }] }],
        },
    })
}
