//! `tidegate import` as it is typed: options, exit codes, files.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use super::{text, tidegate};

const SERVER: &str = "server { listen 443 ssl; server_name chat.example.com;\nssl_certificate tls/chat.pem; ssl_certificate_key tls/chat.key;\n\
    location /ws/ { proxy_pass http://10.0.0.1:80; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;\n\
    proxy_set_header Connection upgrade; proxy_set_header Host $host; }\n}\n";

/// A folder with this nginx.conf and the certificate that it names.
fn folder(conf: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("tls")).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["chat.example.com".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    fs::write(folder.path().join("tls/chat.pem"), certificate.pem()).unwrap();
    fs::write(folder.path().join("tls/chat.key"), key.serialize_pem()).unwrap();
    fs::write(folder.path().join("nginx.conf"), conf).unwrap();
    folder
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[test]
fn options_are_heeded() {
    let folder = folder(SERVER);
    let output = tidegate(
        folder.path(),
        &["import", "nginx.conf", "--namespace", "chat", "--class", "edge"],
    );
    assert_eq!(code(&output), Some(0), "{}", text(&output.stderr));
    let manifests = text(&output.stdout);
    assert_eq!(manifests.matches("  namespace: chat\n").count(), 3, "{manifests}");
    assert!(manifests.contains("  className: edge\n"), "{manifests}");
    assert!(!manifests.contains("kind: Secret"), "{manifests}");
    assert!(
        text(&output.stderr)
            .contains("kubectl create secret tls chat-example-com-tls --namespace chat")
    );
}

#[test]
fn secrets_are_written_where_they_are_asked_for_and_for_their_owner_alone() {
    let folder = folder(SERVER);
    let args = ["import", "nginx.conf", "--secrets", "--output", "made"];
    let output = tidegate(folder.path(), &args);
    assert_eq!(code(&output), Some(0), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
    let secrets = folder.path().join("made/secrets.yaml");
    assert_eq!(fs::metadata(&secrets).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&secrets).unwrap().contains("BEGIN PRIVATE KEY"));
    for file in ["routes.yaml", "services.yaml"] {
        assert!(
            !fs::read_to_string(folder.path().join("made").join(file)).unwrap().contains("PRIVATE")
        );
    }
    let checked = tidegate(folder.path(), &["check", "--strict", "made"]);
    assert_eq!(code(&checked), Some(0), "{}", text(&checked.stdout));

    // Nothing is written over.
    let again = tidegate(folder.path(), &args);
    assert_eq!(code(&again), Some(1));
    assert!(
        text(&again.stderr).contains("made/routes.yaml is there already"),
        "{}",
        text(&again.stderr)
    );
}

#[test]
fn strict_fails_where_something_is_lost_and_only_there() {
    let kept = folder(SERVER);
    assert_eq!(code(&tidegate(kept.path(), &["import", "--strict", "nginx.conf"])), Some(0));
    let lost = folder(&SERVER.replace("location", "add_header X-A b;\nlocation"));
    assert_eq!(code(&tidegate(lost.path(), &["import", "nginx.conf"])), Some(0));
    let output = tidegate(lost.path(), &["import", "--strict", "nginx.conf"]);
    assert_eq!(code(&output), Some(3));
    let said = text(&output.stderr);
    assert!(said.contains("nginx.conf:3: no counterpart: add_header X-A b: "), "{said}");
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_imported() {
    let folder = folder(&format!("{SERVER}include sites/*.conf;\ninclude gone.conf;\n"));
    fs::create_dir(folder.path().join("sites")).unwrap();
    fs::write(folder.path().join("sites/bad.conf"), "server {\n").unwrap();
    let output = tidegate(folder.path(), &["import", "nginx.conf", "missing.conf", "tls"]);
    assert_eq!(code(&output), Some(1));
    let said = text(&output.stderr);
    for part in [
        "error: missing.conf: cannot be read: ",
        "error: tls: cannot be read: it is a folder",
        "error: sites/bad.conf:1: the block that begins here is not closed by \"}\" (included at nginx.conf:6)",
        "error: nginx.conf:7: include gone.conf: there is no such file",
        "imported: 1 WebSocketRoute, 1 Service, 0 Secrets",
    ] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
    assert!(text(&output.stdout).contains("kind: WebSocketRoute"));
}

#[test]
fn a_file_that_includes_itself_comes_to_an_end() {
    let folder = folder("include nginx.conf;\n");
    let output = tidegate(folder.path(), &["import", "nginx.conf"]);
    assert_eq!(code(&output), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("files include each other more than 12 deep"), "{said}");
}

#[test]
fn nothing_to_import_is_a_failure() {
    let folder = folder("http { server { listen 80; root /var/www; } }\n");
    let output = tidegate(folder.path(), &["import", "nginx.conf"]);
    assert_eq!(code(&output), Some(1));
    assert!(output.stdout.starts_with(b"#"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("has no location for WebSockets"));
}

#[test]
fn the_output_of_nginx_comes_in_by_standard_input() {
    let folder = folder("");
    let dump = format!(
        "nginx: configuration file /etc/nginx/nginx.conf test is successful\n# configuration file /etc/nginx/nginx.conf:\n\
         http {{ include /etc/nginx/conf.d/*.conf; }}\n\n# configuration file /etc/nginx/conf.d/chat.conf:\n{SERVER}"
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["import", "-"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(dump.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("- name: ws    # /etc/nginx/conf.d/chat.conf:3\n"));
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let folder = folder(SERVER);
    for args in [
        &["import"][..],
        &["import", "nginx.conf", "--namespace", "Not_One"],
        &["import", "nginx.conf", "--hostname", "10.0.0.1"],
    ] {
        assert_eq!(code(&tidegate(folder.path(), args)), Some(2), "{args:?}");
    }
}
