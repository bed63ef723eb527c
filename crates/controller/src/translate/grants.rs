//! Who may refer to a Secret of another namespace, and who takes part in another's hostnames: ReferenceGrants.

use std::collections::{BTreeSet, HashMap, HashSet};

use tidegate_api::{GROUP, Reason, ReferenceGrant, ReferenceGrantTo};
use tidegate_table::ObjectRef;

use super::{Fault, Inputs};

const ROUTE: &str = "WebSocketRoute";

/// The ReferenceGrants by their namespace; `None` where the kind is not installed.
pub(super) struct Grants<'a> {
    by_namespace: Option<HashMap<&'a str, Vec<&'a ReferenceGrant>>>,
    forbidden: bool,
    /// Those of a namespace that are looked at.
    most: usize,
    /// The namespaces that are read; `None` for all.
    scope: Option<&'a BTreeSet<String>>,
}

impl<'a> Grants<'a> {
    /// Of each namespace those that are first by name, `most` of them.
    pub(super) fn new(inputs: &'a Inputs, most: usize) -> Self {
        let by_namespace = inputs.reference_grants.as_ref().map(|grants| {
            let mut index = HashMap::<_, Vec<_>>::new();
            for grant in grants {
                let namespace = grant.metadata.namespace.as_deref().unwrap_or_default();
                index.entry(namespace).or_default().push(grant.as_ref());
            }
            for grants in index.values_mut().filter(|grants| grants.len() > most) {
                grants.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
                grants.truncate(most);
            }
            index
        });
        let forbidden = inputs.reference_grants_forbidden;
        Self { by_namespace, forbidden, most, scope: inputs.namespaces.as_deref() }
    }

    /// Whether a namespace lets WebSocketRoutes of another one take part in a hostname of its own: by a grant to its
    /// WebSocketRoutes, or to one of `routes`, which are the names of those that have the hostname.
    pub(super) fn admits(&self, owner: &str, guest: &str, routes: &HashSet<&str>) -> bool {
        let grants = self.by_namespace.as_ref().and_then(|index| index.get(owner));
        grants.into_iter().flatten().any(|grant| {
            let to = |target: &ReferenceGrantTo| {
                target.group == GROUP
                    && target.kind == ROUTE
                    && target.name.as_deref().is_none_or(|name| routes.contains(name))
            };
            is_from(grant, guest) && grant.spec.to.iter().any(to)
        })
    }

    /// Whether ReferenceGrants are read at all.
    pub(super) fn are_read(&self) -> bool {
        self.by_namespace.is_some() && !self.forbidden
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
        if self.scope.is_some_and(|scope| !scope.contains(namespace)) {
            return refuse(format!(
                "{field}: Secret {to} is of namespace {namespace}, which this gateway does not read (--watch-namespace). \
                 Copy the Secret to namespace {from} and name it in spec.tls.secretName, or have the namespace watched \
                 too."
            ));
        }
        if let Some(index) = &self.by_namespace
            && let Some(grants) = index.get(namespace.as_str())
            && grants.iter().any(|grant| permits(grant, from, &to.name))
        {
            return Ok(());
        }
        if self.forbidden {
            return refuse(format!(
                "{field}: Secret {to} is of another namespace, which takes a ReferenceGrant in namespace {namespace}, but \
                 this gateway may not read ReferenceGrants. Give its ServiceAccount the verbs get, list and watch on \
                 referencegrants in the API group \"gateway.networking.k8s.io\"."
            ));
        }
        if self.by_namespace.is_none() {
            return refuse(format!(
                "{field}: Secret {to} is of another namespace, which takes a ReferenceGrant in namespace \
                 {namespace}, but the kind ReferenceGrant is not installed in this cluster. Install the \
                 CustomResourceDefinitions of Gateway API and create the grant, or copy the Secret to \
                 namespace {from} and name it in spec.tls.secretName."
            ));
        }
        let grants = self.by_namespace.as_ref().and_then(|index| index.get(namespace.as_str()));
        if grants.is_some_and(|grants| grants.len() >= self.most) {
            return refuse(format!(
                "{field}: none of the first {} ReferenceGrants by name in namespace {namespace} lets WebSocketRoutes of \
                 namespace {from} use Secret {to}, and further ones are not looked at. Put several into one: from and to are \
                 lists.",
                self.most
            ));
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
    is_from(grant, from)
        && grant.spec.to.iter().any(|target| {
            target.group.is_empty()
                && target.kind == "Secret"
                && target.name.as_deref().is_none_or(|name| name == secret)
        })
}

/// Whether the grant is for WebSocketRoutes of a namespace.
fn is_from(grant: &ReferenceGrant, namespace: &str) -> bool {
    grant.spec.from.iter().any(|source| {
        source.group == GROUP && source.kind == ROUTE && source.namespace == namespace
    })
}
