//! What the tests share: the cluster's tools, the installation, an application behind it, and a client.

mod app;
mod authority;
mod client;
mod crowd;
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
pub use crowd::{Arrivals, Crowd, Ended, Manner};
pub use http::{get, get_from, url_encoded};
pub use metrics::Metrics;
pub use namespace::Namespace;
pub use poll::{eventually, expect_eq, wait_until};
pub use process::{Hanging, Part, kill_replica, memory_of_replica};
pub use release::{Pod, Release};
pub use tools::{CHART, ROOT, helm, kubectl, setting, try_kubectl};
