//! What is thrown away of each object before it is kept: memory, and changes that concern nobody.

use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// The keys of Secrets that are read. No other content of a Secret stays in memory.
const SECRET_KEYS: [&str; 3] = ["tls.crt", "tls.key", CA_KEY];
/// The key of ConfigMaps, and of Secrets, that holds the certificates of authorities.
pub(super) const CA_KEY: &str = "ca.crt";
/// Annotations that others write often, or that repeat the object.
const NOISE: [&str; 3] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
    "control-plane.alpha.kubernetes.io/leader",
];

/// Managed fields and annotations that nobody reads.
pub(super) fn metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| !NOISE.contains(&key.as_str()));
        if annotations.is_empty() {
            metadata.annotations = None;
        }
    }
}

/// All but `tls.crt`, `tls.key` and `ca.crt`.
pub(super) fn secret(secret: &mut Secret) {
    metadata(&mut secret.metadata);
    if let Some(data) = &mut secret.data {
        data.retain(|key, _| SECRET_KEYS.contains(&key.as_str()));
    }
    secret.string_data = None;
}

/// All but `ca.crt`. Whether there was one: only then the ConfigMap concerns us.
pub(super) fn config_map(map: &mut ConfigMap) -> bool {
    metadata(&mut map.metadata);
    map.binary_data = None;
    if let Some(data) = &mut map.data {
        data.retain(|key, _| key == CA_KEY);
    }
    map.data.as_ref().is_some_and(|data| !data.is_empty())
}

/// The status, which load balancers write.
pub(super) fn service(service: &mut Service) {
    metadata(&mut service.metadata);
    service.status = None;
}
