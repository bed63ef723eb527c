//! What is thrown away of each object before it is kept: memory, and changes that concern nobody.

use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::translate::KEPT_BYTES;

/// The keys of Secrets that are read. No other content of a Secret stays in memory.
const SECRET_KEYS: [&str; 3] = ["tls.crt", "tls.key", CA_KEY];
/// The key of ConfigMaps, and of Secrets, that holds the certificates of authorities.
pub(super) const CA_KEY: &str = "ca.crt";

/// Managed fields, and annotations: nobody reads them, others write them often, and an object may have 256 KiB of them.
pub(super) fn metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.annotations = None;
}

/// All but `tls.crt`, `tls.key` and `ca.crt`.
pub(super) fn secret(secret: &mut Secret) {
    metadata(&mut secret.metadata);
    if let Some(data) = &mut secret.data {
        data.retain(|key, _| SECRET_KEYS.contains(&key.as_str()));
        for (key, value) in data {
            // What is too long is refused, and known to be by one byte.
            value.0.truncate(kept(key));
            value.0.shrink_to_fit();
        }
    }
    secret.string_data = None;
}

/// All but `ca.crt`. Whether there was one: only then the ConfigMap concerns us.
pub(super) fn config_map(map: &mut ConfigMap) -> bool {
    metadata(&mut map.metadata);
    map.binary_data = None;
    if let Some(data) = &mut map.data {
        data.retain(|key, _| key == CA_KEY);
        for value in data.values_mut().filter(|value| value.len() > kept(CA_KEY)) {
            let mut end = kept(CA_KEY);
            while !value.is_char_boundary(end) {
                end += 1;
            }
            value.truncate(end);
            value.shrink_to_fit();
        }
    }
    map.data.as_ref().is_some_and(|data| !data.is_empty())
}

/// Bytes that are kept of the value of a key.
fn kept(key: &str) -> usize {
    KEPT_BYTES.iter().find(|(known, _)| *known == key).map_or(0, |(_, bytes)| *bytes)
}

/// The status, which load balancers write.
pub(super) fn service(service: &mut Service) {
    metadata(&mut service.metadata);
    service.status = None;
}
