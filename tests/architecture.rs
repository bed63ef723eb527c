//! Holds the source to the shape that ARCHITECTURE.md gives it: who may import whom, which crates stay out of which room,
//! and how long a file may be. A scanner of paths is enough for that; it knows comments, strings and test code.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What each room may import of the others: whole rooms, or single items of them.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("table", &[]),
    ("telemetry", &["untrusted"]),
    ("networks", &[]),
    ("untrusted", &[]),
    ("translate", &["api", "table"]),
    (
        "source",
        &[
            "api",
            "table::ObjectRef",
            "translate::Inputs",
            "translate::RouteInput",
            "translate::KEPT_BYTES",
            "translate::Budgets",
            "translate::SecretAccess",
            "translate::SecretsWanted",
            "translate::Unread",
            "translate::secrets_wanted",
            "untrusted",
        ],
    ),
    ("control", &["api", "source", "table", "telemetry", "translate"]),
    ("gateway", &["table", "telemetry"]),
    ("admin", &["table", "telemetry", "untrusted::escape"]),
    ("doctor", &["networks", "untrusted::escape"]),
    ("import", &["api", "untrusted::escape", "untrusted::yaml"]),
    (
        "cli",
        &[
            "admin",
            "api",
            "control",
            "doctor",
            "gateway",
            "import",
            "networks",
            "source",
            "table",
            "telemetry",
            "translate",
            "untrusted",
        ],
    ),
];

/// Crates that a room must not name, and why.
const KEEP_OUT: &[(&str, &[&str], &str)] = &[
    ("api", &["tokio"], "the resource is data"),
    ("doctor", &["kube", "k8s_openapi"], "it looks from where clients are"),
    ("gateway", &["kube", "k8s_openapi"], "the data plane knows nothing of Kubernetes"),
    ("networks", &["tokio", "kube", "k8s_openapi"], "facts are data"),
    ("import", &["tokio", "kube", "k8s_openapi"], "it is pure: text in, text out"),
    ("table", &["kube", "k8s_openapi"], "the table is the same wherever it comes from"),
    ("untrusted", &["tokio", "kube", "k8s_openapi"], "every room may use it"),
    ("telemetry", &["kube", "k8s_openapi"], "others hand it names and numbers"),
    ("translate", &["tokio", "fastrand", "kube"], "it is pure: no I/O, no clock, no randomness"),
];

const LONGEST_FILE: usize = 500;

