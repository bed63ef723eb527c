//! `--upstream NAME=ADDRESS:PORT`: a server that runs already, put behind TLS.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use super::certificate::Certificate;

/// A server of the developer's own, served as `https://NAME.localhost`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    name: String,
    addresses: Vec<SocketAddr>,
    /// The address as it is told.
    written: String,
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text
            .split_once('=')
            .ok_or("expected NAME=ADDRESS:PORT, such as app=127.0.0.1:3000, or app=3000")?;
        if !is_label(name) {
            return Err(format!(
                "{name:?} cannot be part of a hostname: lower-case letters, digits and inner hyphens can, so that app=3000 is served as https://app.localhost"
            ));
        }
        let (addresses, written) = addresses(address)?;
        Ok(Self { name: name.to_owned(), addresses, written })
    }
}

/// A lower-case DNS label (RFC 1123 §2.1).
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Where `127.0.0.1:3000`, `[::1]:3000`, `localhost:3000`, `:3000` or `3000` leads to, and how to tell it.
fn addresses(text: &str) -> Result<(Vec<SocketAddr>, String), String> {
    if text.contains("//") {
        return Err(format!(
            "{text:?} is a URL: give address and port alone, such as 127.0.0.1:3000"
        ));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port = match port.parse() {
        Ok(0) | Err(_) => {
            return Err(format!(
                "{text:?} has no port from 1 to 65535: expected an address and a port, such as 127.0.0.1:3000"
            ));
        }
        Ok(port) => port,
    };
    if matches!(host, "" | "localhost") {
        // Some servers listen at one of the two alone; which one depends on their runtime.
        let both = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        let addresses = both.map(|address| SocketAddr::new(address, port));
        return Ok((addresses.to_vec(), format!("localhost:{port}")));
    }
    let address: SocketAddr = text.parse().map_err(|_| {
        format!("{host:?} is no address: names are not looked up, except localhost; expected an address and a port, such as 127.0.0.1:3000 or [::1]:3000")
    })?;
    Ok((vec![address], address.to_string()))
}

impl Upstream {
    /// NAME.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The hostname that it is served under.
    pub fn hostname(&self) -> String {
        format!("{}.localhost", self.name)
    }

    /// Where it is, as text.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Its port, if it is one of this machine's loopback addresses.
    pub fn local_port(&self) -> Option<u16> {
        let first = self.addresses.first()?;
        first.ip().to_canonical().is_loopback().then(|| first.port())
    }

    /// Its route, Service, EndpointSlices and Secret.
    pub(super) fn manifests(&self, certificate: &Certificate) -> String {
        let Self { name, addresses, written } = self;
        let (hostname, secret) = (self.hostname(), certificate.secret(&self.hostname()));
        let mut text = format!(
            "# https://{hostname} and its WebSockets, to {written}. Edit it and save: changes are served at once.\n\
             # It is removed when the program ends.\n\
             apiVersion: tidegate.io/v1alpha1\n\
             kind: WebSocketRoute\n\
             metadata:\n  name: {name}\n\
             spec:\n  hostnames: [{hostname}]\n  tls:\n    secretName: {hostname}\n  plaintext: Allow          # http:// and ws:// too: the default is Refuse\n  rules:\n  \
             - matches:\n    - path: {{type: Prefix, value: /}}\n    http: Forward           # pages and what they fetch, too: the default is Refuse\n    \
             backendRefs:\n    - {{name: {name}, port: 80}}\n    loadBalancing:\n      slowStart: 0s\n\
             ---\n\
             apiVersion: v1\n\
             kind: Service\n\
             metadata:\n  name: {name}\n\
             spec:\n  ports:\n  - {{name: http, port: 80}}\n",
        );
        for address in addresses {
            let (family, ip, port) = match address.ip() {
                IpAddr::V4(ip) => ("IPv4", ip.to_string(), address.port()),
                IpAddr::V6(ip) => ("IPv6", ip.to_string(), address.port()),
            };
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "---\n\
                 apiVersion: discovery.k8s.io/v1\n\
                 kind: EndpointSlice\n\
                 metadata:\n  name: {name}-{suffix}\n  labels:\n    kubernetes.io/service-name: {name}\n\
                 addressType: {family}\n\
                 ports:\n- {{name: http, port: {port}}}\n\
                 endpoints:\n- addresses: [\"{ip}\"]\n",
                suffix = family.to_ascii_lowercase(),
            );
        }
        text + "---\n" + &secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_a_name_and_an_address_however_short_it_is_written() {
        let both = "[127.0.0.1:3000, [::1]:3000]";
        for (text, written, addresses, local) in [
            ("app=127.0.0.1:3000", "127.0.0.1:3000", "[127.0.0.1:3000]", Some(3000)),
            ("app=[::1]:3000", "[::1]:3000", "[[::1]:3000]", Some(3000)),
            ("app=localhost:3000", "localhost:3000", both, Some(3000)),
            ("app=:3000", "localhost:3000", both, Some(3000)),
            ("app=3000", "localhost:3000", both, Some(3000)),
            ("app=192.0.2.1:80", "192.0.2.1:80", "[192.0.2.1:80]", None),
        ] {
            let upstream: Upstream = text.parse().unwrap();
            assert_eq!(upstream.hostname(), "app.localhost");
            assert_eq!(upstream.written(), written);
            assert_eq!(format!("{:?}", upstream.addresses), addresses);
            assert_eq!(upstream.local_port(), local);
        }
    }

    #[test]
    fn what_is_none_gets_one_sentence() {
        for (text, told) in [
            ("3000", "expected NAME=ADDRESS:PORT"),
            ("=3000", "cannot be part of a hostname"),
            ("App=3000", "cannot be part of a hostname"),
            ("a.b=3000", "cannot be part of a hostname"),
            ("-a=3000", "cannot be part of a hostname"),
            ("app=http://127.0.0.1:3000", "is a URL"),
            ("app=127.0.0.1", "has no port from 1 to 65535"),
            ("app=127.0.0.1:0", "has no port from 1 to 65535"),
            ("app=127.0.0.1:99999", "has no port from 1 to 65535"),
            ("app=", "has no port from 1 to 65535"),
            ("app=db.internal:5432", "names are not looked up"),
            ("app=::1:3000", "is no address"),
        ] {
            let error = text.parse::<Upstream>().unwrap_err();
            assert!(error.contains(told) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
