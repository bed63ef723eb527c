//! What the URL says, and which proxy the environment names for it.

use std::{fmt, net::IpAddr, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::Uri;
use percent_encoding::percent_decode_str;

/// A WebSocket URL (RFC 6455 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `wss`.
    pub secure: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// The port, also where the URL names none.
    pub port: u16,
    /// The path, at least "/".
    pub path: String,
    /// What follows "?". It may hold a token, so it is never printed.
    pub query: Option<String>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "expected a URL such as wss://chat.example.com/ws";
        let uri: Uri = text.parse().map_err(|error| {
            if text.is_ascii() {
                format!("{FORM}: {error}")
            } else {
                format!("{FORM}; write names in ASCII (xn--…) and other characters as %XX")
            }
        })?;
        let secure = match uri.scheme_str() {
            Some("wss" | "https") => true,
            Some("ws" | "http") => false,
            Some(other) => return Err(format!("{FORM}, not {other}://")),
            None => return Err(FORM.to_owned()),
        };
        let authority = uri.authority().ok_or(FORM)?;
        if authority.as_str().contains('@') {
            return Err("put credentials into --header, not into the URL".to_owned());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(FORM.to_owned());
        }
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, digits)) if !digits.contains(']') => {
                digits.parse().ok().filter(|port| *port > 0).ok_or("the port is not one")?
            }
            _ => default_port(secure),
        };
        let query = uri.query().map(str::to_owned);
        Ok(Self { secure, host, port, path: uri.path().to_owned(), query })
    }
}

/// The port of a scheme (RFC 6455 §3).
pub(super) const fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

impl Target {
    /// The host with brackets where it is an IPv6 address.
    pub(super) fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }

    /// The value of `Host` for another scheme and port of the same host.
    pub(super) fn authority(&self, secure: bool, port: u16) -> String {
        if port == default_port(secure) {
            self.bracketed()
        } else {
            format!("{}:{port}", self.bracketed())
        }
    }

    /// The URL for another scheme and port of the same host, without the query.
    pub(super) fn url(&self, secure: bool, port: u16) -> String {
        let scheme = if secure { "wss" } else { "ws" };
        format!("{scheme}://{}{}", self.authority(secure, port), self.path)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url(self.secure, self.port))
    }
}

/// An HTTP proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The value of `Proxy-Authorization`; never printed.
    pub(super) authorization: Option<String>,
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "expected a proxy such as http://proxy.example.com:3128";
        // What follows could be a password, so it is not repeated.
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => return Err(format!("{FORM}; {scheme}:// proxies are not spoken")),
            None => text,
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| FORM.to_owned())?)
            }
            _ => (address, 80),
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() || port == 0 {
            return Err(FORM.to_owned());
        }
        // RFC 7617: user and password as they are, which the URL has percent-encoded.
        let authorization = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let mut plain = percent_decode_str(name).collect::<Vec<u8>>();
            plain.push(b':');
            plain.extend(percent_decode_str(password));
            format!("Basic {}", BASE64.encode(plain))
        });
        Ok(Self { host: host.to_owned(), port, authorization })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Whether a `NO_PROXY` list covers a host: `*`, names with all that is below them, addresses and networks, each also with
/// a port. There is no standard; this is what curl and Go have in common.
pub fn no_proxy_covers(list: &str, target: &Target) -> bool {
    let host = target.host.trim_end_matches('.').to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        let entry = entry.to_ascii_lowercase();
        if let (Some(address), Ok(net)) = (address, entry.parse::<ipnet::IpNet>()) {
            return net.contains(&address);
        }
        let plain = entry.trim_matches(['[', ']']);
        if let (Some(address), Ok(other)) = (address, plain.parse::<IpAddr>()) {
            return address == other;
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) => (name, port.parse::<u16>().ok()),
            None => (&*entry, None),
        };
        if port.is_some_and(|port| port != target.port) {
            return false;
        }
        let name = name.trim_matches(['[', ']']);
        let suffix = name.trim_start_matches("*.").trim_start_matches('.');
        host == suffix || host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_their_default_ports() {
        let read =
            |text: &str| text.parse::<Target>().map(|target| (target.to_string(), target.port));
        assert_eq!(read("wss://a.example/ws?token=1"), Ok(("wss://a.example/ws".into(), 443)));
        assert_eq!(read("ws://a.example"), Ok(("ws://a.example/".into(), 80)));
        assert_eq!(read("https://a.example:8443/"), Ok(("wss://a.example:8443/".into(), 8443)));
        assert_eq!(read("ws://[::1]:8080/x"), Ok(("ws://[::1]:8080/x".into(), 8080)));
        for bad in [
            "a.example",
            "ftp://a",
            "ws://a:0/",
            "ws://a:99999/",
            "ws://u:p@a/",
            "ws:///x",
            "wss://ä/",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proxys_password_is_sent_but_never_shown() {
        let proxy: Proxy = "http://joe:p%40ss@proxy.example:3128/".parse().unwrap();
        assert_eq!(proxy.authorization.as_deref(), Some("Basic am9lOnBAc3M="));
        assert_eq!(format!("{proxy} {proxy:?}"), "proxy.example:3128 Proxy(proxy.example:3128)");
        assert_eq!("proxy.example".parse::<Proxy>().unwrap().port, 80);
        assert_eq!("http://[::1]:3128".parse::<Proxy>().unwrap().to_string(), "[::1]:3128");
        for bad in ["socks5://secret@a", "http://", "http://a:x", "http://u:secret@:80"] {
            let error = bad.parse::<Proxy>().unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn no_proxy_covers_names_below_addresses_and_networks() {
        let covers = |list, url: &str| no_proxy_covers(list, &url.parse().unwrap());
        for (list, url) in [
            ("*", "ws://a.example"),
            ("b.example, a.example", "ws://a.example"),
            ("example", "ws://a.Example"),
            (".example", "ws://a.example"),
            ("*.example", "ws://a.example"),
            ("a.example:8080", "ws://a.example:8080"),
            ("10.0.0.0/8", "ws://10.1.2.3"),
            ("::1", "ws://[::1]"),
        ] {
            assert!(covers(list, url), "{list} {url}");
        }
        for (list, url) in [
            ("", "ws://a.example"),
            ("ple", "ws://a.example"),
            ("a.example:8080", "ws://a.example"),
            ("10.0.0.0/8", "ws://11.1.2.3"),
            ("127.0.0.1", "ws://127.0.0.11"),
        ] {
            assert!(!covers(list, url), "{list} {url}");
        }
    }
}
