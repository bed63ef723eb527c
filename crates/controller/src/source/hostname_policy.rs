//! The hostname policy: a file beside whatever source there is, read again when it changes.
//!
//! At a start it must be sound, for without it hostnames would go to whom it keeps them from. Later a broken one changes nothing:
//! the last sound one holds, and what is wrong is told.

mod parse;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::Notify, time::Instant};

pub use parse::{PolicyFault, parse};

use tidegate_api::HostnamePolicy;
use tidegate_untrusted::files::read_regular;

use super::{Change, Observed, Source, SourceState};
use crate::translate::Inputs;

/// How often the file is read without being told of a change, for file systems that tell nothing.
const RESCAN: Duration = Duration::from_secs(10);
/// After a notice more are waited for so long, for one change brings many.
const SETTLE: Duration = Duration::from_millis(10);
/// Longer files are not read.
const LONGEST: u64 = 1 << 20;
/// Its name in `tidegate_source_synced{kind}`.
const KIND: &str = "hostname-policy";

/// Why there is no policy to go by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--hostname-policy: {}{}: {}", file.display(), line_of(fault), fault.message)]
pub struct PolicyError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: PolicyFault,
}

fn line_of(fault: &PolicyFault) -> String {
    fault.line.map(|line| format!(", line {line}")).unwrap_or_default()
}

/// Reads a policy once.
pub fn read(file: &Path) -> Result<HostnamePolicy, PolicyError> {
    let wrong = |fault| PolicyError { file: file.to_owned(), fault };
    let text = read_regular(file, LONGEST).map_err(|error| {
        wrong(PolicyFault { line: None, message: format!("cannot be read: {error}") })
    })?;
    parse(&text).map_err(wrong)
}

/// The file, followed.
pub struct PolicyFile {
    file: PathBuf,
    policy: Arc<HostnamePolicy>,
    /// What is wrong with the file as it is now.
    error: Option<PolicyError>,
    notice: Arc<Notify>,
    /// `None` where the folder cannot be watched: then it is read every ten seconds.
    _watch: Option<RecommendedWatcher>,
    /// A notice was taken, but the file not read since.
    dirty: bool,
    rescan: Instant,
}

impl PolicyFile {
    /// Reads the file, which must be sound, and begins to watch it.
    pub fn open(file: &Path) -> Result<Self, PolicyError> {
        let notice = Arc::new(Notify::new());
        // Before reading: a change after it is then noticed.
        let watch = watch(file, Arc::clone(&notice));
        if let Err(error) = &watch {
            tracing::warn!(
                "the folder of {} cannot be watched: {error}; the file is read every {} s instead",
                file.display(),
                RESCAN.as_secs()
            );
        }
        let policy = Arc::new(read(file)?);
        Ok(Self {
            file: file.to_owned(),
            policy,
            error: None,
            notice,
            _watch: watch.ok(),
            dirty: false,
            rescan: Instant::now() + RESCAN,
        })
    }

    /// Reads the file again. What that changes, if anything.
    fn reread(&mut self) -> Option<Change> {
        self.dirty = false;
        self.rescan = Instant::now() + RESCAN;
        match read(&self.file) {
            Ok(policy) => {
                let mended = self.error.take().is_some();
                if policy == *self.policy {
                    return mended.then_some(Change::Inputs);
                }
                tracing::info!("the hostname policy in {} has changed", self.file.display());
                self.policy = Arc::new(policy);
                Some(Change::Inputs)
            }
            Err(error) if self.error.as_ref() == Some(&error) => None,
            Err(error) => {
                tracing::warn!("{error}; {KEPT}");
                self.error = Some(error);
                Some(Change::Sync)
            }
        }
    }

    /// Waits until the file has been read anew and something differs.
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
            tokio::time::sleep(SETTLE).await;
            if let Some(change) = self.reread() {
                return change;
            }
        }
    }
}

const KEPT: &str = "the last sound hostname policy holds";

/// Watches the folder of the file: the file itself may be another one each time, and where it comes from a ConfigMap it is a link
/// to a link that changes.
fn watch(file: &Path, notice: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let folder = match file.parent() {
        Some(folder) if folder.as_os_str() != OsStr::new("") => folder,
        _ => Path::new("."),
    };
    let mut watch = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file is an event as well; of ours there would be no end.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            notice.notify_one();
        }
    })?;
    watch.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watch)
}

/// A source with a hostname policy beside it, or without one.
pub struct Governed<S> {
    source: S,
    policy: Option<PolicyFile>,
}

impl<S: Source> Governed<S> {
    /// This source under that policy.
    pub fn new(source: S, policy: Option<PolicyFile>) -> Self {
        let mut governed = Self { source, policy };
        governed.ask();
        governed
    }

    /// Has the labels of namespaces read, if the policy asks for them.
    fn ask(&mut self) {
        if self.policy.as_ref().is_some_and(|file| file.policy.asks_for_labels()) {
            self.source.ask_for_labels();
        }
    }
}

impl<S: Source> Source for Governed<S> {
    async fn changed(&mut self) -> Change {
        let Some(file) = &mut self.policy else { return self.source.changed().await };
        let change = tokio::select! {
            change = self.source.changed() => return change,
            change = file.changed() => change,
        };
        self.ask();
        change
    }

    fn snapshot(&self) -> Option<SourceState> {
        let mut snapshot = self.source.snapshot()?;
        self.complete(&mut snapshot.inputs);
        Some(snapshot)
    }

    fn synced(&self) -> Vec<(&'static str, bool)> {
        let mut synced = self.source.synced();
        synced.extend(self.policy.as_ref().map(|file| (KIND, file.error.is_none())));
        synced
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = self.source.faults();
        let error = self.policy.as_ref().and_then(|file| file.error.as_ref());
        faults.extend(error.map(|error| format!("{error}; {KEPT}")));
        faults
    }

    fn observed(&self) -> Observed {
        self.source.observed()
    }

    fn complete(&self, kept: &mut Inputs) {
        self.source.complete(kept);
        kept.hostname_policy = self.policy.as_ref().map(|file| Arc::clone(&file.policy));
    }
}

#[cfg(test)]
mod tests;
