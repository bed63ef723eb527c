//! A folder of the same YAML that the API server holds, watched.
//!
//! Files named `*.yaml`, `*.yml` and `*.json` are read, in sub-folders too; names that begin with a dot
//! are left out, which is what makes a mounted ConfigMap (`..data` and links into it) look like the
//! folder that it stands for. Each file stands for itself: while one is broken, what it held when it
//! was last sound stays in service, and all other files are followed. How much is read is bounded
//! (`scan`), and nothing but files is: no pipe, no device, no folder twice.

mod documents;
mod manifests;
mod scan;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

pub use documents::FileProblem;
use documents::{Located, Object, Parsed, parse};
pub use manifests::{Manifests, Place};
use tidegate_table::ObjectRef;

use super::{Change, Observed, Source, SourceProblem, SourceState};
use crate::translate::{Inputs, RouteInput};
use scan::{BOUNDS, FolderId, Reading, Scan};

/// How often the folder is read without being told of a change, for file systems that tell nothing.
const RESCAN: Duration = Duration::from_secs(10);
/// After a notice more are waited for so long, for one change brings many.
const SETTLE: Duration = Duration::from_millis(10);
/// The source's name in `tidegate_source_synced{kind}`.
const KIND: &str = "files";

/// Why a folder cannot be a source.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read the folder {}: {error}; name an existing folder of YAML files that this user may read",
    folder.display()
)]
pub struct FilesError {
    folder: PathBuf,
    error: io::Error,
}

/// A folder of YAML.
#[derive(Debug)]
pub struct FilesSource {
    folder: PathBuf,
    files: BTreeMap<String, File>,
    /// What is wrong with the folder as a whole.
    folder_problem: Option<String>,
    snapshot: SourceState,
    notice: Arc<Notify>,
    watch: Option<Watch>,
    /// What was said about the watch last, so that it is said once.
    watch_fault: Option<String>,
    /// A notice was taken, but the folder not read since.
    dirty: bool,
    /// When to read the folder without a notice.
    rescan: tokio::time::Instant,
    /// How long after a notice it is read: as long as the last reading took, so that who writes without end takes half of
    /// this thread's time at most.
    settle: Duration,
}

/// The watch over a folder and those below it.
#[derive(Debug)]
struct Watch {
    /// What is watched, or was to be.
    folders: Vec<(PathBuf, FolderId)>,
    /// One of them was removed: what has come into its place, with its number even, is not watched.
    stale: Arc<AtomicBool>,
    /// `None` where that could not be.
    _watcher: Option<RecommendedWatcher>,
}

/// One file.
#[derive(Debug)]
struct File {
    content: Reading,
    /// From the last sound content, or what was sound of the first.
    objects: Vec<Located>,
    problems: Vec<FileProblem>,
}

impl FilesSource {
    /// Reads the folder for the first time and begins to watch it. Files that are broken are no error
    /// here, but problems of the snapshot.
    pub fn open(folder: &Path) -> Result<Self, FilesError> {
        let mut source = Self {
            folder: folder.to_owned(),
            files: BTreeMap::new(),
            folder_problem: None,
            snapshot: SourceState::default(),
            notice: Arc::new(Notify::new()),
            watch: None,
            watch_fault: None,
            dirty: false,
            rescan: tokio::time::Instant::now() + RESCAN,
            settle: SETTLE,
        };
        std::fs::read_dir(folder)
            .map_err(|error| FilesError { folder: folder.to_owned(), error })?;
        source.read();
        source.snapshot = source.merge();
        Ok(source)
    }

    /// Reads the folder again. Whether anything differs from before.
    fn read(&mut self) -> bool {
        let begun = tokio::time::Instant::now();
        self.dirty = false;
        let changed = self.read_files();
        let ended = tokio::time::Instant::now();
        (self.rescan, self.settle) = (ended + RESCAN, SETTLE.max(ended - begun));
        changed
    }

