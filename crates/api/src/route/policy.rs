//! What a rule says about its connections once they are open: time, pings, frames, messages and the way they end.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// Timeouts of a rule. Write durations as in Gateway API: 1h30m, 10s, 500ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.connect) > duration('0s') && duration(self.upgrade) > duration('0s')")
        .message("connect and upgrade must be above 0s: an upgrade always has a deadline"),
    validation = Rule::new("duration(self.close) > duration('0s')")
        .message("close must be above 0s: peers need a moment to answer a Close frame; the default is 5s")
)]
pub struct Timeouts {
    /// Time to connect to an endpoint: TCP and, if the backend uses it, TLS.
    #[serde(default = "default_connect")]
    pub connect: Duration,
    /// Time for the backend to answer, from the moment when the gateway sends it the request.
    #[serde(default = "default_upgrade")]
    pub upgrade: Duration,
    /// How long to wait for the client of a forwarded request (http: Forward) to send the rest of its body. Then the
    /// answer is 408. The time starts again after 100 bytes for each second of this timeout, so a trickle does not keep
    /// the request open. 0s: no limit.
    #[serde(default = "default_request_body")]
    pub request_body: Duration,
    /// Close the connection after this long without traffic in either direction, with close code 1001. 0s: never. Every
    /// frame from either peer counts as traffic, including its own pings and pongs. The pings of `keepalive`, and the
    /// pongs that answer them, do not.
    #[serde(default = "default_idle")]
    pub idle: Duration,
    /// Close a connection at this age, even if it is active. 0s: never. Clients then connect again, to the current
    /// endpoints, and show their credentials again.
    #[serde(default = "never")]
    pub max_duration: Duration,
    /// Shorten maxDuration for each connection at random by up to this percentage. Connections that start together then
    /// do not end together. With 10, a connection with `maxDuration: 10h` ends after 9 to 10 hours.
    #[serde(default = "default_max_duration_jitter")]
    #[schemars(with = "i32", range(min = 0, max = 100))]
    pub max_duration_jitter: u8,
    /// End the connection if, for this long, a peer accepts neither all the data queued for it nor 512 bytes a second.
    /// Such a peer has stopped reading, or is gone. 0s: never, except for a peer that is gone. That is noticed after
    /// about a minute, or after a few minutes if the peer had stopped reading before.
    #[serde(default = "default_write_stall")]
    pub write_stall: Duration,
    /// Time from the first Close frame until both sockets are closed.
    #[serde(default = "default_close")]
    pub close: Duration,
}

/// Pings that the gateway sends. It consumes the answers to them; all other pings and pongs pass unchanged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.pongTimeout) > duration('0s')")
    .message("pongTimeout must be above 0s: a peer needs a moment to answer a ping; the default is 20s"))]
pub struct Keepalive {
    /// Send the client a ping after it has sent nothing for this long. 0s: never. Default: 30s, or never if
    /// timeouts.idle is 30s or shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ping: Option<Duration>,
    /// Send the backend a ping after it has sent nothing for this long. 0s: never.
    #[serde(default = "never")]
    pub backend_ping: Duration,
    /// End the connection if a peer sends nothing at all for this long after a ping.
    #[serde(default = "default_pong_timeout")]
    pub pong_timeout: Duration,
}

/// How to check frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FrameChecks {
    /// Check frame headers and control frames: reserved bits, opcodes, masking, lengths, fragments, close codes.
    #[default]
    Strict,
    /// Check nothing.
    PassThrough,
}

/// Limits on messages and frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Maximum payload bytes of one message, in either direction. All its fragments count together, as they are on the
    /// wire: compressed, if the peers compress. A peer that sends more is closed with 1009. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i64>", range(min = 1))]
    pub max_message_bytes: Option<u64>,
    /// Maximum messages per second from the client. A second's worth may come at once. Pings and pongs do not count. A
    /// client that sends faster is slowed down, and closed with 1008 if it keeps sending too fast for 10s. Default: no
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1))]
    pub messages_per_second: Option<u32>,
    /// Maximum frames per second from each peer. A second's worth may come at once. Frames of any kind and size count:
    /// messages, fragments, empty frames, pings and pongs. A peer that sends faster is slowed down, and closed with
    /// 1008 if it keeps sending too fast for 10s. 0: no limit.
    #[serde(default = "default_frames_per_second")]
    #[schemars(with = "i32", range(min = 0))]
    pub frames_per_second: u32,
}

/// How the gateway ends connections on purpose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.closeCode in [1000, 1001, 1012, 1013] || (self.closeCode >= 3000 && self.closeCode <= 4999)"
).message("closeCode must be 1000, 1001 (going away), 1012 (service restart), 1013 (try again later) or one of 3000 to 4999: the others say what a gateway cannot know"))]
pub struct Drain {
    /// The close code for clients when the gateway ends a connection on purpose, for example when it shuts down. Use
    /// 1000, 1001, 1012, 1013 or one of 3000 to 4999. Choose a code after which your clients connect again. Backends
    /// receive 1001.
    #[serde(default = "default_close_code")]
    #[schemars(with = "i32")]
    pub close_code: u16,
    /// What happens to open connections when this rule is no longer served. This covers a route that is deleted,
    /// refused or moved to another class, a rule that is removed or renamed, and a hostname that is removed. Keep
    /// leaves the connections open. Close ends them over `spread`. A rule that is only changed is not removed. A
    /// connection keeps the rule that it started with.
    #[serde(default)]
    pub on_route_removed: OnChange,
    /// What happens to open connections when their pod is being shut down: its endpoint is terminating. Keep lets the
    /// pod close them. Close ends them over `spread`, so that their clients connect to other pods.
    #[serde(default)]
    pub on_endpoint_terminating: OnChange,
    /// The time over which the closes of onRouteRemoved and onEndpointTerminating are spread, evenly and with jitter.
    /// 0s: all at once. The default leaves time for the last close in pods with the usual 30s to terminate.
    #[serde(default = "default_spread")]
    pub spread: Duration,
}

/// What happens to open connections when the rule or endpoint that they were opened by goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnChange {
    /// They stay open.
    #[default]
    Keep,
    /// They are closed over `spread`.
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
