//! What can be seen of the way that a request took: which of a WebSocket upgrade's marks it still has, and which boxes between
//! client and gateway have left theirs. Pure, and before the hop-by-hop headers come off: they are what is looked for.
//!
//! It judges nothing but whether an upgrade was stripped, and no decision about a sound request rests on it: all of it is what
//! others say.

use std::fmt::Write as _;

use http::{HeaderValue, Method, Uri, Version, request};

use super::{
    list::elements,
    refusal::{Refusal, RefusalReason},
};

/// Headers that proxies add and clients do not. Their names are told; of values, which may name people and machines, only
/// those of `Via` are.
const OF_PROXIES: [&str; 16] = [
    "proxy-connection",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-real-ip",
    "client-ip",
    "cdn-loop",
    "cf-ray",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
    "x-azure-ref",
    "x-envoy-external-address",
    "x-bluecoat-via",
    "x-proxy-id",
    "x-imforwards",
    "x-varnish",
];

/// The longest path that is told in a URL, bytes.
const MAX_TOLD_PATH: usize = 128;

/// How much is told of `Via`, bytes.
const MAX_VIA: usize = 160;

/// How a request came, as far as its head tells.
#[derive(Clone, Debug)]
pub struct IntermediaryTrace {
    version: Version,
    get: bool,
    /// Parts of an upgrade request (RFC 6455 §4.1), in the order of [`PARTS`]: whether it has them.
    has: [bool; PARTS.len()],
    /// Has a header that only WebSocket clients send.
    marked: bool,
    /// Comes from a page that does not say that it wants anything but a WebSocket.
    from_page: bool,
    via: Vec<HeaderValue>,
    /// Addresses in `X-Forwarded-For`.
    forwarded_for: usize,
    /// Which of [`OF_PROXIES`] are there, a bit each.
    proxies: u16,
}

/// What a request's security is judged by.
#[derive(Clone, Copy, Debug)]
pub struct RequestTarget<'a> {
    /// Whether the client came by TLS.
    pub secure: bool,
    /// Whether a peer that is not trusted says that the client came by TLS.
    pub claims_tls: bool,
    /// Whether the client wants a WebSocket.
    pub websocket: bool,
    /// The host that it asked for, without port.
    pub host: &'a str,
    /// Its target.
    pub uri: &'a Uri,
    /// The port at which clients reach the TLS listener.
    pub https_port: u16,
}

impl RequestTarget<'_> {
    /// The same target over TLS for the client to read, without the query, which may hold secrets, and with the path only where
    /// it is plain: nothing that a client sent is told again as it came.
    pub fn secure_url(&self) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        let path = Some(self.uri.path()).filter(|path| path.bytes().all(plain));
        let path = path.filter(|path| path.len() <= MAX_TOLD_PATH).unwrap_or("/");
        self.with_target(if self.websocket { "wss" } else { "https" }, path)
    }

    /// A target over TLS.
    pub fn with_target(&self, scheme: &str, target: &str) -> String {
        match self.https_port {
            443 => format!("{scheme}://{}{target}", self.host),
            port => format!("{scheme}://{}:{port}{target}", self.host),
        }
    }
}

/// What an upgrade request has, by the words in which it is told to be missing.
const PARTS: [&str; 4] = ["upgrade", "connection", "sec-websocket-key", "sec-websocket-version"];

impl IntermediaryTrace {
    /// Looks at a request as it came.
    pub fn of(request: &request::Parts) -> Self {
        let mut way = Self {
            version: request.version,
            get: request.method == Method::GET,
            has: [false; PARTS.len()],
            marked: false,
            from_page: false,
            via: Vec::new(),
            forwarded_for: 0,
            proxies: 0,
        };
        let names = |line, wanted: &[u8]| {
            elements(line).any(|element| element.eq_ignore_ascii_case(wanted))
        };
        let (mut origin, mut mode) = (false, None);
        let [upgrade, connection, key, version] = &mut way.has;
        // One pass: most of what is looked for is not there.
        for (name, value) in &request.headers {
            let name = name.as_str();
            match name {
                "upgrade" => *upgrade |= names(value, b"websocket"),
                "connection" => *connection |= names(value, b"upgrade"),
                "sec-websocket-key" => *key = true,
                "sec-websocket-version" => *version = true,
                "sec-websocket-extensions" | "sec-websocket-protocol" => way.marked = true,
                "sec-fetch-mode" => mode = mode.or(Some(value)),
                "origin" => origin = true,
                "via" => way.via.push(value.clone()),
                _ => {
                    if name == "x-forwarded-for" {
                        way.forwarded_for += elements(value).count();
                    }
                    if let Some(proxy) = OF_PROXIES.iter().position(|proxy| *proxy == name) {
                        way.proxies |= 1 << proxy;
                    }
                }
            }
        }
        way.marked |= *upgrade || *key || *version || mode.is_some_and(|mode| mode == "websocket");
        way.from_page = origin && mode.is_none();
        way
    }

