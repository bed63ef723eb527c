//! The folder of manifests that is served where none was given: a sample with an echo backend, or the upstreams.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{
    super::echo,
    certificate::{Certificate, private_folder, write_private},
    upstream::Upstream,
};

/// The sample. ECHO_PORT stands for the echo backend's port.
const SAMPLE: &str = include_str!("sample.yaml");

/// A folder of manifests, private keys among them, that is removed at the end.
#[derive(Debug)]
pub(super) struct Folder(TempDir);

impl Folder {
    /// With a route to an echo backend, which is started.
    pub(super) fn of_sample(certificate: &Certificate) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("echo".into()).spawn(move || {
            if let Err(error) =
                runtime.block_on(echo::serve(listener, None, echo::Leave::new(false)))
            {
                tracing::error!("the echo backend ended: {error:#}");
            }
        })?;
        let text = SAMPLE.replace("ECHO_PORT", &port.to_string());
        let folder = Self::new()?;
        folder.write("sample.yaml", &(text + "---\n" + &certificate.secret("localhost")))?;
        Ok(folder)
    }

    /// With a file for each upstream.
    pub(super) fn of_upstreams(upstreams: &[(&Upstream, Certificate)]) -> Result<Self> {
        let folder = Self::new()?;
        for (upstream, certificate) in upstreams {
            let name = format!("{}.yaml", upstream.name());
            folder.write(&name, &upstream.manifests(certificate))?;
        }
        Ok(folder)
    }

    fn new() -> Result<Self> {
        private_folder().map(Self).context("no folder can be made for the manifests")
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        write_private(&self.path().join(name), text).with_context(|| self.unwritable())
    }

    fn unwritable(&self) -> String {
        format!("the manifests cannot be written to {}", self.path().display())
    }
}
