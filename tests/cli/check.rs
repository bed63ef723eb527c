//! `tidegate check`: every outcome, from files, folders and standard input, as text and as JSON.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::program::*;

const ROUTE: &str = "apiVersion: tidegate.io/v1alpha1
kind: WebSocketRoute
metadata: {name: chat, namespace: chat}
spec:
  hostnames: [chat.example.com]
  rules:
  - backendRefs: [{name: chat, port: 8080}]
";

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: chat, namespace: chat}
spec: {selector: {app: chat}, ports: [{port: 8080}]}
";

/// A folder with these files.
fn files(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

/// `check` in this folder, which paths are then relative to.
fn check(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    run(&mut command(folder, arguments))
}

fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = tidegate();
    command.current_dir(folder.path()).arg("check").args(arguments);
    command
}

/// The report as JSON, and the exit code.
fn report(folder: &TempDir, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, out, err) = check(folder, &[&["--output", "json"], arguments].concat());
    assert_eq!(err, "");
    (code, serde_json::from_str(&out).unwrap())
}

fn condition<'r>(route: &'r Value, kind: &str) -> &'r Value {
    let conditions = route["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap()
}

fn messages(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["message"].as_str().unwrap()).collect()
}

#[test]
fn a_sound_route_with_all_that_it_refers_to_is_fine_and_nothing_else_is_said() {
    let folder = files(&[("all.yaml", &format!("{ROUTE}---\n{SERVICE}"))]);
    for arguments in [&["all.yaml"][..], &["--strict", "all.yaml"]] {
        let (code, out, err) = check(&folder, arguments);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        assert_eq!(
            out,
            "all.yaml:1: WebSocketRoute chat/chat
  Accepted          True   Accepted               The route is accepted.
  ResolvedRefs      True   ResolvedRefs           All references are resolved.
  Programmed        True   Programmed             The route is served as written.
ok: 1 route, 0 not as written; 0 errors; 0 notes
"
        );
    }
}

