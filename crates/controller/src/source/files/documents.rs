//! From YAML text to objects: one file at a time, document by document. No I/O.

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{ConfigMap, Namespace, Secret, Service},
        discovery::v1::EndpointSlice,
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidegate_api::{ReferenceGrant, WebSocketRoute};
use tidegate_table::ObjectRef;
use tidegate_untrusted::yaml;

use crate::source::prune;

/// The namespace of objects that name none.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// The label that every namespace has.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// What is wrong in a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileProblem {
    /// The file, as it was named.
    pub file: String,
    /// The document in it, counted from 1; absent if the whole file is meant.
    pub document: Option<usize>,
    /// The line in the file, counted from 1: of the fault if the parser knows it, else of the document.
    pub line: Option<usize>,
    /// What is wrong, after the name of the object where there is one.
    pub message: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match (self.document, self.line) {
            (Some(document), Some(line)) => write!(f, ", document {document}, line {line}")?,
            (Some(document), None) => write!(f, ", document {document}")?,
            (None, Some(line)) => write!(f, ", line {line}")?,
            (None, None) => {}
        }
        write!(f, ": {}", self.message)
    }
}

/// An object of a kind that concerns us.
#[derive(Clone, Debug)]
pub(super) enum Object {
    Route(Arc<WebSocketRoute>),
    Secret(Arc<Secret>),
    ConfigMap(Arc<ConfigMap>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    ReferenceGrant(Arc<ReferenceGrant>),
    /// Its labels.
    Namespace(BTreeMap<String, String>),
}

/// An object with its place.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) object: Object,
    pub(super) kind: &'static str,
    pub(super) reference: ObjectRef,
    pub(super) document: usize,
    pub(super) line: usize,
}

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Parsed {
    pub(super) objects: Vec<Located>,
    pub(super) problems: Vec<FileProblem>,
    /// Fields that objects of other kinds than ours do not have, as far as is known here. Such an object is read all the same.
    pub(super) unknown: Vec<FileProblem>,
    /// Objects of kinds that concern us, with nothing in them that does.
    pub(super) passed_over: Vec<(&'static str, ObjectRef)>,
}

/// Reads every document of a file. Sound ones become objects, each other one a problem.
pub(super) fn parse(file: &str, text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut reader = yaml::Reader::default();
    for (index, document) in yaml::documents(text).into_iter().enumerate() {
        let mut place =
            Place { file, document: index + 1, line: document.line, parsed: &mut parsed };
        match reader.read::<Value>(document) {
            Ok(value) => place.value(value),
            Err(fault) => {
                place.line = fault.line;
                place.problem(format!("not YAML: {}", fault.message));
            }
        }
    }
    parsed
}

/// The place that a value was read from, and where results go.
struct Place<'a> {
    file: &'a str,
    document: usize,
    line: usize,
    parsed: &'a mut Parsed,
}

