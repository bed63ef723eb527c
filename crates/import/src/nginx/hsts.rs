//! `add_header Strict-Transport-Security`: of headers of answers the one that a route can send.

use tidegate_api::{Duration, Hsts};

use super::{model::Scope, parse::Directive};
use crate::policy::nginx_time;

/// Browsers' lists ask for a year at least (as the resource does).
const PRELOAD_AT_LEAST: Duration = Duration::from_secs(365 * 86_400);

/// What such a directive says (RFC 6797 §6.1); `None` for another header, and for what browsers would not take.
pub(super) fn of(directive: &Directive) -> Option<Hsts> {
    if !is_about(directive) {
        return None;
    }
    let (mut max_age, mut include_subdomains, mut preload) = (None, false, false);
    for part in directive.arg(1).split(';').map(str::trim) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "max-age" => {
                let number = value.trim().trim_matches('"');
                max_age = Some(number.parse::<u64>().ok().and_then(|_| nginx_time(number))?);
            }
            "includesubdomains" => include_subdomains = true,
            "preload" => preload = true,
            _ => {}
        }
    }
    let max_age = max_age?;
    // What the lists would not take is no consent to them.
    let preload = preload && include_subdomains && max_age >= PRELOAD_AT_LEAST;
    Some(Hsts { max_age, include_subdomains, preload })
}

/// Whether it is that header.
pub(super) fn is_about(directive: &Directive) -> bool {
    directive.name == "add_header"
        && directive.arg(0).eq_ignore_ascii_case("strict-transport-security")
}

/// What holds at a place.
pub(super) fn at(scope: &Scope<'_>) -> Option<Hsts> {
    scope.nearest("add_header").into_iter().find_map(of)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::nginx::parse::parse;

    #[test]
    fn the_header_is_read_as_browsers_read_it() {
        let read = |value: &str| {
            let text = format!("add_header Strict-Transport-Security \"{value}\" always;");
            let hsts = of(&parse(&Arc::from("x"), &text).unwrap()[0])?;
            Some(format!("{} {} {}", hsts.max_age, hsts.include_subdomains, hsts.preload))
        };
        assert_eq!(read("max-age=31536000").as_deref(), Some("8760h false false"));
        assert_eq!(
            read("max-age=63072000; includeSubDomains; preload").as_deref(),
            Some("17520h true true")
        );
        assert_eq!(
            read("max-age=60; includeSubDomains; preload").as_deref(),
            Some("1m true false")
        );
        assert_eq!(read("max-age=0").as_deref(), Some("0s false false"));
        for bad in ["includeSubDomains", "max-age=soon", "max-age=1h", ""] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
