//! What a rule says about its connections once they are open: judged, and with every default resolved.
//!
//! The judgements are those of the CRD, for files and for objects stored under an older schema.

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use tidegate_api::{PathPolicy, RouteRule};
use tidegate_table::{
    Drain, FrameChecks, Keepalive, Limits, OnChange, PathAmbiguities, PathAmbiguity, Timeouts,
};

/// How long a client is silent before it is sent a ping, where the rule does not say. Below the 60 s after which many
/// load balancers cut a quiet connection.
const DEFAULT_CLIENT_PING: Duration = Duration::from_secs(30);

/// Looks for what can never work; the first such thing in a sentence that begins with its field in the rule.
pub(super) fn check(rule: &RouteRule) -> Result<(), String> {
    timeouts(&rule.timeouts)?;
    pings(rule)?;
    let limits = &rule.limits;
    for (field, zero) in [
        ("maxMessageBytes", limits.max_message_bytes == Some(0)),
        ("messagesPerSecond", limits.messages_per_second == Some(0)),
    ] {
        if zero {
            return Err(format!(
                ".limits.{field}: is 0, so that nothing could pass. Give at least 1, or leave it out for no limit."
            ));
        }
    }
    match rule.drain.close_code {
        1000 | 1001 | 1012 | 1013 | 3000..=4999 => Ok(()),
        code => Err(format!(
            ".drain.closeCode: {code} is no code to end connections with. Take 1000, 1001 (going away), 1012 (service \
             restart), 1013 (try again later) or one of 3000 to 4999."
        )),
    }
}

fn timeouts(timeouts: &tidegate_api::Timeouts) -> Result<(), String> {
    if timeouts.connect.limit().is_none() || timeouts.upgrade.limit().is_none() {
        return Err(
            ".timeouts: connect and upgrade must be above 0s: an upgrade always has a deadline."
                .into(),
        );
    }
    if timeouts.close.limit().is_none() {
        return Err(
            ".timeouts.close: 0s leaves peers no moment to answer a Close frame. The default is 5s."
                .into(),
        );
    }
    if timeouts.max_duration_jitter > 100 {
        return Err(format!(
            ".timeouts.maxDurationJitter: {} is more than the whole. Give per cent, 0 to 100.",
            timeouts.max_duration_jitter
        ));
    }
    Ok(())
}

fn pings(rule: &RouteRule) -> Result<(), String> {
    let keepalive = &rule.keepalive;
    if keepalive.pong_timeout.limit().is_none() {
        return Err(
            ".keepalive.pongTimeout: 0s leaves a peer no moment to answer a ping. The default is 20s."
                .into(),
        );
    }
    let pings =
        [("clientPing", keepalive.client_ping), ("backendPing", Some(keepalive.backend_ping))];
    for (field, ping) in pings {
        // No ping at all is 0s, which is shorter than any.
        if let Some(ping) = ping
            && let Some(idle) = rule.timeouts.idle.limit()
            && ping.get() >= idle
        {
            return Err(format!(
                ".keepalive.{field}: {ping} is not shorter than timeouts.idle ({idle}): pings are no activity, so that a \
                 quiet connection would end as idle before its first one. Lower {field}, raise idle, or write \
                 {field}: 0s for none.",
                idle = rule.timeouts.idle
            ));
        }
    }
    Ok(())
}

/// The limits of time.
pub(super) fn resolve_timeouts(spec: &tidegate_api::Timeouts) -> Timeouts {
    Timeouts {
        connect: spec.connect.get(),
        upgrade: spec.upgrade.get(),
        request_body: spec.request_body.limit(),
        idle: spec.idle.limit(),
        max_duration: spec.max_duration.limit(),
        max_duration_jitter: spec.max_duration_jitter,
        write_stall: spec.write_stall.limit(),
        close: spec.close.get(),
    }
}

/// The pings of ours. Where the rule does not say, clients are sent some unless `idle` ends the connection before.
pub(super) fn resolve_keepalive(rule: &RouteRule) -> Keepalive {
    let idle = rule.timeouts.idle.limit();
    Keepalive {
        client_ping: match rule.keepalive.client_ping {
            Some(ping) => ping.limit(),
            None => Some(DEFAULT_CLIENT_PING).filter(|ping| idle.is_none_or(|idle| *ping < idle)),
        },
        backend_ping: rule.keepalive.backend_ping.limit(),
        pong_timeout: rule.keepalive.pong_timeout.get(),
    }
}

/// The checks of frames.
pub(super) const fn resolve_frames(spec: tidegate_api::FrameChecks) -> FrameChecks {
    match spec {
        tidegate_api::FrameChecks::Strict => FrameChecks::Strict,
        tidegate_api::FrameChecks::PassThrough => FrameChecks::PassThrough,
    }
}

/// The limits of messages and frames.
pub(super) fn resolve_limits(spec: &tidegate_api::Limits) -> Limits {
    Limits {
        max_message_bytes: spec.max_message_bytes.and_then(NonZeroU64::new),
        messages_per_second: spec.messages_per_second.and_then(NonZeroU32::new),
        frames_per_second: NonZeroU32::new(spec.frames_per_second),
        ..Limits::default()
    }
}

/// The way connections are ended on purpose.
pub(super) const fn resolve_drain(spec: &tidegate_api::Drain) -> Drain {
    Drain {
        close_code: spec.close_code,
        on_route_removed: on_change(spec.on_route_removed),
        on_endpoint_terminating: on_change(spec.on_endpoint_terminating),
        spread: spec.spread.get(),
    }
}

const fn on_change(spec: tidegate_api::OnChange) -> OnChange {
    match spec {
        tidegate_api::OnChange::Keep => OnChange::Keep,
        tidegate_api::OnChange::Close => OnChange::Close,
    }
}

/// What a rule takes of ambiguous paths.
pub(super) fn resolve_path(spec: &PathPolicy) -> PathAmbiguities {
    let one = |what: &tidegate_api::PathAmbiguity| match what {
        tidegate_api::PathAmbiguity::EncodedSlash => PathAmbiguity::EncodedSlash,
        tidegate_api::PathAmbiguity::Backslash => PathAmbiguity::Backslash,
        tidegate_api::PathAmbiguity::EncodedControl => PathAmbiguity::EncodedControl,
        tidegate_api::PathAmbiguity::BadPercent => PathAmbiguity::BadPercent,
        tidegate_api::PathAmbiguity::DoubleEncoding => PathAmbiguity::DoubleEncoding,
        tidegate_api::PathAmbiguity::DoubleSlash => PathAmbiguity::DoubleSlash,
        tidegate_api::PathAmbiguity::DotSegments => PathAmbiguity::DotSegments,
        tidegate_api::PathAmbiguity::PathParameters => PathAmbiguity::PathParameters,
    };
    spec.allow.iter().map(one).collect()
}
