//! Holds the documentation to the vocabularies of the code.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeSet, fs, path::Path};

use kube::core::cel::validate_cel;
use serde_json::{Value, json};
use tidegate::{
    api::{ConditionType, WebSocketRoute},
    doctor::diagnosis::{Code, Culprit},
    gateway::{CloseCause, RefusalReason},
};

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Words that stand in backticks at the start of the table rows of a page, or of one section of it.
fn first_cells(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| {
            line.strip_prefix("| `")?.split_once('`').map(|(word, _)| word.to_owned())
        })
        .collect()
}

#[test]
fn every_refusal_reason_and_close_cause_is_explained_and_no_other() {
    let page = read("docs/refusals.md");
    let (refusals, causes) = page.split_once("## Close causes").unwrap();
    let known = RefusalReason::ALL.map(|reason| reason.as_str().to_owned());
    assert_eq!(first_cells(refusals), BTreeSet::from(known));
    let known = CloseCause::ALL.map(|cause| cause.as_str().to_owned());
    assert_eq!(first_cells(causes), BTreeSet::from(known));
}

#[test]
fn every_diagnosis_and_box_of_the_doctor_is_explained_with_its_exit_code_and_no_other() {
    let page = read("docs/doctor.md");
    let (_, diagnoses) = page.split_once("## Diagnoses").unwrap();
    let (diagnoses, boxes) = diagnoses.split_once("| box |").unwrap();
    let (boxes, _) = boxes.split_once("## As JSON").unwrap();
    let rows: BTreeSet<String> = diagnoses
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').take(3).collect::<Vec<_>>().join("|"))
        .collect();
    let row = |code: Code| format!("| `{}` | {} ", code.as_str(), code.exit_code());
    assert_eq!(rows, BTreeSet::from(Code::ALL.map(row)));
    let known = Culprit::ALL.map(|culprit| culprit.as_str().to_owned());
    assert_eq!(first_cells(boxes), BTreeSet::from(known));
}

#[test]
fn every_condition_reason_is_listed() {
    let page = read("docs/websocketroute.md");
    for kind in ConditionType::ALL {
        let row = format!("| `{}` |", kind.as_str());
        let row = page.lines().find(|line| line.starts_with(&row)).expect("a row for each type");
        for reason in kind.reasons() {
            assert!(row.contains(&format!("`{reason}`")), "{reason} is missing in: {row}");
        }
    }
}

/// The examples of the resource: whole routes, and parts of a rule, which are indented as in one.
#[test]
fn every_example_of_the_resource_is_one_that_can_be_applied() {
    let page = read("docs/websocketroute.md");
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let mut seen = BTreeSet::new();
    for block in blocks {
        let example: Value = if block.starts_with("    ") {
            let part: Value = serde_saphyr::from_str(block).unwrap();
            seen.extend(part.as_object().unwrap().keys().cloned());
            let mut route = json!({
                "apiVersion": "tidegate.io/v1alpha1",
                "kind": "WebSocketRoute",
                "metadata": {"name": "chat"},
                "spec": {"hostnames": ["chat.example.com"], "rules": [part]},
            });
            let refs = &mut route["spec"]["rules"][0]["backendRefs"];
            if refs.is_null() {
                *refs = json!([{"name": "chat", "port": 8080}]);
            }
            route
        } else if block.contains("\nkind: WebSocketRoute") {
            serde_saphyr::from_str(block).unwrap()
        } else {
            continue;
        };
        let route: WebSocketRoute = serde_json::from_value(example.clone()).unwrap();
        validate_cel(&route).unwrap_or_else(|error| panic!("{error:?}\n{block}"));
        // A field that the resource does not have is lost on the way.
        assert_holds(&serde_json::to_value(&route).unwrap(), &example, block);
    }
    let blocks = [
        "backendRefs",
        "drain",
        "frames",
        "keepalive",
        "limits",
        "loadBalancing",
        "path",
        "retry",
        "timeouts",
    ];
    assert_eq!(seen, BTreeSet::from(blocks.map(str::to_owned)));
}

