//! Manifests of Kubernetes as far as Ingresses need them, with the lines where things stand.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;
use tidegate_untrusted::yaml::{self, Fault};

use crate::nginx::parse::Place;

/// What was read.
#[derive(Default)]
pub(super) struct Objects {
    pub(super) ingresses: Vec<Found>,
    pub(super) services: Vec<Found>,
    /// Traefik's ServersTransports.
    pub(super) transports: Vec<Found>,
    pub(super) errors: Vec<String>,
}

/// An object with its place.
pub(super) struct Found {
    file: Arc<str>,
    /// The lines before its document, to which the lines of its parts are added.
    before: usize,
    pub(super) object: Object,
}

impl Found {
    /// The line of a part.
    pub(super) fn place<V>(&self, part: &Spanned<V>) -> Place {
        let line = usize::try_from(part.defined.line()).unwrap_or_default();
        Place { file: Arc::clone(&self.file), line: self.before + line.max(1) }
    }

    /// The line of its name.
    pub(super) fn origin(&self) -> Place {
        self.place(&self.object.metadata.name)
    }
}

/// The kind alone, and those of the items of a list.
#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "apiVersion")]
    version: String,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<Object>,
}

/// An Ingress, a Service or a ServersTransport: one type for all, for a list may hold them mixed, and a type that is guessed has no lines.
#[derive(Clone, Deserialize)]
pub(super) struct Object {
    #[serde(default)]
    kind: String,
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) spec: Spec,
}

/// Names and annotations.
#[derive(Clone, Deserialize)]
pub(super) struct Metadata {
    pub(super) name: Spanned<String>,
    pub(super) namespace: Option<String>,
    #[serde(default)]
    pub(super) annotations: Option<BTreeMap<String, Spanned<String>>>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    // Of an Ingress.
    pub(super) ingress_class_name: Option<Spanned<String>>,
    pub(super) default_backend: Option<Spanned<Value>>,
    pub(super) tls: Vec<IngressTls>,
    pub(super) rules: Vec<IngressRule>,
    // Of a Service.
    pub(super) ports: Vec<ServicePort>,
    // Of a ServersTransport.
    pub(super) forwarding_timeouts: Option<ForwardingTimeouts>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct IngressTls {
    pub(super) hosts: Vec<Spanned<String>>,
    pub(super) secret_name: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct IngressRule {
    pub(super) host: Option<Spanned<String>>,
    pub(super) http: Option<IngressPaths>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct IngressPaths {
    pub(super) paths: Vec<IngressPath>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IngressPath {
    #[serde(default)]
    pub(super) path: Option<Spanned<String>>,
    #[serde(default = "unspecific")]
    pub(super) path_type: Spanned<String>,
    pub(super) backend: IngressBackend,
}

#[derive(Clone, Deserialize)]
pub(super) struct IngressBackend {
    #[serde(default)]
    pub(super) service: Option<ServiceBackend>,
}

#[derive(Clone, Deserialize)]
pub(super) struct ServiceBackend {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) port: BackendPort,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct BackendPort {
    pub(super) number: Option<u16>,
    pub(super) name: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServicePort {
    pub(super) name: Option<String>,
    pub(super) port: u16,
    pub(super) app_protocol: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ForwardingTimeouts {
    pub(super) dial_timeout: Option<Spanned<Value>>,
    pub(super) response_header_timeout: Option<Spanned<Value>>,
}

fn unspecific() -> Spanned<String> {
    let nowhere = serde_saphyr::Location::UNKNOWN;
    Spanned { value: "ImplementationSpecific".to_owned(), referenced: nowhere, defined: nowhere }
}

impl Objects {
    /// Adds the documents of a file.
    pub(super) fn add(&mut self, file: &str, text: &str) {
        let file = Arc::from(file);
        let mut reader = yaml::Reader::default();
        for document in yaml::documents(text) {
            if let Err(Fault { line, message }) = self.document(&file, document, &mut reader) {
                self.errors.push(format!("{file}:{line}: {message}"));
            }
        }
    }

    fn document(
        &mut self,
        file: &Arc<str>,
        document: yaml::Document<'_>,
        reader: &mut yaml::Reader,
    ) -> Result<(), Fault> {
        // What it stands for is within bounds after this, however often it is read.
        let value: Option<Value> = reader.read(document)?;
        let Some(Value::Object(_)) = value else { return Ok(()) };
        let Kind { kind, version } = read(document)?;
        let objects = match (kind.as_str(), version.split('/').next().unwrap_or_default()) {
            ("Ingress", "networking.k8s.io") | ("Service", "v1") | ("ServersTransport", _) => {
                vec![read(document)?]
            }
            (kind, _) if kind.ends_with("List") => read::<List>(document)?.items,
            _ => Vec::new(),
        };
        for object in objects {
            let into = match object.kind.as_str() {
                "Ingress" => &mut self.ingresses,
                "Service" => &mut self.services,
                "ServersTransport" => &mut self.transports,
                _ => continue,
            };
            let before = document.line - 1;
            into.push(Found { file: Arc::clone(file), before, object });
        }
        Ok(())
    }
}

fn read<T: serde::de::DeserializeOwned>(document: yaml::Document<'_>) -> Result<T, Fault> {
    yaml::Reader::default().read(document)
}
