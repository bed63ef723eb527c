//! What the tests share: the cluster's tools, the installation, an application behind it, and a client.

mod app;
mod authority;
mod client;
mod http;
mod metrics;
mod namespace;
pub mod objects;
mod poll;
mod process;
mod release;
mod tools;

pub use app::App;
pub use authority::{Authority, Identity};
pub use client::{Client, Socket, certificate_shown};
pub use http::{get, url_encoded};
pub use metrics::Metrics;
pub use namespace::Namespace;
pub use poll::{eventually, expect_eq};
pub use process::Hanging;
pub use release::{Pod, Release};
pub use tools::{CHART, ROOT, helm, kubectl, try_kubectl};
