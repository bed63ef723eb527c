//! `tidegate doctor`: why a WebSocket does not come about, and which box on the way is to blame.
//!
//! `steps` probe, each within its time, and tell what they saw as plain data (`seen`); `diagnosis` (pure) says what that
//! means, whose it is and how to mend it; `report` puts both into words. A client of servers that may be anybody's: nothing
//! of the gateway's own may enter here, and nothing but what was asked for is sent to a server that is not known to be the
//! one that was meant.

pub mod diagnosis;
pub mod networks;
pub mod report;
pub mod seen;
mod steps;
mod target;

use std::{sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;

pub use self::{
    steps::{Told, examine},
    target::{Proxy, Target, no_proxy_covers},
};

/// What to examine, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL.
    pub target: Target,
    /// The HTTP proxy that clients on this machine use for it.
    pub proxy: Option<Proxy>,
    /// Whom to trust.
    pub trust: Trust,
    /// Offered in `Sec-WebSocket-Protocol`, in this order.
    pub subprotocols: Vec<String>,
    /// More headers of the request. They may be credentials: only a verified server, or one in clear text, gets them.
    pub headers: Vec<(String, String)>,
    /// `Origin`, as a browser would send it.
    pub origin: Option<String>,
    /// A text message whose echo is waited for.
    pub send: Option<String>,
    /// For how long a quiet socket is held.
    pub idle: Option<Duration>,
    /// Limit of each wait in a step, except the idle one.
    pub patience: Duration,
}

/// Whose certificates are right.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Authorities that the user names.
    pub given: Arc<[CertificateDer<'static>]>,
    /// Send everything also where the certificate is not verified.
    pub insecure: bool,
    /// A text that one of the issuers has to have.
    pub expect_issuer: Option<String>,
    /// SHA-256 of a certificate that has to be in the chain.
    pub pin: Option<[u8; 32]>,
}
