//! `WebSocketRoute`, field by field. The doc comments here are what `kubectl explain` prints.

#![allow(clippy::duplicated_attributes, reason = "several print columns have one type")]

mod load_balancing;
mod policy;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    load_balancing::{HashOn, HashSource, LoadBalancing, LoadBalancingPolicy, Rebalance, Retry},
    policy::{Drain, FrameChecks, Keepalive, Limits, OnChange, Timeouts},
};
use super::{DEFAULT_CLASS, Duration, WebSocketRouteStatus};

/// Which WebSocket connections to serve, and where to route them.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "tidegate.io",
    version = "v1alpha1",
    kind = "WebSocketRoute",
    plural = "websocketroutes",
    shortname = "wsr",
    category = "tidegate",
    namespaced,
    derive = "PartialEq",
    status = "WebSocketRouteStatus",
    doc = "A WebSocketRoute routes the WebSockets of its hostnames to the endpoints of Services.",
    printcolumn(name = "Hostnames", type_ = "string", json_path = ".spec.hostnames"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Programmed")].status"#
    ),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.addresses[*].value"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WebSocketRouteSpec {
    /// The controller that serves this route: the one started with this `--class`.
    #[serde(default = "default_class")]
    #[schemars(length(min = 1, max = 63))]
    pub class_name: String,

    /// The hostnames to serve. A leading "*." stands for exactly one label: "*.example.com" covers chat.example.com,
    /// but neither example.com nor a.chat.example.com. An exact name beats a wildcard.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(
        merge_strategy = kube::core::cel::ListMerge::Set,
        validation = Rule::new(
            "self.all(h, h.matches('^([*][.])?([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])*[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'))"
        ).message("a hostname is lower-case DNS labels, such as chat.example.com, with at most one '*', which stands for the whole leftmost label: '*.example.com'; no port, no scheme"),
        validation = Rule::new("self.all(h, !h.matches('^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$'))")
            .message("a hostname is a name: clients that dial an IP address send no server name (SNI)")
    )]
    pub hostnames: Vec<String>,

    /// The certificate to serve on port 443. Without it, clients see a self-signed certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouteTls>,

    /// What happens to ws:// on port 80. Refuse answers 403, and the body says which URL to use instead. Redirect
    /// answers 308 with the wss:// URL, or with the https:// URL if the request is not for a WebSocket. Browsers do not
    /// follow redirects of a WebSocket. Allow serves the connection in clear text.
    #[serde(default)]
    pub plaintext: Plaintext,

    /// What to serve under the hostnames. The most specific match across all rules and routes wins.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new(
        "self.all(r, !has(r.name) || self.exists_one(q, has(q.name) && q.name == r.name))"
    ).message("the names of a route's rules must differ"))]
    pub rules: Vec<RouteRule>,
}

/// The certificate of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretName) != has(self.secretRef)")
    .message("set secretName, or secretRef for a Secret of another namespace, but not both"))]
pub struct RouteTls {
    /// A Secret of type kubernetes.io/tls in the route's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,

    /// A Secret of type kubernetes.io/tls. If it is in another namespace, a ReferenceGrant there must permit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,

    /// The minimum TLS version to accept.
    #[serde(default)]
    pub min_version: TlsVersion,

    /// Tells browsers to use only TLS for these hostnames (HSTS, RFC 6797). Every answer over TLS then has the header
    /// Strict-Transport-Security, which replaces the backend's own. If unset, the gateway adds no such header, and the
    /// backend's passes unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
}

/// HTTP Strict Transport Security (RFC 6797). Browsers remember it. To turn it off, set 'maxAge: 0s' for as long as
/// maxAge was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!self.preload || (self.includeSubdomains && duration(self.maxAge) >= duration('8760h'))"
).message("preload needs includeSubdomains: true and a maxAge of 8760h (a year) or more: the browsers' lists take no other hostname"))]
pub struct Hsts {
    /// How long browsers remember it, in whole seconds. 0s: browsers forget it.
    #[serde(default = "default_max_age")]
    pub max_age: Duration,
    /// Whether it also applies to all names below these hostnames, whoever serves them.
    #[serde(default)]
    pub include_subdomains: bool,
    /// Consent to be included in the preload lists that browsers ship with. Removal from these lists takes months.
    #[serde(default)]
    pub preload: bool,
}

