//! Holds the source to the shape that ARCHITECTURE.md gives it: which room may import what of another, which crates stay
//! out of which room, and how long a file may be. A scanner of paths is enough for that; it knows comments, strings and
//! test code.
//!
//! Most rooms are packages of the workspace, so Cargo refuses a cycle among them. What it cannot see is checked here: rooms
//! that share a package, single items of a room, circles of files, and crates that come in through others.
#![allow(clippy::unwrap_used, missing_docs)]

mod code;
mod cycles;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use code::{code_of, crate_paths, depth, names_crate, package_paths};

/// Packages with several rooms, each a module of the package's root. In all others the package is the room.
const SHARED: &[(&str, &[&str])] =
    &[("controller", &["control", "source", "translate"]), ("doctor", &["networks"])];

/// What each room may import of the others: whole rooms, or single items of them.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("table", &[]),
    ("telemetry", &["core"]),
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
            "core",
            "untrusted",
        ],
    ),
    ("control", &["api", "source", "table", "telemetry", "translate"]),
    ("gateway", &["core", "table", "telemetry"]),
    ("admin", &["core", "table", "telemetry"]),
    ("core", &[]),
    ("doctor", &["core", "networks"]),
    ("import", &["api", "core", "untrusted::yaml"]),
    (
        "cli",
        &[
            "admin",
            "api",
            "control",
            "core",
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

/// Crates that must not be in the tree of a package's dependencies, whoever brings them in.
const NEVER_IN_TREE: &[(&str, &[&str])] = &[
    ("tidegate-gateway", &["kube", "k8s-openapi", "clap", "serde-saphyr"]),
    ("tidegate-table", &["kube", "k8s-openapi", "hyper"]),
    ("tidegate-telemetry", &["kube", "k8s-openapi", "hyper", "rustls"]),
    ("tidegate-doctor", &["kube", "k8s-openapi", "hyper"]),
    ("tidegate-import", &["tidegate-table", "tidegate-gateway"]),
    ("tidegate-untrusted", &["tokio", "kube", "k8s-openapi", "hyper"]),
    ("tidegate-controller", &["tidegate-gateway"]),
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
fn no_package_brings_in_a_crate_that_is_kept_out_of_its_tree() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (package, kept_out) in NEVER_IN_TREE {
        let tree = tree(&metadata, package);
        assert!(tree.len() > 3, "{package}: {tree:?}");
        for name in *kept_out {
            assert!(
                !tree.contains(*name),
                "{package} depends on {name}: cargo tree -p {package} -i {name}"
            );
        }
    }
    assert!(tree(&metadata, "tidegate-controller").contains("kube"), "the tree is read");
}

/// The names of all packages that one depends on, itself included, except for its tests and build scripts.
fn tree(metadata: &Value, package: &str) -> BTreeSet<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = list(&metadata["packages"]);
    let name = |id: &str| {
        let found = packages.iter().find(|package| package["id"] == id);
        text(&found.expect("each node is a package")["name"])
    };
    let nodes = list(&metadata["resolve"]["nodes"]);
    let mut todo: Vec<String> =
        nodes.iter().map(|node| text(&node["id"])).filter(|id| name(id) == package).collect();
    let (mut seen, mut names) = (BTreeSet::new(), BTreeSet::new());
    while let Some(id) = todo.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        names.insert(name(&id));
        let node = nodes.iter().find(|node| node["id"] == *id).expect("it is resolved");
        for dependency in list(&node["deps"]) {
            let normal = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            if normal {
                todo.push(text(&dependency["pkg"]));
            }
        }
    }
    names
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<_> = sources()
        .iter()
        .map(|(path, text)| (path.display().to_string(), text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(path, lines)| format!("{path} has {lines} lines: split what it does"))
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

/// The Rust files of a folder, by path below `root`.
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

/// All sources, by room and path below it: `gateway/http.rs` is crates/gateway/src/http.rs.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join("src"), &root.join("src"), &mut found);
    for package in fs::read_dir(root.join("crates")).unwrap() {
        let package = package.unwrap();
        let sources = package.path().join("src");
        let mut own = Vec::new();
        walk(&sources, &sources, &mut own);
        let package = package.file_name().into_string().unwrap();
        found.extend(own.into_iter().map(|(path, text)| (in_room(&package, &path), text)));
    }
    // A package with several rooms has nothing but their names at its root.
    found.retain(|(path, _)| !path.starts_with("controller"));
    found.sort();
    assert!(found.len() > 20, "the sources were not found");
    found
}

/// The rooms of a package that share it.
fn rooms_of(package: &str) -> &'static [&'static str] {
    SHARED.iter().find(|(shared, _)| *shared == package).map_or(&[], |(_, rooms)| rooms)
}

/// Where a file of a package stands: below its room, whose root is called `mod.rs`.
fn in_room(package: &str, path: &Path) -> PathBuf {
    if rooms_of(package).iter().any(|room| path.starts_with(room)) {
        return path.to_owned();
    }
    let path = if path == Path::new("lib.rs") { Path::new("mod.rs") } else { path };
    Path::new(package).join(path)
}

