//! The last good inputs on disk, for a start while the API server is away.
//!
//! One JSON file of what translation reads, written whole and put in its place by renaming, readable for its owner alone.
//! Private keys are left out unless asked for. This room knows how to keep inputs; when is `control`'s to say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret, Service},
    discovery::v1::EndpointSlice,
};
use serde::{Deserialize, Serialize};
use tidegate_api::{ReferenceGrant, WebSocketRoute};
use tidegate_table::ObjectRef;

use super::reference;
use crate::translate::{Inputs, RouteInput, SecretAccess};

/// The file in the folder.
const FILE: &str = "tidegate-snapshot.json";
/// It, before it is complete.
const INCOMPLETE: &str = ".tidegate-snapshot.json.incomplete";
/// What the file's content is; another version is not read.
const FORMAT: &str = "tidegate.io/snapshot/v1";
/// Who may read it: its owner.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// A folder that holds the last good inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFolder {
    /// Where; it is made if it is not there.
    pub folder: PathBuf,
    /// Whether private keys are kept too. Without them, certificates cannot be served from it.
    pub secrets: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    format: String,
    routes: Vec<Arc<WebSocketRoute>>,
    secrets: Vec<Arc<Secret>>,
    config_maps: Vec<Arc<ConfigMap>>,
    services: Vec<Arc<Service>>,
    endpoint_slices: Vec<Arc<EndpointSlice>>,
    /// `None` where the kind is not installed.
    reference_grants: Option<Vec<Arc<ReferenceGrant>>>,
    reference_grants_forbidden: bool,
    namespaces: Option<Arc<BTreeSet<String>>>,
    #[serde(default)]
    namespace_labels: BTreeMap<String, BTreeMap<String, String>>,
    /// Secrets whose key belonged to the certificate: of those that are kept without, the one thing that is known of it. Who
    /// holds a hostname depends on it.
    #[serde(default)]
    withheld_keys: BTreeSet<ObjectRefContent>,
    /// The labels that Secrets were read by, if they were.
    #[serde(default)]
    secret_selector: Option<String>,
}

/// Namespace and name.
type ObjectRefContent = (String, String);

impl SnapshotFolder {
    /// What is kept of `inputs`: equal bytes for equal inputs. Routes that could not be read are not served, so not kept.
    pub fn content(&self, inputs: &Inputs) -> io::Result<Vec<u8>> {
        let routes = inputs.routes.iter().filter_map(|route| match route {
            RouteInput::Valid(route) => Some(Arc::clone(route)),
            RouteInput::Unreadable { .. } => None,
        });
        let secrets = inputs.secrets.values().map(|secret| match self.secrets {
            true => Arc::clone(secret),
            false => Arc::new(without_key(secret)),
        });
        let content = Content {
            format: FORMAT.to_owned(),
            routes: routes.collect(),
            secrets: secrets.collect(),
            config_maps: inputs.config_maps.values().cloned().collect(),
            services: inputs.services.values().cloned().collect(),
            endpoint_slices: inputs.endpoint_slices.clone(),
            reference_grants: inputs.reference_grants.clone(),
            reference_grants_forbidden: inputs.reference_grants_forbidden,
            namespaces: inputs.namespaces.clone(),
            namespace_labels: inputs.namespace_labels.clone(),
            withheld_keys: match self.secrets {
                true => BTreeSet::new(),
                false => inputs
                    .secrets_with_keys()
                    .into_iter()
                    .map(|ObjectRef { namespace, name }| (namespace, name))
                    .collect(),
            },
            secret_selector: match &inputs.secret_access {
                SecretAccess::Labelled(selector) => Some(selector.clone()),
                SecretAccess::All | SecretAccess::Referenced(_) => None,
            },
        };
        Ok(serde_json::to_vec(&content)?)
    }

