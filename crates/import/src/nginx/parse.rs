//! The syntax of nginx's configuration files, as `ngx_conf_file.c` reads it: from text to a tree of directives and back.
//!
//! Knows no directive but those whose block is code of another language (Lua). Pure, and of the standard library alone: a fuzz
//! target reads this file by itself.

use std::{fmt, sync::Arc};

/// Blocks nest no deeper than this; nginx's own configurations need five.
const DEEPEST: usize = 40;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One directive: `name args… ;` or `name args… { … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// The first word, without quotes. In blocks that are tables (`map`, `types`) it is a key, and may be empty.
    pub name: String,
    /// The others.
    pub args: Vec<String>,
    /// What follows them.
    pub body: Body,
    /// Where the first word stands.
    pub place: Place,
    /// The line of the `;` or `}` that ends it.
    pub end: usize,
}

/// What follows the words of a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A semicolon.
    None,
    /// A block of directives.
    Block(Vec<Directive>),
    /// A block of Lua, without its braces.
    Lua(String),
}

/// Why a text is no configuration of nginx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl Directive {
    /// The directives of its block; none where it has no block.
    pub fn block(&self) -> &[Directive] {
        match &self.body {
            Body::Block(inner) => inner,
            Body::None | Body::Lua(_) => &[],
        }
    }

    /// The argument at `index`, or an empty text.
    pub fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }

    /// Its words as one line, for people: a block is told by `{ … }`.
    pub fn words(&self) -> String {
        let mut text = quote(&self.name);
        for arg in &self.args {
            text.push(' ');
            text.push_str(&quote(arg));
        }
        if self.body != Body::None {
            text.push_str(" { … }");
        }
        text
    }

    fn write(&self, depth: usize, into: &mut String) {
        let indent = "    ".repeat(depth);
        into.push_str(&indent);
        into.push_str(&quote(&self.name));
        for arg in &self.args {
            into.push(' ');
            into.push_str(&quote(arg));
        }
        match &self.body {
            Body::None => into.push_str(";\n"),
            Body::Block(inner) => {
                into.push_str(" {\n");
                for directive in inner {
                    directive.write(depth + 1, into);
                }
                into.push_str(&indent);
                into.push_str("}\n");
            }
            Body::Lua(code) => {
                into.push_str(" {");
                into.push_str(code);
                into.push_str("}\n");
            }
        }
    }
}

/// The text of directives; [`parse`] makes the same of it again, but for places.
pub fn to_text(directives: &[Directive]) -> String {
    let mut text = String::new();
    for directive in directives {
        directive.write(0, &mut text);
    }
    text
}

/// A word as it stands in a file: in quotes where it could not be read back without.
fn quote(word: &str) -> String {
    let special = |next: char| {
        next.is_ascii_whitespace()
            || matches!(next, ';' | '{' | '}' | '"' | '\'' | '\\' | '#' | '\u{feff}')
    };
    if !word.is_empty() && !word.contains(special) {
        return word.to_owned();
    }
    // A backslash before anything but these is itself, as the regular expressions of locations need it.
    if !word.is_empty()
        && !word.contains(|next| special(next) && next != '\\')
        && plain_escapes(word)
    {
        return word.to_owned();
    }
    let mut text = String::from("\"");
    for next in word.chars() {
        if matches!(next, '"' | '\\') {
            text.push('\\');
        }
        text.push(next);
    }
    text.push('"');
    text
}

/// Whether every backslash of a word stands before something that it does not change.
fn plain_escapes(word: &str) -> bool {
    let mut chars = word.chars();
    while let Some(next) = chars.next() {
        if next == '\\'
            && chars
                .next()
                .is_none_or(|escaped| matches!(escaped, '"' | '\'' | '\\' | 't' | 'r' | 'n'))
        {
            return false;
        }
    }
    true
}

/// Reads a file.
pub fn parse(file: &Arc<str>, text: &str) -> Result<Vec<Directive>, SyntaxError> {
    let mut reader = Reader { file, rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    // The directives of each open block, with the words before it.
    let mut open: Vec<(Words, Vec<Directive>)> = Vec::new();
    let mut here = Vec::new();
    loop {
        let words = reader.words()?;
        let end = reader.line;
        match words.stop {
            Stop::Semicolon => here.push(words.directive(file, Body::None, end)),
            Stop::Open if is_lua(&words) => {
                let code = reader.lua(words.line)?;
                let end = reader.line;
                here.push(words.directive(file, Body::Lua(code), end));
            }
            Stop::Open => {
                if open.len() == DEEPEST {
                    return reader.error(words.line, format!("blocks nest deeper than {DEEPEST}"));
                }
                open.push((words, std::mem::take(&mut here)));
            }
            Stop::Close => match open.pop() {
                Some((words, outer)) => {
                    let inner = std::mem::replace(&mut here, outer);
                    here.push(words.directive(file, Body::Block(inner), end));
                }
                None => return reader.error(end, "\"}\" closes no block".to_owned()),
            },
            Stop::End => {
                return match open.pop() {
                    None => Ok(here),
                    Some((words, _)) => {
                        let message = "the block that begins here is not closed by \"}\"";
                        reader.error(words.line, message.to_owned())
                    }
                };
            }
        }
    }
}

fn is_lua(words: &Words) -> bool {
    words.words.first().is_some_and(|name| name.ends_with("_by_lua_block"))
}

/// Words up to what ends them.
struct Words {
    words: Vec<String>,
    line: usize,
    stop: Stop,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Semicolon,
    Open,
    /// Without words.
    Close,
    /// Without words.
    End,
}

impl Words {
    fn directive(self, file: &Arc<str>, body: Body, end: usize) -> Directive {
        let mut words = self.words.into_iter();
        let name = words.next().unwrap_or_default();
        let place = Place { file: Arc::clone(file), line: self.line };
        Directive { name, args: words.collect(), body, place, end }
    }
}

struct Reader<'t> {
    file: &'t Arc<str>,
    rest: &'t str,
    line: usize,
}

impl Reader<'_> {
    fn error<T>(&self, line: usize, message: String) -> Result<T, SyntaxError> {
        Err(SyntaxError { place: Place { file: Arc::clone(self.file), line }, message })
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    /// The next directive's words.
    fn words(&mut self) -> Result<Words, SyntaxError> {
        let mut words = Vec::new();
        let mut line = self.line;
        loop {
            let Some(next) = self.peek() else {
                // Not quoted: what is included by mistake may be a file of passwords.
                if !words.is_empty() {
                    let message = "the file ends within a directive: \";\" or \"}\" is missing";
                    return self.error(line, message.to_owned());
                }
                return Ok(Words { words, line, stop: Stop::End });
            };
            let stop = match next {
                ' ' | '\t' | '\r' | '\n' => {
                    self.next();
                    continue;
                }
                '#' => {
                    let end = self.rest.find('\n').unwrap_or(self.rest.len());
                    self.rest = &self.rest[end..];
                    continue;
                }
                ';' => Stop::Semicolon,
                '{' => Stop::Open,
                '}' => Stop::Close,
                _ => {
                    if words.is_empty() {
                        line = self.line;
                    }
                    words.push(self.word()?);
                    continue;
                }
            };
            if words.is_empty() != (stop == Stop::Close) {
                return self.error(self.line, format!("{next:?} is unexpected here"));
            }
            self.next();
            return Ok(Words { words, line, stop });
        }
    }

    /// One word, which begins here.
    fn word(&mut self) -> Result<String, SyntaxError> {
        let line = self.line;
        let quote = self.peek().filter(|next| matches!(next, '"' | '\''));
        if quote.is_some() {
            self.next();
        }
        let mut word = String::new();
        let mut variable = false;
        while let Some(next) = self.peek() {
            // `${name}`: that brace opens no block.
            let opens = next == '{' && !variable;
            let ends = match quote {
                Some(quote) => next == quote,
                None => matches!(next, ' ' | '\t' | '\r' | '\n' | ';') || opens,
            };
            if ends {
                if quote.is_some() {
                    self.next();
                    let follows = self.peek();
                    let fits = |next| matches!(next, ' ' | '\t' | '\r' | '\n' | ';' | '{' | ')');
                    if follows.is_some_and(|next| !fits(next)) {
                        return self
                            .error(self.line, "a space is missing after a quote".to_owned());
                    }
                }
                return Ok(word);
            }
            self.next();
            variable = next == '$';
            if next != '\\' {
                word.push(next);
                continue;
            }
            match self.next() {
                Some(escaped @ ('"' | '\'' | '\\')) => word.push(escaped),
                Some('t') => word.push('\t'),
                Some('r') => word.push('\r'),
                Some('n') => word.push('\n'),
                Some(other) => word.extend(['\\', other]),
                None => word.push('\\'),
            }
        }
        match quote {
            Some(quote) => self.error(line, format!("the quote {quote} is not closed")),
            None => Ok(word),
        }
    }

    /// Lua up to the brace that closes the block, which is taken too. `line` is where the directive began.
    fn lua(&mut self, line: usize) -> Result<String, SyntaxError> {
        let start = self.rest;
        let mut depth = 1;
        loop {
            let before = self.rest;
            if let Some(length) = long_bracket(before.strip_prefix("--").unwrap_or(before)) {
                self.skip(length + if before.starts_with("--") { 2 } else { 0 });
                continue;
            }
            if before.starts_with("--") {
                self.skip(before.find('\n').unwrap_or(before.len()));
                continue;
            }
            match self.next() {
                Some(quote @ ('"' | '\'')) => self.lua_string(quote),
                Some('{') => depth += 1,
                Some('}') => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok(start[..start.len() - before.len()].to_owned());
                    }
                }
                Some(_) => {}
                None => return self.error(line, "the block of Lua is not closed".to_owned()),
            }
        }
    }

    fn lua_string(&mut self, quote: char) {
        while let Some(next) = self.next() {
            match next {
                '\\' => {
                    self.next();
                }
                // A string ends with its line, closed or not.
                '\n' => return,
                _ if next == quote => return,
                _ => {}
            }
        }
    }

    /// Goes on by so many bytes.
    fn skip(&mut self, bytes: usize) {
        let (gone, rest) = self.rest.split_at(bytes);
        self.line += gone.matches('\n').count();
        self.rest = rest;
    }
}

/// The length of a long string or comment of Lua (`[[…]]`, `[=[…]=]`) at the start; to the end of the text where it is not closed.
fn long_bracket(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('[')?;
    let level = inner.bytes().take_while(|byte| *byte == b'=').count();
    let content = inner[level..].strip_prefix('[')?;
    let close = format!("]{}]", "=".repeat(level));
    let start = 2 + level;
    Some(content.find(&close).map_or(text.len(), |at| start + at + close.len()))
}

#[cfg(test)]
mod tests;
