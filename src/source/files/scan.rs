//! Reads the files of a folder.

use std::{collections::BTreeMap, ffi::OsStr, fs, io, os::unix::fs::MetadataExt, path::Path};

use super::documents::{FileProblem, Parsed, parse};

/// Deeper folders are left out: links may go in circles.
const DEEPEST: usize = 8;
/// Longer files are not read: a folder of YAML was meant.
pub(super) const LONGEST: u64 = 16 << 20;

/// Tells a folder from another one under the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FolderId(u64, u64);

impl FolderId {
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(folder)?;
        Ok(Self(metadata.dev(), metadata.ino()))
    }
}

/// The content of a file, or why it could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Text(String),
    Unreadable(String),
}

impl Reading {
    pub(super) fn of(path: &Path) -> Self {
        let text = fs::metadata(path).and_then(|metadata| {
            if metadata.len() > LONGEST {
                return Err(too_long());
            }
            fs::read_to_string(path)
        });
        match text {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }

    /// The objects of the file called `name`.
    pub(super) fn parse(&self, name: &str) -> Parsed {
        match self {
            Self::Text(text) => parse(name, text),
            Self::Unreadable(error) => {
                let message = format!("cannot be read: {error}");
                let problem =
                    FileProblem { file: name.to_owned(), document: None, line: None, message };
                Parsed { problems: vec![problem], ..Parsed::default() }
            }
        }
    }
}

/// A file is longer than [`LONGEST`].
pub(super) fn too_long() -> io::Error {
    io::Error::other(format!("longer than {} MiB", LONGEST >> 20))
}

/// The files below `folder`, by their path below it.
pub(super) fn scan(folder: &Path) -> io::Result<BTreeMap<String, Reading>> {
    let mut found = BTreeMap::new();
    descend(folder, "", 0, &mut found)?;
    Ok(found)
}

fn descend(
    folder: &Path,
    prefix: &str,
    depth: usize,
    found: &mut BTreeMap<String, Reading>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        let shown = format!("{prefix}{name}");
        let yaml = path
            .extension()
            .and_then(OsStr::to_str)
            .is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"));
        // Follows links. What is gone by now, or leads nowhere, is only told of if it is called a YAML file.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() && depth < DEEPEST => {
                let below = format!("{shown}/");
                match descend(&path, &below, depth + 1, found) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        found.insert(below, Reading::Unreadable(error.to_string()));
                    }
                    _ => {}
                }
            }
            Ok(metadata) if metadata.is_file() && yaml => {
                found.insert(shown, Reading::of(&path));
            }
            Err(error) if yaml => {
                found.insert(shown, Reading::Unreadable(error.to_string()));
            }
            _ => {}
        }
    }
    Ok(())
}
