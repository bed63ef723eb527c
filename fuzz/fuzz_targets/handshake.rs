//! The checks of the opening handshake, with headers as peers may send them.
#![no_main]

use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};
use libfuzzer_sys::fuzz_target;
use tidegate_gateway::{
    frames::Extensions,
    handshake::{accept_for, check_request, check_response},
    headers::HopByHop,
    intermediaries::{IntermediaryTrace, RequestTarget},
    refusal::RefusalReason,
    target::Target,
};

/// Names that the checks look at.
const NAMES: [&str; 15] = [
    "host",
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "sec-websocket-accept",
    "content-length",
    "transfer-encoding",
    "x-other",
    "via",
    "origin",
    "sec-fetch-mode",
    "x-forwarded-for",
];

#[derive(arbitrary::Arbitrary, Debug)]
struct Input<'a> {
    get: bool,
    http10: bool,
    target: &'a [u8],
    request: Vec<(u8, &'a [u8])>,
    response: Vec<(u8, &'a [u8])>,
}

fn headers(pairs: &[(u8, &[u8])]) -> http::HeaderMap {
    let pairs = pairs.iter().filter_map(|(name, value)| {
        let name = HeaderName::from_static(NAMES[usize::from(*name) % NAMES.len()]);
        Some((name, HeaderValue::from_bytes(value).ok()?))
    });
    let mut map = http::HeaderMap::new();
    for (name, value) in pairs {
        map.append(name, value);
    }
    map
}

fuzz_target!(|input: Input<'_>| {
    let Ok(uri) = Uri::try_from(input.target) else { return };
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.uri = uri;
    parts.method = if input.get { Method::GET } else { Method::POST };
    parts.version = if input.http10 { Version::HTTP_10 } else { Version::HTTP_11 };
    parts.headers = headers(&input.request);
    let uri = parts.uri.clone();
    if let Ok(target) = Target::of(&parts.method, &uri, &parts.headers) {
        let host = target.authority.host();
        assert!(!host.is_empty() && host.len() <= 253 && !host.contains('@'), "{host:?}");
        let rewritten = target.rewritten().unwrap_or_else(|| uri.clone());
        assert!(rewritten.authority().is_none() && rewritten.path() == target.path.as_str());
    }
    let way = IntermediaryTrace::of(&parts);
    let seen = way.seen();
    let seen = seen.to_str().expect("visible ASCII is all that is told");
    assert!(seen.len() < 400 && matches!(seen.matches('"').count(), 0 | 2), "{seen}");
    let asked = RequestTarget {
        secure: input.get,
        claims_tls: false,
        websocket: way.wants_websocket(),
        host: "a.test",
        uri: &parts.uri,
        https_port: 443,
    };
    let whole = way.check(input.http10, &asked).map_err(|refusal| refusal.reason);
    assert!(matches!(whole, Ok(()) | Err(RefusalReason::UpgradeStripped)), "{whole:?}");
    let hop = HopByHop::take(&mut parts.headers);
    let Ok(upgrade) = check_request(&parts.method, parts.version, &parts.headers, &hop) else {
        return;
    };
    assert!(input.get && !input.http10);
    assert_eq!(whole, Ok(()), "a sound upgrade was not stripped");
    let key = parts.headers.get("sec-websocket-key").expect("a checked request has a key");
    assert_eq!(upgrade.accept, accept_for(key.as_bytes()));
    let mut answer = headers(&input.response);
    let hop = HopByHop::take(&mut answer);
    if check_response(&answer, &hop, &upgrade.accept, &parts.headers).is_ok() {
        let accept = answer.get("sec-websocket-accept").expect("it was checked");
        assert_eq!(accept.as_bytes(), upgrade.accept.as_bytes());
    }
    let _ = Extensions::chosen(&answer);
});
