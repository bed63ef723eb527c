//! The life of a granted connection: bytes both ways until it ends, and for what cause.
//!
//! Driven by readiness: a read goes into the worker's one scratch buffer and is written on from there; only a rest
//! that the other side did not take is owned by the connection, and while there is one nothing more is read from
//! that direction. An idle connection owns no buffer. One coarse timer looks at the last activity when it
//! fires, and is never touched by a message.

mod direction;

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

use self::direction::{Direction, Fault};
use super::{
    frames::close_frame,
    sessions::{CloseCause, Session},
    transport::Transport,
};
use crate::telemetry::TrafficShard;

/// How long the other side may take after a Close frame, or after one side has ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// RFC 6455 §7.4.1: an endpoint is "going away".
const GOING_AWAY: u16 = 1001;

/// What a relay is made of.
#[derive(Debug)]
pub struct Legs {
    /// The client's side.
    pub client: Transport,
    /// What the client sent after its request, before the 101.
    pub from_client: Bytes,
    /// The backend's side.
    pub backend: Transport,
    /// What the backend sent together with its 101.
    pub from_backend: Bytes,
}

/// What a connection did.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Why it ended.
    pub cause: CloseCause,
    /// Bytes from client to backend.
    pub bytes_up: u64,
    /// Bytes from backend to client.
    pub bytes_down: u64,
    /// Messages from client to backend.
    pub messages_up: u64,
    /// Messages from backend to client.
    pub messages_down: u64,
}

impl Ending {
    /// Of a connection whose client was gone before the 101 reached it.
    pub const fn before_start() -> Self {
        let cause = CloseCause::Reset;
        Self { cause, bytes_up: 0, bytes_down: 0, messages_up: 0, messages_down: 0 }
    }
}

/// Relays until the connection ends.
pub async fn relay(
    legs: Legs,
    idle: Option<Duration>,
    session: &Session,
    traffic: &TrafficShard,
) -> Ending {
    let Legs { client, from_client, backend, from_backend } = legs;
    let up = Direction::new(&from_client);
    let down = Direction::new(&from_backend);
    // Empty or not, they hold hyper's whole read buffers.
    drop((from_client, from_backend));
    traffic.add_up(up.bytes, up.messages);
    traffic.add_down(down.bytes, down.messages);
    Relay {
        client,
        backend,
        up,
        down,
        idle,
        last_activity: Instant::now(),
        timer: None,
        phase: Phase::Open,
        closed_first: None,
        session,
        traffic,
    }
    .await
}

struct Relay<'a> {
    client: Transport,
    backend: Transport,
    /// From client to backend.
    up: Direction,
    /// From backend to client.
    down: Direction,
    idle: Option<Duration>,
    last_activity: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    phase: Phase,
    /// Who sent the first Close frame, or ended first without one.
    closed_first: Option<CloseCause>,
    session: &'a Session,
    traffic: &'a TrafficShard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Backend,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Bytes go both ways.
    Open,
    /// The peers are closing; what is left may still go both ways, until then.
    PeersClosing(Instant),
    /// We said goodbye; what still comes is read and thrown away, until then.
    Closing(CloseCause, Instant),
}

