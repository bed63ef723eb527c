//! Foreign configuration: whatever a file holds it is read or refused, what is read is written and read back as the same, and what a
//! regular expression is taken for are sound paths.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tidegate_import::{
    files::{Dump, Files, fits},
    nginx::parse::{Body, Directive, Place, parse, to_text},
    paths::{encode, literal},
};

/// Without places, which writing changes.
fn bare(directives: &[Directive], file: &Arc<str>) -> Vec<Directive> {
    let bare = |directive: &Directive| Directive {
        place: Place { file: Arc::clone(file), line: 0 },
        end: 0,
        body: match &directive.body {
            Body::Block(inner) => Body::Block(bare(inner, file)),
            other => other.clone(),
        },
        ..directive.clone()
    };
    directives.iter().map(bare).collect()
}

fuzz_target!(|text: &str| {
    let file = Arc::from("nginx.conf");
    if let Ok(read) = parse(&file, text) {
        let lines = text.lines().count().max(1);
        assert!(
            read.iter().all(
                |directive| directive.place.line <= directive.end && directive.end <= lines + 1
            )
        );
        let again = parse(&file, &to_text(&read)).expect("what was written can be read");
        assert_eq!(bare(&again, &file), bare(&read, &file));
    }
    if let Some(literal) = literal(text) {
        assert!(!literal.paths.is_empty());
        for path in literal.paths {
            assert!(path.value.starts_with('/') && !path.value.contains("//"), "{path:?}");
        }
    }
    if let Some(path) = encode(text) {
        assert!(path.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    if let Some((pattern, name)) = text.split_once('\n') {
        fits(pattern, name);
    }
    if let Some((main, dump)) = Dump::of(text) {
        assert!(dump.read(&main).is_ok());
    }
});
