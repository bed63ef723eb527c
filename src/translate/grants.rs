//! Who may refer to a Secret of another namespace: ReferenceGrants.

use std::{collections::HashMap, sync::Arc};

use super::Fault;
use crate::{
    api::{GROUP, Reason, ReferenceGrant},
    table::ObjectRef,
};

/// The ReferenceGrants by their namespace; `None` where the kind is not installed.
pub(super) struct Grants<'a> {
    by_namespace: Option<HashMap<&'a str, Vec<&'a ReferenceGrant>>>,
}

impl<'a> Grants<'a> {
    pub(super) fn new(grants: Option<&'a [Arc<ReferenceGrant>]>) -> Self {
        let by_namespace = grants.map(|grants| {
            let mut index = HashMap::<_, Vec<_>>::new();
            for grant in grants {
                let namespace = grant.metadata.namespace.as_deref().unwrap_or_default();
                index.entry(namespace).or_default().push(grant.as_ref());
            }
            index
        });
        Self { by_namespace }
    }

    /// Whether WebSocketRoutes of namespace `from` may refer to the Secret `to`, as `field` does. Says nothing about
    /// whether the Secret exists: that is not for everyone to know.
    pub(super) fn permit_secret(
        &self,
        from: &str,
        to: &ObjectRef,
        field: &str,
    ) -> Result<(), Fault> {
        if from == to.namespace {
            return Ok(());
        }
        let namespace = &to.namespace;
        let refuse = |message: String| Err(Fault { reason: Reason::RefNotPermitted, message });
        let Some(index) = &self.by_namespace else {
            return refuse(format!(
                "{field}: Secret {to} is of another namespace, which takes a ReferenceGrant in namespace \
                 {namespace}, but the kind ReferenceGrant is not installed in this cluster. Install the \
                 CustomResourceDefinitions of Gateway API and create the grant, or copy the Secret to \
                 namespace {from} and name it in spec.tls.secretName."
            ));
        };
        let grants = index.get(namespace.as_str()).map(Vec::as_slice).unwrap_or_default();
        if grants.iter().any(|grant| permits(grant, from, &to.name)) {
            return Ok(());
        }
        refuse(format!(
            "{field}: no ReferenceGrant in namespace {namespace} lets WebSocketRoutes of namespace {from} use \
             Secret {to}. Create one there with from: {{group: {GROUP}, kind: WebSocketRoute, namespace: \
             {from}}} and to: {{group: \"\", kind: Secret, name: {}}}.",
            to.name
        ))
    }
}

/// Whether the grant lets WebSocketRoutes of namespace `from` use the Secret of this name in the grant's namespace.
pub fn permits(grant: &ReferenceGrant, from: &str, secret: &str) -> bool {
    let grant = &grant.spec;
    grant.from.iter().any(|source| {
        source.group == GROUP && source.kind == "WebSocketRoute" && source.namespace == from
    }) && grant.to.iter().any(|target| {
        target.group.is_empty()
            && target.kind == "Secret"
            && target.name.as_deref().is_none_or(|name| name == secret)
    })
}