/// What a path below the root of a room's package imports, by room; `None`: something of the room's own.
fn in_own_package(room: &str, import: String) -> Option<String> {
    // The root of the workspace names all packages by their rooms.
    let Some(package) = package(room) else { return Some(import) };
    if rooms_of(package).contains(&first(&import)) {
        Some(import)
    } else {
        (package != room).then(|| format!("{package}::{import}"))
    }
}

/// The package of a room; `None`: that at the workspace's root.
fn package(room: &str) -> Option<&str> {
    let shared = SHARED.iter().find(|(_, rooms)| rooms.contains(&room));
    match shared {
        Some((package, _)) => Some(package),
        None => (!matches!(room, "admin" | "cli")).then_some(room),
    }
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
    let code = code_of(text);
    let mut imports = package_paths(&code);
    let own = crate_paths(&code, depth(path));
    imports.extend(own.into_iter().filter_map(|import| in_own_package(&room, import)));
    imports
        .into_iter()
        .filter(|import| !may(import))
        .map(|import| {
            format!(
                "{} names {import}, but `{room}` may import {}",
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
            format!("{} names {name}, which is kept out of `{room}`: {why}", path.display())
        })
        .collect()
}

fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests") || path.iter().any(|part| part == "tests")
}

mod scanner {
    use super::*;

    fn imports(path: &str, text: &str) -> Vec<String> {
        forbidden_imports(Path::new(path), text)
    }

    #[test]
    fn a_planted_import_is_found_and_told() {
        assert_eq!(
            imports("gateway/http.rs", "use tidegate_controller::translate::Inputs;"),
            [
                "gateway/http.rs names translate::Inputs, but `gateway` may import only core, table, telemetry"
            ]
        );
        assert_eq!(
            imports("table/rule.rs", "fn f() { tidegate_api::crd_yaml() }"),
            ["table/rule.rs names api::crd_yaml, but `table` may import nothing of ours"]
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
        let climb = "use super::super::control::HoldOff;";
        assert_eq!(imports("source/files.rs", climb).len(), 1);
        assert_eq!(imports("source/files/scan.rs", climb).len(), 0);
        assert_eq!(imports("source/mod.rs", "use super::control;").len(), 1);
        assert_eq!(imports("source/files.rs", "use super::backoff::Backoff;").len(), 0);
    }

    #[test]
    fn what_is_allowed_is_no_finding() {
        let code = "use tidegate_table::Rule;\nuse tidegate_telemetry;\nuse crate::bind;";
        assert_eq!(imports("gateway/http.rs", code).len(), 0);
        let code = "use tidegate_table::ObjectRef;\nuse crate::translate::{Inputs, Unread};";
        assert_eq!(imports("source/files.rs", code).len(), 0);
        assert_eq!(imports("doctor/mod.rs", "use crate::networks::{Network, all};").len(), 0);
        assert_eq!(imports("cli/run.rs", "use crate::{admin, gateway::bind};").len(), 0);
        assert_eq!(imports("lib.rs", "use crate::cli;").len(), 0);
    }

    #[test]
    fn a_rule_may_be_for_single_items_of_a_room() {
        for code in ["use tidegate_table::Rule;", "use tidegate_table::*;", "use crate::translate;"]
        {
            assert_eq!(imports("source/files.rs", code).len(), 1, "{code}");
        }
    }

    #[test]
    fn rooms_that_share_a_package_are_told_apart() {
        assert_eq!(imports("translate/mod.rs", "use crate::source::Change;").len(), 1);
        assert_eq!(imports("networks/mod.rs", "use crate::seen::Seen;").len(), 1);
        assert_eq!(imports("admin/mod.rs", "use crate::cli::args::Args;").len(), 1);
        assert_eq!(imports("cli/run.rs", "use tidegate_doctor::networks::all;").len(), 0);
    }

    #[test]
    fn comments_strings_and_test_code_are_not_looked_at() {
        for code in [
            "// use tidegate_api;",
            "/* /* */ use tidegate_api; */",
            "/// See [`tidegate_api`].",
            "let a = \"tidegate_api\";",
            "let a = r#\"\" tidegate_api\"#;",
            "let a = ('\"', \"tidegate_api\", '\\'');",
            "#[cfg(test)]\nuse tidegate_api;",
            "#[cfg(test)]\nmod tests { fn a() { tidegate_api::b(); } }",
            "macro_rules! a { () => { $crate::api::b() } }",
        ] {
            assert_eq!(imports("gateway/http.rs", code), Vec::<String>::new(), "{code}");
        }
        assert_eq!(imports("gateway/http/tests.rs", "use tidegate_api;").len(), 0);
    }

    #[test]
    fn code_behind_comments_strings_and_test_code_is_looked_at() {
        for code in [
            "// a\nuse tidegate_api;",
            "/* a */ use tidegate_api;",
            "let a = \"\\\"\"; use tidegate_api;",
            "let a = r\"\\\"; use tidegate_api;",
            "fn a<'a>(b: &'a str) -> char { '\"' } use tidegate_api;",
            "#[cfg(test)]\nmod tests { fn a() {} }\nuse tidegate_api;",
            "#[cfg(test)]\nmod tests;\nuse tidegate_api;",
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