#[test]
fn a_reference_to_what_is_not_among_the_files_is_a_note_and_a_fault_only_if_asked() {
    let route = ROUTE.replace(
        "  rules:\n",
        "  tls: {secretRef: {name: tls, namespace: certificates}}\n  rules:\n  - matches: [{path: {value: /tls}}]\n    backendRefs: \
         [{name: secure, port: 443, tls: {caCertificateRef: {name: ca}}}, {name: secure, port: 443, tls: \
         {caCertificateRef: {kind: Secret, name: ca}}}]\n",
    );
    let folder = files(&[("route.yaml", &route)]);
    let (code, found) = report(&folder, &["route.yaml"]);
    assert_eq!((code, &found["ok"]), (Some(0), &Value::Bool(true)), "{found:#}");
    let route = &found["routes"][0];
    let notes: Vec<_> =
        route["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
    assert_eq!(
        notes,
        [
            "spec.tls.secretRef: Secret certificates/tls is not among the files; taken as a sound certificate for the \
             hostnames",
            "spec.tls.secretRef: no ReferenceGrant among the files lets WebSocketRoutes of namespace chat use Secret \
             certificates/tls; taken as granted",
            "spec.rules[0].backendRefs[0]: Service chat/secure is not among the files; taken to have port 443 with \
             appProtocol kubernetes.io/wss",
            "spec.rules[0].backendRefs[0].tls.caCertificateRef: ConfigMap chat/ca is not among the files; taken to hold an \
             authority",
            "spec.rules[0].backendRefs[1]: Service chat/secure is not among the files; taken to have port 443 with \
             appProtocol kubernetes.io/wss",
            "spec.rules[0].backendRefs[1].tls.caCertificateRef: Secret chat/ca is not among the files; taken to hold an \
             authority",
            "spec.rules[1].backendRefs[0]: Service chat/chat is not among the files; taken to have port 8080",
        ]
    );
    for condition in route["conditions"].as_array().unwrap() {
        assert_eq!(condition["status"], "True");
    }

    let (code, found) = report(&folder, &["--strict", "route.yaml"]);
    assert_eq!((code, &found["ok"]), (Some(1), &Value::Bool(false)));
    let route = &found["routes"][0];
    assert_eq!(route["notes"], Value::Array(Vec::new()), "nothing is taken for granted");
    assert_eq!(condition(route, "ResolvedRefs")["reason"], "RefNotPermitted");
    assert_eq!(condition(route, "Programmed")["status"], "False");
}

#[test]
fn what_is_among_the_files_is_judged_as_it_is() {
    let cases = [
        (
            SERVICE.replace("8080", "9090"),
            "BackendNotFound",
            "Service chat/chat has no port 8080; it has 9090.",
        ),
        (
            SERVICE.replace("port: 8080", "port: 8080, appProtocol: grpc"),
            "UnsupportedProtocol",
            "appProtocol grpc",
        ),
        (
            SERVICE.replace("port: 8080", "port: 8080, appProtocol: kubernetes.io/wss"),
            "InvalidBackendTLS",
            "tls does not say how",
        ),
    ];
    for (service, reason, message) in cases {
        let folder = files(&[("all.yaml", &format!("{ROUTE}---\n{service}"))]);
        let (code, found) = report(&folder, &["all.yaml"]);
        assert_eq!(code, Some(1), "{found:#}");
        let found = condition(&found["routes"][0], "ResolvedRefs");
        assert_eq!(found["reason"], reason);
        assert!(found["message"].as_str().unwrap().contains(message), "{found:#}");
    }
    // A ConfigMap that is there, but has no authority, is none that could be elsewhere.
    let route = ROUTE.replace("port: 8080", "port: 8080, tls: {caCertificateRef: {name: ca}}");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca, namespace: chat}\ndata: {root.pem: x}\n";
    let folder = files(&[("all.yaml", &format!("{route}---\n{map}"))]);
    let (code, found) = report(&folder, &["all.yaml"]);
    assert_eq!(code, Some(1));
    let found = condition(&found["routes"][0], "ResolvedRefs");
    assert!(found["message"].as_str().unwrap().contains("with the key ca.crt"), "{found:#}");
}

#[test]
fn a_service_without_selector_and_without_endpoints_is_told_but_no_failure() {
    let service = SERVICE.replace("selector: {app: chat}, ", "");
    let folder = files(&[("all.yaml", &format!("{ROUTE}---\n{service}"))]);
    let (code, found) = report(&folder, &["all.yaml"]);
    let programmed = condition(&found["routes"][0], "Programmed");
    assert!(programmed["message"].as_str().unwrap().contains("no ready endpoint"), "{found:#}");
    assert_eq!(code, Some(0));
}

#[test]
fn what_the_api_server_would_refuse_is_named_with_file_line_and_field() {
    let broken = ROUTE
        .replace(
            "hostnames: [chat.example.com]",
            "hostnames: [\"*.*.example.com\"]\n  plaintxt: Allow",
        )
        .replace("port: 8080", "port: 80800");
    let folder = files(&[("a.yaml", &format!("{SERVICE}---\n{broken}"))]);
    let (code, out, _) = check(&folder, &["a.yaml"]);
    assert_eq!(code, Some(1));
    let lines: Vec<_> = out.lines().collect();
    assert!(
        lines[0]
            .starts_with("a.yaml:5: error: WebSocketRoute chat/chat: spec.plaintxt: unknown field"),
        "{out}"
    );
    assert!(out.contains("spec.rules[0].backendRefs[0].port: 80800 is too great"), "{out}");
    assert!(
        out.contains("error: WebSocketRoute chat/chat: spec.hostnames: a hostname is"),
        "{out}"
    );
    assert!(out.ends_with("failed: 0 routes, 0 not as written; 3 errors; 1 note\n"), "{out}");
    let (_, found) = report(&folder, &["a.yaml"]);
    assert_eq!(found["errors"][0]["document"], 2);
    assert_eq!(found["errors"][0]["line"], 5);
}

