//! From the YAML of a case to inputs.
//!
//! More lenient than the file source, on purpose: a case may hold what neither the API server nor the file source would
//! let through, as translation must stand that too (objects stored under an older schema).

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tidegate::{
    api::RouteAddress,
    source::hostname_policy,
    table::ObjectRef,
    translate::{Inputs, RouteInput, SecretAccess, Unread},
};

/// The objects of a multi-document YAML. ReferenceGrants are an installed kind unless the text has the line
/// `# ReferenceGrant is not installed`; each line `# Reached at ADDRESS` is one more address of the gateway.
/// Lines that begin with `#| ` are the hostname policy.
/// `# Watched are NAMESPACE, …` leaves the other namespaces unread, `# ReferenceGrant may not be read` what its name says.
pub(crate) fn parse(text: &str) -> Result<Inputs, String> {
    let mut inputs = Inputs::default();
    if !text.lines().any(|line| line == "# ReferenceGrant is not installed") {
        inputs.reference_grants = Some(Vec::new());
    }
    inputs.reference_grants_forbidden =
        text.lines().any(|line| line == "# ReferenceGrant may not be read");
    let watched = text.lines().find_map(|line| line.strip_prefix("# Watched are "));
    let names = |text: &str| text.split(", ").map(str::to_owned).collect();
    inputs.namespaces = watched.map(|text| Arc::new(names(text)));
    let addresses = text.lines().filter_map(|line| line.strip_prefix("# Reached at "));
    inputs.addresses = Some(addresses.map(RouteAddress::new).collect());
    let policy: String = text
        .lines()
        .filter_map(|line| line.strip_prefix("#| "))
        .map(|line| format!("{line}\n"))
        .collect();
    if !policy.is_empty() {
        let policy = hostname_policy::parse(&policy).map_err(|fault| fault.message)?;
        inputs.hostname_policy = Some(Arc::new(policy));
    }
    let line = |prefix| text.lines().filter_map(move |line: &str| line.strip_prefix(prefix));
    if let Some(selector) = line("# Secrets are read by labels: ").next() {
        inputs.secret_access = SecretAccess::Labelled(selector.to_owned());
    }
    for unread in line("# Secrets are read by name, not ") {
        let (name, why) = unread.split_once(' ').ok_or("a name, and why")?;
        let (namespace, name) = name.split_once('/').ok_or("a namespace and a name")?;
        let why = match why {
            "pending" => Unread::Pending,
            "beyond" => Unread::Beyond,
            user => Unread::Forbidden(user.strip_prefix("by ").map(str::to_owned)),
        };
        let name = ObjectRef { namespace: namespace.to_owned(), name: name.to_owned() };
        match &mut inputs.secret_access {
            SecretAccess::Referenced(unread) => drop(unread.insert(name, why)),
            access => *access = SecretAccess::Referenced([(name, why)].into()),
        }
    }
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    for (index, document) in documents.into_iter().enumerate() {
        add(document, &mut inputs).map_err(|error| format!("document {}: {error}", index + 1))?;
    }
    Ok(inputs)
}

fn add(document: Value, inputs: &mut Inputs) -> Result<(), String> {
    let kind = document["kind"].as_str().ok_or("no kind")?.to_owned();
    let text = |field: &str| document["metadata"][field].as_str().map(str::to_owned);
    let name = ObjectRef {
        namespace: match kind.as_str() {
            "Namespace" => String::new(),
            _ => text("namespace").ok_or("no metadata.namespace")?,
        },
        name: text("name").ok_or("no metadata.name")?,
    };
    match kind.as_str() {
        "WebSocketRoute" => inputs.routes.push(match read(document.clone()) {
            Ok(route) => RouteInput::Valid(route),
            Err(error) => RouteInput::Unreadable {
                metadata: read(document["metadata"].clone())?,
                class_name: None,
                error,
            },
        }),
        "Secret" => {
            let mut secret: k8s_openapi::api::core::v1::Secret =
                serde_json::from_value(document).map_err(|error| error.to_string())?;
            for (key, value) in secret.string_data.take().unwrap_or_default() {
                let value = k8s_openapi::ByteString(value.into_bytes());
                secret.data.get_or_insert_default().insert(key, value);
            }
            inputs.secrets.insert(name, Arc::new(secret));
        }
        "ConfigMap" => {
            inputs.config_maps.insert(name, read(document)?);
        }
        "Service" => {
            inputs.services.insert(name, read(document)?);
        }
        "Namespace" => {
            let labels = serde_json::from_value(document["metadata"]["labels"].clone());
            let labels = labels.map_err(|error| error.to_string())?;
            inputs.namespace_labels.insert(name.name, labels);
        }
        "EndpointSlice" => inputs.endpoint_slices.push(read(document)?),
        "ReferenceGrant" => match &mut inputs.reference_grants {
            Some(grants) => grants.push(read(document)?),
            None => return Err("a ReferenceGrant, though the kind is not installed".into()),
        },
        other => return Err(format!("kind {other} means nothing here")),
    }
    Ok(())
}

fn read<T: DeserializeOwned>(document: Value) -> Result<Arc<T>, String> {
    serde_json::from_value(document).map(Arc::new).map_err(|error| error.to_string())
}
