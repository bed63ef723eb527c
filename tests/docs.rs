//! Holds the documentation to the vocabularies of the code.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeSet, fs};

use tidegate::{
    api::Reason,
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
fn every_condition_reason_is_listed() {
    let page = read("docs/websocketroute.md");
    for reason in Reason::ALL {
        assert!(
            page.contains(&format!("`{reason}`")),
            "{reason} is missing in docs/websocketroute.md"
        );
    }
}

#[test]
fn every_metric_is_explained_and_no_other() {
    let mut names = BTreeSet::new();
    for file in ["src/telemetry/names.rs", "src/telemetry/control.rs"] {
        let text = read(file);
        names.extend(
            text.split('"').filter(|part| part.starts_with("tidegate_")).map(str::to_owned),
        );
    }
    assert!(names.len() > 15, "too few names found: {names:?}");
    assert_eq!(first_cells(&read("docs/metrics.md")), names);
}
