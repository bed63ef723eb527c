//! Which Secrets routes refer to, for who reads only those; and what to say of one that could not be read.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_api::{CaCertificateKind, Reason, WebSocketRoute};
use tidegate_table::ObjectRef;

use super::{Budgets, Fault, Inputs, grants::Grants, routes};

/// Which Secrets are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecretAccess {
    /// All of the type kubernetes.io/tls.
    #[default]
    All,
    /// Those with these labels, as a selector.
    Labelled(String),
    /// Those that routes refer to, by name. Of some there is no content, for these reasons.
    Referenced(BTreeMap<ObjectRef, Unread>),
}

/// Why a Secret that a route refers to was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It has been asked for, and there is no answer yet.
    Pending,
    /// It may not be read, by this user, as the API server calls us, if it says so.
    Forbidden(Option<String>),
    /// There are too many.
    Beyond,
}

/// The Secrets that routes refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretsWanted {
    /// Those to read.
    pub read: BTreeSet<ObjectRef>,
    /// Those that are too many: `Budgets::named_secrets` and those of a namespace.
    pub beyond: BTreeSet<ObjectRef>,
}

/// What the routes of `class` refer to and may refer to. Of `inputs` the routes, the ReferenceGrants and the namespaces count.
/// Older routes come first.
pub fn secrets_wanted(inputs: &Inputs, class: &str, budgets: &Budgets) -> SecretsWanted {
    let grants = Grants::new(inputs, budgets.grants_per_namespace);
    let mut wanted = SecretsWanted::default();
    let mut spent = BTreeMap::<String, usize>::new();
    for route in routes::by_precedence(&inputs.routes, class) {
        let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
        for secret in references(route, namespace) {
            if wanted.read.contains(&secret)
                || wanted.beyond.contains(&secret)
                || grants.permit_secret(namespace, &secret, "").is_err()
            {
                continue;
            }
            let own = spent.entry(namespace.to_owned()).or_default();
            if *own < budgets.named_secrets_per_namespace
                && wanted.read.len() < budgets.named_secrets
            {
                *own += 1;
                wanted.read.insert(secret);
            } else {
                wanted.beyond.insert(secret);
            }
        }
    }
    wanted
}

