//! Who the client is, against a reference that reads each character on its own, from the right.
#![no_main]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tidegate_gateway::{
    authority::Authority,
    forwarded::{Scheme, Sender, client_address, tell_sender},
};

#[derive(arbitrary::Arbitrary, Debug)]
struct Input<'a> {
    peer: [u8; 4],
    /// Bits of the first byte of an address that make it trusted.
    mask: u8,
    trusted: bool,
    lines: Vec<&'a [u8]>,
    others: Vec<(u8, &'a [u8])>,
}

const OTHERS: [&str; 14] = [
    "host",
    "x-real-ip",
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-prefix",
    "x_forwarded_for",
    "x.forwarded.for",
    "x_real_ip",
    "sec_websocket_key",
    "x-original-url",
    "connection",
    "cookie",
];

fn address(element: &[u8]) -> Option<IpAddr> {
    let text: String = element.iter().map(|byte| char::from(*byte)).collect();
    let with_port = text.parse::<SocketAddr>().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let address = text.parse().ok().or(with_port.ok()).or_else(|| bracketed().map(IpAddr::V6));
    address.map(|address: IpAddr| address.to_canonical())
}

/// The hops, the nearest first.
fn hops(lines: &[&[u8]]) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for line in lines.iter().rev() {
        let mut end = line.len();
        for at in (0..=line.len()).rev() {
            if at == 0 || line[at - 1] == b',' {
                let element = line[at..end].trim_ascii();
                if !element.is_empty() {
                    let Some(address) = address(element) else { return all };
                    all.push(address);
                }
                end = at.saturating_sub(1);
            }
        }
    }
    all
}

fuzz_target!(|input: Input<'_>| {
    let mut headers = HeaderMap::new();
    let mut lines = Vec::new();
    for line in &input.lines {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("x-forwarded-for", value);
            lines.push(*line);
        }
    }
    for (name, value) in &input.others {
        let name = HeaderName::from_static(OTHERS[usize::from(*name) % OTHERS.len()]);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let peer = IpAddr::from(input.peer);
    let is_trusted = |address: IpAddr| match address {
        IpAddr::V4(address) => input.trusted && address.octets()[0] & input.mask == 0,
        IpAddr::V6(address) => input.trusted && address.octets()[15] & input.mask == 0,
    };
    let hops = hops(&lines);
    let client = client_address(&headers, peer, is_trusted);
    let mut expected = peer;
    let mut left = hops.iter();
    while is_trusted(expected) {
        let Some(hop) = left.next() else { break };
        expected = *hop;
    }
    assert_eq!(client, expected);

    let trusted = is_trusted(peer);
    let proto = headers.get_all("x-forwarded-proto").iter().next_back().cloned();
    let authority = Authority::parse(b"A.test").expect("it is a host");
    let sender = Sender { peer, trusted, client, scheme: Scheme::Https, authority: &authority };
    tell_sender(&mut headers, &sender, &[]);
    let one = |name: &str| {
        let all: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(all.len(), 1, "{name}");
        all[0].to_str().expect("what is ours is visible ASCII").to_owned()
    };
    let mut chain: Vec<String> = hops.iter().filter(|_| trusted).map(ToString::to_string).collect();
    chain.reverse();
    chain.push(peer.to_string());
    assert_eq!(one("x-forwarded-for"), chain.join(", "));
    assert_eq!(one("x-real-ip"), client.to_string());
    assert_eq!((one("host"), one("x-forwarded-host")), ("a.test".to_owned(), "a.test".to_owned()));
    let scheme = one("x-forwarded-proto");
    if !trusted || proto.is_none() {
        assert_eq!(scheme, "https");
    }
    assert_eq!(one("x-forwarded-port"), if scheme == "https" { "443" } else { "80" });
    for name in headers.keys() {
        let name = name.as_str();
        let kept = ["host", "connection", "cookie", "x-forwarded-for", "x-forwarded-host"];
        let ours = ["x-forwarded-port", "x-forwarded-proto", "x-real-ip"];
        assert!(kept.contains(&name) || ours.contains(&name), "{name}");
    }
});
