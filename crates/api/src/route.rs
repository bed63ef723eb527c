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

/// Which WebSockets to serve, and where to take them.
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
    doc = "A WebSocketRoute takes the WebSockets of some hostnames to the endpoints of Services.",
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

    /// The hostnames served. A name may begin with "*." for any one label in its place:
    /// "*.example.com" covers chat.example.com, but neither example.com nor a.chat.example.com.
    /// An exact name beats a wildcard.
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

    /// The certificate to serve on port 443. Without it clients see a self-made certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouteTls>,

    /// What happens to ws:// on port 80. Refuse answers 403 and says what to use in its place; Redirect answers 308 to wss:// (to
    /// https:// where no WebSocket is asked for), which browsers do not follow for WebSockets; Allow serves it in clear text.
    #[serde(default)]
    pub plaintext: Plaintext,

    /// What is served under the hostnames. The most specific match over all rules and routes wins.
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

    /// A Secret of type kubernetes.io/tls that may be in another namespace, where a ReferenceGrant
    /// must permit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,

    /// The oldest TLS version accepted.
    #[serde(default)]
    pub min_version: TlsVersion,

    /// Tells browsers to use TLS alone for these hostnames (HSTS, RFC 6797): each answer over TLS has the header
    /// Strict-Transport-Security. Without it there is none, and one of the backend's passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
}

/// HTTP Strict Transport Security (RFC 6797). Browsers remember it: taking it back takes 'maxAge: 0s' for as long as maxAge was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!self.preload || (self.includeSubdomains && duration(self.maxAge) >= duration('8760h'))"
).message("preload needs includeSubdomains: true and a maxAge of 8760h (a year) or more: the browsers' lists take no other hostname"))]
pub struct Hsts {
    /// For how long browsers remember it, in whole seconds. '0s' makes them forget.
    #[serde(default = "default_max_age")]
    pub max_age: Duration,
    /// Whether it holds for all names below these hostnames too, whoever serves them.
    #[serde(default)]
    pub include_subdomains: bool,
    /// Consent to stand in the lists that browsers come with, from which it takes months to be removed.
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
    /// The Secret's namespace; the route's own when absent.
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

/// What a request in clear text (port 80) meets.
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

/// One rule: requests that it takes, and where they go.
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
    /// Name of the rule, for conditions and logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,

    /// A request is taken if any of these fits it; without matches, every path is.
    #[serde(default = "default_matches")]
    #[schemars(length(max = 16))]
    pub matches: Vec<RouteMatch>,

    /// Where the connections go, shared out by weight.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.exists(b, b.weight > 0)")
        .message("at least one backendRef needs a weight above 0: with none, every upgrade would be refused"))]
    pub backend_refs: Vec<BackendRef>,

    /// Limits of time.
    #[serde(default)]
    pub timeouts: Timeouts,

    /// Pings that the gateway sends by itself, so that no load balancer or firewall on the way cuts a quiet connection,
    /// and a peer that is gone is noticed.
    #[serde(default)]
    pub keepalive: Keepalive,

    /// What is checked of the frames that pass. Strict ends a connection whose peer breaks the protocol (RFC 6455), with
    /// close code 1002; PassThrough takes frames to the other side as they are, control frames of any length too. Limits
    /// hold with both.
    #[serde(default)]
    pub frames: FrameChecks,

    /// Limits of messages and frames.
    #[serde(default)]
    pub limits: Limits,

    /// Which endpoint takes a new connection.
    #[serde(default)]
    pub load_balancing: LoadBalancing,

    /// What happens where an endpoint cannot be reached.
    #[serde(default)]
    pub retry: Retry,

    /// How connections are ended on purpose.
    #[serde(default)]
    pub drain: Drain,

    /// How request paths are read that servers read in different ways.
    #[serde(default)]
    pub path: PathPolicy,

    /// What happens to plain HTTP requests that this rule matches. Refuse answers 426 Upgrade Required; Forward takes them
    /// to the same endpoints (Socket.IO and SignalR fall back to it, GraphQL posts to it).
    #[serde(default)]
    pub http: HttpMode,
}

/// What a request must look like. All parts given must fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// The path of the request.
    #[serde(default)]
    pub path: PathMatch,
    /// Headers that must be present with these values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderMatch>,
    /// Query parameters that must be present with these values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub query_params: Vec<QueryParamMatch>,
    /// Subprotocols (Sec-WebSocket-Protocol), one of which the client must offer.
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
    /// Prefix matches whole path elements: /ws fits /ws and /ws/room, but not /wss. Exact matches the path as it is.
    #[serde(default, rename = "type")]
    pub kind: PathMatchType,
    /// The path, compared with that of the request, case included, percent-encoding not: both are compared in one form.
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

/// What is taken of paths that servers read in different ways. A request's path is matched and forwarded in one form: letters, digits
/// and "-._~" plain, other escapes in upper case. What is named here passes beyond that, as it was sent, but only where every
/// way to read the path leads to this very rule: an inner rule is never stepped around.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathPolicy {
    /// What is taken; all else of this kind is refused with 400 (reason bad_path). Default: none of it. EncodedSlash: %2F.
    /// Backslash: a backslash or %5C. EncodedControl: %00 to %1F and %7F. BadPercent: a '%' without two hexadecimal digits, which goes on
    /// as %25. DoubleEncoding: %25 before two hexadecimal digits. DoubleSlash: //. PathParameters: ; or %3B. DotSegments: /./ and
    /// /../ in any coding. Warning: with DotSegments a backend that takes paths for files of its own has to hold them within its
    /// folder by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = kube::core::cel::ListMerge::Set)]
    pub allow: Vec<PathAmbiguity>,
}

/// What makes servers read one path in different ways.
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
    /// Name of the header, in any case.
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
    /// Name of the parameter, percent-decoded, case kept.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Its whole value, percent-decoded. The first occurrence counts.
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
    /// The Service's port, by number.
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub port: u16,
    /// Its share among the rule's backendRefs: weight over the sum of weights. 0 takes none.
    #[serde(default = "default_weight")]
    #[schemars(with = "i32", range(min = 0, max = 1_000_000))]
    pub weight: u32,
    /// How the pods' certificates are verified, for Service ports with `appProtocol: kubernetes.io/wss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
}

/// How the certificate of a backend is verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.caCertificateRef) != self.insecureSkipVerify")
    .message("set caCertificateRef to verify the backend's certificate, or insecureSkipVerify: true to accept any, but not both"))]
pub struct BackendTls {
    /// Where the certificate authority is: key `ca.crt` of a ConfigMap, or of a Secret of type kubernetes.io/tls, in
    /// the route's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate_ref: Option<CaCertificateRef>,
    /// The name that the certificate must have, also sent as SNI. Default: NAME.NAMESPACE.svc of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub hostname: Option<String>,
    /// Accept any certificate. Whoever can answer in a pod's place can then read everything.
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

/// What plain HTTP meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HttpMode {
    /// 426 Upgrade Required.
    #[default]
    Refuse,
    /// Taken to the backend as it is.
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