impl Place<'_> {
    fn problem(&mut self, message: String) {
        let problem = self.here(message);
        self.parsed.problems.push(problem);
    }

    fn here(&self, message: String) -> FileProblem {
        FileProblem {
            file: self.file.to_owned(),
            document: Some(self.document),
            line: Some(self.line),
            message,
        }
    }

    fn value(&mut self, mut value: Value) {
        if value.is_null() {
            return;
        }
        let text =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let (Some(version), Some(kind)) = (text(&value, "apiVersion"), text(&value, "kind")) else {
            self.problem("no Kubernetes object: apiVersion and kind are needed".to_owned());
            return;
        };
        if version == "v1" && kind.ends_with("List") {
            match value.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => items.into_iter().for_each(|item| self.value(item)),
                _ => self.problem(format!("{kind}: items must be a list")),
            }
            return;
        }
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        match (group, kind.as_str()) {
            (tidegate_api::GROUP, "WebSocketRoute") => {
                if version.ends_with(&format!("/{}", tidegate_api::VERSION)) {
                    let faults = tidegate_api::admit(&mut value);
                    let faults = faults.iter().map(ToString::to_string).collect();
                    self.object::<WebSocketRoute>("WebSocketRoute", value, faults, |route| {
                        Some(Object::Route(Arc::new(route)))
                    });
                } else {
                    let known = format!("{}/{}", tidegate_api::GROUP, tidegate_api::VERSION);
                    self.problem(format!(
                        "WebSocketRoute: apiVersion {version} is not known; write {known}"
                    ));
                }
            }
            ("", "Secret") => self.foreign::<Secret>("Secret", value, |mut secret| {
                merge_string_data(&mut secret);
                prune::secret(&mut secret);
                Some(Object::Secret(Arc::new(secret)))
            }),
            ("", "ConfigMap") => self.foreign::<ConfigMap>("ConfigMap", value, |mut map| {
                let holds_ca = prune::config_map(&mut map);
                holds_ca.then(|| Object::ConfigMap(Arc::new(map)))
            }),
            ("", "Service") => self.foreign::<Service>("Service", value, |mut service| {
                prune::service(&mut service);
                Some(Object::Service(Arc::new(service)))
            }),
            ("", "Namespace") => self.foreign::<Namespace>("Namespace", value, |namespace| {
                let mut labels = namespace.metadata.labels.unwrap_or_default();
                // The API server sees to this one.
                labels.extend(namespace.metadata.name.map(|name| (NAME_LABEL.to_owned(), name)));
                Some(Object::Namespace(labels))
            }),
            ("discovery.k8s.io", "EndpointSlice") => {
                self.foreign::<EndpointSlice>("EndpointSlice", value, |mut slice| {
                    prune::metadata(&mut slice.metadata);
                    Some(Object::EndpointSlice(Arc::new(slice)))
                });
            }
            ("gateway.networking.k8s.io", "ReferenceGrant") => {
                self.foreign::<ReferenceGrant>("ReferenceGrant", value, |mut grant| {
                    prune::metadata(&mut grant.metadata);
                    Some(Object::ReferenceGrant(Arc::new(grant)))
                });
            }
            _ => tracing::debug!(
                file = self.file,
                document = self.document,
                "{version} {kind} does not concern us"
            ),
        }
    }

    /// An object of another kind than ours. It is not held to a schema, for we may know an older one.
    fn foreign<K: DeserializeOwned + kube::Resource>(
        &mut self,
        kind: &'static str,
        value: Value,
        finish: impl FnOnce(K) -> Option<Object>,
    ) {
        self.object(kind, value, Vec::new(), finish);
    }

    /// Reads `value` as a `K`, which `finish` turns into an object, unless it does not concern us. With `faults` it is none.
    fn object<K: DeserializeOwned + kube::Resource>(
        &mut self,
        kind: &'static str,
        value: Value,
        mut faults: Vec<String>,
        finish: impl FnOnce(K) -> Option<Object>,
    ) {
        let metadata = |key: &str| {
            value.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).map(str::to_owned)
        };
        let namespace = metadata("namespace").unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let Some(name) = metadata("name").filter(|name| !name.is_empty()) else {
            self.problem(format!("{kind}: metadata.name is missing"));
            return;
        };
        let reference = ObjectRef { namespace, name };
        let mut unknown = Vec::new();
        let mut note = |path: serde_ignored::Path<'_>| {
            let path = path.to_string();
            // The types of custom resources have no such fields; they have been looked at.
            if path != "apiVersion" && path != "kind" {
                unknown.push(format!("{}: unknown field", readable(&path)));
            }
        };
        let read = serde_path_to_error::deserialize::<_, K>(serde_ignored::Deserializer::new(
            value, &mut note,
        ));
        if kind == "WebSocketRoute" {
            // Those of the spec have been found by its schema.
            unknown.retain(|fault| fault.starts_with("metadata"));
            faults.append(&mut unknown);
        }
        match read {
            Ok(mut object) if faults.is_empty() => {
                for fault in unknown {
                    let problem = self.here(format!("{kind} {reference}: {fault}"));
                    self.parsed.unknown.push(problem);
                }
                object.meta_mut().namespace = Some(reference.namespace.clone());
                match finish(object) {
                    None => self.parsed.passed_over.push((kind, reference)),
                    Some(object) => {
                        let (document, line) = (self.document, self.line);
                        self.parsed.objects.push(Located {
                            object,
                            kind,
                            reference,
                            document,
                            line,
                        });
                    }
                }
                return;
            }
            Ok(_) => {}
            Err(error) if faults.is_empty() => {
                let path = error.path().to_string();
                let error = error.into_inner();
                faults.push(if path == "." {
                    error.to_string()
                } else {
                    format!("{path}: {error}")
                });
            }
            // The schema has said it better.
            Err(_) => {}
        }
        for fault in faults {
            self.problem(format!("{kind} {reference}: {fault}"));
        }
    }
}

/// `spec.rules.0.foo` as `spec.rules[0].foo`; the question marks that stand for optional fields are left out.
fn readable(path: &str) -> String {
    let mut text = String::new();
    for part in path.split('.').filter(|part| *part != "?") {
        match part.parse::<usize>() {
            Ok(index) => text.push_str(&format!("[{index}]")),
            Err(_) if text.is_empty() => text.push_str(part),
            Err(_) => {
                text.push('.');
                text.push_str(part);
            }
        }
    }
    text
}

/// `stringData` is written over `data`, as the API server does it.
fn merge_string_data(secret: &mut Secret) {
    for (key, value) in secret.string_data.take().unwrap_or_default() {
        secret.data.get_or_insert_default().insert(key, ByteString(value.into_bytes()));
    }
}
