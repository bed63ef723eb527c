//! The key of a request for consistent hashing, and what it leads to (rendezvous hashing).
//!
//! Every gateway comes to the same answer for the same request, whenever it was started: no random seeds here.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use tidegate_table::{Backend, HashOn};

/// The key of a request, a hash of what the rule names; `None` where the request does not have it, or has it empty.
pub fn of_request(
    hash_on: &HashOn,
    client: IpAddr,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Option<u64> {
    match hash_on {
        HashOn::ClientIp => Some(of_address(client)),
        HashOn::Header(name) => headers.get(name).and_then(|value| of_bytes(value.as_bytes())),
        HashOn::Cookie(name) => cookie(headers, name.as_bytes()).and_then(of_bytes),
        HashOn::QueryParam(name) => query_param(query?, name),
    }
}

/// The value of the first cookie called `name` (RFC 6265 §5.4). Spaces around it and quotes are not part of a value.
fn cookie<'h>(headers: &'h HeaderMap, name: &[u8]) -> Option<&'h [u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (key == name).then_some(unquoted.unwrap_or(value))
    })
}

/// The key from the first parameter called `name`, decoded as forms are.
fn query_param(query: &str, name: &str) -> Option<u64> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(key, _)| decoded(key).eq(name.bytes()))?;
    (!value.is_empty()).then(|| hash(decoded(value)))
}

/// The bytes of a name or value in a query, without a copy.
fn decoded(text: &str) -> impl Iterator<Item = u8> + '_ {
    text.split('+').enumerate().flat_map(|(index, part)| {
        let space = (index > 0).then_some(b' ');
        space.into_iter().chain(percent_decode_str(part))
    })
}

fn of_bytes(bytes: &[u8]) -> Option<u64> {
    (!bytes.is_empty()).then(|| hash(bytes.iter().copied()))
}

/// FNV-1a (Fowler, Noll, Vo), whose bits [`mix`] spreads: by itself it leaves short keys close to each other.
fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let basis = 0xcbf2_9ce4_8422_2325;
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.into_iter().fold(basis, step))
}

/// The finaliser of SplitMix64: every bit of the answer depends on every bit of `x`.
const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn of_address(address: IpAddr) -> u64 {
    let number = match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let (high, low) = ((number >> 64) as u64, number as u64);
    mix(low ^ mix(high ^ 0x9e37_79b9_7f4a_7c15))
}

/// A backend by its Service and port.
pub fn of_backend(backend: &Backend) -> u64 {
    let service = &backend.service;
    let name = service.namespace.bytes().chain([b'/']).chain(service.name.bytes());
    hash(name.chain(backend.port.to_be_bytes()))
}

/// How much a key is drawn to an endpoint; the one that draws it most has it. When one comes it takes from the others the keys
/// that it draws most, and when one goes each of its keys goes to the next: no other key moves (Thaler and
/// Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998).
pub(super) fn score(key: u64, endpoint: SocketAddr) -> u64 {
    mix(key ^ of_address(endpoint.ip()).wrapping_add(mix(u64::from(endpoint.port()))))
}

/// The backend that draws a key most, each by its weight, where that is above 0. More weight moves keys to it and no others
/// (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005).
pub(super) fn heaviest(
    key: u64,
    backends: &[Backend],
    weight: impl Fn(&Backend) -> u32,
) -> Option<&Backend> {
    let score = |backend: &Backend| {
        let weight = weight(backend);
        // 53 bits of the hash, as a number between 0 and 1.
        let unit = || ((mix(key ^ of_backend(backend)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        (weight > 0).then(|| -f64::from(weight) / unit().ln())
    };
    let scored = backends.iter().filter_map(|backend| Some((backend, score(backend)?)));
    scored.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(backend, _)| backend)
}

#[cfg(test)]
mod tests;
