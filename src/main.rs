//! The program: see `tidegate --help`.

use std::process::ExitCode;

/// For long-lived connections: gives memory back, and does not fragment.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tidegate::cli::run()
}
