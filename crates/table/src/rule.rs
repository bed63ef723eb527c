//! One rule of a route, as the gateway follows it.

use std::{
    fmt,
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use super::{Backend, LoadBalancing, PathAmbiguities};

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A rule with every default resolved. A connection keeps the `Arc` of the rule it was admitted with.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The WebSocketRoute.
    pub route: ObjectRef,
    /// The rule's name, or its index where it has none.
    pub name: String,
    /// What ws:// meets.
    pub plaintext: Plaintext,
    /// What plain HTTP meets.
    pub http: HttpMode,
    /// What is taken of paths that servers read in different ways.
    pub path_allow: PathAmbiguities,
    /// Limits of time.
    pub timeouts: Timeouts,
    /// Pings of ours.
    pub keepalive: Keepalive,
    /// What is checked of the frames that pass.
    pub frames: FrameChecks,
    /// Limits of messages.
    pub limits: Limits,
    /// Which endpoint of a backend takes a new connection.
    pub load_balancing: LoadBalancing,
    /// Most endpoints that are tried for one request. Above zero.
    pub connect_attempts: u8,
    /// How connections are ended on purpose.
    pub drain: Drain,
    /// The subprotocols that its matches name: the only ones that may stand in the log. Others may be secrets.
    pub subprotocols: Vec<String>,
    /// Where connections go. Backends whose references could not be resolved are not in it; it may be empty.
    pub backends: Vec<Backend>,
}

/// What a request in clear text meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// 403.
    Refuse,
    /// 308 to https.
    Redirect,
    /// Served.
    Allow,
}

/// What a request that is no upgrade meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMode {
    /// 426.
    Refuse,
    /// Taken to the backend.
    Forward,
}

/// Limits of time of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For TCP and TLS to an endpoint. Above zero.
    pub connect: Duration,
    /// For the backend's answer to the upgrade. Above zero.
    pub upgrade: Duration,
    /// For a client, in all that it is waited for in the midst of a forwarded request's body, unless it brings a least rate;
    /// `None`: no limit.
    pub request_body: Option<Duration>,
    /// For silence in both directions; `None`: no limit.
    pub idle: Option<Duration>,
    /// For the whole life of a connection; `None`: no limit.
    pub max_duration: Option<Duration>,
    /// By how much of itself `max_duration` is cut, at random, so that what opened together does not end together.
    /// Per cent, 0 to 100.
    pub max_duration_jitter: u8,
    /// For a peer that takes too little of what waits for it; `None`: no limit.
    pub write_stall: Option<Duration>,
    /// From the first Close frame to the end. Above zero.
    pub close: Duration,
}

/// Pings that the gateway sends by itself (RFC 6455 §5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// A client from which nothing came for so long is sent a Ping; `None`: never.
    pub client_ping: Option<Duration>,
    /// The same towards the backend.
    pub backend_ping: Option<Duration>,
    /// A peer that sends nothing for so long after a Ping of ours counts as gone. Above zero.
    pub pong_timeout: Duration,
}

/// What is checked of the frames that pass (RFC 6455 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrameChecks {
    /// All that can be told from frame headers and control frames; who breaks a rule is closed with 1002.
    #[default]
    Strict,
    /// Frames are followed, not judged.
    PassThrough,
}

/// Limits of messages and frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Payload bytes of one message, all its fragments together; `None`: no limit.
    pub max_message_bytes: Option<NonZeroU64>,
    /// Data messages a second from the client; `None`: no limit.
    pub messages_per_second: Option<NonZeroU32>,
    /// Frames a second from either side, of whatever kind and size; `None`: no limit.
    pub frames_per_second: Option<NonZeroU32>,
    /// How long a side may want to send more than that, without coming to rest.
    pub patience: Duration,
}

/// How connections are ended on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Drain {
    /// The status code of the Close frames (RFC 6455 §7.4).
    pub close_code: u16,
    /// What becomes of connections whose rule is served no longer.
    pub on_route_removed: OnChange,
    /// What becomes of connections whose endpoint is terminating.
    pub on_endpoint_terminating: OnChange,
    /// The time over which those are told goodbye; zero: at once. Ending all of a gateway's connections has a time of its own.
    pub spread: Duration,
}

/// What becomes of open connections when what they were opened by goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnChange {
    /// They live on.
    Keep,
    /// They are told goodbye, paced.
    Close,
}

impl Default for Timeouts {
    /// What a route gets that says nothing about it.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            upgrade: Duration::from_secs(10),
            request_body: Some(Duration::from_secs(60)),
            idle: Some(Duration::from_secs(3600)),
            max_duration: None,
            max_duration_jitter: 10,
            write_stall: Some(Duration::from_secs(30)),
            close: Duration::from_secs(5),
        }
    }
}

impl Default for Keepalive {
    /// No pings.
    fn default() -> Self {
        Self { client_ping: None, backend_ping: None, pong_timeout: Duration::from_secs(20) }
    }
}

impl Default for Limits {
    /// None but that of frames, far above what applications send.
    fn default() -> Self {
        Self {
            max_message_bytes: None,
            messages_per_second: None,
            frames_per_second: NonZeroU32::new(20_000),
            patience: Duration::from_secs(10),
        }
    }
}

impl Default for Drain {
    /// "Service restart", and a change ends nothing.
    fn default() -> Self {
        Self {
            close_code: 1012,
            on_route_removed: OnChange::Keep,
            on_endpoint_terminating: OnChange::Keep,
            spread: Duration::from_secs(20),
        }
    }
}

impl ObjectRef {
    /// The object of this namespace and name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl Rule {
    /// A rule of this route with the default of every setting, and without backends.
    pub fn with_defaults(route: ObjectRef, name: &str) -> Self {
        Self {
            route,
            name: name.into(),
            plaintext: Plaintext::Refuse,
            http: HttpMode::Refuse,
            path_allow: PathAmbiguities::NONE,
            timeouts: Timeouts::default(),
            keepalive: Keepalive::default(),
            frames: FrameChecks::Strict,
            limits: Limits::default(),
            load_balancing: LoadBalancing::default(),
            connect_attempts: 3,
            drain: Drain::default(),
            subprotocols: Vec::new(),
            backends: Vec::new(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
