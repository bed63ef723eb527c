//! Holds the tables of docs/migrating.md to those of the code. `UPDATE_GOLDEN=1 cargo test --test import` writes them anew.

use std::fs;

use tidegate::import::{
    NoteKind,
    ingress::annotations::{Controller, Meaning},
    nginx::directives::{DIRECTIVES, Disposition},
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/migrating.md");

/// A table of names, those with the same words beside them in one row, in the order of the code.
fn table(head: &str, rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut grouped: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, words) in rows {
        match grouped.iter_mut().find(|(known, _)| *known == words) {
            Some((_, names)) => names.push(name),
            None => grouped.push((words, vec![name])),
        }
    }
    let mut text = format!("{head}\n");
    for (words, names) in grouped {
        let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
        text.push_str(&format!("| {} | {words} |\n", names.join(", ")));
    }
    text
}

fn noted(kind: NoteKind, reason: &str) -> String {
    format!("`{}`: {reason}", kind.as_str())
}

/// The tables, by what stands in their marks.
fn tables() -> Vec<(String, String)> {
    const PLAIN: &str = "| directive | here |\n|---|---|";
    let of = |wanted: fn(Disposition) -> Option<String>| {
        table(PLAIN, DIRECTIVES.iter().filter_map(|(name, fate)| Some((*name, wanted(*fate)?))))
    };
    let written = of(|fate| match fate {
        Disposition::Written(what) => Some(what.to_owned()),
        _ => None,
    });
    let by_itself = of(|fate| match fate {
        Disposition::ByItself(what) => Some(what.to_owned()),
        _ => None,
    });
    let settings = of(|fate| match fate {
        Disposition::Setting(what) => Some(what.to_owned()),
        _ => None,
    });
    let noted_ones = of(|fate| match fate {
        Disposition::Noted(kind, reason) => Some(noted(kind, reason)),
        _ => None,
    });
    let mut tables = vec![
        ("nginx: written".to_owned(), written),
        ("nginx: by itself".to_owned(), by_itself),
        ("nginx: settings".to_owned(), settings),
        ("nginx: noted".to_owned(), noted_ones),
    ];
    for controller in Controller::ALL {
        let rows = controller.annotations().iter().map(|(name, meaning)| {
            let words = match meaning {
                Meaning::Noted(kind, reason) => noted(*kind, reason),
                other => other.counterpart().to_owned(),
            };
            (*name, words)
        });
        let name = format!("annotations: {}", controller.prefix());
        tables.push((name, table("| annotation | here |\n|---|---|", rows)));
    }
    tables
}

#[test]
fn the_page_has_the_tables_of_the_code() {
    let page = fs::read_to_string(PAGE).unwrap();
    let mut wanted = page.clone();
    for (name, table) in tables() {
        let mark = format!("<!-- {name} -->\n");
        let start = wanted.find(&mark).unwrap_or_else(|| panic!("no {mark}")) + mark.len();
        let end = start + wanted[start..].find("<!-- end -->").unwrap();
        wanted.replace_range(start..end, &table);
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(PAGE, wanted).unwrap();
    } else {
        assert!(page == wanted, "docs/migrating.md: UPDATE_GOLDEN=1 cargo test --test import");
    }
}

#[test]
fn no_name_stands_twice_and_every_word_of_notes_is_explained() {
    let mut names: Vec<_> = DIRECTIVES.iter().map(|(name, _)| *name).collect();
    for controller in Controller::ALL {
        let mut own: Vec<_> = controller.annotations().iter().map(|(name, _)| *name).collect();
        let count = own.len();
        own.sort_unstable();
        own.dedup();
        assert_eq!(own.len(), count, "{}", controller.prefix());
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    let page = fs::read_to_string(PAGE).unwrap();
    for kind in NoteKind::ALL {
        assert!(page.contains(&format!("\n| `{}` |", kind.as_str())), "{}", kind.as_str());
    }
}
