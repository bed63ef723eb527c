//! Times and hash keys, as others write them.

use tidegate_api::{Duration, HashSource};

/// The longest time that is written: what is longer stands for "never" in all but name.
const LONGEST_MS: u64 = 99_999 * 3_600_000;

/// A time of nginx: `60`, `60s`, `1h 30m`, `500ms`, `1d`, `2w`, `1M`, `1y` (its documentation, "Configuration file measurement units").
pub fn nginx_time(text: &str) -> Option<Duration> {
    let units = |unit: &str| {
        Some(match unit {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "M" => 30 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return None,
        })
    };
    time(text, units)
}

/// A time of HAProxy: `10s`, `1h`, `500us`; a number alone is milliseconds (its manual, 2.5 "Time format").
pub fn haproxy_time(text: &str) -> Option<Duration> {
    let units = |unit: &str| {
        Some(match unit {
            "" | "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        })
    };
    time(text, units)
}

/// A time of Go and so of Traefik: `1m30s`; a number alone is seconds there.
pub fn traefik_time(text: &str) -> Option<Duration> {
    let units = |unit: &str| {
        Some(match unit {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        })
    };
    time(text, units)
}

/// Numbers with units, added up.
fn time(text: &str, millis_of: impl Fn(&str) -> Option<u64>) -> Option<Duration> {
    let mut millis = 0_u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        millis = millis.checked_add(number.checked_mul(millis_of(&rest[..letters])?)?)?;
        rest = rest[letters..].trim_start();
    }
    let millis = millis.min(LONGEST_MS);
    // Durations of the resource have whole milliseconds.
    format!("{}s{}ms", millis / 1_000 % 60, millis % 1_000).parse::<Duration>().ok().and_then(
        |seconds| {
            let minutes = millis / 60_000;
            format!("{}h{}m{seconds}", minutes / 60, minutes % 60).parse().ok()
        },
    )
}

/// A key that requests are hashed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashKey {
    /// `hashOn.source`.
    pub source: HashSource,
    /// `hashOn.name`.
    pub name: Option<String>,
}

impl HashKey {
    /// The client's address.
    pub const CLIENT_IP: Self = Self { source: HashSource::ClientIp, name: None };

    /// The value that a variable of nginx has, where Tidegate can hash by it: the client's address, a header, a cookie or a
    /// query parameter alone.
    pub fn of_variable(text: &str) -> Option<Self> {
        let name = text.strip_prefix('$')?;
        let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
        let word = |name: &str| {
            let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            (!name.is_empty() && name.bytes().all(sound)).then(|| name.to_owned())
        };
        if matches!(name, "remote_addr" | "binary_remote_addr") {
            return Some(Self::CLIENT_IP);
        }
        let (source, name) = if let Some(name) = name.strip_prefix("cookie_") {
            (HashSource::Cookie, word(name)?)
        } else if let Some(name) = name.strip_prefix("arg_") {
            (HashSource::QueryParam, word(name)?)
        } else if let Some(name) = name.strip_prefix("http_") {
            (HashSource::Header, word(name)?.replace('_', "-"))
        } else {
            return None;
        };
        Some(Self { source, name: Some(name) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn times_are_read_as_their_programs_read_them() {
        let shown =
            |time: Option<Duration>| time.map_or("none".to_owned(), |time| time.to_string());
        for (text, time) in [
            ("60", "1m"),
            ("86400s", "24h"),
            ("1h 30m", "1h30m"),
            ("500ms", "500ms"),
            ("7d", "168h"),
            ("1M", "720h"),
            ("999y", "99999h"),
            ("0", "0s"),
            ("", "none"),
            ("x", "none"),
            ("5x", "none"),
            ("99999999999999999999", "none"),
        ] {
            assert_eq!(shown(nginx_time(text)), time, "{text}");
        }
        assert_eq!(shown(haproxy_time("30000")), "30s");
        assert_eq!(shown(haproxy_time("1h")), "1h");
        assert_eq!(shown(haproxy_time("1M")), "none");
        assert_eq!(shown(traefik_time("1m30s")), "1m30s");
        assert_eq!(shown(traefik_time("90")), "1m30s");
    }

    #[test]
    fn hash_keys_are_single_variables_of_a_request() {
        let key = |text| {
            let key = HashKey::of_variable(text)?;
            Some((key.source, key.name.unwrap_or_default()))
        };
        assert_eq!(key("$binary_remote_addr"), Some((HashSource::ClientIp, String::new())));
        assert_eq!(key("${arg_room}"), Some((HashSource::QueryParam, "room".into())));
        assert_eq!(key("$cookie_sid"), Some((HashSource::Cookie, "sid".into())));
        assert_eq!(key("$http_x_user"), Some((HashSource::Header, "x-user".into())));
        for text in ["$request_uri", "$remote_addr$arg_a", "room", "$cookie_", "$arg_a-b"] {
            assert_eq!(key(text), None, "{text}");
        }
    }
}
