//! Tidegate, the WebSocket gateway for Kubernetes.
//!
//! ```text
//!  Kubernetes API, or a folder of YAML
//!          │ watch
//!        source ──► Inputs ──► translate (pure) ──► RoutingTable (immutable) ──► gateway ◄── clients
//!                                   │                                              │
//!                                   └──► statuses ──► status writer                └──► endpoints
//! ```
//!
//! The program put together: [`cli`] and [`admin`]. All else is in packages under `crates/`, which are here by the names of
//! their modules:
//!
//! | module | what it is for |
//! |---|---|
//! | [`api`] | `WebSocketRoute`, its status, durations, condition and reason names |
//! | [`table`] | the immutable routing table and the cell that it is published in |
//! | [`gateway`] | listeners, TLS, handshake, balancing, relay |
//! | [`telemetry`] | metrics, log, and the names used in them |
//! | [`source`] | where inputs come from: the Kubernetes API, or a folder of YAML |
//! | [`control`] | builds and publishes tables, writes statuses, holds the lease |
//! | [`translate`] | inputs to table and statuses, pure |
//! | [`admin`] | health, metrics and debugging, on a port of its own |
//! | [`doctor`] | what is wrong on the way to a server, step by step; a client, no part of the gateway |
//! | [`networks`] | what is known of clouds between clients and the gateway: ports, timeouts, marks |
//! | [`import`] | foreign configuration to manifests and notes, pure |
//! | [`untrusted`] | input that others wrote: files read within bounds, YAML within a budget |
//! | [`cli`] | the command line |
//!
//! ARCHITECTURE.md says which of them may use which.

pub mod admin;
pub mod cli;

pub use tidegate_api as api;
pub use tidegate_controller::{control, source, translate};
pub use tidegate_doctor::{self as doctor, networks};
pub use tidegate_gateway as gateway;
pub use tidegate_import as import;
pub use tidegate_table as table;
pub use tidegate_telemetry as telemetry;
pub use tidegate_untrusted as untrusted;
