//! Who the client is, and how it came: what backends are told about it (`X-Forwarded-…`, `X-Real-IP`), and what of that a
//! proxy in front may say. Pure.
//!
//! A trusted proxy is believed two things: who its client was (`X-Forwarded-For`) and whether it came by TLS
//! (`X-Forwarded-Proto`). All else of that kind is written anew or removed, whoever sent it, for most proxies pass on what they do not
//! know, and so a client could say it. Operators name the headers that their proxies do set (`--trusted-proxy-headers`).
//!
//! Lines are read bytewise, from the right, where the nearest proxy has written: what one byte of a client makes unreadable
//! ends with its element, and takes nothing to the right of it away.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    authority::Authority,
    headers::{is_alias, is_claim},
    list::elements,
};

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What a request is sent by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In clear text.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn default_port(self) -> &'static str {
        match self {
            Self::Http => "80",
            Self::Https => "443",
        }
    }
}

/// By what the client came to the proxy in front, as the nearest one says. Believe a trusted one only.
pub fn claimed_scheme(headers: &HeaderMap) -> Option<Scheme> {
    let nearest = headers.get_all(X_FORWARDED_PROTO).iter().next_back()?;
    let proto = elements(nearest).last()?;
    let is = |name: &str| proto.eq_ignore_ascii_case(name.as_bytes());
    if is("https") || is("wss") {
        Some(Scheme::Https)
    } else if is("http") || is("ws") {
        Some(Scheme::Http)
    } else {
        None
    }
}

/// The address of the client: the peer's, or, behind trusted proxies, the last one in `X-Forwarded-For` that is not itself
/// trusted. What is no address ends the search: what stands to the left of it was written by nobody who is known.
pub fn client_address(
    headers: &HeaderMap,
    peer: IpAddr,
    trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusted(client) {
        return client;
    }
    for hop in hops(headers) {
        client = hop;
        if !trusted(client) {
            break;
        }
    }
    client
}

/// The addresses in `X-Forwarded-For`, the nearest hop's first, up to what is none.
fn hops(headers: &HeaderMap) -> impl Iterator<Item = IpAddr> {
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    lines.flat_map(|line| elements(line).rev()).map_while(hop_address)
}

/// The address in an element of `X-Forwarded-For`, behind which some proxies write the port (Azure Application Gateway).
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?;
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let address = hop
        .parse()
        .ok()
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| in_brackets().map(IpAddr::V6))?;
    Some(address.to_canonical())
}

/// Who sent a request, as far as the next hop is told.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// Address of the peer.
    pub peer: IpAddr,
    /// Whether the peer is a proxy whose claims count (`--trusted-proxies`).
    pub trusted: bool,
    /// Address of the client: the peer's, or [the one behind it](client_address).
    pub client: IpAddr,
    /// By what the peer came.
    pub scheme: Scheme,
    /// The host that was asked for.
    pub authority: &'a Authority,
}

/// Writes who is asked and who asks, after removing what others say about that, but for the headers `kept` of a trusted peer.
pub fn tell_sender(headers: &mut HeaderMap, sender: &Sender<'_>, kept: &[HeaderName]) {
    let peer = sender.peer.to_canonical();
    let client = text(sender.client.to_canonical().to_string());
    let (chain, scheme) = if sender.trusted {
        let mut chain: Vec<IpAddr> = hops(headers).collect();
        chain.reverse();
        chain.push(peer);
        let chain: Vec<String> = chain.iter().map(IpAddr::to_string).collect();
        (text(chain.join(", ")), claimed_scheme(headers).unwrap_or(sender.scheme))
    } else {
        (client.clone(), sender.scheme)
    };
    let stays = |name: &HeaderName| sender.trusted && kept.contains(name);
    let gone = |name: &&HeaderName| is_alias(name) || (is_claim(name) && !stays(name));
    let gone: Vec<HeaderName> = headers.keys().filter(gone).cloned().collect();
    for name in &gone {
        headers.remove(name);
    }
    let authority = sender.authority.as_str();
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) if host == authority => host.clone(),
        // Also where there are several: one goes on.
        _ => {
            let host = text(authority.to_owned());
            headers.insert(header::HOST, host.clone());
            host
        }
    };
    let port = match sender.authority.port() {
        Some(port) => HeaderValue::from(port),
        None => HeaderValue::from_static(scheme.default_port()),
    };
    headers.insert(X_FORWARDED_FOR, chain);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str()));
    for (name, value) in [(X_FORWARDED_HOST, host), (X_FORWARDED_PORT, port), (X_REAL_IP, client)] {
        // What is left of these was kept.
        headers.entry(name).or_insert(value);
    }
}

fn text(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("addresses and authorities are visible ASCII and spaces")
}

#[cfg(test)]
mod tests;