#[test]
fn routes_that_want_the_same_are_in_conflict_and_the_conditions_name_the_winner() {
    let other = ROUTE.replace("name: chat, namespace", "name: other, namespace");
    let folder = files(&[("a.yaml", ROUTE), ("more/b.yml", &other), ("c.yaml", SERVICE)]);
    let (code, found) = report(&folder, &["."]);
    assert_eq!(code, Some(1));
    let [won, lost] = found["routes"].as_array().unwrap().as_slice() else { panic!("{found:#}") };
    assert_eq!((&won["name"], &won["ok"]), (&"chat".into(), &true.into()));
    assert_eq!((&lost["name"], &lost["ok"]), (&"other".into(), &false.into()));
    assert_eq!(lost["file"], "./more/b.yml");
    let accepted = condition(lost, "Accepted");
    assert_eq!(accepted["reason"], "Conflicted");
    assert!(accepted["message"].as_str().unwrap().contains("belongs to route chat/chat"));
}

#[test]
fn a_route_that_is_served_in_part_is_a_failure() {
    let rules = "  - backendRefs: [{name: chat, port: 8080}]\n  - backendRefs: [{name: chat, port: 8080}]\n";
    let twice = ROUTE.replace("  - backendRefs: [{name: chat, port: 8080}]\n", rules);
    let folder = files(&[("a.yaml", &format!("{twice}---\n{SERVICE}"))]);
    let (code, found) = report(&folder, &["a.yaml"]);
    assert_eq!(code, Some(1));
    let route = &found["routes"][0];
    assert_eq!(condition(route, "Accepted")["status"], "True");
    assert_eq!(condition(route, "PartiallyInvalid")["status"], "True");
    assert_eq!(route["ok"], false);
}

#[test]
fn an_object_that_is_there_twice_is_an_error_but_a_file_that_is_named_twice_is_read_once() {
    let folder = files(&[("a.yaml", ROUTE), ("b.yaml", ROUTE)]);
    let (code, found) = report(&folder, &["a.yaml", "./a.yaml", "."]);
    assert_eq!(code, Some(1));
    assert_eq!(
        messages(&found["errors"]),
        [
            "WebSocketRoute chat/chat is already in a.yaml, document 1, line 1, which is the one that counts; remove one of them"
        ]
    );
    assert_eq!(found["errors"][0]["file"], "./b.yaml");
    assert_eq!(report(&folder, &["a.yaml", "./a.yaml"]).0, Some(0));
}

