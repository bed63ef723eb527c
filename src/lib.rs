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
//! | [`networks`] | what is known of clouds between clients and the gateway: ports, time-outs, marks |
//! | [`import`] | foreign configuration to manifests and notes, pure |
//! | [`untrusted`] | text that others wrote: read within bounds, YAML within a budget, escaped for terminals |
//! | [`cli`] | the command line |
//!
//! ARCHITECTURE.md tells the rules that hold between them.

pub mod admin;
pub mod api;
pub mod cli;
pub mod control;
pub mod doctor;
pub mod gateway;
pub mod import;
pub mod networks;
pub mod source;
pub mod table;
pub mod telemetry;
pub mod translate;
pub mod untrusted;