/// A Secret, possibly of another namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The Secret's namespace. Default: the route's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// A TLS protocol version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V1_3,
}

/// What happens to a request in clear text (port 80).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Plaintext {
    /// 403 with a sentence that names the wss:// URL.
    #[default]
    Refuse,
    /// 308 to the same URL over TLS.
    Redirect,
    /// Served in clear text.
    Allow,
}

/// A rule: which requests it matches, and where they go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(self.keepalive.clientPing) || duration(self.timeouts.idle) == duration('0s') || duration(self.keepalive.clientPing) < duration(self.timeouts.idle)"
    ).message("keepalive.clientPing must be shorter than timeouts.idle: pings are no activity, so that a quiet connection would end as idle before its first one; lower clientPing, raise idle, or write 'clientPing: 0s' for none"),
    validation = Rule::new(
        "duration(self.timeouts.idle) == duration('0s') || duration(self.keepalive.backendPing) < duration(self.timeouts.idle)"
    ).message("keepalive.backendPing must be shorter than timeouts.idle: pings are no activity, so that a quiet connection would end as idle before its first one; lower backendPing, raise idle, or write 'backendPing: 0s' for none")
)]
pub struct RouteRule {
    /// Name of the rule in conditions and logs. Default: its index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,

    /// The rule applies to requests that match at least one of these. Without matches, it applies to every path.
    #[serde(default = "default_matches")]
    #[schemars(length(max = 16))]
    pub matches: Vec<RouteMatch>,

    /// Where the connections go, distributed by weight.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.exists(b, b.weight > 0)")
        .message("at least one backendRef needs a weight above 0: with none, every upgrade would be refused"))]
    pub backend_refs: Vec<BackendRef>,

    /// Timeouts of requests and connections. Write durations as in Gateway API: 1h30m, 10s, 500ms.
    #[serde(default)]
    pub timeouts: Timeouts,

    /// Pings that the gateway sends. They keep load balancers and firewalls from cutting a quiet connection, and detect
    /// peers that are gone.
    #[serde(default)]
    pub keepalive: Keepalive,

    /// How to check frames. With Strict, a peer that breaks the protocol (RFC 6455) is closed with 1002. With
    /// PassThrough, frames pass unchecked and unchanged, including control frames of any length. Limits apply with
    /// both.
    #[serde(default)]
    pub frames: FrameChecks,

    /// Limits on messages and frames.
    #[serde(default)]
    pub limits: Limits,

    /// How to choose the endpoint of a backend for a new connection.
    #[serde(default)]
    pub load_balancing: LoadBalancing,

    /// What happens if an endpoint cannot be reached.
    #[serde(default)]
    pub retry: Retry,

    /// How the gateway ends connections on purpose.
    #[serde(default)]
    pub drain: Drain,

    /// Which paths to accept that servers read in different ways.
    #[serde(default)]
    pub path: PathPolicy,

    /// What happens to plain HTTP requests that this rule matches. Refuse answers 426 Upgrade Required. Forward sends
    /// them to the same endpoints: Socket.IO and SignalR fall back to plain HTTP, and GraphQL uses POST requests.
    #[serde(default)]
    pub http: HttpMode,
}

/// Conditions on a request. All of those that you set must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// The path of the request.
    #[serde(default)]
    pub path: PathMatch,
    /// Headers that must have these values. Each must be on exactly one line of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderMatch>,
    /// Query parameters that must have these values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub query_params: Vec<QueryParamMatch>,
    /// Subprotocols. The client must offer one of them in Sec-WebSocket-Protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 128), regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))
    )]
    pub subprotocols: Vec<String>,
}

/// How a path is matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.value.startsWith('/')").message("a path begins with '/'"),
    validation = Rule::new("!self.value.matches('[?#]|//|/[.]{1,2}(/|$)')")
        .message("a path has no '//', '/./', '/../', '?' or '#'")
)]
pub struct PathMatch {
    /// Prefix matches whole path elements: /ws matches /ws and /ws/room, but not /wss. Exact matches the whole path.
    #[serde(default, rename = "type")]
    pub kind: PathMatchType,
    /// The path to compare with the request's path. Case matters. Both are normalized first: %61 is the same as a.
    #[serde(default = "default_path")]
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// By whole path elements from the start.
    #[default]
    Prefix,
    /// The whole path.
    Exact,
}