    /// Whether the client wants a WebSocket, whole or stripped.
    pub const fn wants_websocket(&self) -> bool {
        self.get && self.marked
    }

    /// Refuses what a WebSocket client sent, but is no upgrade any more. Where only WebSockets are served, a page's `Origin` is
    /// enough of a mark: a browser sends it with every one.
    pub fn check(&self, only_websockets: bool, asked: &RequestTarget<'_>) -> Result<(), Refusal> {
        let [upgrade, connection, ..] = self.has;
        let old = self.version < Version::HTTP_11;
        let wanted = self.get && (self.marked || (only_websockets && self.from_page));
        if !wanted || (upgrade && connection && !old) {
            return Ok(());
        }
        let mut lacks = Vec::new();
        if !upgrade {
            lacks.push("without \"Upgrade: websocket\"");
        }
        if !connection {
            lacks.push("without \"Connection: Upgrade\"");
        }
        if old {
            lacks.push("over HTTP/1.0");
        }
        let mut refusal = Refusal::new(
            RefusalReason::UpgradeStripped,
            format!(
                "A WebSocket client's request came {}: a proxy on the way does not pass upgrades.",
                lacks.join(" and ")
            ),
        );
        refusal.advice = Some(if asked.secure {
            "The one that does it ends TLS. In front of the gateway it is a reverse proxy or load balancer, whose operator lets it \
             pass upgrades over HTTP/1.1 (nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header \
             Connection \"upgrade\";). On the client's side it is TLS inspection, which whoever runs that network has to teach the same, or \
             to leave this host alone."
                .into()
        } else {
            format!(
                "In clear text any box between here and the client may have done it, also one that nobody configured: connect to \
                 {}, where none can look inside. If TLS ends at a proxy in front of the gateway, its operator lets it pass \
                 upgrades over HTTP/1.1 (nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                 proxy_set_header Connection \"upgrade\";).",
                RequestTarget { websocket: true, ..*asked }.secure_url()
            )
            .into()
        });
        Err(refusal)
    }

    /// The parts of an upgrade that are missing, `upgrade,connection`; `None` if none is.
    pub fn missing(&self) -> Option<String> {
        let parts = PARTS.iter().zip(self.has).filter(|(_, has)| !has);
        let missing: Vec<_> = parts.map(|(part, _)| *part).collect();
        (!missing.is_empty()).then(|| missing.join(","))
    }

    /// The version of HTTP, `1.0` or `1.1`.
    pub fn http(&self) -> &'static str {
        match self.version {
            Version::HTTP_09 => "0.9",
            Version::HTTP_10 => "1.0",
            Version::HTTP_11 => "1.1",
            Version::HTTP_2 => "2",
            _ => "3",
        }
    }

    /// The boxes that name themselves (RFC 9110 §7.6.3), bounded, and free of what could be mistaken for another part of a
    /// line.
    pub fn via(&self) -> Option<String> {
        let lines = self.via.iter().map(|line| {
            let bytes = line.as_bytes().iter().take(MAX_VIA);
            let plain = |byte: &u8| {
                (byte.is_ascii_graphic() || *byte == b' ') && !matches!(byte, b'"' | b'\\')
            };
            bytes.map(|byte| if plain(byte) { char::from(*byte) } else { '?' }).collect::<String>()
        });
        let mut text = lines.take(8).collect::<Vec<_>>().join(", ");
        text.truncate(MAX_VIA);
        (!text.is_empty()).then_some(text)
    }

    /// The number of addresses in `X-Forwarded-For`; `None` for none.
    pub fn forwarded_for(&self) -> Option<usize> {
        (self.forwarded_for > 0).then_some(self.forwarded_for)
    }

    /// The names of the headers that proxies left, `forwarded,x-bluecoat-via`.
    pub fn proxies(&self) -> Option<String> {
        let bits = OF_PROXIES.iter().enumerate();
        let names: Vec<_> =
            bits.filter(|(bit, _)| self.proxies & (1 << bit) != 0).map(|(_, name)| *name).collect();
        (!names.is_empty()).then(|| names.join(","))
    }

    /// All of it in one header: `http=1.0; missing=upgrade,connection; via="1.1 squid"; forwarded-for=2; proxies=forwarded`.
    pub fn seen(&self) -> HeaderValue {
        let mut text = format!("http={}", self.http());
        // Writing to a String does not fail.
        if let Some(missing) = self.missing() {
            let _ = write!(text, "; missing={missing}");
        }
        if let Some(via) = self.via() {
            let _ = write!(text, "; via=\"{via}\"");
        }
        if let Some(count) = self.forwarded_for() {
            let _ = write!(text, "; forwarded-for={count}");
        }
        if let Some(proxies) = self.proxies() {
            let _ = write!(text, "; proxies={proxies}");
        }
        HeaderValue::try_from(text).expect("only visible ASCII and spaces were put in")
    }
}

#[cfg(test)]
mod tests;