/// The certificate of a route, and the authorities of its backends.
fn references(route: &WebSocketRoute, namespace: &str) -> Vec<ObjectRef> {
    let object = |namespace: &str, name: &str| ObjectRef {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let mut found = Vec::new();
    if let Some(tls) = &route.spec.tls {
        found.extend(tls.secret_name.as_deref().map(|name| object(namespace, name)));
        found.extend(tls.secret_ref.as_ref().map(|reference| {
            object(reference.namespace.as_deref().unwrap_or(namespace), &reference.name)
        }));
    }
    let backends = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
    let authorities =
        backends.filter_map(|backend| backend.tls.as_ref()?.ca_certificate_ref.as_ref());
    found.extend(
        authorities
            .filter(|reference| reference.kind == CaCertificateKind::Secret)
            .map(|reference| object(namespace, &reference.name)),
    );
    found
}

/// Why there is nothing of this Secret, where that says nothing about whether it is there.
pub(super) fn unread(inputs: &Inputs, secret: &ObjectRef, field: &str) -> Option<Fault> {
    let SecretAccess::Referenced(unread) = &inputs.secret_access else { return None };
    let ObjectRef { namespace, name } = secret;
    let (reason, message) = match unread.get(secret)? {
        Unread::Pending => (
            Reason::SecretNotReadable,
            format!("{field}: Secret {secret} is being read. Wait a moment."),
        ),
        Unread::Forbidden(user) => {
            let user = user.as_deref().unwrap_or_default();
            let subject = match user.strip_prefix("system:serviceaccount:") {
                Some(account) => format!("--serviceaccount={account}"),
                None if user.is_empty() => {
                    "--serviceaccount=NAMESPACE:NAME of the gateway".to_owned()
                }
                None => format!("--user={user}"),
            };
            (
                Reason::SecretNotReadable,
                format!(
                    "{field}: this gateway may not read Secret {secret}; it reads Secrets by name, each with a right of its \
                     own. Give it that: kubectl create role tidegate-{name} --namespace {namespace} --verb=list,watch \
                     --resource=secrets --resource-name={name}, and kubectl create rolebinding tidegate-{name} --namespace \
                     {namespace} --role=tidegate-{name} {subject}."
                ),
            )
        }
        Unread::Beyond => (
            Reason::BudgetExceeded,
            format!(
                "{field}: Secret {secret} is not read: routes with precedence (older, or first by name) refer to as many \
                 Secrets as this gateway reads by name, in this namespace or in all. Let routes share a certificate, or ask \
                 the operator of the gateway to raise --max-referenced-secrets."
            ),
        ),
    };
    Some(Fault { reason, message })
}

/// Which Secrets count, where not all do: a clause for a sentence about one that is not there.
pub(super) fn condition(inputs: &Inputs) -> String {
    match &inputs.secret_access {
        SecretAccess::Labelled(selector) => {
            format!(" with the labels that this gateway reads ({selector})")
        }
        SecretAccess::All | SecretAccess::Referenced(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::translate::RouteInput;

    fn inputs(routes: &[(&str, &str, &str, Option<&str>)]) -> Inputs {
        let route = |(index, wanted): (usize, &(&str, &str, &str, Option<&str>))| {
            let (class, namespace, secret, of) = *wanted;
            let route = json!({
                "apiVersion": "tidegate.io/v1alpha1", "kind": "WebSocketRoute",
                "metadata": {"name": format!("r{index}"), "namespace": namespace,
                             "creationTimestamp": format!("2026-01-{:02}T00:00:00Z", index + 1)},
                "spec": {"className": class, "hostnames": ["a.example"],
                         "tls": {"secretRef": {"name": secret, "namespace": of}},
                         "rules": [{"backendRefs": [{"name": "app", "port": 80, "tls":
                            {"caCertificateRef": {"kind": "Secret", "name": "ca"}}}]}]},
            });
            RouteInput::Valid(Arc::new(serde_json::from_value(route).unwrap()))
        };
        let routes = routes.iter().enumerate().map(route).collect();
        Inputs { routes, reference_grants: Some(Vec::new()), ..Inputs::default() }
    }

    fn names(secrets: &BTreeSet<ObjectRef>) -> Vec<String> {
        secrets.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_routes_of_the_class_may_refer_to_is_wanted() {
        let mut inputs = inputs(&[
            ("tidegate", "chat", "tls", None),
            ("tidegate", "chat", "theirs", Some("other")),
            ("internal", "games", "tls", None),
        ]);
        let wanted = secrets_wanted(&inputs, "tidegate", &Budgets::default());
        assert_eq!(names(&wanted.read), ["chat/ca", "chat/tls"]);
        let grant = json!({
            "metadata": {"name": "g", "namespace": "other"},
            "spec": {"from": [{"group": "tidegate.io", "kind": "WebSocketRoute", "namespace": "chat"}],
                     "to": [{"group": "", "kind": "Secret"}]},
        });
        inputs.reference_grants = Some(vec![Arc::new(serde_json::from_value(grant).unwrap())]);
        let wanted = secrets_wanted(&inputs, "tidegate", &Budgets::default());
        assert_eq!(names(&wanted.read), ["chat/ca", "chat/tls", "other/theirs"]);
        assert!(wanted.beyond.is_empty());
    }

    #[test]
    fn what_is_too_much_is_that_of_younger_routes_and_of_the_namespace_that_has_it() {
        let inputs = inputs(&[
            ("tidegate", "chat", "a", None),
            ("tidegate", "chat", "b", None),
            ("tidegate", "games", "c", None),
        ]);
        let budgets = Budgets { named_secrets_per_namespace: 2, ..Budgets::default() };
        let wanted = secrets_wanted(&inputs, "tidegate", &budgets);
        assert_eq!(names(&wanted.read), ["chat/a", "chat/ca", "games/c", "games/ca"]);
        assert_eq!(names(&wanted.beyond), ["chat/b"]);
        let budgets = Budgets { named_secrets: 3, ..Budgets::default() };
        let wanted = secrets_wanted(&inputs, "tidegate", &budgets);
        assert_eq!(names(&wanted.beyond), ["games/c", "games/ca"]);
    }
}
