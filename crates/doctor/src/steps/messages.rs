//! Frames: a ping and its pong, an echo where one was asked for, and how long a quiet socket lives.

use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{MissedTickBehavior, interval, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use super::{Socket, millis};
use crate::seen::{CloseSeen, IdleEnd, IdleSeen, MessagesSeen, Outcome, PingedSeen};

/// How often progress is told while a socket is held.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Most bytes of one message.
const MOST_MESSAGE: usize = 1 << 20;
/// Most bytes of ours, pongs among them, that wait for a server which does not read.
const MOST_UNREAD: usize = 64 << 10;
/// What a server may send within a second, whatever it is: frames, and their bytes.
const MOST_FRAMES: u32 = 10_000;
const MOST_BYTES: usize = 16 << 20;

/// How a socket is read: a server that may be anybody's has its bounds.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(MOST_UNREAD)
        .max_message_size(Some(MOST_MESSAGE))
        .max_frame_size(Some(MOST_MESSAGE))
}

/// What has come within the last second.
struct Intake {
    since: Instant,
    frames: u32,
    bytes: usize,
}

impl Intake {
    fn new() -> Self {
        Self { since: Instant::now(), frames: 0, bytes: 0 }
    }

    /// Counts a message. Whether there may be one more.
    fn takes(&mut self, message: &Message, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self { since: now, frames: 0, bytes: 0 };
        }
        self.frames = self.frames.saturating_add(1);
        self.bytes = self.bytes.saturating_add(message.len());
        self.frames <= MOST_FRAMES && self.bytes <= MOST_BYTES
    }
}

/// What came from a socket.
enum Came {
    Pong(Vec<u8>),
    Text(String),
    Other,
    Close(CloseSeen),
    End(Outcome, String),
    /// More than anybody reads.
    Flood,
}

fn flood() -> String {
    format!(
        "it sends more than {MOST_FRAMES} frames or {} MiB within a second; reading was given up",
        MOST_BYTES >> 20
    )
}

/// Sends a ping, and a message if there is one, and waits for what comes back. Says goodbye.
pub(super) async fn try_out<S>(
    mut socket: WebSocketStream<S>,
    send: Option<&str>,
    patience: Duration,
) -> MessagesSeen
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut seen = MessagesSeen { echoed: send.map(|_| false), ..MessagesSeen::default() };
    let begun = Instant::now();
    let nonce = fastrand::u64(..).to_be_bytes().to_vec();
    let said = async {
        socket.send(Message::Ping(nonce.clone().into())).await?;
        match send {
            Some(text) => socket.send(Message::Text(text.into())).await,
            None => Ok(()),
        }
    };
    match timeout(patience, said).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            seen.error = Some(error.to_string());
            return seen;
        }
        Err(_) => {
            seen.error = Some(format!("it took none of our frames within {patience:?}"));
            return seen;
        }
    }
    let mut intake = Intake::new();
    let listen = async {
        while seen.pong_ms.is_none() || seen.echoed == Some(false) {
            match next(&mut socket, &mut intake).await {
                Came::Pong(payload) if payload == nonce => {
                    seen.pong_ms = Some(millis(begun.elapsed()));
                }
                Came::Text(text) if Some(&*text) == send => seen.echoed = Some(true),
                Came::Pong(_) | Came::Text(_) | Came::Other => {}
                Came::Close(close) => {
                    seen.close = Some(close);
                    return;
                }
                Came::End(_, error) => {
                    seen.error = Some(error);
                    return;
                }
                Came::Flood => {
                    seen.error = Some(flood());
                    return;
                }
            }
        }
    };
    if timeout(patience, listen).await.is_err() && seen.pong_ms.is_none() {
        seen.error = Some(format!("no pong within {patience:?}"));
    }
    let _ = timeout(patience, socket.close(None)).await;
    seen
}

async fn next<S>(socket: &mut WebSocketStream<S>, intake: &mut Intake) -> Came
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let message = socket.next().await;
    if let Some(Ok(message)) = &message
        && !intake.takes(message, Instant::now())
    {
        return Came::Flood;
    }
    match message {
        Some(Ok(Message::Pong(payload))) => Came::Pong(payload.to_vec()),
        Some(Ok(Message::Text(text))) => Came::Text(text.to_string()),
        Some(Ok(Message::Close(frame))) => Came::Close(close_of(frame)),
        Some(Ok(_)) => Came::Other,
        Some(Err(error)) => {
            let (outcome, text) = end_of(&error);
            Came::End(outcome, text)
        }
        None => Came::End(Outcome::Closed, "the connection was ended".to_owned()),
    }
}

fn close_of(frame: Option<CloseFrame>) -> CloseSeen {
    let code = frame.as_ref().map(|frame| u16::from(frame.code));
    let reason = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
    CloseSeen { code, reason }
}

