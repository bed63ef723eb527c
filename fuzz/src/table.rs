//! As ../src/table, as far as requests are matched by it. What the files of ../src need of the rest stands here in as few
//! fields; they do not compile if it differs.

#[path = "../../src/table/host.rs"]
mod host;
#[path = "../../src/table/path.rs"]
pub mod path;

use std::{collections::HashMap, sync::Arc};

pub use host::{MatchKey, PathKind, RequestFacts, RouteEntry, VirtualHost};
pub use path::{PathAmbiguities, PathAmbiguity, RequestPath};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameChecks {
    Strict,
    PassThrough,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    Refuse,
    Redirect,
    Allow,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    pub secret: ObjectRef,
    pub settings: TlsSettings,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings;

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub route: ObjectRef,
    pub path_allow: PathAmbiguities,
}

/// Exact hostnames are enough here.
#[derive(Clone, Debug, Default)]
pub struct RoutingTable(pub HashMap<String, Arc<VirtualHost>>);

impl RoutingTable {
    pub fn host(&self, name: &str) -> Option<&Arc<VirtualHost>> {
        self.0.get(name)
    }

    pub fn identity(&self, name: &str) -> Option<&Arc<TlsIdentity>> {
        self.host(name)?.tls.as_ref()
    }
}
