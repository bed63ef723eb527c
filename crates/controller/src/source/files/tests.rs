use std::{fs, os::unix::fs::symlink};

use tempfile::TempDir;

use super::*;

const ROUTE: &str = "
apiVersion: tidegate.io/v1alpha1
kind: WebSocketRoute
metadata: {name: chat}
spec:
  hostnames: [chat.example.com]
  rules:
  - backendRefs: [{name: chat, port: 8080}]
";

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 8080}}]}}\n"
    )
}

fn read(text: &str) -> (Inputs, Vec<String>) {
    let mut inputs = Inputs::default();
    let problems = parse_documents("a.yaml", text, &mut inputs);
    (inputs, problems.iter().map(ToString::to_string).collect())
}

fn names(inputs: &Inputs) -> Vec<String> {
    inputs.services.keys().map(ToString::to_string).collect()
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// Follows changes until `wanted` fits the snapshot.
async fn until(source: &mut FilesSource, wanted: impl Fn(&SourceState) -> bool) -> SourceState {
    let found = async {
        loop {
            let snapshot = source.snapshot().expect("a folder has been read at once");
            if wanted(&snapshot) {
                return snapshot;
            }
            source.changed().await;
        }
    };
    // Well before the next reading without a notice.
    tokio::time::timeout(Duration::from_secs(5), found).await.expect("the change was noticed")
}

fn services(snapshot: &SourceState) -> Vec<String> {
    names(&snapshot.inputs)
}

#[test]
fn every_kind_is_read_from_one_file() {
    let text = format!(
        "# A comment alone is no document.\n---\n{ROUTE}---\n{}---
apiVersion: v1
kind: Secret
metadata: {{name: tls, namespace: other, annotations: {{kubectl.kubernetes.io/last-applied-configuration: x}}}}
type: kubernetes.io/tls
data: {{tls.crt: YQ==, other: YQ==}}
stringData: {{tls.crt: b, tls.key: c}}
--- # with a comment
apiVersion: v1
kind: List
items:
- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: ca}}, data: {{ca.crt: x, more: y}}}}
- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: no-ca}}, data: {{more: y}}}}
- {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: s}}, addressType: IPv4, endpoints: []}}
- apiVersion: gateway.networking.k8s.io/v1beta1
  kind: ReferenceGrant
  metadata: {{name: g}}
  spec: {{from: [], to: []}}
- {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: chat}}}}
",
        service("chat")
    );
    let (inputs, problems) = read(&text);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(inputs.routes.len(), 1);
    assert_eq!(names(&inputs), ["default/chat"]);
    let (name, secret) = inputs.secrets.first_key_value().unwrap();
    assert_eq!(name.to_string(), "other/tls");
    assert_eq!(secret.metadata.annotations, None);
    let data: Vec<_> =
        secret.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice())).collect();
    assert_eq!(
        data,
        [("tls.crt", &b"b"[..]), ("tls.key", &b"c"[..])],
        "stringData wins, other keys are dropped"
    );
    let maps: Vec<_> =
        inputs.config_maps.iter().map(|(n, m)| (n.to_string(), m.data.clone().unwrap())).collect();
    assert_eq!(maps, [("default/ca".to_owned(), [("ca.crt".to_owned(), "x".to_owned())].into())]);
    assert_eq!(inputs.endpoint_slices.len(), 1);
    assert_eq!(inputs.reference_grants.map(|grants| grants.len()), Some(1));
}

