//! Namespaces, of which nothing but the labels is kept.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tidegate_table::ObjectRef;

use super::store::Stored;
use crate::source::Change;

/// The labels of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamespaceLabels(BTreeMap<String, String>);

impl From<ObjectMeta> for NamespaceLabels {
    fn from(metadata: ObjectMeta) -> Self {
        Self(metadata.labels.unwrap_or_default())
    }
}

impl Stored for NamespaceLabels {
    fn replace(&self, new: Self) -> (Self, Option<Change>) {
        let change = (*self != new).then_some(Change::Inputs);
        (new, change)
    }
}

/// By namespace.
pub(super) fn labels(
    known: &BTreeMap<ObjectRef, NamespaceLabels>,
) -> BTreeMap<String, BTreeMap<String, String>> {
    known.iter().map(|(name, labels)| (name.name.clone(), labels.0.clone())).collect()
}
