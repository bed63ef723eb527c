//! What a rule says about its connections once they are open: time, pings, frames, messages and the way they end.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// Limits of time of a rule. Durations as in Gateway API: 1h30m, 10s, 500ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.connect) > duration('0s') && duration(self.upgrade) > duration('0s')")
        .message("connect and upgrade must be above 0s: an upgrade always has a deadline"),
    validation = Rule::new("duration(self.close) > duration('0s')")
        .message("close must be above 0s: peers need a moment to answer a Close frame; the default is 5s")
)]
pub struct Timeouts {
    /// For the connection to an endpoint: TCP and, where the backend wants it, TLS.
    #[serde(default = "default_connect")]
    pub connect: Duration,
    /// From the request on the way to the backend to its answer.
    #[serde(default = "default_upgrade")]
    pub upgrade: Duration,
    /// Ends a forwarded request (http: Forward) whose client was waited for so long in the midst of its body, with 408. Each
    /// 100 bytes for every second of it give the whole time anew, so a trickle ends too. 0s: never.
    #[serde(default = "default_request_body")]
    pub request_body: Duration,
    /// Ends a connection that was silent in both directions for so long, with close code 1001. 0s: never. Every frame of
    /// either peer is activity, its own pings and pongs included; the pings of `keepalive` and the pongs that answer them
    /// are not.
    #[serde(default = "default_idle")]
    pub idle: Duration,
    /// Ends a connection that is so old, whatever passes. 0s: never. Clients that come back find the endpoints of the
    /// day, and show their credentials anew.
    #[serde(default = "never")]
    pub max_duration: Duration,
    /// By how much maxDuration is cut at random for each connection, in per cent of it, so that what began together does
    /// not end together: with 10, a connection of `maxDuration: 10h` ends at 9 to 10 hours.
    #[serde(default = "default_max_duration_jitter")]
    #[schemars(with = "i32", range(min = 0, max = 100))]
    pub max_duration_jitter: u8,
    /// Ends a connection when a peer is behind and takes too little for so long of what waits for it: neither all of it nor
    /// 512 bytes a second. It has stopped reading, or is gone. 0s: never, but for one that is gone, which is noticed after
    /// about a minute, or a few if it had stopped reading before.
    #[serde(default = "default_write_stall")]
    pub write_stall: Duration,
    /// How long peers have to say goodbye, from the first Close frame to the end of both sockets.
    #[serde(default = "default_close")]
    pub close: Duration,
}

/// Pings that the gateway sends by itself. It takes the answers to them; all other pings and pongs pass through untouched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.pongTimeout) > duration('0s')")
    .message("pongTimeout must be above 0s: a peer needs a moment to answer a ping; the default is 20s"))]
pub struct Keepalive {
    /// A client from which nothing came for so long is sent a ping. 0s: never. Default: 30s, or never where
    /// timeouts.idle is 30s or shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ping: Option<Duration>,
    /// The same towards the backend. 0s: never.
    #[serde(default = "never")]
    pub backend_ping: Duration,
    /// A peer that sends nothing at all for so long after a ping counts as gone, which ends the connection.
    #[serde(default = "default_pong_timeout")]
    pub pong_timeout: Duration,
}

/// What is checked of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FrameChecks {
    /// All that frame headers and control frames tell: reserved bits, opcodes, masking, lengths, fragments, close codes.
    #[default]
    Strict,
    /// Nothing.
    PassThrough,
}

/// Limits of messages and frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Most bytes of one message in either direction, as sent: the payload of all its fragments added up, compressed where
    /// the peers compress. Who sends more is closed with 1009. Without it there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", range(min = 1))]
    pub max_message_bytes: Option<u64>,
    /// Most messages a second from the client, and at once; pings and pongs are none. A client that sends faster is read
    /// more slowly, and closed with 1008 when it keeps pushing for 10s. Without it there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1))]
    pub messages_per_second: Option<u32>,
    /// Most frames a second from either side, and at once, whatever they are and hold: messages, fragments, empty ones,
    /// pings and pongs. A side that sends faster is read more slowly, and closed with 1008 when it keeps pushing for 10s.
    /// 0: no limit.
    #[serde(default = "default_frames_per_second")]
    #[schemars(with = "i32", range(min = 0))]
    pub frames_per_second: u32,
}

/// How connections are ended on purpose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.closeCode in [1000, 1001, 1012, 1013] || (self.closeCode >= 3000 && self.closeCode <= 4999)"
).message("closeCode must be 1000, 1001 (going away), 1012 (service restart), 1013 (try again later) or one of 3000 to 4999: the others say what a gateway cannot know"))]
pub struct Drain {
    /// The code of the Close frames that both peers get when the gateway ends a connection on purpose, as it does
    /// when it shuts down: 1000, 1001, 1012, 1013 or one of 3000 to 4999. Take one after which your clients connect again.
    #[serde(default = "default_close_code")]
    #[schemars(with = "i32")]
    pub close_code: u16,
    /// What becomes of open connections when this rule is served no longer: its route was deleted, went to another
    /// class or is refused, the rule was taken out or renamed, or the hostname was. Keep lets them live on; Close ends
    /// them, over `spread`. A rule that is only changed is not removed. Connections go by what the rule said when they
    /// began.
    #[serde(default)]
    pub on_route_removed: OnChange,
    /// What becomes of open connections when their pod is being shut down: its endpoint is terminating. Keep leaves the
    /// goodbye to the pod; Close ends them, over `spread`, so that their clients come back to other pods.
    #[serde(default)]
    pub on_endpoint_terminating: OnChange,
    /// The time over which the goodbyes are spread that onRouteRemoved and onEndpointTerminating ask for, evenly and with
    /// jitter. 0s: all at once. The default leaves pods with the usual 30s to terminate time for the last goodbye.
    #[serde(default = "default_spread")]
    pub spread: Duration,
}

/// What becomes of open connections when what they were opened by goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnChange {
    /// They live on.
    #[default]
    Keep,
    /// They are told goodbye, paced.
    Close,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: default_connect(),
            upgrade: default_upgrade(),
            request_body: default_request_body(),
            idle: default_idle(),
            max_duration: never(),
            max_duration_jitter: default_max_duration_jitter(),
            write_stall: default_write_stall(),
            close: default_close(),
        }
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { client_ping: None, backend_ping: never(), pong_timeout: default_pong_timeout() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: None,
            messages_per_second: None,
            frames_per_second: default_frames_per_second(),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            close_code: default_close_code(),
            on_route_removed: OnChange::Keep,
            on_endpoint_terminating: OnChange::Keep,
            spread: default_spread(),
        }
    }
}

const fn default_connect() -> Duration {
    Duration::from_secs(5)
}

const fn default_request_body() -> Duration {
    Duration::from_secs(60)
}

const fn default_upgrade() -> Duration {
    Duration::from_secs(10)
}

const fn default_idle() -> Duration {
    Duration::from_secs(3600)
}

const fn never() -> Duration {
    Duration::from_secs(0)
}

const fn default_max_duration_jitter() -> u8 {
    10
}

const fn default_write_stall() -> Duration {
    Duration::from_secs(30)
}

const fn default_close() -> Duration {
    Duration::from_secs(5)
}

const fn default_pong_timeout() -> Duration {
    Duration::from_secs(20)
}

const fn default_frames_per_second() -> u32 {
    20_000
}

const fn default_close_code() -> u16 {
    1012
}

const fn default_spread() -> Duration {
    Duration::from_secs(20)
}
