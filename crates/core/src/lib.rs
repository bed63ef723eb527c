//! What every package of Tidegate may use: the standard library and nothing else.
//!
//! | module | what it is for |
//! |---|---|
//! | [`escape`] | text that others wrote, so that a terminal, a log viewer or a reader of JSON shows it and does nothing else |
//! | `refusal` | [`RefusalReason`]: why a request is refused, for who refuses and who explains |

pub mod escape;
mod refusal;

pub use refusal::{RefusalReason, UnknownReason};
