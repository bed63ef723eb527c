//! Reads Rust text: without comments, strings and test code, and the paths that are left. A scanner is enough for that.

use std::path::Path;

use super::{first, rooms_of};

/// Paths that code names in other packages of the workspace, by room.
pub fn package_paths(code: &str) -> Vec<String> {
    const PREFIX: &str = "tidegate_";
    let mut found = Vec::new();
    for (at, _) in code.match_indices(PREFIX) {
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = &code[at + PREFIX.len()..];
        let end = rest.find(|next| !is_word(next)).unwrap_or(rest.len());
        let (package, rest) = rest.split_at(end);
        let mut paths = Vec::new();
        match rest.strip_prefix("::") {
            Some(rest) => drop(expand("", rest, &mut paths)),
            None => paths.push(String::new()),
        }
        let rooms = rooms_of(package);
        found.extend(paths.into_iter().map(|path| match path.as_str() {
            "" => package.to_owned(),
            path if rooms.contains(&first(path)) => path.to_owned(),
            path => format!("{package}::{path}"),
        }));
    }
    found.sort();
    found.dedup();
    found
}

/// How many modules deep a file's module is below the crate's root.
pub fn depth(path: &Path) -> usize {
    let parts = path.iter().count();
    if path.file_stem().is_some_and(|stem| stem == "mod") { parts - 1 } else { parts }
}

/// Paths below the crate's root that code names: after `crate::`, or by enough `super::` to reach the root.
pub fn crate_paths(code: &str, depth: usize) -> Vec<String> {
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
pub fn expand<'a>(prefix: &str, code: &'a str, found: &mut Vec<String>) -> &'a str {
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
pub fn names_crate(code: &str, name: &str) -> bool {
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

pub fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Rust text without comments, without what is in quotes, and without items under `#[cfg(test)]`.
pub fn code_of(text: &str) -> String {
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
