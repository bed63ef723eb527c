//! Headers across the gateway: hop-by-hop ones are taken off on arrival and rebuilt from nothing on departure
//! (RFC 9110 §7.6.1); what says who the client is comes from us, or from a proxy we were told to trust.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Names one request through all logs.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers that end at the next hop, whether or not `Connection` names them.
const HOP_BY_HOP: [HeaderName; 11] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    HeaderName::from_static("http2-settings"),
];

/// Whether a header is a claim about the client that only a proxy may make: `X-Forwarded-…`, `Forwarded`, `X-Real-IP`,
/// also with `_` for `-`, which CGI and its descendants cannot tell apart.
fn is_claim(name: &HeaderName) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    let same = |a: &[u8], b: &[u8]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || (*a == b'_' && *b == b'-'))
    };
    let name = name.as_str().as_bytes();
    name.get(..PREFIX.len()).is_some_and(|start| same(start, PREFIX))
        || same(name, b"forwarded")
        || same(name, b"x-real-ip")
}

/// What the hop-by-hop headers of a message said, after they were taken off.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HopByHop {
    /// `Connection` has the token `upgrade`.
    pub connection_upgrade: bool,
    /// `Upgrade` has the token `websocket`.
    pub upgrade_websocket: bool,
    /// There was a `Transfer-Encoding`.
    pub transfer_encoding: bool,
    /// There was a `Content-Length` other than 0.
    pub content: bool,
}

impl HopByHop {
    /// Takes all hop-by-hop headers off: those that `Connection` names first, then the known ones. `Host` stays
    /// whatever the peer says, and so does what a proxy says of its client: else the client could have it removed by
    /// naming it, where the proxy passes `Connection` on.
    pub fn take(headers: &mut HeaderMap) -> Self {
        let nominated: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            .filter(|name| *name != header::HOST && !is_claim(name))
            .collect();
        let has = |name: &HeaderName, wanted: &str| {
            tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
        };
        let found = Self {
            connection_upgrade: has(&header::CONNECTION, "upgrade"),
            upgrade_websocket: has(&header::UPGRADE, "websocket"),
            transfer_encoding: headers.contains_key(header::TRANSFER_ENCODING),
            content: headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0"),
        };
        if found.transfer_encoding {
            // It decides alone (RFC 9112 §6.3): a length beside it is a lie, or soon will be.
            headers.remove(header::CONTENT_LENGTH);
        }
        for name in nominated.iter().chain(&HOP_BY_HOP) {
            headers.remove(name);
        }
        found
    }
}

/// The elements of a comma-separated header, over all its lines. Lines that are not visible ASCII have none.
pub(crate) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().flat_map(elements)
}

/// The elements of one line of a comma-separated header; none where it is not visible ASCII.
pub(crate) fn elements(line: &HeaderValue) -> impl Iterator<Item = &str> {
    let elements = line.to_str().ok().into_iter().flat_map(|line| line.split(','));
    elements.map(str::trim).filter(|element| !element.is_empty())
}

/// Who sent a request, as far as the next hop is told.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// Address of the peer.
    pub address: IpAddr,
    /// Whether the peer is a proxy whose claims count (`--trusted-proxies`).
    pub trusted: bool,
    /// Whether it came over TLS.
    pub secure: bool,
    /// The host it asked for, with the port where it named one.
    pub host: &'a str,
}

/// Writes who the client is, after removing the claims of a peer that is not trusted. A trusted peer's
/// `X-Forwarded-For` is continued; its `-Proto` and `-Host` stand.
pub fn tell_sender(headers: &mut HeaderMap, sender: Sender<'_>) {
    if !sender.trusted {
        let claims: Vec<HeaderName> =
            headers.keys().filter(|name| is_claim(name)).cloned().collect();
        for name in &claims {
            headers.remove(name);
        }
    }
    let address = sender.address.to_canonical();
    let so_far: Vec<&str> = tokens(headers, &X_FORWARDED_FOR).collect();
    let chain = if so_far.is_empty() {
        address.to_string()
    } else {
        format!("{}, {address}", so_far.join(", "))
    };
    let value = |text: &str| HeaderValue::from_str(text).ok();
    if let Some(chain) = value(&chain) {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    if !headers.contains_key(X_FORWARDED_PROTO) {
        let scheme = if sender.secure { "https" } else { "http" };
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if !headers.contains_key(X_FORWARDED_HOST)
        && let Some(host) = value(sender.host)
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

/// Whether the proxy in front says that the client came over TLS. Ask only of a trusted one.
pub fn claims_https(headers: &HeaderMap) -> bool {
    tokens(headers, &X_FORWARDED_PROTO).last().is_some_and(|proto| {
        proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss")
    })
}

/// The address of the client: the peer's, or, behind trusted proxies, the last one in `X-Forwarded-For` that is
/// not itself trusted.
pub fn client_address(
    headers: &HeaderMap,
    peer: IpAddr,
    trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = peer.to_canonical();
    let chain: Vec<&str> = tokens(headers, &X_FORWARDED_FOR).collect();
    for hop in chain.into_iter().rev() {
        if !trusted(client) {
            break;
        }
        let Some(address) = hop_address(hop) else { break };
        client = address.to_canonical();
    }
    client
}

/// The address in an element of `X-Forwarded-For`, behind which some proxies write the port (Azure Application Gateway).
fn hop_address(hop: &str) -> Option<IpAddr> {
    hop.parse().or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip())).ok()
}

/// Adds what makes a message an upgrade on the next hop, last of all.
pub fn set_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

#[cfg(test)]
mod tests;
