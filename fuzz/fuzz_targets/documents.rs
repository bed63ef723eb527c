//! YAML streams: whatever a file holds it is read or refused, within its budget; what is read is what the parser by itself reads of the
//! whole stream, where it can read all of it; and no document changes what is read of another one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tidegate_core::escape;
use tidegate_untrusted::yaml::{DEEPEST, Document, Reader, documents};

/// More than any stream of this length stands for.
const MOST: usize = (1 << 20) + 100_000;

fn read(stream: &str) -> Vec<Option<Value>> {
    let mut reader = Reader::default();
    documents(stream).into_iter().map(|document| reader.read(document).ok()).collect()
}

/// The same documents by another way: lines first, then the markers among them.
fn reference_cut(stream: &str) -> Vec<String> {
    let stream =
        stream.strip_prefix('\u{feff}').unwrap_or(stream).replace("\r\n", "\n").replace('\r', "\n");
    let marker = |line: &str, marker: &str| {
        line == marker
            || line.starts_with(&format!("{marker} "))
            || line.starts_with(&format!("{marker}\t"))
    };
    let nothing = |line: &&str| {
        let line = line.trim_matches([' ', '\t']);
        line.is_empty() || line.starts_with('#')
    };
    let mut parts: Vec<Vec<&str>> = vec![Vec::new()];
    for line in stream.split('\n') {
        let last = parts.last().unwrap();
        let heads = last.iter().any(|line| line.starts_with('%'))
            && last.iter().all(|line| nothing(line) || line.starts_with('%'));
        if marker(line, "---") && !heads {
            parts.push(Vec::new());
        }
        parts.last_mut().unwrap().push(line);
        if marker(line, "...") && nothing(&&line[3..]) {
            parts.push(Vec::new());
        }
    }
    parts
        .into_iter()
        .filter(|lines| {
            // Directives before "---" alone, and empty documents, are nothing.
            let headed =
                lines.iter().find(|line| !nothing(line)).is_some_and(|line| line.starts_with('%'));
            let started = lines.iter().any(|line| marker(line, "---"));
            lines.iter().any(|line| match () {
                () if headed && started => true,
                () if marker(line, "---") || marker(line, "...") => !nothing(&&line[3..]),
                () if headed => !nothing(line) && !line.starts_with('%'),
                () => !nothing(line),
            })
        })
        .map(|lines| lines.into_iter().filter(|line| !nothing(line)).collect::<Vec<_>>().join("\n"))
        .collect()
}

fn significant(document: &Document<'_>) -> String {
    let text = document.text.replace("\r\n", "\n").replace('\r', "\n");
    let nothing = |line: &&str| {
        let line = line.trim_matches([' ', '\t']);
        line.is_empty() || line.starts_with('#')
    };
    text.split('\n').filter(|line| !nothing(line)).collect::<Vec<_>>().join("\n")
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => {
            1 + map.iter().map(|(key, value)| key.len() + size(value)).sum::<usize>()
        }
        Value::String(text) => 1 + text.len(),
        _ => 1,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fuzz_target!(|stream: &str| {
    // Documents follow each other, each at the line that it is said to begin at.
    let cut = documents(stream);
    let mut end = 0;
    for document in &cut {
        // By address: the same text may stand in the stream before.
        let before = document.text.as_ptr().addr().checked_sub(stream.as_ptr().addr());
        let before = before.expect("a document is a part of the stream");
        assert!(before >= end && before + document.text.len() <= stream.len(), "{document:?}");
        end = before + document.text.len();
        let lines = stream[..before].replace("\r\n", "\n").matches(['\n', '\r']).count();
        assert!(document.line >= 1 && document.line <= lines + 1, "{document:?}");
    }
    assert_eq!(cut.iter().map(significant).collect::<Vec<_>>(), reference_cut(stream));

    let values = read(stream);
    let made: usize = values.iter().flatten().map(size).sum();
    assert!(made <= 2 * stream.len() + MOST + 64 * values.len() * 2, "{made} of {}", stream.len());
    assert!(values.iter().flatten().all(|value| depth(value) <= DEEPEST));

    // Where the parser can read the stream as a whole, so could we, and the same.
    let options = || serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    if let Ok(whole) = serde_saphyr::from_multiple_with_options::<Value>(stream, options()) {
        let whole: Vec<_> = whole.into_iter().filter(|value| !value.is_null()).collect();
        let spent = whole.iter().map(size).sum::<usize>() > stream.len();
        let sound: Option<Vec<_>> = values.iter().cloned().collect();
        if let Some(sound) = sound {
            let sound: Vec<_> = sound.into_iter().filter(|value| !value.is_null()).collect();
            assert_eq!(sound, whole);
        } else {
            // Aliases alone may ask for more than is granted.
            assert!(spent, "refused, though the parser reads it");
        }
    }

    // A document between two others, sound or broken, changes neither.
    let beside = "---\nkind: Beside\nitems: [1, 2]\n";
    // Ended first: directives at the end of the stream would be of the document behind it.
    let around = format!("{beside}...\n{stream}\n...\n{beside}");
    let all = read(&around);
    let wanted = Some(serde_json::json!({"kind": "Beside", "items": [1, 2]}));
    assert_eq!(all.first(), Some(&wanted));
    assert_eq!(all.last(), Some(&wanted));

    // And no terminal acts on it.
    assert!(!escape::value(stream).contains(escape::is_escaped));
    assert!(!escape::lines(stream).contains(|c| escape::is_escaped(c) && c != '\n' && c != '\t'));
});
