//! The place where the current table is published and read.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::RoutingTable;

/// A table with its number.
#[derive(Debug)]
pub struct TableVersion {
    /// 1 for the first table of the process, one more for each that differs from the one before.
    pub generation: u64,
    /// The table.
    pub table: RoutingTable,
}

/// Holds the current table. Readers never wait, not even for a writer.
#[derive(Debug, Default)]
pub struct TableCell {
    current: ArcSwapOption<TableVersion>,
    generation: watch::Sender<u64>,
}

impl TableCell {
    /// The current table, or `None` before the first.
    pub fn load(&self) -> Option<Arc<TableVersion>> {
        self.current.load_full()
    }

    /// Follows the generation of the current table; 0 before the first.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Publishes `table` unless it equals the current one. Returns what was published.
    ///
    /// Only the control loop calls this; two callers at once could publish one generation twice.
    pub fn publish(&self, table: RoutingTable) -> Option<Arc<TableVersion>> {
        let generation = match self.current.load().as_deref() {
            Some(current) if current.table == table => return None,
            Some(current) => current.generation + 1,
            None => 1,
        };
        let published = Arc::new(TableVersion { generation, table });
        self.current.store(Some(Arc::clone(&published)));
        self.generation.send_replace(generation);
        Some(published)
    }
}