#[test]
fn standard_input_is_read_and_a_status_in_it_is_not_looked_at() {
    let folder = files(&[]);
    let mut child =
        command(&folder, &["-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let text = format!("{ROUTE}status: {{conditions: 7}}\n---\n{SERVICE}");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{out}");
    assert!(out.starts_with("-:1: WebSocketRoute chat/chat\n"), "{out}");
}

#[test]
fn what_cannot_be_read_is_named_and_has_an_exit_code_of_its_own() {
    let folder = files(&[("a.yaml", ROUTE)]);
    fs::write(inside(&folder, "b.yaml"), b"\xff\xfe").unwrap();
    for (path, named) in [("nowhere.yaml", "nowhere.yaml"), ("b.yaml", "b.yaml"), (".", "./b.yaml")]
    {
        let (code, out, _) = check(&folder, &["a.yaml", path]);
        assert_eq!(code, Some(2), "{out}");
        assert!(out.contains(&format!("{named}: error: cannot be read: ")), "{out}");
        assert!(
            out.contains("a.yaml:1: WebSocketRoute chat/chat\n"),
            "the others are judged: {out}"
        );
    }
    let (code, _, err) = check(&folder, &[]);
    assert_eq!(code, Some(2));
    assert!(err.contains("<FILE|DIR|->..."), "{err}");
}

#[test]
fn text_that_is_no_manifest_is_an_error_with_its_line() {
    let folder = files(&[("a.yaml", &format!("{ROUTE}---\na: b\nc: d: e\n")), ("b.yaml", "- a\n")]);
    let (code, found) = report(&folder, &["a.yaml", "b.yaml"]);
    assert_eq!(code, Some(1));
    let errors = found["errors"].as_array().unwrap();
    assert_eq!((&errors[0]["line"], &errors[0]["document"]), (&10.into(), &2.into()));
    assert!(errors[0]["message"].as_str().unwrap().starts_with("not YAML: "));
    assert!(errors[1]["message"].as_str().unwrap().starts_with("no Kubernetes object"));
    assert_eq!(found["routes"].as_array().unwrap().len(), 1, "the sound document is judged");
}

#[test]
fn unknown_fields_of_other_kinds_are_notes() {
    let service = SERVICE.replace("port: 8080", "port: 8080, prot: TCP");
    let folder = files(&[("a.yaml", &format!("{ROUTE}---\n{service}"))]);
    let (code, out, _) = check(&folder, &["a.yaml"]);
    assert_eq!(code, Some(0));
    assert!(
        out.contains("a.yaml:8: note: Service chat/chat: spec.ports[0].prot: unknown field\n"),
        "{out}"
    );
    assert_eq!(check(&folder, &["--strict", "a.yaml"]).0, Some(1));
}

#[test]
fn routes_of_several_classes_are_each_judged_among_their_own() {
    let other = ROUTE
        .replace("name: chat, namespace", "name: other, namespace")
        .replace("spec:", "spec:\n  className: internal");
    let folder = files(&[("a.yaml", ROUTE), ("b.yaml", &other)]);
    let (code, found) = report(&folder, &["."]);
    assert_eq!(code, Some(0), "no conflict between classes: {found:#}");
    assert_eq!(found["routes"][1]["className"], "internal");

    let (code, found) = report(&folder, &["--class", "internal", "."]);
    assert_eq!(code, Some(0));
    assert_eq!(found["routes"].as_array().unwrap().len(), 1);
    assert_eq!(
        messages(&found["notes"]),
        ["WebSocketRoute chat/chat: was not judged, as its spec.className is \"tidegate\""]
    );
    let (code, found) = report(&folder, &["--class", "none", "."]);
    assert_eq!(code, Some(0));
    assert!(messages(&found["notes"]).contains(&"no WebSocketRoute of class \"none\" was judged"));
    let strict =
        run(command(&folder, &["--class", "none", "."]).env("TIDEGATE_CHECK_STRICT", "true"));
    assert_eq!(strict.0, Some(1), "a folder without routes is no success where notes count");
}

#[test]
fn kinds_that_do_not_concern_it_are_left_out() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: chat}\nspec: 7\n";
    let folder = files(&[("a.yaml", &format!("{ROUTE}---\n{SERVICE}---\n{deployment}"))]);
    assert_eq!(check(&folder, &["--strict", "."]).0, Some(0));
}

#[test]
fn the_samples_of_this_repository_are_fine() {
    let folder = files(&[]);
    let samples = format!("{}/manifests/samples", env!("CARGO_MANIFEST_DIR"));
    let (code, out, _) = check(&folder, &[&samples]);
    assert_eq!(code, Some(0), "{out}");
}

/// Links in a circle and a pipe among the files: told, and the rest is judged.
#[test]
fn a_folder_is_read_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(
        root.join("service.yaml"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: \"a\\e[2J\"}\n",
    )
    .unwrap();
    for link in 0..6 {
        std::os::unix::fs::symlink(".", root.join(format!("l{link}"))).unwrap();
    }
    let (_, text, _) = run(tidegate().arg("check").arg(root));
    assert_eq!(
        text.matches("note: ").count() - text.matches("no WebSocketRoute").count(),
        6,
        "{text}"
    );
    assert!(text.contains("is left out: it is the folder itself again"), "{text}");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe.yaml"), mode).unwrap();
    let (code, text, _) = run(tidegate().arg("check").arg(root));
    assert_eq!(code, Some(2));
    assert!(text.contains("pipe.yaml: error: cannot be read: it is a pipe, not a file"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
}