fn end_of(error: &Error) -> (Outcome, String) {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => {
            (Outcome::Closed, "the connection was ended".to_owned())
        }
        Error::Io(error) => match super::outcome_of(error) {
            Outcome::Reset => (Outcome::Reset, "the connection was reset".to_owned()),
            outcome => (outcome, format!("the connection was ended: {error}")),
        },
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => (Outcome::Closed, "the connection was ended without a Close frame".to_owned()),
        other => (Outcome::Garbled, other.to_string()),
    }
}

/// Holds a socket without saying anything of our own, and in the end asks whether it still lives.
pub(super) async fn hold(
    mut socket: Socket,
    limit: Duration,
    patience: Duration,
    waiting: &mut dyn FnMut(Duration),
) -> IdleSeen {
    let begun = Instant::now();
    let end = tokio::time::Instant::now() + limit;
    let mut seen = IdleSeen {
        limit_ms: millis(limit),
        end: IdleEnd::Held,
        after_ms: 0,
        close: None,
        frames: 0,
        pinged: None,
    };
    let mut ticks = interval(TELL_EVERY);
    let mut intake = Intake::new();
    let ended = loop {
        let came = tokio::select! {
            came = timeout_at(end, next(&mut socket, &mut intake)) => came,
            _ = ticks.tick() => {
                waiting(begun.elapsed());
                continue;
            }
        };
        match came {
            Err(_) => break None,
            Ok(Came::Close(close)) => {
                seen.close = Some(close);
                break Some(IdleEnd::CloseFrame);
            }
            Ok(Came::End(outcome, _)) => break Some(end_kind(outcome)),
            Ok(Came::Flood) => break Some(IdleEnd::Flooded),
            Ok(_) => seen.frames += 1,
        }
    };
    seen.after_ms = millis(begun.elapsed());
    match ended {
        Some(ended) => seen.end = ended,
        // Whoever forgets a connection does not always say so.
        None => {
            let alive = try_out(socket, None, patience).await;
            if alive.pong_ms.is_none() {
                seen.end = match alive.close {
                    Some(_) => IdleEnd::CloseFrame,
                    None => IdleEnd::Dead,
                };
                seen.close = alive.close;
            }
        }
    }
    seen
}

/// Holds a socket for twice as long as a quiet one lived, with a ping now and then.
pub(super) async fn hold_with_pings(
    mut socket: Socket,
    life: Duration,
    every: Duration,
    waiting: &mut dyn FnMut(Duration),
) -> PingedSeen {
    let every = every.max(Duration::from_millis(100));
    let begun = Instant::now();
    let end = tokio::time::Instant::now() + life * 2;
    let mut pings = interval(every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = interval(TELL_EVERY);
    let mut pongs = 0_u32;
    let mut intake = Intake::new();
    let held = loop {
        let came = tokio::select! {
            came = timeout_at(end, next(&mut socket, &mut intake)) => came,
            _ = pings.tick() => {
                // A server that takes none of them holds nothing.
                let sent = timeout_at(end, socket.send(Message::Ping(Vec::new().into())));
                if !matches!(sent.await, Ok(Ok(()))) {
                    break false;
                }
                continue;
            }
            _ = ticks.tick() => {
                waiting(begun.elapsed());
                continue;
            }
        };
        match came {
            // Where no pong came after the time of the first end, it only seems open.
            Err(_) => break pongs > 2,
            Ok(Came::Close(_) | Came::End(..) | Came::Flood) => break false,
            Ok(Came::Pong(_)) => pongs += 1,
            Ok(_) => {}
        }
    };
    let after_ms = millis(begun.elapsed());
    let _ = timeout(TELL_EVERY, socket.close(None)).await;
    PingedSeen { every_ms: millis(every), after_ms, held }
}

fn end_kind(outcome: Outcome) -> IdleEnd {
    match outcome {
        Outcome::Reset => IdleEnd::Reset,
        _ => IdleEnd::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_and_what_is_not_complete_is_bounded() {
        let config = config();
        assert_eq!(config.max_write_buffer_size, MOST_UNREAD);
        assert_eq!(
            (config.max_message_size, config.max_frame_size),
            (Some(MOST_MESSAGE), Some(MOST_MESSAGE))
        );
    }

    #[test]
    fn a_second_has_its_frames_and_bytes_and_the_next_one_anew() {
        let begun = Instant::now();
        let ping = Message::Ping(vec![0; 125].into());
        let mut intake = Intake::new();
        assert!((0..MOST_FRAMES).all(|_| intake.takes(&ping, begun)));
        assert!(!intake.takes(&ping, begun));
        assert!(intake.takes(&ping, begun + Duration::from_secs(2)));
        let large = Message::Binary(vec![0; MOST_MESSAGE].into());
        let mut intake = Intake::new();
        assert!((0..MOST_BYTES / MOST_MESSAGE).all(|_| intake.takes(&large, begun)));
        assert!(!intake.takes(&large, begun));
    }
}
