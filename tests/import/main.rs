//! Golden folders of the import: `cases/NAME` holds a configuration (`nginx.conf` and what it includes, or `ingress.yaml`), the manifests
//! that come of it (`out.yaml`) and what is said on standard error (`notes.txt`). `cluster.yaml` has objects that are there already.
//!
//! `UPDATE_GOLDEN=1 cargo test --test import` writes the answers anew; read the diff before you commit it. A line `# import: ARGS` at the
//! top of a source has arguments for it. tests/import/run holds the same folders to the traffic of a real nginx.
#![allow(clippy::unwrap_used, missing_docs)]

mod docs;
mod hostile;
mod program;
mod property;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

fn cases() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/cases");
    let mut cases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    cases.sort();
    assert!(cases.len() >= 19, "some cases are missing");
    cases
}

/// The file that is imported.
fn source(case: &Path) -> &'static str {
    if case.join("ingress.yaml").exists() { "ingress.yaml" } else { "nginx.conf" }
}

fn tidegate(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate")).current_dir(folder).args(args).output().unwrap()
}

/// Imports a case by the program, with the arguments that it asks for.
fn import(case: &Path, more: &[&str]) -> Output {
    let source = source(case);
    let text = fs::read_to_string(case.join(source)).unwrap();
    let asked = text.lines().find_map(|line| line.strip_prefix("# import: ")).unwrap_or_default();
    let mut args = vec!["import", source];
    args.extend(asked.split_whitespace());
    if source == "ingress.yaml" && case.join("cluster.yaml").exists() {
        args.push("cluster.yaml");
    }
    args.extend(more);
    tidegate(case, &args)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn every_case_gives_its_manifests_and_notes() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    for (name, case) in cases() {
        let output = import(&case, &[]);
        for (file, answer) in [("out.yaml", &output.stdout), ("notes.txt", &output.stderr)] {
            let expected = fs::read_to_string(case.join(file)).unwrap_or_default();
            let answer = text(answer);
            if answer == expected {
                continue;
            }
            if update {
                fs::write(case.join(file), answer).unwrap();
            } else {
                wrong.push(format!("{name}/{file}:\n{answer}"));
            }
        }
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
    }
    assert!(
        wrong.is_empty(),
        "{} answers differ. If that is meant: UPDATE_GOLDEN=1 cargo test --test import\n\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_case_says_what_it_shows() {
    for (name, case) in cases() {
        let text = fs::read_to_string(case.join(source(&case))).unwrap();
        assert!(text.starts_with("# "), "{name}: begin with a comment that says what it shows");
    }
}

#[test]
fn tidegate_check_finds_nothing_wrong_with_what_comes_of_it() {
    for (name, case) in cases() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("out.yaml"), import(&case, &[]).stdout).unwrap();
        if case.join("cluster.yaml").exists() {
            fs::copy(case.join("cluster.yaml"), folder.path().join("cluster.yaml")).unwrap();
        }
        let checked = tidegate(folder.path(), &["check", "."]);
        assert!(checked.status.success(), "{name}:\n{}", text(&checked.stdout));
        assert!(
            !text(&checked.stdout).contains("unknown field"),
            "{name}:\n{}",
            text(&checked.stdout)
        );
    }
}
