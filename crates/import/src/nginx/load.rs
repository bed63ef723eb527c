//! A configuration with everything that it includes, each directive under the name of its own file.

use std::sync::Arc;

use super::parse::{Body, Directive, Place, parse};
use crate::{Files, ir::Imported};

/// Files include no deeper than this: they may include themselves.
const DEEPEST: usize = 12;
/// No more bytes are read in all.
const MOST_BYTES: usize = 32 << 20;
/// No more files are.
const MOST_FILES: usize = 2_000;
/// No more `include` is looked at.
const MOST_INCLUDES: usize = 10_000;
/// Where configurations think that they are, though a copy of them is read.
const USUAL_FOLDERS: [&str; 2] = ["/etc/nginx/", "/usr/local/nginx/conf/"];
/// Files of nginx's package with nothing in them that could concern a WebSocket.
const OF_NO_CONCERN: [&str; 5] =
    ["mime.types", "fastcgi_params", "fastcgi.conf", "uwsgi_params", "scgi_params"];

/// Reads `main` and what it includes. What cannot be read is told in `into`.
pub(super) fn load(main: &str, files: &dyn Files, into: &mut Imported) -> Vec<Directive> {
    let folder = main.rfind('/').map_or("", |at| &main[..=at]);
    let mut loader = Loader { folder, files, bytes: 0, count: 0, includes: 0, spent: false, into };
    match loader.file(main, 0) {
        Ok(directives) => directives,
        Err(error) => {
            loader.into.unreadable.push(error);
            Vec::new()
        }
    }
}

struct Loader<'a> {
    /// Of the main file, with a slash, or empty: relative paths begin there.
    folder: &'a str,
    files: &'a dyn Files,
    bytes: usize,
    count: usize,
    includes: usize,
    /// One of the bounds is reached, and was told: nothing more is read.
    spent: bool,
    into: &'a mut Imported,
}

impl Loader<'_> {
    fn file(&mut self, path: &str, depth: usize) -> Result<Vec<Directive>, String> {
        let text =
            self.files.read(path).map_err(|error| format!("{path}: cannot be read: {error}"))?;
        self.bytes += text.len();
        self.count += 1;
        if self.bytes > MOST_BYTES || self.count > MOST_FILES {
            self.spent = true;
            return Err(format!(
                "{path}: is not read: more than {} MiB or {MOST_FILES} files are included",
                MOST_BYTES >> 20
            ));
        }
        let name = Arc::from(path);
        let directives = parse(&name, &text).map_err(|error| error.to_string())?;
        Ok(self.expand(directives, depth))
    }

    fn expand(&mut self, directives: Vec<Directive>, depth: usize) -> Vec<Directive> {
        let mut expanded = Vec::with_capacity(directives.len());
        for mut directive in directives {
            match (directive.name.as_str(), &mut directive.body) {
                // Tables, whose keys are no directives.
                ("types", _) => {}
                ("include", Body::None) => {
                    let (place, wanted) = (directive.place.clone(), directive.arg(0).to_owned());
                    expanded.extend(self.include(&place, &wanted, depth + 1));
                    continue;
                }
                (_, Body::Block(inner)) => *inner = self.expand(std::mem::take(inner), depth),
                _ => {}
            }
            expanded.push(directive);
        }
        expanded
    }

    fn include(&mut self, place: &Place, wanted: &str, depth: usize) -> Vec<Directive> {
        let base = wanted.rsplit('/').next().unwrap_or(wanted);
        if self.spent || OF_NO_CONCERN.contains(&base) {
            return Vec::new();
        }
        self.includes += 1;
        let included = if self.includes > MOST_INCLUDES {
            self.spent = true;
            Err(format!("there are more than {MOST_INCLUDES} includes; the others are left out"))
        } else if depth > DEEPEST {
            Err(format!("files include each other more than {DEEPEST} deep"))
        } else {
            self.find(wanted).map(|paths| {
                let mut all = Vec::new();
                for path in paths {
                    if self.spent {
                        break;
                    }
                    match self.file(&path, depth) {
                        Ok(directives) => all.extend(directives),
                        Err(error) => {
                            self.into.unreadable.push(format!("{error} (included at {place})"));
                        }
                    }
                }
                all
            })
        };
        included.unwrap_or_else(|error| {
            self.into.unreadable.push(format!("{place}: include {wanted}: {error}"));
            Vec::new()
        })
    }

    /// The files that are meant: for a copy of /etc/nginx beside the main file, which may be another machine's; else under the path
    /// as it stands.
    fn find(&self, wanted: &str) -> Result<Vec<String>, String> {
        let beside = |path: &str| format!("{}{path}", self.folder);
        let mut candidates = Vec::new();
        if wanted.starts_with('/') {
            let copies = USUAL_FOLDERS.iter().filter_map(|usual| wanted.strip_prefix(usual));
            candidates.extend(copies.map(beside));
            candidates.push(wanted.to_owned());
        } else {
            candidates.push(beside(wanted));
        }
        let pattern = wanted.contains(['*', '?', '[']);
        for candidate in &candidates {
            let found = if pattern {
                self.files.list(candidate)?
            } else if self.files.exists(candidate) {
                vec![candidate.clone()]
            } else {
                Vec::new()
            };
            if !found.is_empty() {
                return Ok(found);
            }
        }
        // nginx takes a pattern without files for nothing, and a missing file for a fault.
        if pattern { Ok(Vec::new()) } else { Err("there is no such file".to_owned()) }
    }
}