/// Panics unless all of `part` is in `whole`.
fn assert_holds(whole: &Value, part: &Value, block: &str) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (key, value) in part {
                let there = whole.get(key);
                assert_holds(there.unwrap_or_else(|| panic!("no {key}:\n{block}")), value, block);
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            assert_eq!(whole.len(), part.len(), "{block}");
            whole.iter().zip(part).for_each(|(whole, part)| assert_holds(whole, part, block));
        }
        _ => assert_eq!(whole, part, "{block}"),
    }
}

#[test]
fn every_metric_is_explained_and_no_other() {
    let mut names = BTreeSet::new();
    for file in ["crates/telemetry/src/names.rs", "crates/telemetry/src/control.rs"] {
        let text = read(file);
        names.extend(
            text.split('"').filter(|part| part.starts_with("tidegate_")).map(str::to_owned),
        );
    }
    assert!(names.len() > 15, "too few names found: {names:?}");
    assert_eq!(first_cells(&read("docs/metrics.md")), names);
}

/// Each decision has a record of its own, with a date and three parts, and the index lists it.
#[test]
fn every_decision_has_its_parts_and_stands_in_the_index() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decisions");
    let mut expected = BTreeSet::new();
    for room in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        if !room.is_dir() {
            continue;
        }
        for path in fs::read_dir(&room).unwrap().map(|entry| entry.unwrap().path()) {
            let (text, name) = (fs::read_to_string(&path).unwrap(), path.display());
            let lines: Vec<&str> = text.lines().collect();
            let title = lines[0].strip_prefix("# ").unwrap_or_else(|| panic!("{name}: a title"));
            let date = lines[2].strip_prefix("Date: ").unwrap_or_else(|| panic!("{name}: a date"));
            assert!(date.len() == 10 && date.starts_with("20"), "{name}: {date}");
            let parts: Vec<_> = lines.iter().filter(|line| line.starts_with("## ")).collect();
            assert_eq!(parts, [&"## Context", &"## Decision", &"## Consequences"], "{name}");
            let long = lines.iter().find(|line| line.chars().count() > 120);
            assert_eq!(long, None, "{name}: wrap it");
            let place = path.strip_prefix(&folder).unwrap().display();
            expected.insert(format!("- [{title}]({place})"));
        }
    }
    assert!(expected.len() > 50, "the records were not found");
    let index = read("docs/decisions/README.md");
    let listed: BTreeSet<_> =
        index.lines().filter(|line| line.starts_with("- [")).map(str::to_owned).collect();
    assert_eq!(listed, expected);
}

/// Each attack of docs/security.md names the tests that fail if it works again. All of those are there.
#[test]
fn every_test_that_security_md_names_exists() {
    let page = read("docs/security.md");
    let (_, attacks) = page.split_once("## Attacks").unwrap();
    let sources = sources(Path::new(env!("CARGO_MANIFEST_DIR")));
    let mut named = 0;
    for row in attacks.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |")) {
        let tests = row.trim_end_matches('|').rsplit(" | ").next().unwrap();
        assert!(!tests.trim().is_empty(), "no test: {row}");
        let words = tests.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        for test in words.filter_map(|word| word.rsplit_once("::")).map(|(_, test)| test) {
            named += 1;
            let known = [format!("fn {test}("), format!("def {test}("), format!("mod {test}")];
            assert!(
                sources.iter().any(|source| known.iter().any(|known| source.contains(known))),
                "there is no test {test}: {row}"
            );
        }
    }
    assert!(named > 80, "the table is not read: {named}");
}

/// The Rust and Python of the project.
fn sources(root: &Path) -> Vec<String> {
    let mut folders = ["src", "crates", "tests", "benches"].map(|name| root.join(name)).to_vec();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs" || end == "py") {
                found.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}
