//! Reads the files of a folder, within bounds: who may write into it must not be able to stop what others have written from being read.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tidegate_core::escape;
use tidegate_untrusted::files;

use super::documents::{FileProblem, Parsed, parse};

/// Longer files are not read: a folder of YAML was meant.
pub(super) const LONGEST: u64 = 16 << 20;

/// How much is read of a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How deep folders are looked for in it.
    pub(super) depth: usize,
    /// Entries of one folder, whatever they are.
    pub(super) entries: usize,
    /// Folders in all.
    pub(super) folders: usize,
    /// Files in all.
    pub(super) files: usize,
    /// Bytes in all.
    pub(super) bytes: u64,
}

pub(super) const BOUNDS: Bounds =
    Bounds { depth: 8, entries: 10_000, folders: 1_000, files: 10_000, bytes: 64 << 20 };

/// Tells a folder from another one under the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FolderId(u64, u64);

impl FolderId {
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        fs::metadata(folder).map(|metadata| Self::from(&metadata))
    }
}

impl From<&fs::Metadata> for FolderId {
    fn from(metadata: &fs::Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// The content of a file, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Text(String),
    Unreadable(String),
    /// A folder that is not looked into: it is read under another name, or lies too deep.
    LeftOut(String),
}

impl Reading {
    /// What somebody has named: a pipe is read as well.
    pub(super) fn of_named(path: &Path) -> Self {
        Self::from(files::read_named(path, LONGEST))
    }

    /// The objects of the file called `name`.
    pub(super) fn parse(&self, name: &str) -> Parsed {
        match self {
            Self::Text(text) => parse(name, text),
            Self::Unreadable(why) | Self::LeftOut(why) => {
                let message = match self {
                    Self::LeftOut(_) => format!("is left out: {why}"),
                    _ => format!("cannot be read: {why}"),
                };
                let problem =
                    FileProblem { file: name.to_owned(), document: None, line: None, message };
                Parsed { problems: vec![problem], ..Parsed::default() }
            }
        }
    }
}

impl From<io::Result<String>> for Reading {
    fn from(read: io::Result<String>) -> Self {
        match read {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

/// What a folder holds.
#[derive(Debug)]
pub(super) struct Scan {
    /// The files, by their path below the folder. A folder that could not be read is among them, with a slash at its end.
    pub(super) found: BTreeMap<String, Reading>,
    /// The folder itself and those below it that have been read.
    pub(super) folders: Vec<(PathBuf, FolderId)>,
}

/// Reads the files below `folder`. Fails where that itself cannot be read.
pub(super) fn scan(folder: &Path, bounds: Bounds) -> io::Result<Scan> {
    let mut walk = Walk {
        bounds,
        files: 0,
        bytes: 0,
        waiting: VecDeque::new(),
        named: HashMap::new(),
        scan: Scan { found: BTreeMap::new(), folders: Vec::new() },
    };
    let id = FolderId::of(folder)?;
    walk.named.insert(id, String::new());
    walk.folder(&Below { path: folder.to_owned(), prefix: String::new(), depth: 0, id })?;
    // The nearer ones first: what lies deep in one folder is the last to be left out.
    while let Some(below) = walk.waiting.pop_front() {
        match walk.folder(&below) {
            // It is gone by now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => walk.cannot_read(below.prefix, error.to_string()),
            Ok(()) => {}
        }
    }
    Ok(walk.scan)
}

/// A folder that is still to be read.
struct Below {
    path: PathBuf,
    /// Its path below the first, with a slash at its end.
    prefix: String,
    depth: usize,
    id: FolderId,
}

struct Walk {
    bounds: Bounds,
    files: usize,
    bytes: u64,
    waiting: VecDeque<Below>,
    /// How each folder is called that was come across, so that no other name of it is followed.
    named: HashMap<FolderId, String>,
    scan: Scan,
}

impl Walk {
    fn cannot_read(&mut self, name: String, why: String) {
        self.scan.found.insert(name, Reading::Unreadable(why));
    }

    fn folder(&mut self, below: &Below) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&below.path)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if entries.len() == self.bounds.entries {
                let most = self.bounds.entries;
                return Err(io::Error::other(format!(
                    "it holds more than {most} files and folders"
                )));
            }
            entries.push(entry.path());
        }
        // The same are left out at each reading, where some have to be.
        entries.sort();
        self.scan.folders.push((below.path.clone(), below.id));
        for path in entries {
            self.entry(below, &path);
        }
        Ok(())
    }

    fn entry(&mut self, below: &Below, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let shown = format!("{}{}", below.prefix, escape::value(&name));
        let yaml = path
            .extension()
            .and_then(OsStr::to_str)
            .is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"));
        // Follows links. What is gone by now, leads nowhere or is no file is only told of if it is called a YAML file.
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.note_folder(below, path, &shown, &metadata),
            Ok(_) if yaml => {
                let reading = self.file(path);
                self.scan.found.insert(shown, reading);
            }
            Err(error) if yaml => self.cannot_read(shown, error.to_string()),
            _ => {}
        }
    }

    /// A folder to read later, unless there is a reason not to.
    fn note_folder(&mut self, above: &Below, path: &Path, shown: &str, metadata: &fs::Metadata) {
        let (prefix, id) = (format!("{shown}/"), FolderId::from(metadata));
        let Bounds { depth, folders, .. } = self.bounds;
        if let Some(first) = self.named.get(&id) {
            let first = if first.is_empty() { "the folder itself" } else { first };
            let why = format!("it is {first} again, which is read once; remove the link");
            self.scan.found.insert(prefix, Reading::LeftOut(why));
        } else if above.depth == depth {
            let why = format!("it lies more than {depth} folders deep");
            self.scan.found.insert(prefix, Reading::LeftOut(why));
        } else if self.named.len() > folders {
            self.cannot_read(prefix, format!("there are more than {folders} folders"));
        } else {
            self.named.insert(id, prefix.clone());
            let (path, depth) = (path.to_owned(), above.depth + 1);
            self.waiting.push_back(Below { path, prefix, depth, id });
        }
    }

    fn file(&mut self, path: &Path) -> Reading {
        let Bounds { files, bytes, .. } = self.bounds;
        if self.files == files {
            return Reading::Unreadable(format!("there are more than {files} files"));
        }
        self.files += 1;
        let left = bytes - self.bytes;
        match files::read_regular(path, LONGEST.min(left)) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge && left < LONGEST => {
                Reading::Unreadable(format!(
                    "the files before it and it are more than {} MiB",
                    bytes >> 20
                ))
            }
            read => {
                self.bytes += read.as_ref().map_or(0, |text| text.len() as u64);
                Reading::from(read)
            }
        }
    }
}

#[cfg(test)]
mod tests;
