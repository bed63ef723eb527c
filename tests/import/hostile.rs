//! Configurations of others: what they name, and what they say, harms nobody who imports them.

use std::{fs, os::unix::fs::symlink, path::Path};

use tempfile::TempDir;

use super::{text, tidegate};

/// A folder with this nginx.conf.
fn folder(conf: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("nginx.conf"), conf).unwrap();
    folder
}

/// What is said of it on standard error, and what comes of it.
#[track_caller]
fn imported(folder: &Path) -> (String, String) {
    let output = tidegate(folder, &["import", "nginx.conf"]);
    (text(&output.stderr).to_owned(), text(&output.stdout).to_owned())
}

#[test]
fn an_include_that_is_no_file_is_told_at_once() {
    let folder = folder("include pipe;\ninclude zero;\ninclude sub;\ninclude p*;\n");
    let path = |name: &str| folder.path().join(name);
    rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RUSR).unwrap();
    symlink("/dev/zero", path("zero")).unwrap();
    fs::create_dir(path("sub")).unwrap();
    let (said, _) = imported(folder.path());
    for part in [
        "error: pipe: cannot be read: it is a pipe, not a file (included at nginx.conf:1)",
        "error: zero: cannot be read: it is a device, not a file (included at nginx.conf:2)",
        "error: sub: cannot be read: it is a folder, not a file (included at nginx.conf:3)",
        "error: pipe: cannot be read: it is a pipe, not a file (included at nginx.conf:4)",
    ] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
}

#[test]
fn a_pattern_for_the_whole_machine_is_refused() {
    let folder = folder("include /*/*/*/*;\n");
    let (said, _) = imported(folder.path());
    assert!(said.contains("name them more closely"), "{said}");
    assert!(said.lines().count() < 5, "{said}");
}

#[test]
fn a_pattern_stands_for_so_many_files_and_no_more() {
    let folder = folder("include d*/*;\n");
    for number in 0..41 {
        let inner = folder.path().join(format!("d{number}"));
        fs::create_dir(&inner).unwrap();
        for file in 0..50 {
            fs::write(inner.join(format!("{file}.conf")), "").unwrap();
        }
    }
    let (said, _) = imported(folder.path());
    assert!(said.contains("include d*/*: more than 2000 files fit"), "{said}");
}

#[test]
fn includes_without_end_are_given_up_and_told_once() {
    let folder = folder(&"include a;\n".repeat(50_000));
    fs::write(folder.path().join("a"), "").unwrap();
    let (said, _) = imported(folder.path());
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(said.contains("more than 32 MiB or 2000 files are included"), "{said}");
    let folder = self::folder(&"include gone*;\n".repeat(50_000));
    let (said, _) = imported(folder.path());
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(said.contains("there are more than 10000 includes"), "{said}");
}

/// Whoever imports has rights that the author of the configuration may not have.
#[test]
fn nothing_of_an_included_file_that_is_no_configuration_is_quoted() {
    let folder = folder("include shadow;\ninclude env;\ninclude open;\nserver { listen 80; }\n");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("shadow", "root:$6$hushhush:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n");
    write("env", "PASSWORD=hushhush and hushhush;\ntoken hushhush;\n");
    write("open", "hushhush {\n");
    let (said, made) = imported(folder.path());
    assert!(said.contains("error: shadow:1: the file ends within a directive"), "{said}");
    assert!(said.contains("error: open:1: the block that begins here is not closed"), "{said}");
    assert!(!said.contains("hushhush") && !made.contains("hushhush"), "{said}{made}");
}

#[test]
fn what_a_terminal_would_act_on_is_escaped() {
    let folder = folder(
        "include 'gone\x1b]0;owned\x07\nerror: false';\nserver { listen 443; server_name a.test;\n\
         add_header X '\u{9b}2J\u{202e}';\n\
         location '/\x1b[2J\u{202e}' { proxy_pass http://10.0.0.1; proxy_http_version 1.1;\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; } }\n",
    );
    let (said, made) = imported(folder.path());
    assert!(said.contains(r"gone\x1b]0;owned\x07\nerror: false"), "{said}");
    let acts = |next: char| (next.is_control() && next != '\n') || next == '\u{202e}';
    assert!(!said.contains(acts), "{said:?}");
    assert!(!made.contains(acts), "{made:?}");
}

#[test]
fn manifests_have_a_budget_for_their_aliases() {
    let folder = TempDir::new().unwrap();
    let mut bomb =
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\na0: &a0 lol\n"
            .to_owned();
    for line in 1..10 {
        let aliases = vec![format!("*a{}", line - 1); 10].join(", ");
        bomb += &format!("a{line}: &a{line} [{aliases}]\n");
    }
    fs::write(folder.path().join("bomb.yaml"), bomb).unwrap();
    let output = tidegate(folder.path(), &["import", "bomb.yaml"]);
    let said = text(&output.stderr);
    assert!(said.contains("error: bomb.yaml:"), "{said}");
}
