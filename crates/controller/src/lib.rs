//! The control plane of Tidegate: from what is declared to a published table, and back to statuses.
//!
//! | module | what it is for |
//! |---|---|
//! | [`translate`] | inputs to table and statuses, pure |
//! | [`source`] | where inputs come from: the Kubernetes API, or a folder of YAML |
//! | [`control`] | builds and publishes tables, writes statuses, holds the lease |
//!
//! Imports go one way: `control` may use `source` and `translate`, `source` the inputs of `translate`, and `translate` neither
//! of them. `tests/architecture` of the workspace checks that.

pub mod control;
pub mod source;
pub mod translate;
