//! WebSocketRoutes, read so that one that this version cannot hold hides no other.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde_json::Value;
use tidegate_api::{DEFAULT_CLASS, WebSocketRoute, WebSocketRouteSpec};

use super::store::Stored;
use crate::{
    source::{Change, ObservedRoute, prune, reference},
    translate::RouteInput,
};

/// A route in two parts: what its author wrote, and what controllers did.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// Without its status: a written status is no change of the inputs.
    pub(super) input: RouteInput,
    pub(super) observed: Arc<ObservedRoute>,
}

impl From<DynamicObject> for Route {
    fn from(mut object: DynamicObject) -> Self {
        let status_managers = status_managers(&object.metadata);
        prune::metadata(&mut object.metadata);
        let status = object.data.get_mut("status").map(Value::take).unwrap_or_default();
        let spec = object.data.get_mut("spec").map(Value::take).unwrap_or_default();
        // The default stands in the CRD; an object stored before it did has none.
        let class_name = match spec.get("className") {
            None => Some(DEFAULT_CLASS.to_owned()),
            Some(name) => name.as_str().map(str::to_owned),
        };
        let observed = ObservedRoute {
            uid: object.metadata.uid.clone(),
            resource_version: object.metadata.resource_version.clone(),
            class_name: class_name.clone(),
            status_managers,
            status: serde_json::from_value(status).unwrap_or_default(),
        };
        let input = match serde_path_to_error::deserialize::<_, WebSocketRouteSpec>(spec) {
            Ok(spec) => {
                let metadata = object.metadata;
                RouteInput::Valid(Arc::new(WebSocketRoute { metadata, spec, status: None }))
            }
            Err(error) => {
                let path = error.path().to_string();
                let path = if path == "." { "spec".to_owned() } else { format!("spec.{path}") };
                let error = format!("{path}: {}", error.into_inner());
                tracing::debug!("WebSocketRoute {}: {error}", reference(&object.metadata));
                RouteInput::Unreadable { metadata: Arc::new(object.metadata), class_name, error }
            }
        };
        Self { input, observed: Arc::new(observed) }
    }
}

/// Who has applied fields of the status, as the API server keeps account of it.
fn status_managers(metadata: &ObjectMeta) -> Vec<String> {
    let entries = metadata.managed_fields.iter().flatten();
    let applied = entries.filter(|entry| {
        entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref() == Some("status")
    });
    applied.filter_map(|entry| entry.manager.clone()).collect()
}

impl Stored for Route {
    fn replace(&self, mut new: Self) -> (Self, Option<Change>) {
        let mut change = (self.observed != new.observed).then_some(Change::Status);
        match (&self.input, new.input) {
            (RouteInput::Valid(old), RouteInput::Valid(input)) => {
                let (input, differs) = old.replace(input);
                change = change.max(differs);
                new.input = RouteInput::Valid(input);
            }
            (
                RouteInput::Unreadable { metadata: old, class_name: was, error: before },
                RouteInput::Unreadable { metadata, class_name, error },
            ) => {
                let same = *before == error && *was == class_name;
                if same && old.generation == metadata.generation && old.uid == metadata.uid {
                    new.input = self.input.clone();
                } else {
                    new.input = RouteInput::Unreadable { metadata, class_name, error };
                    change = Some(Change::Inputs);
                }
            }
            (_, input) => {
                new.input = input;
                change = Some(Change::Inputs);
            }
        }
        (new, change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn route(version: &str, hostname: &Value, status: &Value) -> Route {
        let object = json!({
            "apiVersion": "tidegate.io/v1alpha1",
            "kind": "WebSocketRoute",
            "metadata": {
                "name": "chat", "namespace": "chat", "uid": "u", "resourceVersion": version,
                "managedFields": [{ "manager": version }],
            },
            "spec": { "hostnames": [hostname], "rules": [{ "backendRefs": [{ "name": "chat", "port": 8080 }] }] },
            "status": status,
        });
        Route::from(serde_json::from_value::<DynamicObject>(object).unwrap())
    }

    #[test]
    fn a_written_status_is_no_change_of_the_inputs() {
        let host = json!("chat.example.com");
        let old = route("1", &host, &Value::Null);
        let (kept, change) = old.replace(route("2", &host, &json!({ "observedGeneration": 3 })));
        assert_eq!(change, Some(Change::Status));
        assert_eq!(kept.observed.status.observed_generation, Some(3));
        assert_eq!(kept.observed.resource_version.as_deref(), Some("2"));
        let (RouteInput::Valid(old), RouteInput::Valid(kept)) = (old.input, kept.input) else {
            panic!("both are sound");
        };
        assert!(Arc::ptr_eq(&old, &kept));
    }

    #[test]
    fn only_who_applied_a_status_is_its_manager() {
        let entry = |manager: &str, operation: &str, subresource: Option<&str>| json!({"manager": manager, "operation": operation, "subresource": subresource});
        let metadata = json!({"managedFields": [
            entry("kubectl", "Apply", None),
            entry("kubectl-edit", "Update", Some("status")),
            entry("tidegate/internal", "Apply", Some("status")),
        ]});
        let metadata: ObjectMeta = serde_json::from_value(metadata).unwrap();
        assert_eq!(status_managers(&metadata), ["tidegate/internal"]);
        assert!(status_managers(&ObjectMeta::default()).is_empty());
    }

    #[test]
    fn a_changed_spec_is_a_change_of_the_inputs() {
        let old = route("1", &json!("chat.example.com"), &Value::Null);
        let (_, change) = old.replace(route("2", &json!("talk.example.com"), &Value::Null));
        assert_eq!(change, Some(Change::Inputs));
    }

    #[test]
    fn an_unreadable_spec_says_where_and_keeps_its_status() {
        let broken = route("1", &json!(7), &json!({ "observedGeneration": 3 }));
        assert_eq!(broken.observed.status.observed_generation, Some(3));
        let RouteInput::Unreadable { metadata, class_name, error } = &broken.input else {
            panic!("7 is no hostname");
        };
        assert_eq!(metadata.name.as_deref(), Some("chat"));
        assert_eq!(class_name.as_deref(), Some("tidegate"));
        assert_eq!(error, "spec.hostnames[0]: invalid type: integer `7`, expected a string");
        let (_, change) = broken.replace(route("2", &json!(7), &Value::Null));
        assert_eq!(change, Some(Change::Status));
    }
}
