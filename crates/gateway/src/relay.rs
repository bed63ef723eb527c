//! The life of a granted connection: bytes both ways until it ends, and for what cause.
//!
//! Driven by readiness: a read goes into the worker's one scratch buffer, is filtered there, and is written on from there;
//! only a rest that the other side did not take is owned by the connection, and while there is one nothing more is read
//! from that direction. An idle connection owns no buffer. One coarse timer (`deadlines`) looks at what is due when it
//! fires, and is never touched by a message. What is said at the end is `close`'s to choose.

mod backlog;
mod dead_peer;
mod deadlines;
mod direction;
mod rates;

use std::{
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tidegate_table::Rule;
use tidegate_telemetry::RouteMetrics;
use tokio::time::{Instant, Sleep};

use self::{
    backlog::Receiver,
    deadlines::ConnectionTimers,
    direction::{Direction, Event},
    rates::SendLimits,
};
use super::{
    close::{CloseCause, CloseCode, Side, answer, close_for, peer_gone},
    frame_filter::{Finding, FrameFilter},
    frames::{Extensions, FrameScanner, Role},
    registry::{ConnectionHandle, Request},
    transport::Transport,
};

/// How long a side's answers to a peer that broke a rule may take, before that peer is told.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// What the two negotiated.
    pub extensions: Extensions,
}

/// What a connection did.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Why it ended.
    pub cause: CloseCause,
    /// Who gave the cause; `None`: the gateway by itself.
    pub initiator: Option<Side>,
    /// More about the cause; may be empty.
    pub detail: &'static str,
    /// From client to backend.
    pub up: Traffic,
    /// From backend to client.
    pub down: Traffic,
}

/// What went in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Bytes, frame headers included.
    pub bytes: u64,
    /// Data messages.
    pub messages: u64,
    /// The Close frame of the sender.
    pub close: Option<CloseCode>,
    /// The Close frame that we sent to the receiver.
    pub said: Option<CloseCode>,
    /// The Close frame that the receiver got, from the sender or from us.
    pub told: Option<CloseCode>,
}

impl Ending {
    /// Of a connection whose client was gone before the 101 reached it, and whose backend was told so, if it could be.
    pub fn before_start(told: Option<CloseCode>) -> Self {
        Self {
            cause: CloseCause::Reset,
            initiator: Some(Side::Client),
            detail: "",
            up: Traffic { said: told, told, ..Traffic::default() },
            down: Traffic::default(),
        }
    }
}

/// A relay as `rule` has it; its output tells how it ended.
pub fn relay(
    legs: Legs,
    rule: Arc<Rule>,
    session: Rc<ConnectionHandle>,
    metrics: Arc<RouteMetrics>,
) -> Relay {
    let Legs { client, from_client, backend, from_backend, extensions } = legs;
    let limit = rule.limits.max_message_bytes.map(u64::from);
    let filter = |role, early: &Bytes| {
        FrameFilter::new(FrameScanner::new(role, rule.frames, extensions, limit), early)
    };
    let now = Instant::now();
    let burst = |side| SendLimits::of(&rule.limits, side).burst();
    // Whose frames go to the receiver look like the sender's.
    let up = Direction::new(Role::Client, filter(Role::Client, &from_client), burst(Side::Client));
    let down =
        Direction::new(Role::Server, filter(Role::Server, &from_backend), burst(Side::Backend));
    for leg in [&client, &backend] {
        leg.allow_stall(rule.timeouts.write_stall);
    }
    client.ask_client(rule.keepalive.client_ping);
    let vigil = ConnectionTimers::new(&rule, now, fastrand::f64());
    Relay {
        client,
        backend,
        up,
        down,
        rule,
        session,
        metrics,
        vigil,
        timer: None,
        phase: Phase::Open,
        end: None,
    }
}