#[test]
fn a_fault_names_file_document_line_and_object() {
    let broken = [
        ("key: [1,\n", "a.yaml, document 1, line"),
        (
            "apiVersion: v1\nkind: Secret\n",
            "a.yaml, document 1, line 1: Secret: metadata.name is missing",
        ),
        (
            "- a\n",
            "a.yaml, document 1, line 1: no Kubernetes object: apiVersion and kind are needed",
        ),
    ];
    for (text, expected) in broken {
        let (_, problems) = read(text);
        assert!(problems.len() == 1 && problems[0].starts_with(expected), "{text:?}: {problems:?}");
    }
    let cases = [
        (ROUTE.replace("hostnames", "hostname"), "spec.hostname: unknown field"),
        (ROUTE.replace("  hostnames: [chat.example.com]\n", ""), "spec.hostnames: is missing"),
        (
            ROUTE.replace("port: 8080", "port: 80800"),
            "spec.rules[0].backendRefs[0].port: 80800 is too great; the most is 65535",
        ),
        (ROUTE.replace("rules:", "timeout: 5s\n  rules:"), "spec.timeout: unknown field"),
        (
            ROUTE.replace("port: 8080", "port: 8080, wieght: 5"),
            "spec.rules[0].backendRefs[0].wieght: unknown field",
        ),
        (
            ROUTE.replace("chat.example.com", "\"*.*.example.com\""),
            "spec.hostnames: a hostname is lower-case DNS labels",
        ),
        (
            ROUTE.replace("v1alpha1", "v9"),
            "apiVersion tidegate.io/v9 is not known; write tidegate.io/v1alpha1",
        ),
    ];
    for (text, expected) in cases {
        let (inputs, problems) = read(&format!("{}---{text}", service("first")));
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{expected}: {problems:?}"
        );
        assert!(
            problems[0].starts_with("a.yaml, document 2, line 5: WebSocketRoute"),
            "{problems:?}"
        );
        assert!(inputs.routes.is_empty());
        assert_eq!(
            names(&inputs),
            ["default/first"],
            "a sound document is read beside a broken one"
        );
    }
}

#[test]
fn broken_yaml_names_its_line_in_the_file() {
    let text = format!("{}---\na: b\nc: d: e\n---\n{}", service("first"), service("last"));
    let (inputs, problems) = read(&text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("a.yaml, document 2, line 7: not YAML: "), "{problems:?}");
    assert_eq!(names(&inputs), ["default/first", "default/last"]);
}

#[test]
fn an_object_may_be_there_once() {
    let mut inputs = Inputs::default();
    assert_eq!(parse_documents("a.yaml", ROUTE, &mut inputs), []);
    let problems = parse_documents("b.yaml", &format!("{}---{ROUTE}", service("s")), &mut inputs);
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].to_string(),
        "b.yaml, document 2, line 5: WebSocketRoute default/chat is already in an earlier file, which is the one that \
         counts; remove one of them"
    );
    assert_eq!(inputs.routes.len(), 1);
}

#[tokio::test]
async fn a_missing_folder_is_an_error() {
    let folder = folder(&[]);
    let missing = folder.path().join("missing");
    let error = FilesSource::open(&missing).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot read the folder {}: ", missing.display())),
        "{error}"
    );
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(FilesSource::open(&file).is_err());
}

#[tokio::test]
async fn changes_are_followed() {
    let folder = folder(&[("a.yaml", &service("a")), ("ignored.txt", "{"), (".hidden.yaml", "{")]);
    let mut source = FilesSource::open(folder.path()).unwrap();
    assert_eq!(services(&source.snapshot().unwrap()), ["default/a"]);
    assert_eq!(source.synced(), [("files", true)]);
    fs::create_dir(folder.path().join("more")).unwrap();
    fs::write(folder.path().join("more/b.yml"), service("b")).unwrap();
    until(&mut source, |snapshot| services(snapshot) == ["default/a", "default/b"]).await;
    fs::write(folder.path().join("more/b.yml"), service("c")).unwrap();
    until(&mut source, |snapshot| services(snapshot) == ["default/a", "default/c"]).await;
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    until(&mut source, |snapshot| services(snapshot) == ["default/c"]).await;
}

#[tokio::test]
async fn a_broken_file_keeps_what_it_held_and_others_are_followed() {
    let folder = folder(&[("a.yaml", &service("a")), ("b.yaml", &service("b"))]);
    let mut source = FilesSource::open(folder.path()).unwrap();
    fs::write(folder.path().join("a.yaml"), "a: [").unwrap();
    fs::write(folder.path().join("b.yaml"), service("new")).unwrap();
    let snapshot = until(&mut source, |snapshot| {
        !snapshot.problems.is_empty() && services(snapshot) == ["default/a", "default/new"]
    })
    .await;
    assert_eq!(snapshot.problems.len(), 1);
    let problem = snapshot.problems[0].to_string();
    assert!(problem.starts_with("a.yaml, document 1, line 1: not YAML: "), "{problem}");
    assert!(
        problem.ends_with("; the objects of this file that were sound last stay in service"),
        "{problem}"
    );
    assert_eq!(source.synced(), [("files", false)]);
    fs::write(folder.path().join("a.yaml"), service("repaired")).unwrap();
    let snapshot = until(&mut source, |snapshot| snapshot.problems.is_empty()).await;
    assert_eq!(services(&snapshot), ["default/new", "default/repaired"]);
    assert_eq!(source.synced(), [("files", true)]);
}

