//! Text from others, so that a terminal, a log viewer or a reader of JSON shows it and does nothing else.
//!
//! Escaped are the controls of ASCII (C0 and DEL), those of Latin-1 (C1, of which U+009B begins a sequence as ESC does), the
//! separators of lines and paragraphs, and what has no shape of its own: marks of direction (which make text read as something
//! else), joiners, the byte order mark and tags.

use std::{borrow::Cow, fmt::Write as _};

/// Whether a character is written as an escape: it is a control (C0, DEL, C1), ends a line or paragraph, or is one of format (Unicode's
/// Cf), the marks of direction among them.
pub fn is_escaped(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// One value within a line: line breaks are escaped as well.
pub fn value(text: &str) -> Cow<'_, str> {
    escape(text, is_escaped, readable)
}

/// One value within a line, of which no more than `most` bytes are shown; what is left out is said.
pub fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return value(text).into_owned();
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}… ({} bytes more)", value(&text[..end]), text.len() - end)
}

/// Several lines: only their breaks, and tabulators, stay as they are.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |character| is_escaped(character) && !matches!(character, '\n' | '\t'), readable)
}

/// A JSON document. Such characters stand in its strings alone, besides the breaks between its lines.
pub fn json(document: &str) -> Cow<'_, str> {
    escape(
        document,
        |character| is_escaped(character) && character != '\n',
        |character, text| {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                // Writing to a String does not fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        },
    )
}

/// As Rust writes it: `\n`, `\x1b`, `\u{202e}`.
fn readable(character: char, text: &mut String) {
    let _ = match character {
        '\n' | '\r' | '\t' => write!(text, "{}", character.escape_default()),
        '\0'..='\x7f' => write!(text, "\\x{:02x}", character as u32),
        _ => write!(text, "{}", character.escape_unicode()),
    };
}

fn escape(
    text: &str,
    wanted: impl Fn(char) -> bool,
    write: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    let Some(first) = text.find(&wanted) else { return Cow::Borrowed(text) };
    let mut escaped = String::with_capacity(text.len() + 16);
    escaped.push_str(&text[..first]);
    for character in text[first..].chars() {
        if wanted(character) {
            write(character, &mut escaped);
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        assert_eq!(value("\x1b]0;owned\x07bye\n"), r"\x1b]0;owned\x07bye\n");
        assert_eq!(
            value("\u{9b}31m\u{85}\u{202e}evil\u{2066}\x7f"),
            r"\u{9b}31m\u{85}\u{202e}evil\u{2066}\x7f"
        );
        assert_eq!(lines("one\n\ttwo\r\x1b[2J\n"), "one\n\ttwo\\r\\x1b[2J\n");
        assert!(matches!(value("grün, 日本, 🙂"), Cow::Borrowed("grün, 日本, 🙂")));
    }

    #[test]
    fn json_stays_the_same_value() {
        for text in ["\u{9b}31m", "\u{202e}", "\u{e0041}", "\x7f", "\x1b\"\\", "\u{feff}a"] {
            let document = serde_json::json!({ "text": text });
            let written = format!("{document:#}\n");
            let escaped = json(&written);
            assert!(!escaped.contains(|c| is_escaped(c) && c != '\n'), "{escaped:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), document);
        }
    }

    #[test]
    fn what_is_shortened_says_by_how_much() {
        assert_eq!(shortened("short", 5), "short");
        assert_eq!(shortened("längeres", 2), "l… (8 bytes more)");
    }
}