/// A connection's future.
pub struct Relay {
    client: Transport,
    backend: Transport,
    /// From client to backend.
    up: Direction,
    /// From backend to client.
    down: Direction,
    pub(super) rule: Arc<Rule>,
    session: Rc<ConnectionHandle>,
    pub(super) metrics: Arc<RouteMetrics>,
    vigil: ConnectionTimers,
    timer: Option<Pin<Box<Sleep>>>,
    phase: Phase,
    /// The first that happened.
    end: Option<End>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    cause: CloseCause,
    initiator: Option<Side>,
    detail: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Bytes go both ways.
    Open,
    /// The peers are closing; what is left may still go both ways, until then.
    PeersClosing(Instant),
    /// We say goodbye, and wait for that of the peers, until then.
    Farewell(Instant),
    /// There is nothing to wait for.
    Cut,
}

impl Relay {
    /// Moves what there is to move. `Ready` once the connection is over.
    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut eventful = false;
            for side in [Side::Client, Side::Backend] {
                while let Poll::Ready(event) = self.poll_pump(cx, side) {
                    self.handle(side, event);
                    eventful = true;
                }
            }
            if !eventful && !self.tell_bereaved() {
                break;
            }
        }
        if self.phase == Phase::Cut || (self.up.over() && self.down.over()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn poll_pump(&mut self, cx: &mut Context<'_>, sender: Side) -> Poll<Event> {
        let (direction, back, from, to) = match sender {
            Side::Client => (&mut self.up, &self.down, &mut self.client, &mut self.backend),
            Side::Backend => (&mut self.down, &self.up, &mut self.backend, &mut self.client),
        };
        let receiver = Receiver {
            answered: back.closing() || back.is_deaf(),
            ended: back.ended || back.is_deaf(),
        };
        direction.pump(cx, from, to, receiver)
    }

    /// The direction in which a side sends.
    fn direction(&mut self, sender: Side) -> &mut Direction {
        match sender {
            Side::Client => &mut self.up,
            Side::Backend => &mut self.down,
        }
    }

    fn handle(&mut self, sender: Side, event: Event) {
        match event {
            Event::Found(Finding::Close(_)) => {
                self.note_closed(sender);
                self.interrupt(sender);
            }
            Event::Found(Finding::Violation(violation)) => {
                self.say_goodbye(CloseCause::ProtocolError, Some(sender), violation.as_str());
            }
            Event::Found(Finding::TooBig) => {
                self.say_goodbye(CloseCause::MessageTooBig, Some(sender), "");
            }
            Event::Ended => {
                self.note_closed(sender);
                self.interrupt(sender);
                self.tell_ended(sender);
            }
            Event::ReadFault(error) => {
                self.note_fault(sender, &error);
                self.direction(sender.other()).give_up_receiver();
                self.interrupt(sender);
                self.tell_ended(sender);
            }
            Event::WriteFault(error) => {
                self.note_fault(sender.other(), &error);
                // It may still have something to say: its own direction goes on.
                self.direction(sender).give_up_receiver();
            }
        }
    }

    /// Notes who closes, and from then on gives the peers a limited time.
    fn note_closed(&mut self, by: Side) {
        let cause = match by {
            Side::Client => CloseCause::ClientClosed,
            Side::Backend => CloseCause::BackendClosed,
        };
        self.note_end(cause, Some(by), "");
        self.begin_closing();
    }

    /// A failing socket is the cause, unless somebody was closing before.
    fn note_fault(&mut self, side: Side, error: &io::Error) {
        tracing::debug!(side = side.as_str(), %error, "a socket of a connection failed");
        let tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        let cause = if tls { CloseCause::TlsError } else { CloseCause::Reset };
        self.note_end(cause, Some(side), "");
        self.begin_closing();
    }

    fn note_end(&mut self, cause: CloseCause, initiator: Option<Side>, detail: &'static str) {
        self.end.get_or_insert(End { cause, initiator, detail });
    }

    fn begin_closing(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::PeersClosing(Instant::now() + self.rule.timeouts.close);
            self.lift_message_limit();
        }
    }

    /// Says the words that waited for `sender` to end. Who hears them has as long as others to answer.
    fn interrupt(&mut self, sender: Side) {
        if self.direction(sender).interrupt() {
            self.phase = Phase::Farewell(Instant::now() + self.rule.timeouts.close);
        }
    }

    /// Tells the other side that `ended` has ended, if it did so without a Close frame.
    fn tell_ended(&mut self, ended: Side) {
        let told = ended.other();
        // Its own Close frame was not answered: this is the answer then (RFC 6455 §5.5.1).
        let words = match self.direction(told).close {
            Some(code) => answer(code),
            None => peer_gone(told),
        };
        self.direction(ended).finish(Some(words));
    }

    /// Tells a side whose peer takes nothing any more, and had nothing left to say. Whether there was one.
    fn tell_bereaved(&mut self) -> bool {
        for gone in [Side::Client, Side::Backend] {
            let deaf = self.direction(gone.other()).is_dead();
            let direction = self.direction(gone);
            let silent = direction.is_passing() && !direction.is_under_way();
            if deaf && silent && !direction.closing() {
                direction.finish(Some(peer_gone(gone.other())));
                return true;
            }
        }
        false
    }

    /// Ends the connection on our part: a Close frame to each side, at the next boundary.
    fn say_goodbye(&mut self, cause: CloseCause, at_fault: Option<Side>, detail: &'static str) {
        self.note_end(cause, at_fault, detail);
        let broken = matches!(cause, CloseCause::ProtocolError | CloseCause::MessageTooBig);
        let close = self.rule.timeouts.close;
        let patience = if broken { close.min(ANSWERS_TIMEOUT) } else { close };
        self.phase = Phase::Farewell(Instant::now() + patience);
        self.lift_message_limit();
        let code = self.rule.drain.close_code;
        for told in [Side::Client, Side::Backend] {
            let words = close_for(cause, told, at_fault, detail, code);
            let direction = self.direction(told.other());
            match words {
                // What it said before is being answered: the answers come first.
                Some(words) if broken && at_fault == Some(told) => {
                    direction.finish_after_sender(words);
                }
                words => {
                    direction.finish(words);
                }
            }
        }
        if let Some(side) = at_fault {
            self.direction(side).turn_deaf();
            if cause == CloseCause::WriteStall {
                // What it did not take would stay in the kernel for minutes.
                self.direction(side.other()).give_up_receiver();
                self.direction(side).ended = true;
                match side {
                    Side::Client => self.client.abort(),
                    Side::Backend => self.backend.abort(),
                }
            }
        }
    }

    /// Does what is asked from outside.
    fn obey(&mut self) {
        match (self.session.request(), self.phase) {
            (Some(Request::Close(cause)), Phase::Open) => self.say_goodbye(cause, None, ""),
            (Some(Request::Cut(cause)), _) => {
                self.note_end(cause, None, "");
                self.phase = Phase::Cut;
            }
            _ => {}
        }
    }

    fn ending(&self) -> Ending {
        let traffic = |direction: &Direction| Traffic {
            bytes: direction.bytes,
            messages: direction.messages,
            close: direction.close,
            said: direction.said,
            told: direction.told_code(),
        };
        let End { cause, initiator, detail } =
            self.end.unwrap_or(End { cause: CloseCause::Drain, initiator: None, detail: "" });
        Ending { cause, initiator, detail, up: traffic(&self.up), down: traffic(&self.down) }
    }
}

impl Future for Relay {
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let this = self.get_mut();
        this.session.listen(cx.waker());
        let before = [&this.up, &this.down].map(|part| (part.bytes, part.messages));
        let result = loop {
            this.obey();
            if this.poll_move(cx).is_ready() {
                break Poll::Ready(this.ending());
            }
            if this.note_signs_of_life(before[0].0 + before[1].0) {
                // After the others of this worker.
                cx.waker().wake_by_ref();
            }
            if this.poll_deadline(cx).is_pending() {
                break Poll::Pending;
            }
        };
        let traffic = &this.metrics.traffic;
        traffic.add_up(this.up.bytes - before[0].0, this.up.messages - before[0].1);
        traffic.add_down(this.down.bytes - before[1].0, this.down.messages - before[1].1);
        result
    }
}
