//! What the program says of itself: metrics, log lines, and the names used in them.

mod control;

pub use control::ControlMetrics;
