//! The control plane beside an API server that fails on purpose: statuses, Events, scope, and what it does when the
//! API is away, slow or wrong.
#![allow(clippy::unwrap_used, missing_docs)]

mod api_server;
mod failure;
mod hostname_policy;
mod objects;
#[path = "../cli/program.rs"]
#[allow(dead_code, reason = "the tests of the command line need more of it")]
mod program;
mod scope;
mod secrets;
mod snapshot;
mod statuses;
