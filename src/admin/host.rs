//! Whether a request's `Host` is one that the admin port may be asked by: an answer to DNS rebinding.
//!
//! A page of a stranger's can give its own name an address of this machine, or of this cluster, and read what its browser is then
//! answered as its own. It cannot do so under a name that it does not hold. So addresses are answered, names that nobody can
//! register, and those that the operator has allowed.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, header, uri::Authority};

/// Names under which nobody can register one.
const UNREGISTRABLE: [&str; 3] = [".localhost", ".svc", ".svc.cluster.local"];
/// Allows every name.
const ANY: &str = "*";

/// Whether each name that a request is for may be answered. One without a name is no browser's (HTTP/1.0).
pub(super) fn is_allowed(
    authority: Option<&Authority>,
    headers: &HeaderMap,
    allowed: &[String],
) -> bool {
    let hosts = headers.get_all(header::HOST).iter().map(|value| value.to_str().ok());
    authority
        .map(|authority| Some(authority.as_str()))
        .into_iter()
        .chain(hosts)
        .all(|host| host.is_some_and(|host| may(host, allowed)))
}

fn may(host: &str, allowed: &[String]) -> bool {
    let Some(name) = name_of(host) else { return false };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.parse::<Ipv4Addr>().is_ok() || bracketed(&name) {
        return true;
    }
    if name.is_empty() || !name.bytes().all(plain) {
        return false;
    }
    // One label: localhost, a pod, a Service in the same namespace.
    !name.contains('.')
        || UNREGISTRABLE.iter().any(|end| name.ends_with(end))
        || allowed.iter().any(|allowed| allowed == ANY || allowed.eq_ignore_ascii_case(&name))
}

/// A host without its port.
fn name_of(host: &str) -> Option<&str> {
    let (name, port) = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => (&host[..colon], Some(&host[colon + 1..])),
        _ => (host, None),
    };
    port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

fn bracketed(name: &str) -> bool {
    name.strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(host: &str, allowed: &[&str]) -> bool {
        let allowed: Vec<_> = allowed.iter().map(|&name| name.to_owned()).collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
        is_allowed(None, &headers, &allowed)
    }

    #[test]
    fn addresses_and_names_that_nobody_registers_are_answered() {
        for host in [
            "127.0.0.1:9090",
            "10.1.2.3",
            "[::1]:9090",
            "[fd00::1]",
            "localhost:9090",
            "LOCALHOST",
            "localhost.",
            "admin.localhost:1",
            "tidegate",
            "tidegate-admin.infra.svc:9090",
            "tidegate-admin.infra.svc.cluster.local",
        ] {
            assert!(asked(host, &[]), "{host}");
        }
    }

    #[test]
    fn a_name_that_a_stranger_may_hold_is_not() {
        for host in [
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "tidegate.svc.evil.example",
            "svc",
            "a.svc.cluster.local.example",
            "",
            ":9090",
            ".",
            "localhost:80,evil.example",
            "a b",
            "[::1",
            "[evil.example]",
            "\u{e9}",
            "evil.example:x",
            "user@localhost",
        ] {
            assert_eq!(asked(host, &[]), host == "svc", "{host:?}");
        }
    }

    #[test]
    fn the_operator_allows_names_or_all_of_them() {
        assert!(asked("Metrics.example.com:443", &["metrics.example.com"]));
        assert!(!asked("a.metrics.example.com", &["metrics.example.com"]));
        assert!(asked("anything.example", &["*"]));
        assert!(!asked("not a name", &["*"]));
    }

    #[test]
    fn each_name_of_a_request_counts() {
        let mut headers = HeaderMap::new();
        assert!(is_allowed(None, &headers, &[]), "HTTP/1.0");
        let evil = Authority::from_static("evil.example");
        assert!(!is_allowed(Some(&evil), &headers, &[]));
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(!is_allowed(Some(&evil), &headers, &[]));
        headers.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert!(!is_allowed(None, &headers, &[]));
    }
}