#[tokio::test]
async fn of_a_file_that_is_broken_from_the_start_the_sound_documents_are_served() {
    let folder = folder(&[("a.yaml", &format!("{}---\nb: [", service("a")))]);
    let source = FilesSource::open(folder.path()).unwrap();
    let snapshot = source.snapshot().unwrap();
    assert_eq!((services(&snapshot), snapshot.problems.len()), (vec!["default/a".to_owned()], 1));
}

#[tokio::test]
async fn of_two_files_with_one_object_the_first_counts_until_it_is_gone() {
    let other = service("a").replace("8080", "9090");
    let folder = folder(&[("a.yaml", &service("a")), ("b.yaml", &other)]);
    let mut source = FilesSource::open(folder.path()).unwrap();
    let port = |snapshot: &SourceState| {
        let service = snapshot.inputs.services.values().next().unwrap();
        service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port
    };
    let snapshot = source.snapshot().unwrap();
    assert_eq!(port(&snapshot), 8080);
    let problem = snapshot.problems[0].to_string();
    assert_eq!(
        problem,
        "b.yaml, document 1, line 1: Service default/a is already in a.yaml, document 1, line 1, which is the one that \
         counts; remove one of them"
    );
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    let snapshot = until(&mut source, |snapshot| snapshot.problems.is_empty()).await;
    assert_eq!(port(&snapshot), 9090);
}

/// kubelet: files are links to `..data/NAME`, `..data` is a link to a folder, and is replaced as a whole.
#[tokio::test]
async fn a_mounted_config_map_is_followed() {
    let folder = folder(&[]);
    let root = folder.path();
    let version = |name: &str, content: &str| {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("a.yaml"), content).unwrap();
    };
    version("..2026_01", &service("a"));
    symlink("..2026_01", root.join("..data")).unwrap();
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    let mut source = FilesSource::open(root).unwrap();
    assert_eq!(services(&source.snapshot().unwrap()), ["default/a"], "each object once");
    version("..2026_02", &service("b"));
    symlink("..2026_02", root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    fs::remove_dir_all(root.join("..2026_01")).unwrap();
    until(&mut source, |snapshot| services(snapshot) == ["default/b"]).await;
}

#[tokio::test]
async fn a_folder_that_vanishes_leaves_its_last_state_and_may_come_back() {
    let outer = folder(&[]);
    let root = outer.path().join("routes");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), service("a")).unwrap();
    let mut source = FilesSource::open(&root).unwrap();
    fs::rename(&root, outer.path().join("elsewhere")).unwrap();
    fs::write(outer.path().join("elsewhere/a.yaml"), service("not-ours")).unwrap();
    let snapshot = until(&mut source, |snapshot| !snapshot.problems.is_empty()).await;
    assert_eq!(services(&snapshot), ["default/a"]);
    let problem = snapshot.problems[0].to_string();
    assert!(problem.ends_with("what it held last stays in service"), "{problem}");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), service("b")).unwrap();
    // Nobody tells of a folder made anew: it is found at the next reading.
    source.rescan = tokio::time::Instant::now();
    let snapshot = until(&mut source, |snapshot| services(snapshot) == ["default/b"]).await;
    assert!(snapshot.problems.is_empty());
    // And it is watched as the first one was.
    fs::write(root.join("a.yaml"), service("c")).unwrap();
    until(&mut source, |snapshot| services(snapshot) == ["default/c"]).await;
}

