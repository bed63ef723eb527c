//! From what is declared to what is served: `Inputs → Output`, a pure function.
//!
//! No I/O, no clock, no randomness, no tokio: the same inputs give the same output, which is how
//! the golden files of `tests/golden` can hold everything a user sees.

mod inputs;
mod output;

pub use inputs::{Inputs, RouteInput};
pub use output::{ConditionOutput, Output, Problem, RouteStatus};

/// Builds the table and the statuses for the routes of `class`.
pub fn translate(_inputs: &Inputs, _class: &str) -> Output {
    Output::default()
}
