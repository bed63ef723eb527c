//! The resource people write: `WebSocketRoute`, its status, and the words used in both.
//!
//! Types only. No tokio, no client, nothing else of ours: this room can be read, and used by a
//! tool, without the rest of the program.

mod admission;
mod crd;
mod duration;
mod hostname_policy;
mod reference_grant;
mod route;
mod status;

pub use admission::{AdmissionFault, admit};
pub use crd::{CRD_NAME, crd, crd_yaml};
pub use duration::{Duration, DurationError};
pub use hostname_policy::{HostnameDefault, HostnamePolicy, HostnameRule};
pub use reference_grant::{
    ReferenceGrant, ReferenceGrantFrom, ReferenceGrantSpec, ReferenceGrantTo,
};
pub use route::{
    BackendRef, BackendTls, CaCertificateKind, CaCertificateRef, Drain, FrameChecks, HashOn,
    HashSource, HeaderMatch, Hsts, HttpMode, Keepalive, Limits, LoadBalancing, LoadBalancingPolicy,
    OnChange, PathAmbiguity, PathMatch, PathMatchType, PathPolicy, Plaintext, QueryParamMatch,
    Rebalance, Retry, RouteMatch, RouteRule, RouteTls, SecretRef, Timeouts, TlsVersion,
    WebSocketRoute, WebSocketRouteSpec,
};
pub use status::{
    AddressType, Condition, ConditionType, Reason, RouteAddress, WebSocketRouteStatus,
};

/// API group of our resources.
pub const GROUP: &str = "tidegate.io";
/// Served and stored version.
pub const VERSION: &str = "v1alpha1";
/// The class served unless `--class` or `spec.className` says otherwise.
pub const DEFAULT_CLASS: &str = "tidegate";
/// `appProtocol` of a Service port whose pods speak WebSocket over TLS (KEP-3726).
pub const APP_PROTOCOL_WSS: &str = "kubernetes.io/wss";
/// `appProtocol` of a Service port whose pods speak WebSocket in clear text (KEP-3726).
pub const APP_PROTOCOL_WS: &str = "kubernetes.io/ws";

#[cfg(test)]
mod tests;
