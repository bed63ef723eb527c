//! What the controller answers: conditions with stable types and reasons.

use std::{fmt, net::IpAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One condition, in the shape all of Kubernetes uses (`metav1.Condition`).
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The state of the route, as the controller reports it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebSocketRouteStatus {
    /// The generation of the spec that the conditions describe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The hostnames of the spec under which this route serves something. It does not include invalid hostnames, those
    /// that another namespace owns, or those of which older routes have every match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Where clients reach these hostnames, as far as the gateway knows. These are the addresses of its Service
    /// (`--publish-service`) or those that you set (`--publish-address`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<RouteAddress>,
    /// Accepted, ResolvedRefs and Programmed. PartiallyInvalid is present only if parts of the route are not served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where clients reach the gateway, in the form of a Gateway's status.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct RouteAddress {
    /// The type of the address.
    #[serde(rename = "type")]
    pub kind: AddressType,
    /// An IP address, or a hostname to look up in DNS.
    pub value: String,
}

/// Kinds of addresses, named as in Gateway API.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum AddressType {
    /// IPv4 or IPv6.
    #[serde(rename = "IPAddress")]
    IpAddress,
    /// A hostname, as the load balancers of some providers have.
    Hostname,
}

impl RouteAddress {
    /// The address that `text` is: an IP address, or else a hostname, of which nothing is checked.
    pub fn new(text: &str) -> Self {
        let kind = match text.parse::<IpAddr>() {
            Ok(_) => AddressType::IpAddress,
            Err(_) => AddressType::Hostname,
        };
        Self { kind, value: text.to_owned() }
    }
}

/// The types of our conditions, named as in Gateway API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The route is valid and has a place in the routing table.
    Accepted,
    /// All that the route refers to exists, is valid and may be referred to.
    ResolvedRefs,
    /// The route is served as written.
    Programmed,
    /// Some of the route is not served; the rest is. Present only where true.
    PartiallyInvalid,
}

/// Why a condition is as it is. Names are Gateway API's where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Accepted: True.
    Accepted,
    /// Accepted: False. The spec cannot be read or contradicts itself; then ResolvedRefs: False too, as
    /// nothing was looked up. PartiallyInvalid: True. A hostname or a rule of it does.
    Invalid,
    /// Accepted: False, if all hostnames are another namespace's, or the gateway's policy gives them to others.
    /// PartiallyInvalid: True, if some are.
    HostnameNotPermitted,
    /// Accepted: False, if older routes hold every match. PartiallyInvalid: True, if they hold some, or
    /// a hostname's certificate.
    Conflicted,
    /// Accepted: False. The routes of the namespace with precedence leave no room for this one. PartiallyInvalid: True.
    /// They leave some. ResolvedRefs: False. A certificate, a backend's endpoints or its authorities take too much.
    BudgetExceeded,
    /// ResolvedRefs: True.
    ResolvedRefs,
    /// ResolvedRefs: False. The Secret is missing, of another type, or its content is no key pair.
    InvalidCertificateRef,
    /// ResolvedRefs: False. The gateway may not read a Secret, or has not yet.
    SecretNotReadable,
    /// ResolvedRefs: False. No ReferenceGrant permits the reference.
    RefNotPermitted,
    /// ResolvedRefs: False. A Service, or the port of it, does not exist.
    BackendNotFound,
    /// ResolvedRefs: False. The backend wants TLS, and how to verify it is missing or wrong.
    InvalidBackendTls,
    /// ResolvedRefs: False. The backend's protocol cannot carry WebSockets.
    UnsupportedProtocol,
    /// ResolvedRefs: False. An EndpointSlice has an address that is no pod's: loopback, link-local, the gateway itself.
    EndpointNotPermitted,
    /// Programmed: True.
    Programmed,
    /// Programmed: False. Not, or not fully, served: another condition says why.
    NotProgrammed,
}

impl ConditionType {
    /// Every type, in the order in which a status has them.
    pub const ALL: [Self; 4] =
        [Self::Accepted, Self::ResolvedRefs, Self::Programmed, Self::PartiallyInvalid];

    /// The reasons that a condition of this type can have.
    pub const fn reasons(self) -> &'static [Reason] {
        match self {
            Self::Accepted => &[
                Reason::Accepted,
                Reason::Invalid,
                Reason::HostnameNotPermitted,
                Reason::Conflicted,
                Reason::BudgetExceeded,
            ],
            Self::ResolvedRefs => &[
                Reason::ResolvedRefs,
                Reason::Invalid,
                Reason::HostnameNotPermitted,
                Reason::BudgetExceeded,
                Reason::InvalidCertificateRef,
                Reason::SecretNotReadable,
                Reason::RefNotPermitted,
                Reason::BackendNotFound,
                Reason::InvalidBackendTls,
                Reason::UnsupportedProtocol,
                Reason::EndpointNotPermitted,
            ],
            Self::Programmed => &[Reason::Programmed, Reason::NotProgrammed],
            Self::PartiallyInvalid => &[
                Reason::Invalid,
                Reason::HostnameNotPermitted,
                Reason::Conflicted,
                Reason::BudgetExceeded,
            ],
        }
    }

    /// The name in the condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Programmed => "Programmed",
            Self::PartiallyInvalid => "PartiallyInvalid",
        }
    }
}

impl Reason {
    /// Every reason, for tests and docs.
    pub const ALL: [Self; 15] = [
        Self::Accepted,
        Self::Invalid,
        Self::HostnameNotPermitted,
        Self::Conflicted,
        Self::BudgetExceeded,
        Self::ResolvedRefs,
        Self::InvalidCertificateRef,
        Self::SecretNotReadable,
        Self::RefNotPermitted,
        Self::BackendNotFound,
        Self::InvalidBackendTls,
        Self::UnsupportedProtocol,
        Self::EndpointNotPermitted,
        Self::Programmed,
        Self::NotProgrammed,
    ];

    /// The name in the condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Invalid => "Invalid",
            Self::HostnameNotPermitted => "HostnameNotPermitted",
            Self::Conflicted => "Conflicted",
            Self::BudgetExceeded => "BudgetExceeded",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::InvalidCertificateRef => "InvalidCertificateRef",
            Self::SecretNotReadable => "SecretNotReadable",
            Self::RefNotPermitted => "RefNotPermitted",
            Self::BackendNotFound => "BackendNotFound",
            Self::InvalidBackendTls => "InvalidBackendTLS",
            Self::UnsupportedProtocol => "UnsupportedProtocol",
            Self::EndpointNotPermitted => "EndpointNotPermitted",
            Self::Programmed => "Programmed",
            Self::NotProgrammed => "NotProgrammed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
