//! What the API server does with a WebSocketRoute before it stores it: defaults, the schema of the CRD, its rules in CEL, and
//! strict field validation. The same is done to files, so that what is refused there is refused here.
//!
//! The order and the edges are those of `apiextensions-apiserver`: nulls that a field cannot hold are as if they were not
//! there, defaults come next, the rules in CEL last, and only if the faults of the schema leave them something to look at.
//! Architecture invariant: a keyword of the schema that is not known here is a fault in itself (a test walks the CRD), and so
//! is a rule that cannot be evaluated. Nothing is passed over in silence.

use std::{collections::HashMap, fmt, sync::LazyLock};

use kube::core::cel::{CompiledSchema, ErrorKind, ValidationError, Validator, compile_schema};
use regex::Regex;
use serde_json::{Map, Value};

use super::crd;

/// Keywords that hold no value to anything.
const SILENT: [&str; 3] = ["description", "title", "default"];
/// Texts in messages are cut after so many characters.
const LONGEST_SHOWN: usize = 64;
/// The greatest integer that JSON numbers hold exactly (RFC 8259 §6), beyond which the API server takes none with a point.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// Why the API server would refuse a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionFault {
    /// The field, such as `spec.rules[0].backendRefs[0].port`; empty for the object as a whole.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
    /// The rule in CEL that is false, where it is one.
    pub rule: Option<String>,
}

impl fmt::Display for AdmissionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// Does to a WebSocketRoute what the API server does when one is created with strict field validation: takes `status` out,
/// fills defaults in, and judges it. What is wrong, in the order of the fields; empty if it would be stored. Of `metadata` only
/// name, namespace and labels are looked at.
pub fn admit(route: &mut Value) -> Vec<AdmissionFault> {
    let Some(object) = route.as_object_mut() else {
        return vec![fault("", "is no object".to_owned())];
    };
    object.remove("status");
    let mut walk = Walk::default();
    walk.metadata(object.get("metadata"));
    // A node of the schema says nothing of these; the types of Kubernetes do.
    let metadata = object.remove("metadata");
    let frame: Vec<_> =
        ["apiVersion", "kind"].into_iter().filter_map(|key| object.remove_entry(key)).collect();
    drop_nulls(route, &SCHEMA.root);
    fill_defaults(route, &SCHEMA.root);
    walk.node(route, &SCHEMA.root, "");
    // To rules a null of a field that may be null is as if it were not there, and so it is to the types.
    drop_all_nulls(route);
    let mut faults = walk.faults;
    if !walk.blocks_rules {
        faults.extend(broken_rules(route, !faults.is_empty()));
    }
    if let Some(object) = route.as_object_mut() {
        object.extend(frame);
        object.extend(metadata.map(|metadata| ("metadata".to_owned(), metadata)));
    }
    faults
}

/// The schema of the CRD, made ready once.
struct Schema {
    root: Value,
    rules: CompiledSchema,
    /// By the text of the pattern.
    patterns: HashMap<String, Regex>,
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let crd = crd();
    let schema = crd.spec.versions[0].schema.as_ref();
    let schema = schema.and_then(|schema| schema.open_api_v3_schema.as_ref());
    let root = serde_json::to_value(schema).expect("a schema is plain data");
    let rules = compile_schema(&root);
    let mut patterns = HashMap::new();
    gather_patterns(&root, &mut patterns);
    Schema { root, rules, patterns }
});

fn gather_patterns(node: &Value, into: &mut HashMap<String, Regex>) {
    match node {
        Value::Object(object) => {
            if let Some(pattern) = object.get("pattern").and_then(Value::as_str) {
                let regex = Regex::new(pattern).expect("the CRD's patterns are tested");
                into.insert(pattern.to_owned(), regex);
            }
            object.values().for_each(|node| gather_patterns(node, into));
        }
        Value::Array(list) => list.iter().for_each(|node| gather_patterns(node, into)),
        _ => {}
    }
}

fn fault(path: &str, message: String) -> AdmissionFault {
    AdmissionFault { path: path.to_owned(), message, rule: None }
}

/// The schema of a field: its own, or that of all values of a map.
fn property<'s>(schema: &'s Value, key: &str) -> Option<&'s Value> {
    let own = schema.get("properties").and_then(|properties| properties.get(key));
    own.or_else(|| schema.get("additionalProperties"))
}

/// Takes out nulls of fields that can hold none, unless a default takes their place.
fn drop_nulls(value: &mut Value, schema: &Value) {
    let lost = |value: &Value, schema: &Value| value.is_null() && schema["nullable"] != true;
    match value {
        Value::Object(object) => object.retain(|key, value| {
            // What no schema knows is told of, null or not.
            let Some(schema) = property(schema, key) else { return true };
            if lost(value, schema) && schema.get("default").is_none() {
                return false;
            }
            drop_nulls(value, schema);
            true
        }),
        Value::Array(list) => list.iter_mut().for_each(|item| drop_nulls(item, &schema["items"])),
        _ => {}
    }
}

fn drop_all_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_all_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_all_nulls),
        _ => {}
    }
}

