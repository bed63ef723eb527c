//! Keeps the last good inputs on disk, and has them served when the source does not come in time after a start.

use std::{io, time::Duration};

use sha2::{Digest, Sha256};
use tokio::{task::JoinHandle, time::Instant};

use super::HoldOff;
use crate::{source::snapshot::SnapshotFolder, translate::Inputs};

/// How long the source has, after a start, before a snapshot serves.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// At most that often something is written.
const INTERVAL: Duration = Duration::from_secs(5);

/// The folder, and what of it is done.
pub(super) struct SnapshotWriter {
    folder: SnapshotFolder,
    /// When the source's time is over; `None` once it has come, or a snapshot has.
    pub(super) grace: Option<Instant>,
    /// When to write.
    pub(super) pause: HoldOff,
    /// The last write.
    writing: Option<JoinHandle<Kept>>,
    kept: Kept,
}

/// The SHA-256 of what is on disk, or that this is not known, because nothing has been written or it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Content([u8; 32]),
    Nothing,
    Failed,
}

impl SnapshotWriter {
    pub(super) fn new(folder: SnapshotFolder, now: Instant) -> Self {
        Self {
            folder,
            grace: Some(now + GRACE),
            pause: HoldOff::new(INTERVAL, INTERVAL),
            writing: None,
            kept: Kept::Nothing,
        }
    }

    /// The source has all it needs: nothing but that is served from now on, and it is kept soon.
    pub(super) fn source_has_come(&mut self, now: Instant) {
        self.grace = None;
        self.pause.changed(now);
    }

    /// What is kept, to be served in place of what the source does not give; with the time when it was kept.
    pub(super) fn load(&mut self) -> Option<(Inputs, jiff::Timestamp)> {
        self.grace = None;
        let folder = self.folder.folder.display();
        match self.folder.load() {
            Ok(None) => tracing::warn!(
                "there is no snapshot in {folder}; nothing is served until the source has been read"
            ),
            Ok(found) => return found,
            Err(error) => tracing::warn!("the snapshot in {folder} cannot be used: {error}"),
        }
        None
    }

    /// Writes what of `inputs` is to be kept, on another thread, unless it is what is there.
    pub(super) async fn keep(&mut self, inputs: Inputs, now: Instant) {
        self.pause.built();
        if let Some(writing) = &mut self.writing {
            if !writing.is_finished() {
                // A slow disk: the next time.
                self.pause.changed(now);
                return;
            }
            self.kept = writing.await.unwrap_or(Kept::Failed);
        }
        let (folder, kept) = (self.folder.clone(), self.kept);
        self.writing = Some(tokio::task::spawn_blocking(move || write(&folder, &inputs, kept)));
    }
}

/// What is on disk afterwards.
fn write(folder: &SnapshotFolder, inputs: &Inputs, kept: Kept) -> Kept {
    let written = || -> io::Result<Kept> {
        let content = folder.content(inputs)?;
        let new = Kept::Content(Sha256::digest(&content).into());
        if new != kept {
            folder.keep(&content)?;
            tracing::debug!(bytes = content.len(), "snapshot written");
        }
        Ok(new)
    };
    written().unwrap_or_else(|error| {
        // A disk that is full stays so for a while.
        if kept != Kept::Failed {
            tracing::warn!("no snapshot can be kept in {}: {error}", folder.folder.display());
        }
        Kept::Failed
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn only_what_has_changed_is_written() {
        let place = tempfile::tempdir().unwrap();
        let folder = SnapshotFolder { folder: place.path().to_owned(), secrets: false };
        let file = || {
            let entry = fs::read_dir(place.path()).unwrap().next().unwrap().unwrap();
            entry.metadata().unwrap().ino()
        };
        let mut inputs = Inputs::default();
        let kept = write(&folder, &inputs, Kept::Nothing);
        // Held open, so that its number is not given to another one.
        let first = fs::File::open(place.path().join("tidegate-snapshot.json")).unwrap();
        let number = first.metadata().unwrap().ino();
        assert_eq!(write(&folder, &inputs, kept), kept);
        assert_eq!(file(), number);
        inputs.reference_grants = Some(Vec::new());
        assert_ne!(write(&folder, &inputs, kept), kept);
        assert_ne!(file(), number);
    }

    #[test]
    fn a_folder_that_cannot_be_written_harms_nobody() {
        let place = tempfile::NamedTempFile::new().unwrap();
        let folder = SnapshotFolder { folder: place.path().join("under-a-file"), secrets: false };
        let mut keeper = SnapshotWriter::new(folder.clone(), Instant::now());
        assert_eq!(write(&folder, &Inputs::default(), Kept::Nothing), Kept::Failed);
        assert!(keeper.load().is_none() && keeper.grace.is_none());
    }
}
