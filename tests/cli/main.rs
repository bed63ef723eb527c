//! The program as people start it: what it prints, what it refuses, how it ends.
#![allow(clippy::unwrap_used, missing_docs)]

mod bad_input;
mod check;
mod dev;
mod drain;
mod edge;
mod endpoints;
mod files;
mod hostname_policy;
mod log;
mod ports;
mod program;
mod serve;
