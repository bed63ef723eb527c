//! An opening handshake with what browsers and common servers send.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, Method, Request, Response, Uri, Version, request};
use tidegate::gateway::{
    cdn_loop::LoopMark,
    forwarded::{Scheme, Sender, claimed_scheme, client_address, tell_sender},
    handshake::{Upgrade, check_request, check_response, switching},
    headers::HopByHop,
    intermediaries::IntermediaryTrace,
    target::Target,
};

/// The example of RFC 6455 §1.3.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a browser asks with.
pub fn request() -> request::Parts {
    let request = Request::get("/ws/rooms/17")
        .header("host", "chat.example.com")
        .header("connection", "Upgrade")
        .header("pragma", "no-cache")
        .header("cache-control", "no-cache")
        .header(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        )
        .header("upgrade", "websocket")
        .header("origin", "https://chat.example.com")
        .header("sec-websocket-version", "13")
        .header("accept-encoding", "gzip, deflate, br, zstd")
        .header("accept-language", "en-GB,en;q=0.9")
        .header("cookie", "session=0123456789abcdef0123456789abcdef")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")
        .header("sec-websocket-protocol", "graphql-transport-ws, graphql-ws");
    request.body(()).unwrap().into_parts().0
}

/// What a backend answers.
pub fn answer() -> HeaderMap {
    let answer = Response::builder()
        .status(101)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", ACCEPT)
        .header("sec-websocket-protocol", "graphql-ws")
        .header("sec-websocket-extensions", "permessage-deflate; client_max_window_bits=15")
        .header("date", "Sun, 22 Nov 2026 12:00:00 GMT");
    answer.body(()).unwrap().into_parts().0.headers
}

/// What is seen of the way that a request took.
pub fn way(request: &request::Parts) -> IntermediaryTrace {
    IntermediaryTrace::of(request)
}

/// Who the client is, as the backend is told, and what it asked for.
pub fn sender(uri: &Uri, mut request: HeaderMap) -> (String, IpAddr, HeaderMap) {
    let address = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
    let client = client_address(&request, address, |_| false);
    let mark = LoopMark::new(7);
    let fresh = claimed_scheme(&request).is_none() && !mark.is_looping(&request);
    let target = Target::of(&Method::GET, uri, &request).unwrap();
    let authority = &target.authority;
    let scheme = Scheme::Https;
    let sender = Sender { peer: address, trusted: !fresh, client, scheme, authority };
    tell_sender(&mut request, &sender, &[]);
    mark.put_on(&mut request);
    (target.path.as_str().to_owned(), client, request)
}

/// The client's half: hop-by-hop headers off, judged, answered with what the backend chose.
pub fn client_half(mut request: HeaderMap, chosen: &HeaderMap) -> Response<()> {
    let hop = HopByHop::take(&mut request);
    let upgrade: Upgrade = check_request(&Method::GET, Version::HTTP_11, &request, &hop).unwrap();
    switching(chosen.clone(), &upgrade)
}

/// The backend's half: hop-by-hop headers off, judged.
pub fn backend_half(mut answer: HeaderMap, request: &HeaderMap) {
    let hop = HopByHop::take(&mut answer);
    check_response(&answer, &hop, ACCEPT, request).unwrap();
}
