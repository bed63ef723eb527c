//! Files, folders and standard input, read once: for who judges them and ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use tidegate_table::ObjectRef;
use tidegate_untrusted::files;

use super::{
    FileProblem, Merger,
    documents::{Object, Parsed},
    scan::{self, BOUNDS, LONGEST, Reading},
};
use crate::translate::Inputs;

/// Where an object stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// The document in it, counted from 1.
    pub document: usize,
    /// Its first line, counted from 1.
    pub line: usize,
}

/// All that was read, with the place of each route.
#[derive(Default)]
pub struct Manifests {
    merger: Merger,
    /// Where the WebSocketRoutes stand that are inputs.
    pub routes: BTreeMap<ObjectRef, Place>,
    /// Documents that are no objects, objects that the API server would refuse, objects that are there twice.
    pub problems: Vec<FileProblem>,
    /// Fields of other kinds that are not known here: the API server may know them. Folders that were not looked into.
    pub unknown: Vec<FileProblem>,
    /// Files and folders that could not be read.
    pub unreadable: Vec<FileProblem>,
    /// ConfigMaps that are there, but have nothing that concerns us.
    pub empty_config_maps: BTreeSet<ObjectRef>,
    /// Files that have been read, so that each counts once however it was named.
    seen: BTreeSet<PathBuf>,
}

impl Manifests {
    /// Reads a file, whatever its name, or all `*.yaml`, `*.yml` and `*.json` of a folder and its sub-folders. What has been
    /// read already is not read again.
    pub fn add_path(&mut self, path: &Path) {
        let name = path.display().to_string();
        match fs::metadata(path) {
            Err(error) => self.cannot_read(&name, &error),
            Ok(metadata) if metadata.is_dir() => match scan::scan(path, BOUNDS) {
                Err(error) => self.cannot_read(&name, &error),
                Ok(scan) => {
                    for (below, content) in scan.found {
                        let path = path.join(&below);
                        self.add_reading(&path, &path.display().to_string(), &content);
                    }
                }
            },
            Ok(_) => self.add_reading(path, &name, &Reading::of_named(path)),
        }
    }

    /// Reads to the end of `input`, such as standard input; `name` is what problems call it.
    pub fn add_stream(&mut self, name: &str, input: impl Read) {
        match files::read_text(input, LONGEST) {
            Err(error) => self.cannot_read(name, &error),
            Ok(text) => self.add_text(name, &text),
        }
    }

    /// Reads the documents of `text`.
    pub fn add_text(&mut self, name: &str, text: &str) {
        self.add_parsed(name, super::parse(name, text));
    }

    /// The objects as translation takes them. Every kind counts as installed.
    pub fn inputs(&self) -> Inputs {
        let mut inputs = self.merger.inputs.clone();
        inputs.reference_grants.get_or_insert_default();
        inputs
    }

    fn cannot_read(&mut self, name: &str, error: &io::Error) {
        self.unreadable.push(FileProblem {
            file: name.to_owned(),
            document: None,
            line: None,
            message: format!("cannot be read: {error}"),
        });
    }

    fn add_reading(&mut self, path: &Path, name: &str, content: &Reading) {
        if let Reading::LeftOut(why) = content {
            // Nothing is missed of what was meant: repositories have such folders.
            let message = format!("{name} is left out: {why}");
            let file = name.to_owned();
            self.unknown.push(FileProblem { file, document: None, line: None, message });
            return;
        }
        // A pipe of the shell (`<(…)`) has no such path, and is read once anyway.
        if let Ok(path) = fs::canonicalize(path)
            && !self.seen.insert(path)
        {
            return;
        }
        match content {
            Reading::Text(text) => self.add_text(name, text),
            _ => self.unreadable.extend(content.parse(name).problems),
        }
    }

    fn add_parsed(&mut self, name: &str, parsed: Parsed) {
        let Parsed { objects, mut problems, unknown, passed_over } = parsed;
        for located in objects {
            match self.merger.add(name, &located) {
                Err(problem) => problems.push(problem),
                Ok(()) if matches!(located.object, Object::Route(_)) => {
                    let file = name.to_owned();
                    let place = Place { file, document: located.document, line: located.line };
                    self.routes.insert(located.reference, place);
                }
                Ok(()) => {}
            }
        }
        problems.sort_by_key(|problem| problem.document);
        self.problems.extend(problems);
        self.unknown.extend(unknown);
        let config_maps = passed_over.into_iter().filter(|(kind, _)| *kind == "ConfigMap");
        self.empty_config_maps.extend(config_maps.map(|(_, name)| name));
    }
}
