//! The program: see `tidegate --help`.

use std::process::ExitCode;

use tikv_jemalloc_ctl::{Access, AsName, background_thread};

/// For long-lived connections: gives memory back, and does not fragment.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long freed pages are kept for new connections, milliseconds.
const KEEP_FREED_MS: isize = 1000;

/// Overrides the settings of jemalloc, as its manual says; the prefix is that of the crate.
const OVERRIDE: &str = "_RJEM_MALLOC_CONF";

fn main() -> ExitCode {
    if std::env::var_os(OVERRIDE).is_none() {
        // There is no log yet, and without it memory comes back later, but it does.
        let _ = give_memory_back();
    }
    tidegate::cli::run()
}

/// Has freed pages go back to the system after a second, by threads of jemalloc's own. By default that is done in ten
/// seconds and only by threads that allocate, which a gateway does not do after its sockets have gone.
fn give_memory_back() -> tikv_jemalloc_ctl::Result<()> {
    // For the arenas to come, and for the one that there is.
    for arena in ["arenas", "arena.0"] {
        format!("{arena}.dirty_decay_ms\0").name().write(KEEP_FREED_MS)?;
        format!("{arena}.muzzy_decay_ms\0").name().write(0_isize)?;
    }
    background_thread::write(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn freed_pages_are_given_back_by_threads_of_the_allocator() {
        give_memory_back().unwrap();
        for arena in ["arenas", "arena.0"] {
            let read = |what| format!("{arena}.{what}_decay_ms\0").name().read().unwrap();
            assert_eq!((read("dirty"), read("muzzy")), (KEEP_FREED_MS, 0), "{arena}");
        }
        assert!(background_thread::read().unwrap());
    }
}