    /// Puts `content` in the place of what was kept before. Whoever reads meanwhile, or after a crash, finds the one or the
    /// other whole.
    pub fn keep(&self, content: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.folder)?;
        let incomplete = self.folder.join(INCOMPLETE);
        // One that a crash has left may be anyone's to read: the mode counts for new files only.
        match fs::remove_file(&incomplete) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(FILE_MODE).open(&incomplete)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&incomplete, self.folder.join(FILE))
    }

    /// What was kept, and when; `None` where nothing was. Fails where the file cannot be read, or is none of ours.
    pub fn load(&self) -> io::Result<Option<(Inputs, jiff::Timestamp)>> {
        let path = self.folder.join(FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let kept = fs::metadata(&path)?.modified()?;
        let kept = jiff::Timestamp::try_from(kept).map_err(io::Error::other)?;
        let content: Content = serde_json::from_slice(&text)?;
        if content.format != FORMAT {
            return Err(io::Error::other(format!("it is of the format {:?}", content.format)));
        }
        let inputs = Inputs {
            routes: content.routes.into_iter().map(RouteInput::Valid).collect(),
            secrets: content.secrets.into_iter().map(|s| (reference(&s.metadata), s)).collect(),
            config_maps: content
                .config_maps
                .into_iter()
                .map(|m| (reference(&m.metadata), m))
                .collect(),
            services: content.services.into_iter().map(|s| (reference(&s.metadata), s)).collect(),
            endpoint_slices: content.endpoint_slices,
            reference_grants: content.reference_grants,
            reference_grants_forbidden: content.reference_grants_forbidden,
            namespaces: content.namespaces,
            // A file of this machine, which is read at each start.
            hostname_policy: None,
            namespace_labels: content.namespace_labels,
            withheld_keys: content
                .withheld_keys
                .into_iter()
                .map(|(namespace, name)| ObjectRef { namespace, name })
                .collect(),
            secret_access: content
                .secret_selector
                .map_or(SecretAccess::All, SecretAccess::Labelled),
            // No status is written of it.
            addresses: None,
            now: None,
        };
        Ok(Some((inputs, kept)))
    }
}

