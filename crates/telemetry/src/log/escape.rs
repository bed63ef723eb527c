//! What may stand in a log line: no character that ends the line, moves the cursor or turns the direction of what is behind it, whoever sent it.
//! Works on whole lines as they were formatted, so that no field can be forgotten.

use std::{borrow::Cow, fmt::Write as _};

use tidegate_core::escape::is_escaped;

/// How a character is written that may not stand there as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// As JSON has it in a string; nowhere else can one be.
    Json,
    /// As Rust writes it.
    Text,
    /// The same, in lines with colours of the log's own.
    ColouredText,
}

impl Escape {
    /// A formatted line with its end, made safe. Most are as they are.
    pub(super) fn line(self, line: &[u8]) -> Cow<'_, [u8]> {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        let plain = |byte: &u8| matches!(byte, b' '..=b'~');
        if body.iter().all(plain) {
            return Cow::Borrowed(line);
        }
        let text = String::from_utf8_lossy(body);
        let mut safe = String::with_capacity(text.len() + 64);
        let mut rest = &*text;
        while let Some(next) = rest.chars().next() {
            let whole = if self == Self::ColouredText { colour(rest) } else { 0 };
            let length = if whole > 0 { whole } else { next.len_utf8() };
            if whole == 0 && is_escaped(next) {
                self.push(next, &mut safe);
            } else {
                safe.push_str(&rest[..length]);
            }
            rest = &rest[length..];
        }
        safe.push('\n');
        Cow::Owned(safe.into_bytes())
    }

    fn push(self, character: char, to: &mut String) {
        // Writing to a String does not fail.
        let _ = match self {
            Self::Json => {
                let mut units = [0; 2];
                let units = character.encode_utf16(&mut units);
                units.iter().try_for_each(|unit| write!(to, "\\u{unit:04x}"))
            }
            Self::Text | Self::ColouredText => write!(to, "{}", character.escape_default()),
        };
    }
}

/// The length of the sequence at the start of a text that sets a colour; 0 for none. Others could do more than that.
fn colour(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\x1b[") else { return 0 };
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';');
    match end {
        Some(end) if end < 12 && parameters[end..].starts_with('m') => 2 + end + 1,
        _ => 0,
    }
}

/// A value that somebody else made, with no more than so many bytes of it, and how many were left out.
pub fn bounded(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let cut = text.floor_char_boundary(most);
    Cow::Owned(format!("{}...({} bytes more)", &text[..cut], text.len() - cut))
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use proptest::prelude::*;
    use tracing_subscriber::fmt;

    use super::*;

    /// Where lines go in tests, each made safe as the log does.
    #[derive(Clone)]
    struct Lines(Escape, Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.1.lock().unwrap().extend_from_slice(&self.0.line(line));
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of a value in each place that one can have.
    fn logged(escape: Escape, value: &str) -> String {
        let lines = Lines(escape, Arc::default());
        let writer = lines.clone();
        let builder = fmt().with_writer(move || writer.clone());
        let event =
            || tracing::info!(path = value, client = %value, error = ?value, "said {value}");
        match escape {
            Escape::Json => {
                tracing::subscriber::with_default(
                    builder.json().flatten_event(true).finish(),
                    event,
                );
            }
            _ => {
                let coloured = escape == Escape::ColouredText;
                tracing::subscriber::with_default(builder.with_ansi(coloured).finish(), event);
            }
        }
        let bytes = lines.1.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// Any text, and often what an enemy would choose.
    fn value() -> impl Strategy<Value = String> {
        let nasty = prop::sample::select(vec![
            '\n',
            '\r',
            '\0',
            '\x1b',
            '\x07',
            '\x7f',
            '\u{85}',
            '\u{9b}',
            '\u{200f}',
            '\u{2028}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
            '"',
            '\\',
            '[',
            'm',
            '3',
            'a',
            '\u{e9}',
        ]);
        let character = prop_oneof![3 => nasty, 1 => any::<char>()];
        prop::collection::vec(character, 0..40)
            .prop_map(|characters| characters.into_iter().collect())
    }

    proptest! {
        #[test]
        fn whatever_is_logged_a_line_is_one_line_without_what_is_escaped(value in value()) {
            for escape in [Escape::Json, Escape::Text] {
                let text = logged(escape, &value);
                let line = text.strip_suffix('\n').unwrap();
                prop_assert!(!line.contains(is_escaped), "{line:?}");
            }
            let json: serde_json::Value = serde_json::from_str(&logged(Escape::Json, &value)).unwrap();
            prop_assert_eq!(json["path"].as_str(), Some(&*value));
        }

        #[test]
        fn in_colour_nothing_but_colours_is_told_to_the_terminal(value in value()) {
            let text = logged(Escape::ColouredText, &value);
            let mut rest = text.strip_suffix('\n').unwrap();
            while let Some(at) = rest.find(is_escaped) {
                let length = colour(&rest[at..]);
                prop_assert!(length > 0, "{:?}", &rest[at..]);
                rest = &rest[at + length..];
            }
        }

        #[test]
        fn what_is_bounded_is_short_and_says_how_much_is_missing(text in ".{0,200}", most in 0_usize..100) {
            let told = bounded(&text, most);
            prop_assert!(told.len() <= most + 40);
            if text.len() <= most {
                prop_assert_eq!(&*told, &*text);
            } else {
                prop_assert!(told.ends_with(" bytes more)"));
            }
        }
    }

    #[test]
    fn characters_are_escaped_as_their_format_has_it() {
        let line = "a\u{9b}\u{202e}\u{e0041}\tb\n".as_bytes();
        assert_eq!(&*Escape::Json.line(line), b"a\\u009b\\u202e\\udb40\\udc41\\u0009b\n");
        assert_eq!(&*Escape::Text.line(line), b"a\\u{9b}\\u{202e}\\u{e0041}\\tb\n");
        assert!(matches!(Escape::Text.line(b"plain\n"), Cow::Borrowed(_)));
        assert_eq!(&*Escape::Text.line(b"one\ntwo\n"), b"one\\ntwo\n");
    }
}