impl Relay<'_> {
    /// Moves bytes both ways. `Ready` when the connection is over.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<CloseCause> {
        let before = (self.up.bytes, self.down.bytes);
        let up = self.poll_pump(cx, Side::Client);
        let down = self.poll_pump(cx, Side::Backend);
        if before != (self.up.bytes, self.down.bytes) {
            self.last_activity = Instant::now();
        }
        self.note_closing();
        ready!(up);
        ready!(down);
        Poll::Ready(self.closed_first.unwrap_or(CloseCause::ClientClosed))
    }

    /// Moves what `sender` sends. `Ready` once it has ended and the other side knows. A socket that fails ends its
    /// own part only: the other side still gets what is under way to it, and an orderly end.
    fn poll_pump(&mut self, cx: &mut Context<'_>, sender: Side) -> Poll<()> {
        loop {
            let (direction, from, to) = match sender {
                Side::Client => (&mut self.up, &mut self.client, &mut self.backend),
                Side::Backend => (&mut self.down, &mut self.backend, &mut self.client),
            };
            match ready!(direction.pump(cx, from, to)) {
                Ok(()) => return Poll::Ready(()),
                Err(Fault::Read(error)) => {
                    self.note_fault(sender, &error);
                    self.direction(sender).ended = true;
                    self.direction(sender.other()).give_up_receiver();
                }
                Err(Fault::Write(error)) => {
                    // It may still have something to say: its own direction goes on.
                    self.note_fault(sender.other(), &error);
                    self.direction(sender).give_up_receiver();
                }
            }
        }
    }

    /// The direction in which a side sends.
    fn direction(&mut self, sender: Side) -> &mut Direction {
        match sender {
            Side::Client => &mut self.up,
            Side::Backend => &mut self.down,
        }
    }

    /// A failing socket is the cause, unless somebody was closing before.
    fn note_fault(&mut self, side: Side, error: &io::Error) {
        tracing::debug!(?side, %error, "a socket of a connection failed");
        self.note_closing();
        let tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        let cause = if tls { CloseCause::TlsError } else { CloseCause::Reset };
        self.closed_first.get_or_insert(cause);
    }

    /// Looks who closes, and from then on gives the peers a limited time.
    fn note_closing(&mut self) {
        let client = self.up.closing();
        let backend = self.down.closing();
        if self.closed_first.is_none() {
            self.closed_first = match (client, backend) {
                (true, _) => Some(CloseCause::ClientClosed),
                (_, true) => Some(CloseCause::BackendClosed),
                _ => None,
            };
        }
        let over = self.up.over() || self.down.over() || (client && backend);
        if over && self.phase == Phase::Open {
            self.phase = Phase::PeersClosing(Instant::now() + CLOSE_TIMEOUT);
            // The idle deadline may be hours away.
            self.timer = None;
        }
    }

    /// Puts a Close frame in each direction that is between two frames, and stops relaying.
    fn say_goodbye(&mut self, cause: CloseCause) {
        let reason = match cause {
            CloseCause::Idle => "idle timeout",
            _ => "gateway is shutting down",
        };
        self.down.insert(close_frame(GOING_AWAY, reason, None));
        self.up.insert(close_frame(GOING_AWAY, reason, Some(fastrand::u32(..).to_ne_bytes())));
        self.phase = Phase::Closing(cause, Instant::now() + CLOSE_TIMEOUT);
        self.timer = None;
    }

    /// Writes our Close frames and waits for those of the peers.
    fn poll_closing(&mut self, cx: &mut Context<'_>, cause: CloseCause) -> Poll<CloseCause> {
        let client = self.down.poll_say(cx, &mut self.client, &mut self.up);
        let backend = self.up.poll_say(cx, &mut self.backend, &mut self.down);
        ready!(client);
        ready!(backend);
        Poll::Ready(cause)
    }

    /// Looks at the deadline. `Ready` if it passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = match self.phase {
            Phase::Open => match self.idle {
                Some(idle) => self.last_activity + idle,
                None => return Poll::Pending,
            },
            Phase::PeersClosing(deadline) | Phase::Closing(_, deadline) => deadline,
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }

    fn ending(&self, cause: CloseCause) -> Ending {
        Ending {
            cause,
            bytes_up: self.up.bytes,
            bytes_down: self.down.bytes,
            messages_up: self.up.messages,
            messages_down: self.down.messages,
        }
    }
}

impl Future for Relay<'_> {
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let this = self.get_mut();
        this.session.listen(cx.waker());
        let before = this.ending(CloseCause::Drain);
        let result = loop {
            if let Some(cause) = this.session.asked_to_close()
                && !matches!(this.phase, Phase::Closing(..))
            {
                this.say_goodbye(cause);
            }
            let over = match this.phase {
                Phase::Closing(cause, _) => this.poll_closing(cx, cause),
                _ => this.poll_open(cx),
            };
            if let Poll::Ready(cause) = over {
                break Poll::Ready(this.ending(cause));
            }
            match (this.poll_deadline(cx), this.phase) {
                (Poll::Pending, _) => break Poll::Pending,
                (Poll::Ready(()), Phase::Open) => this.say_goodbye(CloseCause::Idle),
                (Poll::Ready(()), Phase::PeersClosing(_)) => {
                    let cause = this.closed_first.unwrap_or(CloseCause::ClientClosed);
                    break Poll::Ready(this.ending(cause));
                }
                (Poll::Ready(()), Phase::Closing(cause, _)) => {
                    break Poll::Ready(this.ending(cause));
                }
            }
        };
        let traffic = this.traffic;
        traffic.add_up(this.up.bytes - before.bytes_up, this.up.messages - before.messages_up);
        traffic.add_down(
            this.down.bytes - before.bytes_down,
            this.down.messages - before.messages_down,
        );
        result
    }
}