fn without_key(secret: &Secret) -> Secret {
    let mut secret = secret.clone();
    if let Some(data) = &mut secret.data {
        data.remove("tls.key");
    }
    secret
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;
    use tidegate_api::{HostnameDefault, HostnamePolicy};

    use super::*;
    use crate::{
        source::files::parse_documents,
        translate::{Output, translate},
    };

    fn inputs() -> Inputs {
        let mut inputs = Inputs { reference_grants: Some(Vec::new()), ..Inputs::default() };
        let text = "
apiVersion: tidegate.io/v1alpha1
kind: WebSocketRoute
metadata: {name: chat, namespace: chat}
spec:
  hostnames: [chat.example.com]
  rules: [{backendRefs: [{name: chat, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: chat, namespace: chat}
spec: {ports: [{name: ws, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: chat-1, namespace: chat, labels: {kubernetes.io/service-name: chat}}
addressType: IPv4
ports: [{name: ws, port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]
";
        assert!(parse_documents("chat.yaml", text, &mut inputs).is_empty());
        let secret = json!({
            "metadata": { "namespace": "chat", "name": "kept" }, "type": "kubernetes.io/tls",
            "data": { "tls.crt": "Y2VydA==", "tls.key": "c2VjcmV0" },
        });
        let secret: Secret = serde_json::from_value(secret).unwrap();
        inputs.secrets.insert(reference(&secret.metadata), Arc::new(secret));
        inputs
    }

    fn translated(inputs: &Inputs) -> Output {
        translate(inputs, "tidegate")
    }

    #[test]
    fn what_is_kept_translates_to_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let folder = SnapshotFolder { folder: folder.path().join("made"), secrets: true };
        assert!(folder.load().unwrap().is_none());
        let inputs = inputs();
        let content = folder.content(&inputs).unwrap();
        folder.keep(&content).unwrap();
        let (loaded, _) = folder.load().unwrap().expect("it was kept");
        assert_eq!(translated(&loaded), translated(&inputs));
        assert_eq!(folder.content(&loaded).unwrap(), content);
        assert!(!translated(&inputs).statuses.is_empty());
    }

    /// Who holds a hostname depends on keys, which are not kept: that they were there is.
    #[test]
    fn without_keys_every_hostname_stays_with_its_owner() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let policy = Arc::new(HostnamePolicy {
            default: HostnameDefault::Contest,
            rules: Vec::new(),
            authorities: Some(authority.pem().into()),
        });
        let mut inputs = Inputs { hostname_policy: Some(Arc::clone(&policy)), ..Inputs::default() };
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["pay.bank.test".to_owned()]).unwrap();
        let chain = params.signed_by(&key, &authority).unwrap().pem();
        let other = rcgen::KeyPair::generate().unwrap();
        // The chain is public: b has it too, and longer than a, but not its key.
        for (namespace, key, year) in [("a", &key, 2025), ("b", &other, 2024)] {
            let created = format!("{year}-01-01T00:00:00Z");
            let metadata =
                json!({ "namespace": namespace, "name": "pay", "creationTimestamp": created });
            let secret: Secret = serde_json::from_value(json!({
                "metadata": metadata, "type": "kubernetes.io/tls", "data": {
                    "tls.crt": k8s_openapi::ByteString(chain.clone().into_bytes()),
                    "tls.key": k8s_openapi::ByteString(key.serialize_pem().into_bytes()),
                },
            }))
            .unwrap();
            inputs.secrets.insert(reference(&secret.metadata), Arc::new(secret));
            let route: WebSocketRoute = serde_json::from_value(json!({
                "apiVersion": "tidegate.io/v1alpha1", "kind": "WebSocketRoute", "metadata": metadata,
                "spec": {
                    "hostnames": ["pay.bank.test"], "tls": { "secretName": "pay" },
                    "rules": [{ "backendRefs": [{ "name": "pay", "port": 80 }] }],
                },
            }))
            .unwrap();
            inputs.routes.push(RouteInput::Valid(Arc::new(route)));
        }
        let owner =
            |inputs: &Inputs| translated(inputs).table.host("pay.bank.test").unwrap().owner.clone();
        assert_eq!(&*owner(&inputs), "a");
        let place = tempfile::tempdir().unwrap();
        let folder = SnapshotFolder { folder: place.path().to_owned(), secrets: false };
        folder.keep(&folder.content(&inputs).unwrap()).unwrap();
        let (mut kept, _) = folder.load().unwrap().unwrap();
        assert!(kept.hostname_policy.is_none(), "it is read at each start");
        kept.hostname_policy = Some(policy);
        assert_eq!(&*owner(&kept), "a");
        // Kept once more, as it is while the API server is away.
        assert_eq!(
            kept.secrets_with_keys(),
            [ObjectRef { namespace: "a".into(), name: "pay".into() }].into()
        );
    }

    #[test]
    fn private_keys_are_kept_only_when_asked_for() {
        let mut folder = SnapshotFolder { folder: PathBuf::new(), secrets: false };
        let content = String::from_utf8(folder.content(&inputs()).unwrap()).unwrap();
        assert!(content.contains("Y2VydA==") && !content.contains("c2VjcmV0"), "{content}");
        assert!(!content.contains("tls.key"));
        folder.secrets = true;
        let content = String::from_utf8(folder.content(&inputs()).unwrap()).unwrap();
        assert!(content.contains("c2VjcmV0"));
    }

    #[test]
    fn only_the_owner_may_read_it_whatever_was_there() {
        let place = tempfile::tempdir().unwrap();
        let folder = SnapshotFolder { folder: place.path().join("made"), secrets: false };
        folder.keep(b"{}").unwrap();
        // What a crash has left, for everyone to read.
        fs::write(folder.folder.join(INCOMPLETE), "half").unwrap();
        folder.keep(b"{}").unwrap();
        let mode =
            |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.folder.join(FILE)), FILE_MODE);
        assert_eq!(mode(&folder.folder), FOLDER_MODE);
        assert_eq!(fs::read_dir(&folder.folder).unwrap().count(), 1);
        assert!(folder.load().is_err(), "it is none of ours");
    }
}
