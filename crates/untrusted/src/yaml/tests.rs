use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;

fn cut(stream: &str) -> Vec<(usize, &str)> {
    documents(stream).into_iter().map(|document| (document.line, document.text)).collect()
}

fn read(stream: &str) -> Vec<Result<Value, Fault>> {
    let mut reader = Reader::default();
    documents(stream).into_iter().map(|document| reader.read(document)).collect()
}

#[test]
fn a_stream_is_cut_at_its_markers() {
    for (stream, documents) in [
        ("", vec![]),
        ("# only\n---\n\n--- # nothing\n...\n", vec![]),
        ("a: 1", vec![(1, "a: 1")]),
        ("a: 1\n---\nb: 2\n", vec![(1, "a: 1\n"), (2, "---\nb: 2\n")]),
        ("a: 1\r---\rb: 2", vec![(1, "a: 1\r"), (2, "---\rb: 2")]),
        ("a: 1\r\n---\r\nb: 2", vec![(1, "a: 1\r\n"), (2, "---\r\nb: 2")]),
        ("a: 1\n...\nb: 2\n", vec![(1, "a: 1\n...\n"), (3, "b: 2\n")]),
        ("--- a\n--- b\n", vec![(1, "--- a\n"), (2, "--- b\n")]),
        ("# first\n---\na: 1\n", vec![(2, "---\na: 1\n")]),
        ("%YAML 1.2\n---\na: 1\n", vec![(1, "%YAML 1.2\n---\na: 1\n")]),
        (
            "a: 1\n...\n%YAML 1.2\n---\nb: 2\n",
            vec![(1, "a: 1\n...\n"), (3, "%YAML 1.2\n---\nb: 2\n")],
        ),
        ("---a: 1\n----\n", vec![(1, "---a: 1\n----\n")]),
        ("\u{feff}---\na: 1\n", vec![(1, "---\na: 1\n")]),
    ] {
        assert_eq!(cut(stream), documents, "{stream:?}");
    }
}

#[test]
fn a_broken_document_is_told_by_its_line_and_harms_no_other() {
    let read = read("a: 1\n---\nb: [\n---\nc: 3\n");
    assert_eq!((&read[0], &read[2]), (&Ok(json!({"a": 1})), &Ok(json!({"c": 3}))));
    let fault = read[1].as_ref().unwrap_err();
    assert!((2..=4).contains(&fault.line) && !fault.message.contains(" at line "), "{fault:?}");
}

/// "A billion laughs": each line ten of the one before.
fn laughs(lines: usize, laugh: &str) -> String {
    let mut text = format!("a0: &a0 {laugh}\n");
    for line in 1..=lines {
        let aliases = vec![format!("*a{}", line - 1); 10].join(", ");
        let _ = writeln!(text, "a{line}: &a{line} [{aliases}]");
    }
    text
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + size(value)).sum(),
        Value::String(text) => 1 + text.len(),
        _ => 1,
    }
}

#[test]
fn what_aliases_stand_for_is_bounded_for_the_whole_stream() {
    let bomb = laughs(9, "lol");
    assert!(read(&bomb)[0].is_err());
    // Few nodes of many bytes.
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 90].join(", "));
    assert!(read(&long)[0].is_err());
    // Each of them small enough by itself.
    let many = vec![laughs(3, &"x".repeat(500)); 200].join("---\n");
    let read = read(&many);
    let made: usize = read.iter().filter_map(|read| read.as_ref().ok()).map(size).sum();
    assert_eq!(read.len(), 200);
    assert!(read[0].is_ok() && read[199].is_err());
    assert!(made <= 2 * many.len() + SPARE_BYTES + SPARE_EVENTS + 200 * OWN, "{made}");
}

#[test]
fn a_bomb_leaves_the_documents_beside_it_what_they_need() {
    let plain: String = (0..2_000).map(|key| format!("k{key}: v\n")).collect();
    let stream = format!("{}---\n{plain}---\n{}---\n{plain}", laughs(9, "lol"), laughs(9, "lol"));
    let read = read(&stream);
    assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false, true]);
}

#[test]
fn depth_is_bounded_in_every_form() {
    for deep in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        assert!(read(&deep)[0].is_err());
    }
    let blocks: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(read(&blocks)[0].is_err());
    let sound = format!("{}1{}", "[".repeat(DEEPEST), "]".repeat(DEEPEST));
    assert!(read(&sound)[0].is_ok());
}

/// Aliases are used in earnest, too.
#[test]
fn ordinary_anchors_and_merges_are_read() {
    let text = "base: &base {a: 1, b: 2}\nmine: {<<: *base, b: 3}\nlist: [*base, *base]\n";
    let base = json!({"a": 1, "b": 2});
    let wanted = json!({"base": base, "mine": {"a": 1, "b": 3}, "list": [base, base]});
    assert_eq!(read(text), [Ok(wanted)]);
}
