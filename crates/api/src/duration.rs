//! Durations as Gateway API writes them (GEP-2257): `1h30m`, `10s`, `500ms`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The pattern of GEP-2257, as it stands in the CRD.
const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
/// The most bytes that fit the pattern. The API server does not see it from the pattern, and would charge CEL rules for
/// a text of any length.
const MAX_LENGTH: usize = 4 * (5 + 2);

/// A length of time in the notation of GEP-2257: one to four groups of up to five digits and a
/// unit (`h`, `m`, `s`, `ms`). Millisecond resolution; no sign, no fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(std::time::Duration);

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a duration: write one to four groups of digits and unit (h, m, s, ms), such as 1h30m, 10s or 500ms"
)]
pub struct DurationError {
    text: String,
}

impl Duration {
    /// That many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// The same length as the standard library's type.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }

    /// As the standard library's type, or `None` for zero, which stands for "no limit".
    pub const fn limit(self) -> Option<std::time::Duration> {
        if self.0.is_zero() { None } else { Some(self.0) }
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || DurationError { text: text.chars().take(64).collect() };
        let mut millis = 0_u64;
        let mut rest = text;
        let mut groups = 0;
        while !rest.is_empty() {
            groups += 1;
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if groups > 4 || !(1..=5).contains(&digits) {
                return Err(error());
            }
            // One to five ASCII digits always fit.
            let number: u64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let (factor, unit) = match rest.as_bytes() {
                [b'm', b's', ..] => (1, 2),
                [b'h', ..] => (3_600_000, 1),
                [b'm', ..] => (60_000, 1),
                [b's', ..] => (1_000, 1),
                _ => return Err(error()),
            };
            millis += number * factor;
            rest = &rest[unit..];
        }
        if groups == 0 {
            return Err(error());
        }
        Ok(Self(std::time::Duration::from_millis(millis)))
    }
}

impl fmt::Display for Duration {
    /// The shortest form: `90m` is written `1h30m`, zero `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if millis >= length {
                write!(f, "{}{unit}", millis / length)?;
                millis %= length;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": MAX_LENGTH })
    }
}