#[tokio::test]
async fn a_change_is_not_lost_when_nobody_waits_for_it_to_the_end() {
    let folder = folder(&[("a.yaml", &service("a"))]);
    let mut source = FilesSource::open(folder.path()).unwrap();
    fs::write(folder.path().join("a.yaml"), service("b")).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    // Dropped again and again within the pause after a notice.
    while services(&source.snapshot().unwrap()) != ["default/b"] {
        assert!(tokio::time::Instant::now() < deadline, "the change was lost");
        let _ = tokio::time::timeout(SETTLE / 2, source.changed()).await;
        if source.dirty {
            source.changed().await;
        }
    }
}

#[test]
fn namespaces_are_read_for_their_labels() {
    let mut inputs = Inputs::default();
    let text = "
apiVersion: v1
kind: Namespace
metadata: {name: chat, labels: {stage: live}}
---
apiVersion: v1
kind: Namespace
metadata: {name: plain}
";
    assert!(parse_documents("namespaces.yaml", text, &mut inputs).is_empty());
    let label = |namespace: &str, key: &str| inputs.namespace_labels[namespace].get(key).cloned();
    assert_eq!(label("chat", "stage").as_deref(), Some("live"));
    assert_eq!(label("plain", "kubernetes.io/metadata.name").as_deref(), Some("plain"));
    let twice = parse_documents("more.yaml", text, &mut inputs);
    assert_eq!(twice.len(), 2, "{twice:?}");
}

/// Whoever may write into the folder puts in what never answers and what never ends.
#[tokio::test]
async fn links_in_a_circle_and_a_pipe_do_not_stop_reloads() {
    let folder = folder(&[("a.yaml", &service("a"))]);
    let root = folder.path();
    for link in 0..6 {
        symlink(".", root.join(format!("l{link}"))).unwrap();
    }
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe.yaml"), mode).unwrap();
    let mut source = FilesSource::open(root).unwrap();
    let snapshot = source.snapshot().unwrap();
    assert_eq!(services(&snapshot), ["default/a"]);
    let problems: Vec<_> = snapshot.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 7, "{problems:?}");
    assert_eq!(
        problems[0],
        "l0/: is left out: it is the folder itself again, which is read once; remove the link"
    );
    assert_eq!(
        problems[6],
        "pipe.yaml: cannot be read: it is a pipe, not a file; nothing of this file is served"
    );
    fs::write(root.join("b.yaml"), service("b")).unwrap();
    until(&mut source, |snapshot| services(snapshot) == ["default/a", "default/b"]).await;
}

/// A pipe in the place of a file leaves in service what the file held.
#[tokio::test]
async fn a_file_that_becomes_a_pipe_keeps_what_it_held() {
    let folder = folder(&[("a.yaml", &service("a"))]);
    let path = folder.path().join("a.yaml");
    let mut source = FilesSource::open(folder.path()).unwrap();
    fs::remove_file(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
    let snapshot = until(&mut source, |snapshot| !snapshot.problems.is_empty()).await;
    assert_eq!(services(&snapshot), ["default/a"]);
}

/// What a link leads to is watched as well, and so is a folder that was put in the place of another.
#[tokio::test]
async fn folders_behind_links_are_followed() {
    let outer = folder(&[]);
    let [root, version] = ["root", "version"].map(|name| outer.path().join(name));
    for path in [&root, &version] {
        fs::create_dir(path).unwrap();
    }
    fs::write(version.join("a.yaml"), service("a")).unwrap();
    symlink(&version, root.join("link")).unwrap();
    let mut source = FilesSource::open(&root).unwrap();
    assert_eq!(services(&source.snapshot().unwrap()), ["default/a"]);
    fs::write(version.join("a.yaml"), service("b")).unwrap();
    until(&mut source, |snapshot| services(snapshot) == ["default/b"]).await;
    fs::remove_dir_all(&version).unwrap();
    until(&mut source, |snapshot| services(snapshot).is_empty()).await;
    fs::create_dir(&version).unwrap();
    fs::write(version.join("a.yaml"), service("c")).unwrap();
    source.rescan = tokio::time::Instant::now();
    until(&mut source, |snapshot| services(snapshot) == ["default/c"]).await;
    fs::write(version.join("a.yaml"), service("d")).unwrap();
    until(&mut source, |snapshot| services(snapshot) == ["default/d"]).await;
}