#[test]
fn every_room_imports_only_what_its_rule_allows() {
    let found: Vec<_> =
        sources().iter().flat_map(|(path, text)| forbidden_imports(path, text)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn no_room_names_a_crate_that_is_kept_out() {
    let found: Vec<_> =
        sources().iter().flat_map(|(path, text)| forbidden_crates(path, text)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<_> = sources()
        .iter()
        .map(|(path, text)| (path.display().to_string(), text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(path, lines)| format!("src/{path} has {lines} lines: split what it does"))
        .collect();
    assert!(long.is_empty(), "\nno file over {LONGEST_FILE} lines:\n{}\n", long.join("\n"));
}

#[test]
fn every_room_has_a_rule_and_every_rule_a_room() {
    let mut rooms: Vec<_> = sources().iter().filter_map(|(path, _)| room(path)).collect();
    rooms.sort_unstable();
    rooms.dedup();
    let mut ruled: Vec<_> = MAY_IMPORT.iter().map(|(room, _)| (*room).to_owned()).collect();
    ruled.sort_unstable();
    assert_eq!(rooms, ruled);
}

#[test]
fn the_rules_have_no_cycle() {
    let mut settled: Vec<&str> = Vec::new();
    while let Some((room, _)) = MAY_IMPORT.iter().find(|(room, imports)| {
        !settled.contains(room) && imports.iter().all(|path| settled.contains(&first(path)))
    }) {
        settled.push(room);
    }
    assert_eq!(settled.len(), MAY_IMPORT.len(), "only these can be put in an order: {settled:?}");
}

/// All of src/, by path below it.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found.sort();
    assert!(found.len() > 20, "the sources were not found");
    found
}

/// The room of a file; `None` for those at the top.
fn room(path: &Path) -> Option<String> {
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    let room = parts.next()?;
    parts.next().map(|_| room.into_owned())
}

fn first(path: &str) -> &str {
    path.split("::").next().unwrap_or_default()
}

/// Sentences about the imports of a file that its room's rule does not allow.
fn forbidden_imports(path: &Path, text: &str) -> Vec<String> {
    let Some(room) = room(path).filter(|_| !is_test(path)) else { return Vec::new() };
    let rule = MAY_IMPORT.iter().find(|(ruled, _)| *ruled == room);
    let allowed = rule.map_or(&[][..], |(_, imports)| imports);
    let may = |import: &str| {
        first(import) == room
            || allowed
                .iter()
                .any(|allowed| import == *allowed || import.starts_with(&format!("{allowed}::")))
    };
    crate_paths(&code_of(text), depth(path))
        .into_iter()
        .filter(|import| !may(import))
        .map(|import| {
            format!(
                "src/{} names crate::{import}, but `{room}` may import {}",
                path.display(),
                if allowed.is_empty() {
                    "nothing of ours".into()
                } else {
                    format!("only {}", allowed.join(", "))
                },
            )
        })
        .collect()
}

/// Sentences about the crates that a file names although they are kept out of its room.
fn forbidden_crates(path: &Path, text: &str) -> Vec<String> {
    let Some(room) = room(path).filter(|_| !is_test(path)) else { return Vec::new() };
    let code = code_of(text);
    KEEP_OUT
        .iter()
        .filter(|(ruled, ..)| *ruled == room)
        .flat_map(|(_, crates, why)| crates.iter().map(move |name| (name, why)))
        .filter(|(name, _)| names_crate(&code, name))
        .map(|(name, why)| {
            format!("src/{} names {name}, which is kept out of `{room}`: {why}", path.display())
        })
        .collect()
}

fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests") || path.iter().any(|part| part == "tests")
}

/// How many modules deep a file's module is below the crate's root.
fn depth(path: &Path) -> usize {
    let parts = path.iter().count();
    if path.file_stem().is_some_and(|stem| stem == "mod") { parts - 1 } else { parts }
}

/// Paths below the crate's root that code names: after `crate::`, or by enough `super::` to reach the root.
fn crate_paths(code: &str, depth: usize) -> Vec<String> {
    let climb = "super::".repeat(depth);
    let mut found = Vec::new();
    for root in ["crate::", &*climb] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|before| is_word(before) || before == ':' || before == '$') {
                expand("", &code[at + root.len()..], &mut found);
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Reads a path or a use tree at the start of `code`, adds its paths to `found`, and returns what follows it.
fn expand<'a>(prefix: &str, code: &'a str, found: &mut Vec<String>) -> &'a str {
    let code = code.trim_start();
    let join = |part: &str| {
        if prefix.is_empty() { part.to_owned() } else { format!("{prefix}::{part}") }
    };
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            rest = expand(prefix, rest, found);
            // An alias, up to the next element.
            let end = rest.find([',', '}']).unwrap_or(rest.len());
            rest = rest[end..].trim_start_matches(',');
            if rest.is_empty() {
                return rest;
            }
        }
    }
    let end = code.find(|next| !is_word(next)).unwrap_or(code.len());
    let (word, rest) = code.split_at(end);
    let path = if word == "self" || word.is_empty() { prefix.to_owned() } else { join(word) };
    match rest.trim_start().strip_prefix("::") {
        Some(rest) => expand(&path, rest, found),
        None => {
            found.push(path);
            rest.strip_prefix('*').unwrap_or(rest)
        }
    }
}

/// Whether code names a crate: at the start of a path, or in a `use` of it alone.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let begins = !before.ends_with(|last| is_word(last) || last == ':' || last == '.')
            || before.trim_end_matches("::").ends_with(|last: char| !is_word(last))
                && before.ends_with("::");
        let used = before.trim_end().ends_with("use") || before.trim_end().ends_with("crate");
        let alone = after.trim_start().starts_with([';', ',']) || after.starts_with(" as ");
        begins && (after.starts_with("::") || used && alone)
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Rust text without comments, without what is in quotes, and without items under `#[cfg(test)]`.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = quoted(rest, code.chars().next_back()) {
            code.push_str("\"\"");
            length
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[taken..];
    }
    without_test_items(&code)
}

/// Length of the block comment at the start, nested ones included.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        let step = if here.starts_with(b"/*") {
            depth += 1;
            2
        } else if here.starts_with(b"*/") {
            depth -= 1;
            2
        } else {
            1
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of the string or character literal at the start, if there is one. `before` is what stands before it.
fn quoted(text: &str, before: Option<char>) -> Option<usize> {
    if text.starts_with('r') && !before.is_some_and(is_word) {
        let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
        if text[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = 2 + hashes;
            return Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()));
        }
    }
    let quote = text.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    if quote == '\'' {
        // A lifetime has no quote behind its first character.
        let mut ahead = text[1..].chars();
        if ahead.next() != Some('\\') && ahead.next() != Some('\'') {
            return None;
        }
    }
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// Code without the items that are compiled for tests only.
fn without_test_items(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        kept.push_str(&rest[..at]);
        rest = &rest[at + MARK.len()..];
        let mut depth = 0;
        let end = rest.char_indices().find(|&(_, character)| {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(character, '}' | ';')
        });
        rest = end.map_or("", |(at, _)| &rest[at + 1..]);
    }
    kept + rest
}

