//! The gateway over real sockets: a whole data plane in this process, raw clients in front of it and raw backends behind.
//!
//! One module per theme; each test is named by the behaviour that it holds. `support` has the gateway with its table
//! and metrics, and peers that speak bytes, heads and frames. Nothing waits by the clock: reads have a deadline, and
//! what happens on other threads is polled for until one.

#![allow(clippy::unwrap_used, reason = "what helpers of tests unwrap fails the test, as it should")]

mod support;

mod acme;
mod answers;
mod backend_tls;
mod balancing;
mod bereaved;
mod budgets;
mod change;
mod chunks;
mod closing;
mod drain;
mod endings;
mod forward;
mod forwarded_for;
mod hsts;
mod idle;
mod keepalive;
mod ownership;
mod pending;
mod rebalance;
mod refusals;
mod relay;
mod resumption;
mod scrape;
mod smuggling;
mod stripped;
mod tls;
mod upgrade_safety;