fn fill_defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(object) => {
            for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = schema.get("default") {
                    object.entry(key).or_insert_with(|| default.clone());
                }
            }
            for (key, value) in object {
                if let Some(schema) = property(schema, key) {
                    replace_null(value, schema);
                    fill_defaults(value, schema);
                }
            }
        }
        Value::Array(list) => {
            for item in list {
                replace_null(item, &schema["items"]);
                fill_defaults(item, &schema["items"]);
            }
        }
        _ => {}
    }
}

/// A null that cannot be gives way to the default.
fn replace_null(value: &mut Value, schema: &Value) {
    if value.is_null()
        && schema["nullable"] != true
        && let Some(default) = schema.get("default")
    {
        value.clone_from(default);
    }
}

/// Judges an object by the rules in CEL. Where the schema refuses it already, only rules that say so count: one that cannot be
/// evaluated may fail over the very value that is refused.
fn broken_rules(object: &Value, refused: bool) -> Vec<AdmissionFault> {
    thread_local! {
        // Dear to make, and not for several threads at once.
        static VALIDATOR: Validator = Validator::new();
    }
    let judged =
        VALIDATOR.with(|validator| validator.validate_compiled(&SCHEMA.rules, object, None));
    let Err(errors) = judged else { return Vec::new() };
    let told = |error: ValidationError| {
        let path = error.field_path.trim_start_matches('.').to_owned();
        let (rule, message) = match error.kind {
            ErrorKind::ValidationFailure => (Some(error.rule), error.message),
            _ if refused => return None,
            _ => (None, format!("a rule cannot be evaluated: {}", error.message)),
        };
        Some(AdmissionFault { path, message, rule })
    };
    errors.into_iter().filter_map(told).collect()
}

/// A walk through a value beside its schema.
#[derive(Default)]
struct Walk {
    faults: Vec<AdmissionFault>,
    /// A fault after which the API server evaluates no rule.
    blocks_rules: bool,
}

impl Walk {
    fn say(&mut self, path: &str, message: String) {
        self.faults.push(fault(path, message));
    }

    fn say_and_block(&mut self, path: &str, message: String) {
        self.blocks_rules = true;
        self.say(path, message);
    }

    /// Names as DNS has them (RFC 1123, Kubernetes' "Object Names and IDs"), and labels.
    fn metadata(&mut self, metadata: Option<&Value>) {
        let text = |key: &str| metadata?.get(key)?.as_str();
        if let Some(name) = text("name")
            && !(name.len() <= 253 && name.split('.').all(is_label))
        {
            self.say(
                "metadata.name",
                format!(
                    "{} is no name of an object: lower-case letters, digits, '-' and '.', at most 253 in all, beginning and \
                     ending with a letter or a digit",
                    shown(name)
                ),
            );
        }
        if let Some(namespace) = text("namespace")
            && !(namespace.len() <= 63 && is_label(namespace))
        {
            let namespace = shown(namespace);
            self.say(
                "metadata.namespace",
                format!(
                    "{namespace} is no namespace: lower-case letters, digits and '-', at most 63"
                ),
            );
        }
        let labels = metadata.and_then(|metadata| metadata["labels"].as_object());
        for (key, value) in labels.into_iter().flatten() {
            let name = match key.split_once('/') {
                Some((prefix, name)) if prefix.len() <= 253 && prefix.split('.').all(is_label) => {
                    name
                }
                Some(_) => "",
                None => key,
            };
            let value = value.as_str().unwrap_or_default();
            if !is_qualified(name) || !(value.is_empty() || is_qualified(value)) {
                self.say(
                    &format!("metadata.labels[{key}]"),
                    format!(
                        "{} is no label: key and value are at most 63 letters, digits, '-', '_' and '.', and begin and \
                         end with a letter or a digit",
                        shown(value)
                    ),
                );
            }
        }
    }

    fn node(&mut self, value: &mut Value, schema: &Value, path: &str) {
        let schema_keywords = schema.as_object();
        let Some(keywords) = schema_keywords.filter(|keywords| !keywords.is_empty()) else {
            return;
        };
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        let wanted = schema["type"].as_str().unwrap_or("object");
        if !fits(value, wanted) {
            let is = kind(value);
            return self.say_and_block(path, format!("is {is}; it must be {}", article(wanted)));
        }
        for (keyword, limit) in keywords {
            self.keyword(keyword, limit, value, path);
        }
        match value {
            Value::Object(object) => self.properties(object, schema, path),
            Value::Array(list) => {
                for (index, item) in list.iter_mut().enumerate() {
                    self.node(item, &schema["items"], &format!("{path}[{index}]"));
                }
            }
            _ => {}
        }
    }

    fn properties(&mut self, object: &mut Map<String, Value>, schema: &Value, path: &str) {
        let join =
            |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        for (key, value) in object {
            match property(schema, key) {
                None => self.say(&join(key), "unknown field".to_owned()),
                Some(known) => self.node(value, known, &join(key)),
            }
        }
    }

