//! The CustomResourceDefinition in `crds/` is the one that the program prints, and tells its reader what each field is for.

use serde_json::Value;
use tidegate::api::{CRD_NAME, crd_yaml};

#[test]
fn the_file_holds_what_the_program_prints() {
    let file = format!("{}/crds/{CRD_NAME}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&file).expect("the CRD's file is readable");
    assert!(text == crd_yaml(), "{file} is out of date: run `make crd`");
}

/// `kubectl explain wsr.spec` is made of these.
#[test]
fn every_field_says_what_it_is_for_in_whole_sentences() {
    let crd: Value = serde_saphyr::from_str(&crd_yaml()).expect("it is YAML");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut faults = Vec::new();
    look("spec", &schema["properties"]["spec"], &mut faults);
    assert!(faults.is_empty(), "{faults:#?}");
}

fn look(field: &str, schema: &Value, faults: &mut Vec<String>) {
    let text = schema["description"].as_str().unwrap_or_default();
    let sentence = text.starts_with(|first: char| first.is_uppercase() || first.is_numeric());
    if !sentence || !text.ends_with('.') {
        faults.push(format!("{field}: {text:?}"));
    }
    // What Rust calls things is nothing to whoever writes YAML.
    if ["[`", "::", "Option<"].iter().any(|rust| text.contains(rust)) {
        faults.push(format!("{field} speaks Rust: {text:?}"));
    }
    let items = &schema["items"];
    for holder in [schema, items] {
        for (name, inner) in holder["properties"].as_object().into_iter().flatten() {
            look(&format!("{field}.{name}"), inner, faults);
        }
    }
}
