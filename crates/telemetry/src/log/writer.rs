//! Between the threads that log and standard error: lines gather in a buffer, and a thread of the log's own writes what has
//! gathered in one go.
//!
//! Whoever logs appends to the buffer under a lock that is never held across a system call, and wakes the log's thread only where it
//! sleeps. That thread writes at once what woke it, then rests for [`REST`] before it looks again: a lone line is not
//! held back, many become one write, and while nothing is logged nobody wakes. A line that has no room is dropped whole and
//! counted. Knows nothing of filters, and of formats only what may not stand in a line.

use std::{
    io::{self, ErrorKind, Write},
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::escape::Escape;

/// Most bytes that wait to be written; as many again are being written.
const WAITING_BYTES: usize = 1024 * 1024;
/// Most room that a buffer keeps when it is empty, bytes: a burst does not stay in memory.
const KEPT_BYTES: usize = 32 * 1024;
/// Between two writes, in which lines gather; also between two tries where the reader is slow.
const REST: Duration = Duration::from_millis(5);
/// How long the end waits for what is left to be taken.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(1000);

/// Where lines wait to be written. Each `write` is a whole line; it never fails and never waits for the output.
#[derive(Debug)]
pub(super) struct LineBuffer {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    dropped: AtomicU64,
    limit: usize,
    escape: Escape,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// The log's thread sleeps until it is woken.
    asleep: bool,
    /// What comes from now on is dropped.
    closed: bool,
}

/// The end of the log: when dropped, what is left is written, and waited for no longer than [`FLUSH_TIMEOUT`].
#[derive(Debug)]
pub(super) struct LogThread {
    buffer: Arc<LineBuffer>,
    /// Ends with the thread, in whichever way.
    ended: mpsc::Receiver<()>,
}

/// Starts the thread that writes lines to `out`. Fails where there can be no thread.
pub(super) fn spawn(
    out: impl Write + Send + 'static,
    escape: Escape,
) -> io::Result<(Arc<LineBuffer>, LogThread)> {
    spawn_with(out, WAITING_BYTES, escape)
}

fn spawn_with(
    mut out: impl Write + Send + 'static,
    limit: usize,
    escape: Escape,
) -> io::Result<(Arc<LineBuffer>, LogThread)> {
    let buffer = Arc::new(LineBuffer {
        waiting: Mutex::default(),
        wake: Condvar::new(),
        dropped: AtomicU64::new(0),
        limit,
        escape,
    });
    let (end, ended) = mpsc::channel();
    let lines = Arc::clone(&buffer);
    thread::Builder::new().name("log".into()).spawn(move || {
        let _end = end;
        lines.write_to(&mut out);
    })?;
    Ok((Arc::clone(&buffer), LogThread { buffer, ended }))
}

impl LineBuffer {
    /// How many lines were dropped: those that had no room, came after the end, or met an error of the output.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn append(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.closed || waiting.lines.len() + line.len() > self.limit {
            drop(waiting);
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        waiting.lines.extend_from_slice(line);
        let asleep = mem::take(&mut waiting.asleep);
        // Woken under the lock it would only run into it.
        drop(waiting);
        if asleep {
            self.wake.notify_one();
        }
    }

    /// Writes what comes until the log is closed and empty.
    fn write_to(&self, out: &mut impl Write) {
        let mut batch = Vec::new();
        while self.next(&mut batch) {
            let lost = write_all(out, &batch);
            self.dropped.fetch_add(lost, Relaxed);
            batch.clear();
            batch.shrink_to(KEPT_BYTES);
            let waiting = self.lock();
            drop(self.wake.wait_timeout_while(waiting, REST, |waiting| !waiting.closed));
        }
    }

    /// Sleeps until there are lines, and changes them for the empty `batch`. False at the end.
    fn next(&self, batch: &mut Vec<u8>) -> bool {
        let mut waiting = self.lock();
        while waiting.lines.is_empty() {
            if waiting.closed {
                return false;
            }
            waiting.asleep = true;
            waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.asleep = false;
        mem::swap(&mut waiting.lines, batch);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for &LineBuffer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.append(&self.escape.line(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines, in one call where the output takes them so. The number of lines that an error cost.
fn write_all(out: &mut impl Write, mut lines: &[u8]) -> u64 {
    while !lines.is_empty() {
        match out.write(lines) {
            Ok(0) => break,
            Ok(written) => lines = &lines[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Others who share standard error may have set it so; half a line may not be left behind.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(REST),
            Err(_) => break,
        }
    }
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.buffer.lock().closed = true;
        self.buffer.wake.notify_one();
        // Nothing is ever sent: this is the end of the thread, or of our patience.
        let _ = self.ended.recv_timeout(FLUSH_TIMEOUT);
    }
}

#[cfg(test)]
mod tests;
