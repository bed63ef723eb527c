//! Holds `tidegate::api::admit` to the API server: routes that one takes and the other refuses would make `tidegate check` and
//! the file source lie. `tests/admission/apiserver` asks a real API server; its words stand in `verdicts.tsv`, beside ours.
//!
//! `UPDATE_GOLDEN=1 cargo test --test admission` writes our column anew; read the diff before you commit it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, fs};

use kube::core::cel::compile_schema;
use serde::Deserialize;
use serde_json::Value;
use tidegate::{
    api::{WebSocketRoute, admit, crd},
    source::files::Manifests,
};

const VERDICTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/admission/verdicts.tsv");
const HEADER: &str = "case\tthe API server\ttidegate check";

#[derive(Deserialize)]
struct Cases {
    base: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(rename = "case")]
    name: String,
    accepted: bool,
    #[serde(default)]
    set: BTreeMap<String, Value>,
    #[serde(default)]
    remove: Vec<String>,
}

impl Case {
    fn object(&self, base: &Value) -> Value {
        let mut object = base.clone();
        for pointer in &self.remove {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
        }
        for (pointer, value) in &self.set {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        object
    }
}

fn cases() -> Vec<(Case, Value)> {
    let Cases { base, cases } = serde_saphyr::from_str(include_str!("cases.yaml")).unwrap();
    let names: std::collections::BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases of one name");
    cases
        .into_iter()
        .map(|case| {
            let object = case.object(&base);
            (case, object)
        })
        .collect()
}

/// What `tidegate check` says of it.
fn verdict(object: &Value) -> String {
    let mut manifests = Manifests::default();
    manifests.add_text("route.yaml", &object.to_string());
    match manifests.problems.as_slice() {
        [] => {
            assert_eq!(manifests.routes.len(), 1, "{object}");
            "accepted".to_owned()
        }
        problems => {
            let said: Vec<_> = problems
                .iter()
                .map(|problem| problem.message.split_once(": ").unwrap().1)
                .collect();
            format!("refused: {}", said.join("; "))
        }
    }
}

/// The API server's column.
fn recorded() -> BTreeMap<String, String> {
    let text = fs::read_to_string(VERDICTS).unwrap_or_default();
    let rows = text.lines().skip(1).filter_map(|line| line.split_once('\t'));
    rows.map(|(name, rest)| {
        let server = rest.split('\t').next().unwrap_or_default();
        (name.to_owned(), server.to_owned())
    })
    .collect()
}

#[test]
fn the_verdict_on_every_case_is_that_of_the_api_server() {
    let recorded = recorded();
    let mut table = format!("{HEADER}\n");
    let mut wrong = Vec::new();
    for (case, object) in cases() {
        let ours = verdict(&object);
        let server = recorded.get(&case.name).cloned().unwrap_or_default();
        for (who, said) in [("check", &ours), ("the API server", &server)] {
            if !said.starts_with(if case.accepted { "accepted" } else { "refused: " }) {
                wrong.push(format!("{}: {who}: {said:?}", case.name));
            }
        }
        table += &format!("{}\t{server}\t{ours}\n", case.name);
    }
    assert!(
        wrong.is_empty(),
        "where the API server has said nothing yet, run tests/admission/apiserver\n{}",
        wrong.join("\n")
    );
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(VERDICTS, &table).unwrap();
    }
    assert!(
        fs::read_to_string(VERDICTS).unwrap() == table,
        "verdicts.tsv is out of date: UPDATE_GOLDEN=1 cargo test --test admission"
    );
}

fn schema() -> Value {
    let schema = crd().spec.versions[0].schema.clone().unwrap();
    serde_json::to_value(schema.open_api_v3_schema).unwrap()
}

/// The rules of a schema, each with the path to the node that it stands at.
fn rules(node: &Value, path: &str, into: &mut Vec<(String, String)>) {
    for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
        into.push((path.to_owned(), rule["rule"].as_str().unwrap().to_owned()));
    }
    for (key, below) in node["properties"].as_object().into_iter().flatten() {
        rules(below, &format!("{path}/{key}"), into);
    }
    for (keyword, name) in [("items", "[]"), ("additionalProperties", "{}")] {
        if node[keyword].is_object() {
            rules(&node[keyword], &format!("{path}/{name}"), into);
        }
    }
}

/// Whether there is a value at this path.
fn present(value: &Value, path: &str) -> bool {
    match path.strip_prefix('/') {
        None => !value.is_null(),
        Some(rest) => {
            let (key, rest) = rest.find('/').map_or((rest, ""), |end| rest.split_at(end));
            match key {
                "[]" => value.as_array().unwrap().iter().any(|item| present(item, rest)),
                "{}" => value.as_object().unwrap().values().any(|item| present(item, rest)),
                key => value.get(key).is_some_and(|value| present(value, rest)),
            }
        }
    }
}

#[test]
fn every_rule_of_the_crd_is_evaluated_once_true_and_once_false() {
    let schema = schema();
    assert!(!compile_schema(&schema).has_errors(), "a rule in CEL does not compile");
    let mut rules_there = Vec::new();
    rules(&schema, "", &mut rules_there);
    assert!(rules_there.len() > 10, "too few rules found: {rules_there:?}");
    let (mut held, mut broken) = (Vec::new(), Vec::new());
    for (case, mut object) in cases() {
        let faults = admit(&mut object);
        if case.accepted {
            held.push(object);
        }
        for fault in faults {
            assert!(!fault.message.contains("cannot be judged"), "{}: {fault}", case.name);
            broken.extend(fault.rule);
        }
    }
    for (path, rule) in rules_there {
        assert!(held.iter().any(|route| present(route, &path)), "no case holds to {path}: {rule}");
        assert!(broken.contains(&rule), "no case breaks {path}: {rule}");
    }
}

/// Nothing of the schema may be passed over because it is not known.
#[test]
fn every_route_that_is_accepted_can_be_read_and_is_accepted_again() {
    for (case, mut object) in cases().into_iter().filter(|(case, _)| case.accepted) {
        admit(&mut object);
        let route: WebSocketRoute = serde_json::from_value(object.clone()).unwrap();
        let mut again = serde_json::to_value(&route).unwrap();
        assert_eq!(admit(&mut again), [], "{}", case.name);
        assert_eq!(again["spec"], object["spec"], "{}: defaults differ", case.name);
    }
}

#[test]
fn a_keyword_of_the_schema_that_is_not_known_would_be_told() {
    let known = [
        "additionalProperties",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "nullable",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
        "x-kubernetes-list-type",
        "x-kubernetes-validations",
    ];
    fn walk(node: &Value, path: &str, known: &[&str]) {
        for keyword in node.as_object().unwrap().keys() {
            assert!(
                known.contains(&keyword.as_str()),
                "{path}: api::admit does not know {keyword}"
            );
        }
        let kinds = ["set", "atomic"];
        let list = node["x-kubernetes-list-type"].as_str();
        assert!(list.is_none_or(|list| kinds.contains(&list)), "{path}: a list of type {list:?}");
        for (key, below) in node["properties"].as_object().into_iter().flatten() {
            walk(below, &format!("{path}.{key}"), known);
        }
        for keyword in ["items", "additionalProperties"] {
            if node[keyword].is_object() {
                walk(&node[keyword], &format!("{path}[]"), known);
            }
        }
    }
    walk(&schema()["properties"]["spec"], "spec", &known);
}
