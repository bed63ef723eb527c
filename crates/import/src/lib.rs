//! Foreign configuration to WebSocketRoutes, with a note for every line that has no counterpart: `tidegate import`.
//!
//! ```text
//!  text ──► nginx::parse ──► nginx (servers, locations, upstreams) ─┐
//!  text ──► ingress (Ingresses, their annotations) ─────────────────┴► ir ──► yaml
//! ```
//!
//! Pure: files are read through [`Files`], which the command line gives. Never here: I/O of our own, the gateway, the table; what
//! makes sense of a route is for the API server and translation to say, to which a test holds the output.
//!
//! Architecture invariant: nothing of a source is passed over in silence. A line is written, or done by Tidegate by itself
//! (the tables of [`nginx::directives`] and [`ingress::annotations`] say which), or noted.

pub mod files;
pub mod ingress;
pub mod ir;
pub mod nginx;
pub mod notes;
pub mod paths;
mod policy;
pub mod yaml;

use std::sync::Arc;

pub use self::{
    files::{Dump, Files, fits},
    ir::Imported,
    notes::{Note, NoteKind},
};

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The namespace of all that is made; Ingresses keep their own.
    pub namespace: String,
    /// `spec.className` of the routes; the default of the resource where absent.
    pub class: Option<String>,
    /// Hostnames of servers and rules that have none.
    pub hostnames: Vec<String>,
    /// Whether certificates and their private keys are read and written.
    pub secrets: bool,
}

/// A file to import.
pub struct Source {
    /// As it was named.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// Imports files, each by what it holds: configuration of nginx, the output of `nginx -T`, or manifests of Kubernetes. Manifests
/// are looked at together, for Ingresses name the ports of Services.
pub fn import(sources: &[Source], files: &dyn Files, options: &Options) -> Imported {
    let mut imported = Imported::default();
    let (manifests, configurations): (Vec<_>, Vec<_>) =
        sources.iter().partition(|source| is_manifest(source));
    for Source { name, text } in configurations {
        match Dump::of(text) {
            Some((main, dump)) => nginx::import(&main, &dump, files, options, &mut imported),
            None => {
                let main = Main { text, inner: files, name: Arc::from(name.as_str()) };
                nginx::import(name, &main, files, options, &mut imported);
            }
        }
    }
    ingress::import(&manifests, options, &mut imported);
    imported.finish();
    imported
}

/// Whether a file is for Kubernetes: by its name, else by its first words.
fn is_manifest(source: &Source) -> bool {
    let name = source.name.to_ascii_lowercase();
    if [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end)) {
        return true;
    }
    if name.ends_with(".conf") {
        return false;
    }
    source.text.lines().any(|line| {
        line.starts_with("apiVersion:")
            || line.starts_with("kind:")
            || line.trim_start().starts_with("\"apiVersion\"")
    })
}

/// The text of the file that was named, and the others.
struct Main<'a> {
    name: Arc<str>,
    text: &'a str,
    inner: &'a dyn Files,
}

impl Files for Main<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        if path == &*self.name { Ok(self.text.to_owned()) } else { self.inner.read(path) }
    }

    fn exists(&self, path: &str) -> bool {
        path == &*self.name || self.inner.exists(path)
    }

    fn list(&self, pattern: &str) -> Result<Vec<String>, String> {
        self.inner.list(pattern)
    }
}
