//! HTTP/1 end to end: the bytes of a client through hyper and all that the gateway does to a request, to the bytes that backends
//! get. Those are read again by httparse and by a strict reader of bodies: one request for each that was let through, with
//! one host, one path and one length, and nothing of the client's that could be taken for the gateway's.
#![no_main]

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use tidegate_gateway::{
    authority::Authority,
    cdn_loop::LoopMark,
    forwarded::{Scheme, Sender, client_address},
    handshake::check_request,
    headers::{HopByHop, is_alias},
    http1_head,
    intermediaries::IntermediaryTrace,
    outgoing::{Marks, prepare, prepare_upgrade},
    target::Target,
};
use tidegate_table::{PathAmbiguities, RequestPath};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    task::{LocalSet, spawn_local},
};

/// What came of one request.
struct Passed {
    method: Method,
    path: String,
    query: Option<String>,
    host: String,
    upgrade: bool,
    /// What its backend got.
    sent: Rc<RefCell<Vec<u8>>>,
}

/// All that came of a client's bytes.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<Passed>>>);

async fn handle(log: Log, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let refused = || {
        let mut response = Response::new(Full::default());
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        response
    };
    Ok(pass(log, request).await.unwrap_or_else(refused))
}

/// The way of a request through the gateway, in its order; `None` where it is refused.
async fn pass(log: Log, request: Request<Incoming>) -> Option<Response<Full<Bytes>>> {
    let (mut parts, body) = request.into_parts();
    let _ = IntermediaryTrace::of(&parts);
    let hop = HopByHop::take(&mut parts.headers);
    let loop_mark = LoopMark::new(7);
    if loop_mark.is_looping(&parts.headers) {
        return None;
    }
    let uri = parts.uri.clone();
    let target = Target::of(&parts.method, &uri, &parts.headers).ok()?;
    if let Some(uri) = target.rewritten() {
        parts.uri = uri;
    }
    if hop.fault.is_some() || target.path.check(PathAmbiguities::NONE).is_err() {
        return None;
    }
    let peer = [192, 0, 2, 1].into();
    let sender = Sender {
        peer,
        trusted: true,
        client: client_address(&parts.headers, peer, |address| address == peer),
        scheme: Scheme::Http,
        authority: &target.authority,
    };
    let id = HeaderValue::from_static("id");
    let marks = Marks { id: &id, loop_mark: &loop_mark, sender: &sender, kept: &[] };
    let sent = Rc::new(RefCell::new(Vec::new()));
    let mut passed = Passed {
        method: parts.method.clone(),
        path: target.path.as_str().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        host: target.authority.as_str().to_owned(),
        upgrade: hop.upgrade_websocket,
        sent: Rc::clone(&sent),
    };
    if hop.upgrade_websocket {
        check_request(&parts.method, parts.version, &parts.headers, &hop).ok()?;
        prepare_upgrade(&mut parts, &marks);
        // As it is written where an upgrade is asked for, and as hyper would write it.
        *sent.borrow_mut() = http1_head::of_request(&parts);
        log.0.borrow_mut().push(passed);
        let again = Rc::new(RefCell::new(Vec::new()));
        let _ = send(Request::from_parts(parts, Empty::<Bytes>::new()), Rc::clone(&again)).await;
        assert_eq!(
            String::from_utf8_lossy(&sent.borrow()).to_ascii_lowercase(),
            String::from_utf8_lossy(&again.borrow()).to_ascii_lowercase()
        );
        return None;
    }
    prepare(&mut parts, &marks);
    passed.upgrade = false;
    log.0.borrow_mut().push(passed);
    let answered = send(Request::from_parts(parts, body), sent).await;
    answered.then(|| Response::new(Full::default()))
}

/// Sends a request as the gateway forwards one, to a backend that notes all that it gets.
async fn send<B>(request: Request<B>, sent: Rc<RefCell<Vec<u8>>>) -> bool
where
    B: hyper::body::Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (near, mut far) = duplex(1 << 16);
    let Ok((mut sender, connection)) =
        hyper::client::conn::http1::handshake(TokioIo::new(near)).await
    else {
        return false;
    };
    spawn_local(connection);
    spawn_local(async move {
        let mut answered = false;
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = far.read(&mut buffer).await {
            sent.borrow_mut().extend_from_slice(&buffer[..count]);
            let head = sent.borrow().windows(4).any(|end| end == b"\r\n\r\n");
            if head && !answered {
                answered = true;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                let _ = far.write_all(answer).await;
            }
        }
    });
    sender.send_request(request).await.is_ok()
}

