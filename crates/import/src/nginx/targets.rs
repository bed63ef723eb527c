//! Where `proxy_pass` leads.

use super::model::Scope;

/// The parts of a `proxy_pass`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) https: bool,
    /// An upstream's name, a host's, or an address.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// What takes the place of the location's path.
    pub(super) uri: Option<String>,
}

impl Target {
    /// Reads the argument of a `proxy_pass` at a place; a sentence about it where that does not work.
    pub(super) fn parse(text: &str, scope: &Scope<'_>) -> Result<Self, &'static str> {
        let text = expand(text, scope);
        let (https, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            (None, None) if text.starts_with('$') => return Err(BY_VARIABLE),
            (None, None) => return Err("only http:// and https:// lead to backends"),
        };
        if rest.starts_with("unix:") {
            return Err("Tidegate reaches backends by TCP, not by sockets of a file system");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, uri) = rest.split_at(end);
        // The whole request's, which is the same as none.
        let own = ["$request_uri", "$uri$is_args$args", "$uri"];
        let (authority, uri) = match own.iter().find_map(|own| authority.strip_suffix(own)) {
            Some(authority) => (authority, ""),
            None => (authority, uri),
        };
        let uri = if uri == "/$request_uri" { "" } else { uri };
        if authority.contains('$') {
            return Err(BY_VARIABLE);
        }
        let (host, port) = host_and_port(authority).ok_or("it names no host")?;
        let uri = (!uri.is_empty()).then(|| uri.to_owned());
        Ok(Self { https, host, port, uri })
    }
}

const BY_VARIABLE: &str = "which backend is meant is only known from each request: name the Service in a rule for each case";

/// A host, perhaps an address in brackets, and perhaps a port.
pub(super) fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        (host, rest.strip_prefix(':'))
    } else {
        match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        None => None,
        Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port > 0)?),
    };
    (!host.is_empty()).then(|| (host.to_ascii_lowercase(), port))
}

/// Puts the values of `set` in, a few times over: one may name another.
fn expand(text: &str, scope: &Scope<'_>) -> String {
    let mut text = text.to_owned();
    for _ in 0..3 {
        let mut expanded = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find('$') {
            expanded.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let (name, next) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}'))
            {
                Some(split) => split,
                None => {
                    let word = |next: char| next.is_ascii_alphanumeric() || next == '_';
                    after.split_at(after.find(|next| !word(next)).unwrap_or(after.len()))
                }
            };
            match scope.variable(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.extend(["$", name]),
            }
            rest = next;
        }
        expanded.push_str(rest);
        // A value that names itself would grow for ever.
        if expanded == text || expanded.len() > 1024 {
            break;
        }
        text = expanded;
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::nginx::parse::parse;

    #[test]
    fn targets_are_taken_apart() {
        let block =
            parse(&Arc::from("x"), "set $up http://chat:3000; set $host chat; set $me $me$me;")
                .unwrap();
        let scope = Scope::default().within(&block);
        let shown = |text| match Target::parse(text, &scope) {
            Ok(Target { https, host, port, uri }) => format!("{https} {host} {port:?} {uri:?}"),
            Err(_) => "none".to_owned(),
        };
        for (text, target) in [
            ("http://chat", "false chat None None"),
            ("https://chat:8443/", "true chat Some(8443) Some(\"/\")"),
            ("http://[::1]:80/a", "false ::1 Some(80) Some(\"/a\")"),
            ("$up", "false chat Some(3000) None"),
            ("http://$host:80", "false chat Some(80) None"),
            ("http://${host}$request_uri", "false chat None None"),
            ("http://chat$request_uri", "false chat None None"),
            ("http://$other", "none"),
            ("http://$me", "none"),
            ("http://unix:/run/x.sock", "none"),
            ("http://chat:0", "none"),
            ("ftp://chat", "none"),
            ("http://", "none"),
        ] {
            assert_eq!(shown(text), target, "{text}");
        }
    }
}
