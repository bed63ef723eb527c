//! End to end: the image, installed by the chart into a real two-node Kubernetes, seen by a client outside of it.
//!
//! `tests/e2e/run` starts the cluster and runs these tests in the client's network namespace: what they dial goes
//! over the wire to the Services. `kubectl` and `helm` work there as administrator; Tidegate itself always acts as
//! the chart's own ServiceAccount.
//!
//! Tests run side by side on one installation ([`Release::shared`](support::Release::shared)), each in a namespace
//! of its own. Those that take that installation away live in [`alone`] and run alone.

#![cfg(test)]
#![allow(clippy::print_stderr, reason = "what a failed test leaves in its output")]

mod acme;
mod alone;
mod backend_tls;
mod certificates;
mod endpoints;
mod grants;
mod idle;
mod monitoring;
mod ownership;
mod permissions;
mod rebalance;
mod replicas;
mod routes;
mod samples;
mod scaling;
mod scope;
mod secrets;
mod statuses;
mod support;
mod traffic;
