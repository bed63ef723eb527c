//! The parts of the gateway that read what peers send, and those that read foreign configuration, by themselves: they are sans-io and need next to nothing, so that a
//! fuzz build takes seconds and not the minutes that the whole program with its clients of Kubernetes would.
//!
//! The very files of ../src, in modules of the same names. What they use of other modules is below.

#![allow(dead_code, missing_docs)]

pub mod gateway;
pub mod import;
pub mod table;
pub mod untrusted;
