//! The steps in their order: which attempts are made, and what is compared with what.
//!
//! Every wait has an end. What is seen is told at once, for the progress, and kept for the diagnosis.

mod http2;
mod messages;
mod net;
mod tls;
mod upgrade;

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use futures::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

use self::{tls::TlsClient, upgrade::Asked};
use super::{
    Settings,
    seen::{
        Anchor, Attempt, Http2Seen, IdleEnd, Outcome, PortOutcome, PortSeen, Resolution, Seen,
        Step, UpgradeSeen, Way,
    },
};

/// A connection to a server, in whatever it is wrapped.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}
type BoxedWire = Box<dyn Wire>;
/// A WebSocket that was granted.
type Socket = WebSocketStream<BoxedWire>;

/// What is told while the steps go on.
#[derive(Debug)]
pub enum Told<'a> {
    /// A step took its end.
    Step(&'a Step),
    /// A long step is under way: its name, how long so far and how long at most.
    Waiting(&'static str, Duration, Duration),
}

/// The one who goes the steps.
struct Walk<'a> {
    settings: &'a Settings,
    tls: TlsClient,
    addresses: Vec<IpAddr>,
    steps: Vec<Step>,
    tell: &'a mut dyn FnMut(Told<'_>),
}

/// Goes all steps. The first attempt is the way that clients on this machine would go; the others are for comparison.
pub async fn examine(settings: &Settings, tell: &mut dyn FnMut(Told<'_>)) -> Vec<Step> {
    let tls = TlsClient::new(settings);
    let mut walk = Walk { settings, tls, addresses: Vec::new(), steps: Vec::new(), tell };
    walk.resolve().await;
    walk.knock().await;
    let target = &settings.target;
    let way = if settings.proxy.is_some() { Way::Proxy } else { Way::Direct };
    let first = Attempt { way, secure: target.secure, port: target.port };
    let sound = walk.attempt(first).await;
    if sound && target.secure {
        walk.http2(first).await;
    }
    if way == Way::Proxy {
        let direct = Attempt { way: Way::Direct, ..first };
        if walk.reaches(direct) {
            walk.attempt(direct).await;
        }
    }
    // What 443 says tells a fault of the port, or of clear text, from one of the server.
    let on_443 = Attempt { way, secure: true, port: 443 };
    let as_asked = sound && !walk.lost_subprotocol(first);
    if !as_asked && first != on_443 && (way == Way::Proxy || walk.reaches(on_443)) {
        walk.attempt(on_443).await;
    }
    if walk.is_of_unknown(first) {
        walk.get(first).await;
    }
    if let Some(limit) = settings.idle.filter(|_| sound) {
        walk.idle(first, limit).await;
    }
    walk.steps
}

impl Walk<'_> {
    fn note(&mut self, attempt: Option<Attempt>, begun: Instant, seen: Seen) {
        let step = Step { attempt, ms: millis(begun.elapsed()), seen };
        (self.tell)(Told::Step(&step));
        self.steps.push(step);
    }

    async fn resolve(&mut self) {
        let begun = Instant::now();
        let found = net::resolve(&self.settings.target.host, self.settings.patience).await;
        let (addresses, error) = match found {
            Ok(addresses) => (addresses, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        self.addresses.clone_from(&addresses);
        let host = self.settings.target.host.clone();
        self.note(None, begun, Seen::Resolve(Resolution { host, addresses, error }));
    }

    /// Connects to every address on the URL's port, and on 443 and 80 for comparison, all at once.
    async fn knock(&mut self) {
        let mut ports = vec![self.settings.target.port];
        ports.extend([443, 80].into_iter().filter(|port| *port != self.settings.target.port));
        let patience = self.settings.patience;
        let knocks = ports
            .iter()
            .flat_map(|port| self.addresses.iter().map(|address| SocketAddr::new(*address, *port)))
            .map(async |address| {
                let begun = Instant::now();
                let (outcome, error) = match net::connect(address, patience).await {
                    Ok(_) => (PortOutcome::Connected, None),
                    Err((outcome, error)) => (outcome, Some(error)),
                };
                (begun.elapsed(), PortSeen { address, outcome, error })
            });
        for (took, seen) in join_all(knocks).await {
            let step = Step { attempt: None, ms: millis(took), seen: Seen::Connect(seen) };
            (self.tell)(Told::Step(&step));
            self.steps.push(step);
        }
    }

    /// The first address that took a connection on this port.
    fn address(&self, port: u16) -> Option<SocketAddr> {
        self.steps.iter().find_map(|step| match &step.seen {
            Seen::Connect(seen)
                if seen.outcome == PortOutcome::Connected && seen.address.port() == port =>
            {
                Some(seen.address)
            }
            _ => None,
        })
    }

    fn reaches(&self, attempt: Attempt) -> bool {
        self.address(attempt.port).is_some()
    }

    /// A TCP connection on that way. `None` where there is none, which the connect or proxy step has told.
    async fn open(&mut self, attempt: Attempt, quiet: bool) -> Option<BoxedWire> {
        let patience = self.settings.patience;
        if attempt.way == Way::Direct {
            let address = self.address(attempt.port)?;
            let stream = net::connect(address, patience).await.ok()?;
            return Some(Box::new(stream));
        }
        let proxy = self.settings.proxy.as_ref()?;
        let begun = Instant::now();
        let (seen, tunnel) =
            net::tunnel(proxy, &self.settings.target, attempt.port, patience).await;
        if !quiet {
            self.note(Some(attempt), begun, Seen::Proxy(seen));
        }
        tunnel.map(|stream| Box::new(stream) as BoxedWire)
    }

    /// A connection in which HTTP is spoken, and whether the server on its other end is known to be the right one, or
    /// nobody claims it is (clear text).
    async fn enter(
        &mut self,
        attempt: Attempt,
        alpn: &[&str],
        quiet: bool,
    ) -> Option<(BoxedWire, bool)> {
        let wire = self.open(attempt, quiet).await?;
        if !attempt.secure {
            return Some((wire, true));
        }
        let begun = Instant::now();
        let (seen, stream) = self.tls.handshake(wire, alpn, self.settings).await;
        let trusted = seen.is_verified() || self.settings.trust.insecure;
        if !quiet {
            self.note(Some(attempt), begun, Seen::Tls(seen));
        }
        stream.map(|stream| (Box::new(stream) as BoxedWire, trusted))
    }

    /// Goes from the connection to the first messages. Whether all of it is sound.
    async fn attempt(&mut self, attempt: Attempt) -> bool {
        let Some((wire, trusted)) = self.enter(attempt, &["http/1.1"], false).await else {
            return false;
        };
        let patience = self.settings.patience;
        let begun = Instant::now();
        let asked = Asked { attempt, trusted, subprotocols: true };
        let (seen, socket) = upgrade::upgrade(wire, self.settings, asked).await;
        let refused =
            seen.answer.as_ref().is_some_and(|answer| (400..500).contains(&answer.status));
        let verdict = seen.is_sound();
        self.note(Some(attempt), begun, Seen::Upgrade(seen));
        if refused && !self.settings.subprotocols.is_empty() {
            // It may be the subprotocols alone.
            if let Some((wire, trusted)) = self.enter(attempt, &["http/1.1"], true).await {
                let begun = Instant::now();
                let asked = Asked { attempt, trusted, subprotocols: false };
                let (seen, _) = upgrade::upgrade(wire, self.settings, asked).await;
                self.note(Some(attempt), begun, Seen::Upgrade(seen));
            }
        }
        let Some(socket) = socket.filter(|_| verdict) else {
            return false;
        };
        let begun = Instant::now();
        // A message of the user's is not for a server that is not known.
        let send = self.settings.send.as_deref().filter(|_| trusted);
        let seen = messages::try_out(socket, send, patience).await;
        let sound = seen.is_sound();
        self.note(Some(attempt), begun, Seen::Messages(seen));
        sound
    }

    /// Whether the upgrade was granted without a subprotocol, although some were offered.
    fn lost_subprotocol(&self, attempt: Attempt) -> bool {
        self.steps.iter().any(|step| match &step.seen {
            Seen::Upgrade(seen) => {
                step.attempt == Some(attempt) && !seen.offered.is_empty() && seen.chosen.is_none()
            }
            _ => false,
        })
    }

    /// Whether an upgrade failed of which nothing tells yet who refused it: no name of the gateway's, and no other way
    /// that was granted.
    fn is_of_unknown(&self, attempt: Attempt) -> bool {
        let upgrades = || {
            self.steps.iter().filter_map(|step| match &step.seen {
                Seen::Upgrade(seen) => Some((step.attempt, seen)),
                _ => None,
            })
        };
        let reason = |seen: &UpgradeSeen| {
            seen.answer.as_ref().is_some_and(|answer| answer.header("tidegate-reason").is_some())
        };
        upgrades().any(|(on, seen)| on == Some(attempt) && !seen.is_sound() && !reason(seen))
            && !upgrades().any(|(_, seen)| seen.is_sound())
    }

    /// What the same path answers to a plain request: a server that is there for it did not say what a box says instead.
    async fn get(&mut self, attempt: Attempt) {
        let begun = Instant::now();
        if let Some((wire, trusted)) = self.enter(attempt, &["http/1.1"], true).await {
            let asked = Asked { attempt, trusted, subprotocols: false };
            let seen = upgrade::get(wire, self.settings, asked).await;
            self.note(Some(attempt), begun, Seen::Get(seen));
        }
    }

    /// Over TLS only: in clear text there is no ALPN that would say HTTP/2.
    async fn http2(&mut self, attempt: Attempt) {
        let begun = Instant::now();
        let Some(wire) = self.open(attempt, true).await else { return };
        let (seen, stream) = self.tls.handshake(wire, &["h2", "http/1.1"], self.settings).await;
        let trusted = seen.is_verified() || self.settings.trust.insecure;
        let spoken = seen.outcome == Outcome::Done && seen.alpn.as_deref() == Some("h2");
        let seen = match stream.filter(|_| spoken) {
            Some(stream) => http2::try_out(stream, self.settings, attempt, trusted).await,
            None => Http2Seen::default(),
        };
        self.note(Some(attempt), begun, Seen::Http2(seen));
    }

    async fn socket(&mut self, attempt: Attempt) -> Option<Socket> {
        let (wire, trusted) = self.enter(attempt, &["http/1.1"], true).await?;
        let asked = Asked { attempt, trusted, subprotocols: true };
        let (seen, socket) = upgrade::upgrade(wire, self.settings, asked).await;
        socket.filter(|_| seen.is_sound())
    }

    async fn idle(&mut self, attempt: Attempt, limit: Duration) {
        let Some(socket) = self.socket(attempt).await else { return };
        let begun = Instant::now();
        let patience = self.settings.patience;
        let tell = &mut *self.tell;
        let mut waiting = |so_far| tell(Told::Waiting("idle", so_far, limit));
        let mut seen = messages::hold(socket, limit, patience, &mut waiting).await;
        let cut = seen.end != IdleEnd::Held;
        if cut && let Some(socket) = self.socket(attempt).await {
            let life = Duration::from_millis(seen.after_ms);
            // Where the end was not seen it may have been long before.
            let parts = if seen.end == IdleEnd::Dead { 4 } else { 2 };
            let every = life / parts;
            let tell = &mut *self.tell;
            let mut waiting = |so_far| tell(Told::Waiting("idle with pings", so_far, life * 2));
            seen.pinged = Some(messages::hold_with_pings(socket, life, every, &mut waiting).await);
        }
        self.note(Some(attempt), begun, Seen::Idle(seen));
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a chain of errors has this one of the system in it.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}

/// What an error of reading or writing means.
fn outcome_of(error: &std::io::Error) -> Outcome {
    use std::io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof, WriteZero,
    };
    match error.kind() {
        ConnectionReset | ConnectionAborted | BrokenPipe => Outcome::Reset,
        UnexpectedEof | WriteZero => Outcome::Closed,
        _ => Outcome::Failed,
    }
}

/// For handshakes that did not come to a certificate.
const NO_ANCHOR: Anchor = Anchor::Nobody;
