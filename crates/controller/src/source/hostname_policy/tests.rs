use std::{fs, os::unix::fs::symlink};

use tidegate_api::HostnameDefault;

use super::*;

const SOUND: &str = "default: Deny
rules:
- hostnames: [shop.example.com, \"*.shop.example.com\"]
  namespaces: [shop]
- hostnames: [\"*.dev.example.com\"]
  namespaceSelector: {matchLabels: {stage: dev}}
  shared: true
- hostnames: [internal.example.com]
  namespaces: []
";

#[test]
fn a_sound_policy_is_read() {
    let policy = parse(SOUND).unwrap();
    assert_eq!(policy.default, HostnameDefault::Deny);
    assert_eq!(policy.rules[0].hostnames, ["shop.example.com", "*.shop.example.com"]);
    assert!(policy.rules[0].namespaces.contains("shop") && !policy.rules[0].shared);
    assert!(policy.rules[1].shared && policy.asks_for_labels());
    assert!(policy.rules[2].namespaces.is_empty() && policy.rules[2].match_labels.is_none());
    let all =
        parse("default: Contest\nrules: [{hostnames: ['*'], namespaceSelector: {}}]").unwrap();
    assert!(!all.asks_for_labels(), "every namespace has no labels");
}

/// Each with its line and a part of what is said.
#[test]
fn what_is_wrong_is_said_with_its_line_and_what_to_write() {
    let rule = |fields: &str| format!("default: Deny\nrules:\n- {fields}\n");
    for (text, line, part) in [
        (String::new(), None, "is empty; write default"),
        ("# nothing\n".into(), None, "is empty"),
        ("rules: []\n".into(), Some(1), "default"),
        ("default: deny\n".into(), Some(1), "neither Contest"),
        ("default: Deny\nrule: []\n".into(), Some(2), "rule"),
        ("default: [\n".into(), Some(1), "string"),
        (rule("hostnames: []\n  namespaces: [a]"), Some(3), "name at least one"),
        (rule("hostnames: [a.test]"), Some(3), "namespaces: [] keeps them from all"),
        (rule("namespaces: [a]"), Some(3), "hostnames"),
        (rule("namespaces: [a]\n  hostnames:\n  - a.test\n  - A.test"), Some(6), "lower case"),
        (rule("namespaces: [a]\n  hostnames: ['https://a.test']"), Some(4), "no scheme"),
        (rule("namespaces: [a]\n  hostnames: ['a.*.test']"), Some(4), "no pattern"),
        (rule("namespaces: ['*']\n  hostnames: [a.test]"), Some(3), "namespaceSelector: {}"),
        (
            rule(
                "namespaces: [a]\n  hostnames: [a.test]\n- namespaces: [b]\n  hostnames: [a.test]",
            ),
            Some(6),
            "a.test stands in line 4 already",
        ),
        (
            rule("hostnames: [a.test]\n  namespaceSelector: {matchExpressions: []}"),
            Some(4),
            "matchExpressions",
        ),
        (rule("hostnames: [a.test]\n  namespaces: [a]\n  shared: yes"), Some(5), ""),
        ("default: Deny\nauthorities: none\n".into(), Some(2), "has no certificate"),
    ] {
        let fault = parse(&text).expect_err(&text);
        assert_eq!(fault.line, line, "{text}\n{}", fault.message);
        assert!(fault.message.contains(part), "{text}\n{}", fault.message);
        assert!(!fault.message.contains(" at line "), "{}", fault.message);
    }
}

#[test]
fn what_is_no_file_is_an_error_and_waits_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let error = read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("a folder, not a file"), "{error}");
    let error = read(&folder.path().join("absent")).unwrap_err().to_string();
    assert!(
        error.starts_with("--hostname-policy: ") && error.contains("cannot be read"),
        "{error}"
    );
    let long = folder.path().join("long");
    fs::write(&long, "#".repeat(LONGEST as usize + 1)).unwrap();
    assert!(read(&long).unwrap_err().to_string().contains("longer than 1 MiB"));
}

/// A mounted ConfigMap: the file is a link to a link, which is replaced.
#[tokio::test]
async fn a_new_policy_is_read_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let mount = |version: &str, text: &str| {
        fs::create_dir(place(version)).unwrap();
        fs::write(place(version).join("policy.yaml"), text).unwrap();
        symlink(version, place("..data_tmp")).unwrap();
        fs::rename(place("..data_tmp"), place("..data")).unwrap();
    };
    mount("..1", SOUND);
    symlink("..data/policy.yaml", place("policy.yaml")).unwrap();
    let mut file = PolicyFile::open(&place("policy.yaml")).unwrap();
    let first = Arc::clone(&file.policy);

    mount("..2", "default: Nobody\n");
    assert_eq!(file.changed().await, Change::Sync);
    assert_eq!(file.policy, first);
    let error = file.error.as_ref().unwrap().to_string();
    assert!(error.contains("line 1") && error.contains("Nobody"), "{error}");

    mount("..3", "default: Contest\n");
    assert_eq!(file.changed().await, Change::Inputs);
    assert!(file.error.is_none());
    assert_eq!(file.policy.default, HostnameDefault::Contest);

    fs::remove_file(place("..data")).unwrap();
    assert_eq!(file.changed().await, Change::Sync, "a file that has gone is a broken one");
    assert_eq!(file.policy.default, HostnameDefault::Contest);
}
