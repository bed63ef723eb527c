//! Room in the kernel's table of open files, made before it is needed.
//!
//! The kernel doubles the table when a new descriptor does not fit. In a process with several threads, the thread that
//! opens this descriptor then waits for an RCU grace period (`expand_fdtable` in Linux's fs/file.c): 12 to 16 ms were
//! seen, in which a worker serves nobody. So another thread makes the room while the table is still half empty.

use std::{io, os::fd::AsFd, sync::Arc};

use super::fd_budget::FileBudget;

/// Descriptors that there is room for from the start: 32 KiB of kernel memory.
const AT_FIRST: usize = 4096;

/// Makes room for the sockets of `files`. Returns what makes more as more are in use, until it is dropped.
///
/// `limit`: the most descriptors that this process may have. The table never grows beyond it.
pub(super) fn begin(
    files: Arc<FileBudget>,
    limit: usize,
) -> impl Future<Output = ()> + Send + 'static {
    let mut room = AT_FIRST.min(limit);
    make_room(room);
    files.tell_from(room / 2);
    async move {
        while room < limit {
            files.many_in_use().await;
            room = room.saturating_mul(2).min(limit);
            // A thread that may wait for the kernel.
            if tokio::task::spawn_blocking(move || make_room(room)).await.is_err() {
                return;
            }
            files.tell_from(room / 2);
        }
    }
}

/// Makes room for so many descriptors. Without it the kernel does so later, and a worker waits.
fn make_room(count: usize) {
    if let Err(error) = try_make_room(count) {
        tracing::debug!(%error, count, "no room was made for descriptors");
    }
}

fn try_make_room(count: usize) -> io::Result<()> {
    let highest = i32::try_from(count.saturating_sub(1)).unwrap_or(i32::MAX);
    let any = std::fs::File::open("/dev/null")?;
    // The first free descriptor from `highest` on; given back at once. The table does not shrink.
    drop(rustix::io::fcntl_dupfd_cloexec(any.as_fd(), highest)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Descriptors that the kernel has room for.
    fn size() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        line.trim().parse().unwrap()
    }

    #[tokio::test]
    async fn there_is_room_at_first_and_more_before_the_table_is_half_full() {
        let most = u64::try_from(4 * AT_FIRST).unwrap();
        let limit = rlimit::increase_nofile_limit(most).unwrap();
        assert!(limit >= most, "this test needs a hard limit on files of {most}");
        let before = size();
        drop(begin(Arc::new(FileBudget::new(256, 0, 0)), 256));
        assert_eq!(size(), before.max(256), "a limit below the first room is kept to");
        let files = Arc::new(FileBudget::new(4 * AT_FIRST, 0, 0));
        let growing = tokio::spawn(begin(Arc::clone(&files), 4 * AT_FIRST));
        let mut held = Vec::new();
        for room in [AT_FIRST, 2 * AT_FIRST, 4 * AT_FIRST] {
            let grown = async {
                while size() < room {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), grown).await.expect("room is made");
            assert!(size() < 2 * room, "no more room than is needed soon");
            while held.len() < room / 2 {
                held.push(files.client().unwrap());
            }
        }
        growing.await.expect("it ends with the limit");
    }
}