    /// Holds `value`, whose type is right, to one keyword of the schema.
    fn keyword(&mut self, keyword: &str, limit: &Value, value: &mut Value, path: &str) {
        let count = limit.as_u64().unwrap_or_default();
        match (keyword, &mut *value) {
            ("required", Value::Object(object)) => {
                let required = limit.as_array().into_iter().flatten().filter_map(Value::as_str);
                for key in required.filter(|key| !object.contains_key(*key)) {
                    let path =
                        if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                    self.say_and_block(&path, "is missing".to_owned());
                }
            }
            ("enum", value) => {
                let known = limit.as_array().map(Vec::as_slice).unwrap_or_default();
                if !known.contains(value) {
                    let known: Vec<_> =
                        known.iter().map(|value| value.as_str().unwrap_or("null")).collect();
                    let message = format!("{} is none of {}", shown_value(value), known.join(", "));
                    self.say_and_block(path, message);
                }
            }
            ("pattern", Value::String(text)) => {
                let regex = limit.as_str().and_then(|pattern| SCHEMA.patterns.get(pattern));
                if !regex.is_some_and(|regex| regex.is_match(text)) {
                    let pattern = limit.as_str().unwrap_or_default();
                    self.say(path, format!("{} does not fit the pattern {pattern}", shown(text)));
                }
            }
            ("minLength", Value::String(text)) if (text.chars().count() as u64) < count => {
                self.say(path, format!("{} is too short; the least is {count}", shown(text)));
            }
            ("maxLength", Value::String(text)) if (text.chars().count() as u64) > count => {
                let length = text.chars().count();
                self.say_and_block(path, format!("has {length} characters; the most is {count}"));
            }
            ("minItems", Value::Array(list)) if (list.len() as u64) < count => {
                self.say(path, format!("has {} items; the least is {count}", list.len()));
            }
            ("maxItems", Value::Array(list)) if (list.len() as u64) > count => {
                self.say_and_block(path, format!("has {} items; the most is {count}", list.len()));
            }
            ("minimum", Value::Number(number)) if number.as_f64() < limit.as_f64() => {
                self.say(path, format!("{number} is too small; the least is {}", whole(limit)));
            }
            ("maximum", Value::Number(number)) if number.as_f64() > limit.as_f64() => {
                self.say(path, format!("{number} is too great; the most is {}", whole(limit)));
            }
            ("format", Value::Number(number)) if !in_range(number, limit) => {
                let format = limit.as_str().unwrap_or_default();
                self.say(path, format!("{number} is no {format}"));
            }
            ("minProperties", Value::Object(object)) if (object.len() as u64) < count => {
                self.say(path, format!("has {} entries; the least is {count}", object.len()));
            }
            ("maxProperties", Value::Object(object)) if (object.len() as u64) > count => {
                self.say_and_block(
                    path,
                    format!("has {} entries; the most is {count}", object.len()),
                );
            }
            ("x-kubernetes-list-type", Value::Array(list)) if limit == "set" => {
                for (index, item) in list.iter().enumerate() {
                    if list[..index].contains(item) {
                        let message = format!("{} is there twice", shown_value(item));
                        self.say(&format!("{path}[{index}]"), message);
                    }
                }
            }
            ("x-kubernetes-list-type", _) if limit == "atomic" => {}
            _ if SILENT.contains(&keyword) || KNOWN.contains(&keyword) => {}
            _ => self.say(path, format!("its schema has {keyword}, which cannot be judged here")),
        }
    }
}

/// Keywords that are looked at, be it here, in [`Walk::node`] or by the rules; in values of another type they hold nothing.
const KNOWN: [&str; 18] = [
    "additionalProperties",
    "enum",
    "format",
    "items",
    "maximum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minimum",
    "minItems",
    "minLength",
    "minProperties",
    "nullable",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-validations",
];

/// Whether the value is of this type. A number with a point that has nothing behind it is an integer, and becomes one.
fn fits(value: &mut Value, wanted: &str) -> bool {
    if wanted == "integer"
        && let Some(number) = value.as_f64().filter(|_| value.is_f64())
        && number.fract() == 0.0
        && number.abs() <= MAX_SAFE_INTEGER
    {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole, and within 53 bits")]
        let number = number as i64;
        *value = number.into();
    }
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    }
}

fn in_range(number: &serde_json::Number, format: &Value) -> bool {
    match format.as_str() {
        Some("int32") => number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        Some("int64") => number.is_i64(),
        _ => true,
    }
}

/// A label of DNS (RFC 1123): lower-case letters, digits and `-`, neither beginning nor ending with `-`.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_qualified(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.bytes().next())
        && ends(text.bytes().last())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a point",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn article(wanted: &str) -> &str {
    match wanted {
        "object" => "an object",
        "array" => "a list",
        "string" => "a string (in quotes where it looks like a number or a boolean)",
        "boolean" => "true or false",
        "integer" => "an integer",
        other => other,
    }
}

fn shown(text: &str) -> String {
    let cut: String = text.chars().take(LONGEST_SHOWN).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}

fn shown_value(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), shown)
}

/// Limits stand in the schema as `65535.0`.
fn whole(limit: &Value) -> String {
    limit.as_f64().map_or_else(|| limit.to_string(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests;