    fn read_files(&mut self) -> bool {
        let found = match self.scan() {
            Ok(found) => found,
            Err(error) => {
                let problem = format!(
                    "the folder {} cannot be read: {error}; what it held last stays in service",
                    self.folder.display()
                );
                let changed = self.folder_problem.as_ref() != Some(&problem);
                self.folder_problem = Some(problem);
                return changed;
            }
        };
        let mut changed = self.folder_problem.take().is_some();
        let before = self.files.len();
        // What is in a sub-folder that cannot be read is as little gone as an unreadable file.
        let unreadable: Vec<_> = found.keys().filter(|name| name.ends_with('/')).cloned().collect();
        self.files.retain(|name, _| {
            found.contains_key(name)
                || unreadable.iter().any(|folder| name.starts_with(folder.as_str()))
        });
        changed |= self.files.len() != before;
        for (name, content) in found {
            match self.files.get_mut(&name) {
                Some(file) if file.content == content => {}
                Some(file) => {
                    changed = true;
                    let Parsed { objects, problems, .. } = content.parse(&name);
                    if problems.is_empty() {
                        file.objects = objects;
                    }
                    (file.content, file.problems) = (content, problems);
                }
                None => {
                    changed = true;
                    let Parsed { objects, problems, .. } = content.parse(&name);
                    self.files.insert(name, File { content, objects, problems });
                }
            }
        }
        changed
    }

    /// The files, read while all folders that they are in are watched.
    fn scan(&mut self) -> io::Result<BTreeMap<String, Reading>> {
        let mut scan = scan::scan(&self.folder, BOUNDS);
        let folders =
            |scan: &io::Result<Scan>| scan.as_ref().map_or(Vec::new(), |scan| scan.folders.clone());
        let watched = |watch: &Option<Watch>, scan: &io::Result<Scan>| {
            watch.as_ref().is_some_and(|watch| {
                !watch.stale.load(Ordering::Acquire) && watch.folders == folders(scan)
            })
        };
        if !watched(&self.watch, &scan) {
            self.watch(folders(&scan));
            // A change before they were watched was not noticed.
            scan = scan::scan(&self.folder, BOUNDS);
            if !watched(&self.watch, &scan) {
                self.notice.notify_one();
            }
        }
        scan.map(|scan| scan.found)
    }

    /// Watches these folders, each for itself: the links and the depths that the reading goes to and no others. All anew, for one that
    /// was removed and made again is another.
    fn watch(&mut self, folders: Vec<(PathBuf, FolderId)>) {
        let (notice, stale) = (Arc::clone(&self.notice), Arc::new(AtomicBool::new(false)));
        let (removed, paths) = (Arc::clone(&stale), folders.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if let Ok(event) = event {
                // Reading a file is an event as well; of ours there would be no end.
                if event.kind.is_access() {
                    return;
                }
                let watched = |path: &PathBuf| paths.iter().any(|(folder, _)| folder == path);
                if event.kind.is_remove() && event.paths.iter().any(watched) {
                    removed.store(true, Ordering::Release);
                }
            }
            notice.notify_one();
        })
        .and_then(|mut watcher| {
            for (folder, _) in &folders {
                match watcher.watch(folder, RecursiveMode::NonRecursive) {
                    // It is gone by now, as will be seen.
                    Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                    result => result?,
                }
            }
            Ok(watcher)
        });
        let fault = watcher.as_ref().err().map(ToString::to_string);
        if let Some(fault) = &fault
            && self.watch_fault.as_ref() != Some(fault)
        {
            tracing::warn!(
                "the folder {} cannot be watched: {fault}; it is read every {} s instead",
                self.folder.display(),
                RESCAN.as_secs()
            );
        }
        self.watch_fault = fault;
        self.watch = Some(Watch { folders, stale, _watcher: watcher.ok() });
    }

    /// All files as one.
    fn merge(&self) -> SourceState {
        let mut merger = Merger::default();
        merger.inputs.reference_grants = Some(Vec::new());
        let mut problems: Vec<_> = self.folder_problem.iter().cloned().map(SourceProblem).collect();
        for (name, file) in &self.files {
            // Of a folder nothing was read, so nothing is kept.
            let kept = !file.problems.is_empty() && !name.ends_with('/');
            for problem in &file.problems {
                problems.push(SourceProblem(format!("{problem}{}", kept_note(kept, file))));
            }
            for located in &file.objects {
                if let Err(problem) = merger.add(name, located) {
                    problems.push(SourceProblem(problem.to_string()));
                }
            }
        }
        SourceState { inputs: merger.inputs, problems }
    }
}

/// What happens to the rest of a broken file.
fn kept_note(broken: bool, file: &File) -> &'static str {
    match (broken, file.objects.is_empty()) {
        (false, _) => "",
        (true, true) => "; nothing of this file is served",
        (true, false) => "; the objects of this file that were sound last stay in service",
    }
}