async fn serve(bytes: &[u8]) -> Log {
    let log = Log::default();
    let (mut client, near) = duplex(1 << 16);
    let to_handle = log.clone();
    let service = hyper::service::service_fn(move |request| handle(to_handle.clone(), request));
    let served = spawn_local(
        hyper::server::conn::http1::Builder::new()
            .max_buf_size(16 * 1024)
            .max_headers(100)
            .serve_connection(TokioIo::new(near), service),
    );
    let _ = client.write_all(bytes).await;
    let _ = client.shutdown().await;
    let mut answers = Vec::new();
    let _ = client.read_to_end(&mut answers).await;
    let _ = served.await;
    log
}

/// Whether these bytes are a chunked body, whole or the beginning of one, and nothing behind it (RFC 9112 §7.1).
fn is_chunked(mut bytes: &[u8]) -> bool {
    loop {
        let Some(end) = bytes.windows(2).position(|end| end == b"\r\n") else {
            return bytes.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'\r');
        };
        let digits = std::str::from_utf8(&bytes[..end]).expect("sizes are text");
        assert!(!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let size = usize::from_str_radix(digits, 16).expect("sizes are small");
        bytes = &bytes[end + 2..];
        if size == 0 {
            return bytes == b"\r\n" || bytes == b"\r" || bytes.is_empty();
        }
        if bytes.len() < size + 2 {
            return true;
        }
        assert_eq!(&bytes[size..size + 2], b"\r\n");
        bytes = &bytes[size + 2..];
    }
}

fn check(passed: &Passed) {
    let sent = passed.sent.borrow();
    if sent.is_empty() {
        // hyper gave up before: a body that was broken from the start.
        return;
    }
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = request.parse(&sent) else {
        panic!("not one head: {}", String::from_utf8_lossy(&sent));
    };
    let body = &sent[length..];
    assert_eq!(request.version, Some(1));
    assert_eq!(request.method, Some(passed.method.as_str()));
    let target = request.path.expect("it was parsed");
    let (path, query) =
        target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    assert_eq!((path, query), (&*passed.path, passed.query.as_deref()));
    assert!(target.bytes().all(|byte| byte.is_ascii_graphic()));
    let again = RequestPath::of(path).expect("it is a path");
    assert_eq!(again.as_str(), path);
    assert!(again.ambiguities().is_empty());
    let all = |name: &str| -> Vec<&[u8]> {
        let lines = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        lines.map(|header| header.value).collect()
    };
    let one = |name: &str| -> String {
        let lines = all(name);
        assert_eq!(lines.len(), 1, "{name}: {lines:?}");
        String::from_utf8(lines[0].to_vec()).expect("it is ours")
    };
    assert_eq!(one("host"), passed.host);
    assert_eq!(
        Authority::parse(passed.host.as_bytes()).expect("it is a host").as_str(),
        passed.host
    );
    for name in [
        "x-forwarded-host",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-real-ip",
    ] {
        assert!(!one(name).is_empty());
    }
    assert_eq!(one("x-request-id"), "id");
    let passes = all("cdn-loop");
    assert_eq!(passes.last().map(|pass| &pass[..]), Some(&b"tidegate;id=0000000000000007"[..]));
    for header in request.headers.iter() {
        let name = http::HeaderName::from_bytes(header.name.as_bytes()).expect("it was parsed");
        assert!(!is_alias(&name), "{name}");
    }
    for name in [
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "expect",
        "http2-settings",
        "proxy-authorization",
        "forwarded",
    ] {
        assert!(all(name).is_empty(), "{name}");
    }
    let (codings, lengths) = (all("transfer-encoding"), all("content-length"));
    let (connection, upgrade) = (all("connection"), all("upgrade"));
    if passed.upgrade {
        assert_eq!(
            (&connection[..], &upgrade[..]),
            (&[&b"Upgrade"[..]][..], &[&b"websocket"[..]][..])
        );
        assert!(codings.is_empty() && lengths.is_empty() && body.is_empty());
        return;
    }
    assert!(connection.is_empty() && upgrade.is_empty());
    match (&codings[..], &lengths[..]) {
        ([], []) => assert!(body.is_empty(), "a body without length"),
        ([coding], []) => {
            assert_eq!(*coding, b"chunked");
            assert!(is_chunked(body), "{}", String::from_utf8_lossy(body));
        }
        ([], [length]) => {
            let digits = std::str::from_utf8(length).expect("a length is text");
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()));
            let length: u64 = digits.parse().expect("a length is a number");
            assert!(body.len() as u64 <= length, "more than Content-Length says");
        }
        both => panic!("two lengths: {both:?}"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it needs nothing");
    let local = LocalSet::new();
    let log = local.block_on(&runtime, serve(bytes));
    // Backends get to the end of what was sent to them.
    local.block_on(&runtime, async {
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    });
    let passed = log.0.borrow();
    passed.iter().for_each(check);
});
