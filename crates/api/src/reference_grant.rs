//! Gateway API's ReferenceGrant, as far as it concerns us: who may refer to a Secret here.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The spec of a ReferenceGrant (`gateway.networking.k8s.io/v1beta1`): objects of `from` may refer
/// to objects of `to` in the grant's namespace. Its CRD is Gateway API's own; we only read it.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1beta1",
    kind = "ReferenceGrant",
    namespaced,
    derive = "PartialEq"
)]
pub struct ReferenceGrantSpec {
    /// Who may refer.
    pub from: Vec<ReferenceGrantFrom>,
    /// To what, in the namespace of the grant.
    pub to: Vec<ReferenceGrantTo>,
}

/// Objects that may refer: all of one kind in one namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReferenceGrantFrom {
    /// API group of the referring kind.
    pub group: String,
    /// The referring kind.
    pub kind: String,
    /// Their namespace.
    pub namespace: String,
}

/// Objects that may be referred to: all of one kind, or a single one by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReferenceGrantTo {
    /// API group of the kind referred to; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// The kind referred to.
    pub kind: String,
    /// The one object meant; every object of the kind when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