impl Source for FilesSource {
    async fn changed(&mut self) -> Change {
        loop {
            if !self.dirty {
                tokio::select! {
                    () = self.notice.notified() => {}
                    () = tokio::time::sleep_until(self.rescan) => {}
                }
                // Kept across a drop of this future in the pause below.
                self.dirty = true;
            }
            tokio::time::sleep(self.settle).await;
            if self.read() {
                let snapshot = self.merge();
                self.snapshot = snapshot;
                return Change::Inputs;
            }
        }
    }

    fn snapshot(&self) -> Option<SourceState> {
        Some(self.snapshot.clone())
    }

    fn synced(&self) -> Vec<(&'static str, bool)> {
        vec![(KIND, self.snapshot.problems.is_empty())]
    }

    fn faults(&self) -> Vec<String> {
        self.snapshot.problems.iter().map(ToString::to_string).collect()
    }

    fn observed(&self) -> Observed {
        Observed::new()
    }
}

/// Reads the documents of one file into `into`. `name` is what problems call it. Objects of kinds that
/// do not concern us are left out; an object that is there already is a problem. Sound documents are
/// read even if others are not.
pub fn parse_documents(name: &str, text: &str, into: &mut Inputs) -> Vec<FileProblem> {
    let Parsed { objects, mut problems, .. } = parse(name, text);
    let mut merger = Merger::onto(std::mem::take(into));
    for located in &objects {
        problems.extend(merger.add(name, located).err());
    }
    *into = merger.inputs;
    problems.sort_by_key(|problem| problem.document);
    problems
}

/// Puts objects together, each once.
#[derive(Default)]
struct Merger {
    inputs: Inputs,
    seen: BTreeMap<(&'static str, ObjectRef), String>,
}

impl Merger {
    fn onto(inputs: Inputs) -> Self {
        let mut seen = BTreeMap::new();
        let mut see = |kind, reference: ObjectRef| {
            seen.insert((kind, reference), "an earlier file".to_owned())
        };
        for route in &inputs.routes {
            let metadata = match route {
                RouteInput::Valid(route) => &route.metadata,
                RouteInput::Unreadable { metadata, .. } => metadata,
            };
            see("WebSocketRoute", super::reference(metadata));
        }
        inputs.secrets.keys().for_each(|key| drop(see("Secret", key.clone())));
        inputs.config_maps.keys().for_each(|key| drop(see("ConfigMap", key.clone())));
        inputs.services.keys().for_each(|key| drop(see("Service", key.clone())));
        for name in inputs.namespace_labels.keys() {
            let namespace = documents::DEFAULT_NAMESPACE.to_owned();
            see("Namespace", ObjectRef { namespace, name: name.clone() });
        }
        for slice in &inputs.endpoint_slices {
            see("EndpointSlice", super::reference(&slice.metadata));
        }
        for grant in inputs.reference_grants.iter().flatten() {
            see("ReferenceGrant", super::reference(&grant.metadata));
        }
        Self { inputs, seen }
    }

    fn add(&mut self, file: &str, located: &Located) -> Result<(), FileProblem> {
        let Located { object, kind, reference, document, line } = located;
        let key = (*kind, reference.clone());
        if let Some(first) = self.seen.get(&key) {
            return Err(FileProblem {
                file: file.to_owned(),
                document: Some(*document),
                line: Some(*line),
                message: format!(
                    "{kind} {reference} is already in {first}, which is the one that counts; remove one of them"
                ),
            });
        }
        self.seen.insert(key, format!("{file}, document {document}, line {line}"));
        let inputs = &mut self.inputs;
        match object.clone() {
            Object::Route(route) => inputs.routes.push(RouteInput::Valid(route)),
            Object::Secret(secret) => drop(inputs.secrets.insert(reference.clone(), secret)),
            Object::ConfigMap(map) => drop(inputs.config_maps.insert(reference.clone(), map)),
            Object::Service(service) => drop(inputs.services.insert(reference.clone(), service)),
            Object::EndpointSlice(slice) => inputs.endpoint_slices.push(slice),
            Object::Namespace(labels) => {
                inputs.namespace_labels.insert(reference.name.clone(), labels);
            }
            Object::ReferenceGrant(grant) => {
                inputs.reference_grants.get_or_insert_default().push(grant);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
