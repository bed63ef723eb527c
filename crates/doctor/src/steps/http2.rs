//! A WebSocket over HTTP/2: extended CONNECT (RFC 8441), as browsers use it where they have such a connection already.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{Ping, RecvStream, SendStream, ext::Protocol};
use http::{Method, Request, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

use super::{Wire, messages, upgrade::USER_AGENT};
use crate::{
    Settings,
    seen::{Attempt, Http2Seen},
};

/// Bytes between the stream and the frames.
const BUFFER: usize = 16 * 1024;
/// Most bytes of an answer's headers.
const MAX_HEADERS: u32 = 64 * 1024;

/// Speaks HTTP/2 on a connection where it was agreed on.
pub(super) async fn try_out(
    wire: impl Wire,
    settings: &Settings,
    attempt: Attempt,
    trusted: bool,
) -> Http2Seen {
    let mut seen = Http2Seen { spoken: true, ..Http2Seen::default() };
    // The connection as a whole, its ping, the answer and the messages.
    let most = settings.patience * 4;
    match timeout(most, exchange(wire, settings, attempt, trusted, &mut seen)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => seen.error = Some(error),
        Err(_) => seen.error = Some(format!("no end within {most:?}")),
    }
    seen
}

async fn exchange(
    wire: impl Wire,
    settings: &Settings,
    attempt: Attempt,
    trusted: bool,
    seen: &mut Http2Seen,
) -> Result<(), String> {
    let text = |error: h2::Error| error.to_string();
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).max_header_list_size(MAX_HEADERS);
    let (sender, mut connection) = builder.handshake(wire).await.map_err(text)?;
    let mut pings = connection.ping_pong().ok_or("pings are taken")?;
    let talk = async {
        // SETTINGS is the server's first frame (RFC 9113 §3.4), so it is there with the answer to a ping.
        pings.ping(Ping::opaque()).await.map_err(text)?;
        let mut sender = sender.ready().await.map_err(text)?;
        seen.announced = sender.is_extended_connect_protocol_enabled();
        if !seen.announced {
            return Ok(());
        }
        let request = request(settings, attempt, trusted)?;
        let (answer, sending) = sender.send_request(request, false).map_err(text)?;
        let answer = answer.await.map_err(text)?;
        seen.status = Some(answer.status().as_u16());
        let reason = answer.headers().get("tidegate-reason");
        seen.reason = reason.and_then(|reason| reason.to_str().ok()).map(str::to_owned);
        if answer.status().is_success() {
            let (ours, theirs) = tokio::io::duplex(BUFFER);
            let socket =
                WebSocketStream::from_raw_socket(ours, Role::Client, Some(messages::config()))
                    .await;
            let messages = tokio::select! {
                messages = messages::try_out(socket, None, settings.patience) => messages,
                error = carry(sending, answer.into_body(), theirs) => return Err(error),
            };
            seen.pong_ms = messages.pong_ms;
        }
        Ok(())
    };
    tokio::select! {
        said = talk => said,
        ended = connection => match ended {
            Ok(()) => Err("the server ended the connection".to_owned()),
            Err(error) => Err(text(error)),
        },
    }
}

fn request(settings: &Settings, attempt: Attempt, trusted: bool) -> Result<Request<()>, String> {
    let target = &settings.target;
    let mut uri =
        format!("https://{}{}", target.authority(attempt.secure, attempt.port), target.path);
    if let Some(query) = target.query.as_ref().filter(|_| trusted) {
        uri += &format!("?{query}");
    }
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(uri)
        .extension(Protocol::from_static("websocket"))
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::USER_AGENT, USER_AGENT);
    if !settings.subprotocols.is_empty() {
        let offered = settings.subprotocols.join(", ");
        request = request.header(header::SEC_WEBSOCKET_PROTOCOL, offered);
    }
    if let Some(origin) = &settings.origin {
        request = request.header(header::ORIGIN, origin);
    }
    for (name, value) in settings.headers.iter().filter(|_| trusted) {
        request = request.header(name, value);
    }
    request.body(()).map_err(|error| error.to_string())
}

/// Moves bytes between the stream and the frames; returns why it cannot any longer.
async fn carry(
    mut sending: SendStream<Bytes>,
    mut receiving: RecvStream,
    mut wire: DuplexStream,
) -> String {
    let mut bytes = vec![0; BUFFER];
    loop {
        tokio::select! {
            read = wire.read(&mut bytes) => match read {
                Ok(0) | Err(_) => return "the frames have ended".to_owned(),
                Ok(length) => {
                    let data = Bytes::copy_from_slice(&bytes[..length]);
                    // No more waits here than the server takes: it may ask for pongs without end.
                    sending.reserve_capacity(length);
                    while sending.capacity() < length {
                        match poll_fn(|context| sending.poll_capacity(context)).await {
                            Some(Ok(_)) => {}
                            Some(Err(error)) => return error.to_string(),
                            None => return "the server ended the stream".to_owned(),
                        }
                    }
                    if let Err(error) = sending.send_data(data, false) {
                        return error.to_string();
                    }
                }
            },
            data = receiving.data() => match data {
                None => return "the server ended the stream".to_owned(),
                Some(Err(error)) => return error.to_string(),
                Some(Ok(data)) => {
                    let _ = receiving.flow_control().release_capacity(data.len());
                    if let Err(error) = wire.write_all(&data).await {
                        return error.to_string();
                    }
                }
            },
        }
    }
}
