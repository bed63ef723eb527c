//! Files of a package that use one another in a circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::{
    code::{code_of, crate_paths, expand, is_word},
    is_test, walk,
};

/// Files that use one another in a circle, each with its package. The list may only become shorter: a file belongs above
/// or below another one.
const KNOWN_CYCLES: &[&str] = &[
    "controller: translate::backends, translate::endpoints",
    "controller: translate::ownership, translate::routes",
    "gateway: acme, connection, http, listen, worker",
    "gateway: rebalance, registry",
    "gateway: relay::direction, relay::rates",
    "import: nginx::headers, nginx::model",
];

#[test]
fn files_of_a_package_do_not_use_one_another_in_a_circle() {
    let mut found = Vec::new();
    for package in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates")).unwrap() {
        let package = package.unwrap().file_name().into_string().unwrap();
        found.extend(cycles(&modules(&package)).iter().map(|cycle| format!("{package}: {cycle}")));
    }
    found.sort();
    assert_eq!(found, KNOWN_CYCLES);
}

/// The modules of a package that have files of their own, but for tests, by path from its root, with their code.
fn modules(package: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates").join(package).join("src");
    let mut files = Vec::new();
    walk(&root, &root, &mut files);
    let named = files.into_iter().filter(|(path, _)| !is_test(path)).map(|(path, text)| {
        let path = path.with_extension("");
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        let parts = match parts.split_last() {
            Some((last, above)) if last == "mod" || last == "lib" => above,
            _ => &parts[..],
        };
        (parts.join("::"), code_of(&text))
    });
    named.collect()
}

/// Modules that use one another in a circle, each circle with its members in order.
fn cycles(modules: &BTreeMap<String, String>) -> Vec<String> {
    let uses: BTreeMap<&str, BTreeSet<String>> =
        modules.iter().map(|(name, code)| (&**name, used(name, code, modules))).collect();
    let reached = |from: &str| {
        let mut todo: Vec<&str> = uses[from].iter().map(String::as_str).collect();
        let mut seen = BTreeSet::new();
        while let Some(next) = todo.pop() {
            if seen.insert(next) {
                todo.extend(uses[next].iter().map(String::as_str));
            }
        }
        seen
    };
    let reach: BTreeMap<&str, _> = uses.keys().map(|name| (*name, reached(name))).collect();
    let circles = reach.iter().filter(|(name, seen)| seen.contains(**name)).map(|(name, seen)| {
        let members: Vec<_> =
            seen.iter().filter(|other| reach[**other].contains(name)).copied().collect();
        members.join(", ")
    });
    circles.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The other modules with files of their own that a module names. What stands in the modules above it is for all below.
fn used(name: &str, code: &str, modules: &BTreeMap<String, String>) -> BTreeSet<String> {
    let depth = if name.is_empty() { 0 } else { name.split("::").count() };
    let mut paths = crate_paths(code, depth);
    for climbed in 0..depth {
        // `self::`, and `super::` that does not reach the root.
        let (climb, above) = match climbed {
            0 => ("self::".to_owned(), name),
            _ => {
                let above = name.rsplitn(climbed + 1, "::").last().expect("it is deep enough");
                ("super::".repeat(climbed), above)
            }
        };
        for (at, _) in code.match_indices(&climb) {
            let before = code[..at].chars().next_back();
            let rest = &code[at + climb.len()..];
            if !before.is_some_and(|before| is_word(before) || before == ':')
                && !rest.starts_with("super::")
            {
                expand(above, rest, &mut paths);
            }
        }
    }
    let children = modules.keys().filter_map(|module| {
        let child = module.strip_prefix(name)?;
        let child = if name.is_empty() { child } else { child.strip_prefix("::")? };
        let named = code
            .match_indices(&format!("{child}::"))
            .any(|(at, _)| !code[..at].ends_with(|before: char| is_word(before) || before == ':'));
        (!child.contains("::") && named).then(|| module.clone())
    });
    paths.extend(children);
    let above = |file: &str| name.starts_with(&format!("{file}::"));
    let files = paths.iter().filter_map(|path| file_of(path, modules));
    files.filter(|file| file != name && !above(file)).collect()
}

/// The module with a file of its own in which a path leads; `None`: the package's root.
fn file_of(path: &str, modules: &BTreeMap<String, String>) -> Option<String> {
    let mut path = path;
    while !modules.contains_key(path) {
        path = path.rsplit_once("::")?.0;
    }
    (!path.is_empty()).then(|| path.to_owned())
}

#[test]
fn circles_of_files_are_found() {
    let modules = |files: &[(&str, &str)]| {
        files.iter().map(|(name, code)| ((*name).to_owned(), (*code).to_owned())).collect()
    };
    let found = cycles(&modules(&[
        ("", "mod a; mod b; use a::A;"),
        ("a", "use super::{b::B, c};"),
        ("b", "use crate::a::A;"),
        ("c", "mod d; use self::d::D; use super::Root;"),
        ("c::d", "use super::C; use super::super::e::E;"),
        ("e", "use crate::f::{F, G};"),
        ("f", ""),
    ]));
    assert_eq!(found, ["a, b"], "what stands above is for all below");
    assert_eq!(cycles(&modules(&[("a", "use super::b::B;"), ("b", "use super::Root;")])), [""; 0]);
}
