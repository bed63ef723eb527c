//! WebSockets over HTTP/2, where the server announces them (RFC 8441).

use std::{sync::Arc, thread};

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Finding, examine,
    server::{Shown, grant},
};

/// A server that speaks WebSocket over HTTP/1.1 and, as it is told, over HTTP/2.
fn server(shown: &Shown, announces: bool, status: u16) -> u16 {
    let mut config = shown.config();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap().port()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    match stream.get_ref().1.alpn_protocol() {
                        Some(b"h2") => speak_http2(stream, announces, status).await,
                        _ => speak_http1(stream).await,
                    }
                });
            }
        });
    });
    told.recv().unwrap()
}

async fn speak_http2<S>(stream: S, announces: bool, status: u16)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = h2::server::Builder::new();
    if announces {
        builder.enable_connect_protocol();
    }
    let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let asked = request.extensions().get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str);
        assert_eq!(asked, Some("websocket"));
        assert_eq!(request.headers()["sec-websocket-version"], "13");
        let answer =
            Response::builder().status(StatusCode::from_u16(status).unwrap()).body(()).unwrap();
        let refused = status != 200;
        let mut sending = respond.send_response(answer, refused).unwrap();
        if refused {
            continue;
        }
        let mut receiving = request.into_body();
        tokio::spawn(async move {
            while let Some(Ok(data)) = receiving.data().await {
                if let Some(pong) = pong(&data) {
                    sending.send_data(pong.into(), false).unwrap();
                }
            }
        });
    }
}

async fn speak_http1<S>(mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    }
    let mut answer = Vec::new();
    grant(&mut answer, std::str::from_utf8(&bytes).unwrap(), "");
    stream.write_all(&answer).await.unwrap();
    let mut data = [0; 256];
    while let Ok(length @ 1..) = stream.read(&mut data).await {
        if let Some(pong) = pong(&data[..length]) {
            let _ = stream.write_all(&pong).await;
        }
    }
}

/// The answer to a masked ping of the doctor, which it sends in one piece.
fn pong(data: &[u8]) -> Option<Vec<u8>> {
    let (begin, payload) = data.split_at_checked(6)?;
    let payload = payload.iter().zip(begin[2..].iter().cycle()).map(|(byte, key)| byte ^ key);
    let pong = [0x8a, begin[1] & 0x7f].into_iter().chain(payload).collect();
    (begin[0] == 0x89).then_some(pong)
}

fn found(announces: bool, status: u16, exit_code: i32) -> Finding {
    let shown = Shown::by("Our CA");
    let port = server(&shown, announces, status);
    let ca = shown.file();
    let ca = ca.path().to_str().unwrap();
    examine(&format!("wss://127.0.0.1:{port}/"), &["--ca", ca], exit_code)
}

#[test]
fn what_is_announced_and_works_is_well() {
    let found = found(true, 200, 0);
    assert_eq!(found.says(), []);
    let seen = found.seen("http2");
    assert_eq!((&seen["announced"], &seen["status"]), (&true.into(), &200.into()));
    assert!(seen["pong_ms"].is_number(), "{}", found.text);
}

#[test]
fn what_is_announced_and_refused_is_a_warning() {
    let found = found(true, 405, 0);
    assert_eq!(found.says(), [("upgrade_refused", "server")]);
    assert_eq!(found.document["diagnoses"][0]["severity"], "warning");
    assert!(found.evidence().contains("405"), "{}", found.text);
}

#[test]
fn http2_without_websockets_over_it_is_well() {
    let found = found(false, 200, 0);
    assert_eq!(found.says(), []);
    let seen = found.seen("http2");
    assert_eq!((&seen["spoken"], &seen["announced"]), (&true.into(), &false.into()));
    // What is not announced is not asked for (RFC 8441 §3).
    assert!(seen["status"].is_null() && seen["error"].is_null(), "{}", found.text);
}