mod scanner {
    use super::*;

    fn imports(path: &str, text: &str) -> Vec<String> {
        forbidden_imports(Path::new(path), text)
    }

    #[test]
    fn a_planted_import_is_found_and_told() {
        assert_eq!(
            imports("gateway/http.rs", "use crate::translate::Inputs;"),
            [
                "src/gateway/http.rs names crate::translate::Inputs, but `gateway` may import only table, telemetry"
            ]
        );
        assert_eq!(
            imports("table/rule.rs", "fn f() { crate::api::crd_yaml() }"),
            [
                "src/table/rule.rs names crate::api::crd_yaml, but `table` may import nothing of ours"
            ]
        );
    }

    #[test]
    fn imports_are_found_in_trees_of_any_shape() {
        let code =
            "use crate::{\n    table::{self, cell::{A, B as C}},\n    api,\n    control::*,\n};";
        let expected = ["api", "control", "table", "table::cell::A", "table::cell::B"];
        assert_eq!(crate_paths(code, 2), expected);
        let code = "pub(crate) use crate::{a::{b, c}, d};\nlet x: crate::e::F<crate::g::H> = 1;";
        assert_eq!(crate_paths(code, 2), ["a::b", "a::c", "d", "e::F", "g::H"]);
    }

    #[test]
    fn climbing_to_the_root_is_an_import_as_well() {
        let climb = "use super::super::api::Route;";
        assert_eq!(imports("gateway/http.rs", climb).len(), 1);
        assert_eq!(imports("gateway/relay/direction.rs", climb).len(), 0);
        assert_eq!(imports("gateway/mod.rs", "use super::api;").len(), 1);
        assert_eq!(imports("gateway/http.rs", "use super::refuse::Refusal;").len(), 0);
    }

    #[test]
    fn what_is_allowed_is_no_finding() {
        let code = "use crate::{gateway::bind, table::Rule, telemetry};";
        assert_eq!(imports("gateway/http.rs", code).len(), 0);
        assert_eq!(imports("source/files.rs", "use crate::{table::ObjectRef, api};").len(), 0);
        assert_eq!(imports("lib.rs", "use crate::cli;").len(), 0);
    }

    #[test]
    fn a_rule_may_be_for_single_items_of_a_room() {
        for code in ["use crate::table::Rule;", "use crate::table::*;", "use crate::translate;"] {
            assert_eq!(imports("source/files.rs", code).len(), 1, "{code}");
        }
    }

    #[test]
    fn comments_strings_and_test_code_are_not_looked_at() {
        for code in [
            "// use crate::api;",
            "/* /* */ use crate::api; */",
            "/// See [`crate::api`].",
            "let a = \"crate::api\";",
            "let a = r#\"\" crate::api\"#;",
            "let a = ('\"', \"crate::api\", '\\'');",
            "#[cfg(test)]\nuse crate::api;",
            "#[cfg(test)]\nmod tests { fn a() { crate::api::b(); } }",
            "macro_rules! a { () => { $crate::api::b() } }",
        ] {
            assert_eq!(imports("gateway/http.rs", code), Vec::<String>::new(), "{code}");
        }
        assert_eq!(imports("gateway/http/tests.rs", "use crate::api;").len(), 0);
    }

    #[test]
    fn code_behind_comments_strings_and_test_code_is_looked_at() {
        for code in [
            "// a\nuse crate::api;",
            "/* a */ use crate::api;",
            "let a = \"\\\"\"; use crate::api;",
            "let a = r\"\\\"; use crate::api;",
            "fn a<'a>(b: &'a str) -> char { '\"' } use crate::api;",
            "#[cfg(test)]\nmod tests { fn a() {} }\nuse crate::api;",
            "#[cfg(test)]\nmod tests;\nuse crate::api;",
        ] {
            assert_eq!(imports("gateway/http.rs", code).len(), 1, "{code}");
        }
    }

    #[test]
    fn a_crate_that_is_kept_out_is_found_wherever_it_is_named() {
        let found = |code: &str| forbidden_crates(Path::new("gateway/http.rs"), code).len();
        for code in [
            "use kube::Client;",
            "use kube as k;",
            "use kube;",
            "use ::kube::Client;",
            "fn a(b: &k8s_openapi::Metadata) {}",
            "use {kube::Client, std::fs};",
            "extern crate kube;",
        ] {
            assert_eq!(found(code), 1, "{code}");
        }
        for code in [
            "let kube = 1;",
            "// kube::Client",
            "use a::kube::B;",
            "use minikube::A;",
            "\"kube::\"",
        ] {
            assert_eq!(found(code), 0, "{code}");
        }
    }
}
