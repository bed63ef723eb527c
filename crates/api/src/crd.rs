//! The CustomResourceDefinition, derived from the types beside this file.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::WebSocketRoute;

/// Name of the CustomResourceDefinition.
pub const CRD_NAME: &str = "websocketroutes.tidegate.io";

const HEADER: &str =
    "# Printed by `tidegate crd`. Do not edit: change crates/api/src and run `make crd`.\n";

/// The CustomResourceDefinition of WebSocketRoute.
pub fn crd() -> CustomResourceDefinition {
    WebSocketRoute::crd()
}

/// The CustomResourceDefinition as YAML, as it stands in `crds/`.
pub fn crd_yaml() -> String {
    // Through a JSON value, whose maps are sorted: the order of lines is then stable.
    let value = serde_json::to_value(crd()).expect("the CRD is plain data");
    let yaml = serde_saphyr::to_string(&value).expect("JSON is YAML");
    format!("{HEADER}{yaml}")
}