/// Which paths to accept that servers read in different ways. A request's path is matched and forwarded in normalized
/// form: letters, digits and "-._~" are decoded, other escapes are in upper case. What is allowed here passes as it was
/// sent, but only if every way to read the path leads to this same rule. So it never bypasses a more specific rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathPolicy {
    /// Which of the following to accept in paths. The others are refused with 400 (reason bad_path). Default: none.
    /// EncodedSlash: %2F. Backslash: a backslash or %5C. EncodedControl: %00 to %1F and %7F. BadPercent: a '%' that is
    /// not followed by two hexadecimal digits; it is forwarded as %25. DoubleEncoding: %25 before two hexadecimal
    /// digits. DoubleSlash: //. PathParameters: ; or %3B. DotSegments: /./ and /../, also encoded. Warning: with
    /// DotSegments, a backend that maps paths to files must keep them inside its own folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = kube::core::cel::ListMerge::Set)]
    pub allow: Vec<PathAmbiguity>,
}

/// A part of a path that servers read in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PathAmbiguity {
    /// %2F
    EncodedSlash,
    /// A backslash or %5C.
    Backslash,
    /// %00 to %1F, %7F.
    EncodedControl,
    /// A '%' without two hexadecimal digits behind it.
    BadPercent,
    /// %25 before two hexadecimal digits.
    DoubleEncoding,
    /// //
    DoubleSlash,
    /// . or .. as an element.
    DotSegments,
    /// ; or %3B.
    PathParameters,
}

/// A header with its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// Name of the header. Case does not matter.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
    pub name: String,
    /// Its whole value.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// A query parameter with its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryParamMatch {
    /// Name of the parameter, percent-decoded. Case matters.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Its whole value, percent-decoded. If the name occurs more than once, the first value counts.
    #[schemars(length(max = 1024))]
    pub value: String,
}

/// A Service port that serves the connections of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// A Service in the route's namespace.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The port number of the Service.
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub port: u16,
    /// Its share of new connections: this weight divided by the sum of weights in the rule. 0: no connections.
    #[serde(default = "default_weight")]
    #[schemars(with = "i32", range(min = 0, max = 1_000_000))]
    pub weight: u32,
    /// How to verify the pods' certificates, for Service ports with `appProtocol: kubernetes.io/wss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
}

/// How to verify the certificate of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.caCertificateRef) != self.insecureSkipVerify")
    .message("set caCertificateRef to verify the backend's certificate, or insecureSkipVerify: true to accept any, but not both"))]
pub struct BackendTls {
    /// The certificate authority: the key `ca.crt` of a ConfigMap, or of a Secret of type kubernetes.io/tls, in the
    /// route's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate_ref: Option<CaCertificateRef>,
    /// The name that the certificate must have. It is also sent as SNI. Default: NAME.NAMESPACE.svc of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub hostname: Option<String>,
    /// Accept any certificate. Anyone who can answer in place of a pod can then read all traffic.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// An object that holds CA certificates under `ca.crt`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaCertificateRef {
    /// Kind of the object.
    #[serde(default)]
    pub kind: CaCertificateKind,
    /// Its name, in the route's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Kinds that can hold CA certificates.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum CaCertificateKind {
    /// A ConfigMap.
    #[default]
    ConfigMap,
    /// A Secret of type kubernetes.io/tls.
    Secret,
}

/// What happens to plain HTTP requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HttpMode {
    /// 426 Upgrade Required.
    #[default]
    Refuse,
    /// Forwarded to the backend.
    Forward,
}

impl Default for PathMatch {
    fn default() -> Self {
        Self { kind: PathMatchType::Prefix, value: default_path() }
    }
}

fn default_class() -> String {
    DEFAULT_CLASS.to_owned()
}

fn default_path() -> String {
    "/".to_owned()
}

fn default_matches() -> Vec<RouteMatch> {
    vec![RouteMatch::default()]
}

const fn default_max_age() -> Duration {
    Duration::from_secs(8760 * 3600)
}

const fn default_weight() -> u32 {
    1
}
