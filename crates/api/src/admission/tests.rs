//! What tests/admission, where a real API server is the judge, does not come to: keywords that the CRD does not use yet, and the
//! order of things.

use serde_json::json;

use super::*;

/// What a schema says of a value.
fn judge(schema: &Value, value: &Value) -> Vec<String> {
    let mut value = value.clone();
    drop_nulls(&mut value, schema);
    fill_defaults(&mut value, schema);
    let mut walk = Walk::default();
    walk.node(&mut value, schema, "");
    walk.faults.iter().map(ToString::to_string).collect()
}

fn route(spec: &Value) -> Value {
    json!({
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "WebSocketRoute",
        "metadata": {"name": "chat"},
        "spec": spec,
    })
}

fn faults(mut route: Value) -> Vec<String> {
    admit(&mut route).iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_not_known_is_told_and_not_passed_over() {
    let cases = [
        (json!({"type": "string", "x-kubernetes-int-or-string": true}), json!("a")),
        (json!({"type": "object", "oneOf": []}), json!({})),
        (json!({"type": "array", "x-kubernetes-list-type": "map"}), json!([])),
    ];
    for (schema, value) in cases {
        let said = judge(&schema, &value);
        assert!(said.len() == 1 && said[0].contains("cannot be judged here"), "{schema}: {said:?}");
    }
    let pattern = json!({"type": "string", "pattern": "of no field"});
    assert_eq!(
        judge(&pattern, &json!("a")).len(),
        1,
        "a pattern that was not compiled fits nothing"
    );
}

#[test]
fn maps_are_judged_value_by_value() {
    let schema = json!({
        "type": "object",
        "maxProperties": 2,
        "minProperties": 1,
        "additionalProperties": {"type": "string", "maxLength": 1, "default": "d"},
    });
    assert_eq!(judge(&schema, &json!({"a": "b", "c": null})), Vec::<String>::new());
    assert_eq!(judge(&schema, &json!({"a": "bc"})), ["a: has 2 characters; the most is 1"]);
    assert_eq!(judge(&schema, &json!({})), ["has 0 entries; the least is 1"]);
    let three = json!({"a": "1", "b": "2", "c": "3"});
    assert_eq!(judge(&schema, &three), ["has 3 entries; the most is 2"]);
}

#[test]
fn a_nullable_field_keeps_its_null_and_another_loses_it() {
    let schema = |nullable| json!({"type": "object", "properties": {"a": {"type": "string", "nullable": nullable}}, "required": ["a"]});
    assert_eq!(judge(&schema(true), &json!({"a": null})), Vec::<String>::new());
    assert_eq!(judge(&schema(false), &json!({"a": null})), ["a: is missing"]);
    let list = json!({"type": "array", "items": {"type": "string"}});
    assert_eq!(
        judge(&list, &json!([null])),
        ["[0]: is null; it must be a string (in quotes where it looks like a number or a boolean)"]
    );
}

#[test]
fn whole_numbers_with_a_point_become_integers() {
    let mut whole = route(&json!({
        "hostnames": ["a.example.com"],
        "rules": [{"backendRefs": [{"name": "a", "port": 80.0, "weight": 1e3}]}],
    }));
    assert_eq!(admit(&mut whole), []);
    let backend = &whole["spec"]["rules"][0]["backendRefs"][0];
    assert_eq!(backend, &json!({"name": "a", "port": 80, "weight": 1000}));
    let integer = json!({"type": "integer", "format": "int64"});
    assert_eq!(judge(&integer, &json!(1e30)).len(), 1);
    assert_eq!(judge(&integer, &json!(u64::MAX)), ["18446744073709551615 is no int64"]);
}

#[test]
fn rules_are_evaluated_beside_slight_faults_and_not_after_grave_ones() {
    let spec = |port: Value| json!({"hostnames": ["A"], "rules": [{"backendRefs": [{"name": "a", "port": port}]}]});
    let said = faults(route(&spec(json!(0))));
    assert!(said.len() == 2 && said[1].starts_with("spec.hostnames: a hostname is"), "{said:?}");
    let said = faults(route(&spec(json!("http"))));
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn a_rule_that_cannot_be_evaluated_is_told_where_nothing_else_is_wrong() {
    let mut object = json!({"spec": {"rules": [{"timeouts": {"idle": "x"}, "keepalive": {"backendPing": "y"}}]}});
    let said = broken_rules(&object, false);
    assert!(
        said.iter().any(|fault| fault.message.contains("a rule cannot be evaluated")),
        "{said:?}"
    );
    assert_eq!(broken_rules(&object, true), []);
    object = route(&json!({
        "hostnames": ["a.example.com"],
        "rules": [{"backendRefs": [{"name": "a", "port": 80}], "keepalive": {"clientPing": "1d"}}],
    }));
    let said = faults(object);
    assert!(said.len() == 1 && said[0].contains("does not fit the pattern"), "{said:?}");
}

#[test]
fn what_is_no_spec_of_the_author_stays_as_it_is() {
    let spec = json!({"hostnames": ["a.example.com"], "rules": [{"backendRefs": [{"name": "a", "port": 80}]}]});
    let mut object = route(&spec);
    object["metadata"]["annotations"] = json!({"a": "b"});
    object["status"] = json!({"conditions": 7});
    let before = object.clone();
    assert_eq!(admit(&mut object), []);
    assert_eq!(object["metadata"], before["metadata"]);
    assert_eq!((&object["kind"], &object["apiVersion"]), (&before["kind"], &before["apiVersion"]));
    assert_eq!(object.get("status"), None);
    assert_eq!(object["spec"]["className"], "tidegate", "defaults are filled in");
    assert_eq!(faults(json!([])), ["is no object"]);
}

#[test]
fn long_texts_are_cut_in_messages() {
    let said = faults(route(&json!({
        "hostnames": ["a.example.com"],
        "plaintext": "x".repeat(10_000),
        "rules": [{"backendRefs": [{"name": "a", "port": 80}]}],
    })));
    assert!(said[0].len() < 200, "{said:?}");
}
