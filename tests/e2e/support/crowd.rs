//! Many live WebSockets at once, each sending numbered messages and expecting them back, all and in their order.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, protocol::CloseFrame},
};

use super::{
    client::Client,
    poll::{eventually, wait_until},
};

/// Handshakes under way at once while a crowd gathers.
const AT_ONCE: usize = 16;

/// What a member does.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Between two bursts of messages.
    pub pause: Duration,
    /// A message that is not back after so long is lost.
    pub patience: Duration,
    /// For a handshake, from the first packet to the 101.
    pub opening: Duration,
    /// Whether it opens another socket, at once, when its own has ended. One that does not has lost it.
    pub returns: bool,
}

impl Manner {
    /// Its socket shall never end.
    pub const STAYS: Self = Self {
        pause: Duration::from_secs(1),
        patience: Duration::from_secs(10),
        opening: Duration::from_secs(10),
        returns: false,
    };
    /// As an application's client does that wants to stay connected.
    pub const RETURNS: Self = Self { returns: true, ..Self::STAYS };
}

/// A socket that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub at: Instant,
    pub member: usize,
    /// The code of the Close frame that it was told.
    pub code: Option<u16>,
    pub how: String,
}

/// What has come to pass.
#[derive(Clone, Debug, Default)]
pub struct Chronicle {
    /// Messages sent, and those of them that came back in their turn.
    pub sent: u64,
    pub back: u64,
    /// Messages that were lost, came twice or out of turn.
    pub disorder: Vec<String>,
    /// Sockets that ended other than by the crowd's own will.
    pub ended: Vec<Ended>,
    /// When a member had a socket again.
    pub returned: Vec<Instant>,
    /// Upgrades that failed, after the crowd had gathered.
    pub failed: Vec<(Instant, String)>,
}

/// Sockets of one client, on a thread of their own.
pub struct Crowd {
    shared: Arc<Shared>,
    dispersing: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    client: Client,
    manner: Manner,
    chronicle: Mutex<Chronicle>,
    open: Mutex<Vec<bool>>,
}

impl Shared {
    fn write(&self) -> MutexGuard<'_, Chronicle> {
        self.chronicle.lock().expect("no one panics with it")
    }

    fn is_open(&self, member: usize, open: bool) {
        self.open.lock().expect("no one panics with it")[member] = open;
    }
}

impl Crowd {
    /// Opens that many sockets, in turn at these addresses. Returns when all are open.
    #[track_caller]
    pub fn gather(client: &Client, to: &[SocketAddr], members: usize, manner: Manner) -> Self {
        rlimit::increase_nofile_limit(u64::MAX).expect("the soft limit may be raised");
        let shared = Arc::new(Shared {
            client: client.clone(),
            manner,
            chronicle: Mutex::default(),
            open: Mutex::new(vec![false; members]),
        });
        let (dispersing, told) = watch::channel(false);
        let (to, theirs) = (to.to_vec(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("threads can be started").block_on(async {
                let gate = tokio::sync::Semaphore::new(AT_ONCE);
                let all = (0..members).map(|member| {
                    live(&theirs, member, to[member % to.len()], &gate, told.clone())
                });
                futures::future::join_all(all).await;
            });
        });
        let crowd = Self { shared, dispersing, thread: Some(thread) };
        eventually("the crowd has gathered", 30 + members as u64 / 20, || {
            let (open, failed) = (crowd.open(), crowd.chronicle().failed);
            if open == members { Ok(()) } else { Err(format!("{open} of {members}, {failed:?}")) }
        });
        crowd.shared.write().failed.clear();
        crowd
    }

    /// How many of its members have a socket.
    pub fn open(&self) -> usize {
        self.shared.open.lock().expect("no one panics with it").iter().filter(|open| **open).count()
    }

    /// What has come to pass so far.
    pub fn chronicle(&self) -> Chronicle {
        self.shared.write().clone()
    }

    /// Waits for all that is under way, then closes every socket. What had come to pass.
    #[track_caller]
    pub fn disperse(mut self) -> Chronicle {
        self.dispersing.send_replace(true);
        let thread = self.thread.take().expect("it is dispersed once");
        thread.join().expect("no member panics");
        self.chronicle()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Its thread ends by itself, a moment later.
        self.dispersing.send_replace(true);
        if std::thread::panicking() {
            eprintln!("---- the crowd: {}", self.chronicle().summary());
        }
    }
}

impl Chronicle {
    /// No socket ended and no message was lost.
    #[track_caller]
    pub fn expect_unharmed(&self) {
        let harmed = self.ended.len() + self.disorder.len() + self.failed.len();
        assert_eq!(harmed, 0, "{}", self.summary());
    }

    /// In a few lines.
    pub fn summary(&self) -> String {
        let Self { sent, back, disorder, ended, returned, failed } = self;
        let some = |all: &[String]| all.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
        let endings: Vec<_> = ended.iter().map(|ended| ended.how.clone()).collect();
        let failures: Vec<_> = failed.iter().map(|(_, why)| why.clone()).collect();
        format!(
            "{sent} messages sent, {back} back; {} lost or out of turn: {}; {} sockets ended: {}; {} returned; \
             {} upgrades failed: {}",
            disorder.len(),
            some(disorder),
            ended.len(),
            some(&endings),
            returned.len(),
            failed.len(),
            some(&failures),
        )
    }
}

type Stream = WebSocketStream<TlsStream<TcpStream>>;

/// A member's life: until the crowd disperses, or the socket of one that does not return has ended.
async fn live(
    shared: &Shared,
    member: usize,
    to: SocketAddr,
    gate: &tokio::sync::Semaphore,
    mut dispersing: watch::Receiver<bool>,
) {
    let mut lives = 0;
    loop {
        let opened = {
            // Only the first time: it is for the others to say how many may come at once.
            let _permit = if lives == 0 { gate.acquire().await.ok() } else { None };
            tokio::select! {
                biased;
                _ = dispersing.wait_for(|yes| *yes) => return,
                opened = tokio::time::timeout(shared.manner.opening, open(&shared.client, to)) => opened,
            }
        };
        match opened.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(stream) => {
                shared.is_open(member, true);
                if lives > 0 {
                    shared.write().returned.push(Instant::now());
                }
                let mut conversation = Conversation::new(shared, member, lives);
                let ended = conversation.hold(stream, &mut dispersing).await;
                shared.is_open(member, false);
                let Some(ended) = ended else { return };
                shared.write().ended.push(ended);
                if !shared.manner.returns {
                    return;
                }
                lives += 1;
            }
            Err(why) => {
                shared.write().failed.push((Instant::now(), why));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn open(client: &Client, to: SocketAddr) -> Result<Stream, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let stream = TcpStream::connect(to).await.map_err(|e| format!("no connection: {e}"))?;
    stream.set_nodelay(true).map_err(|error| text(&error))?;
    let name = ServerName::try_from(client.host.clone()).expect("it is a DNS name");
    let tls = TlsConnector::from(client.tls()).connect(name, stream).await;
    let tls = tls.map_err(|error| format!("TLS: {error}"))?;
    let uri = format!("wss://{}{}", client.host, client.path);
    match tokio_tungstenite::client_async(uri, tls).await {
        Ok((stream, _)) => Ok(stream),
        Err(Error::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            Err(format!("{}: {}", answer.status(), String::from_utf8_lossy(body)))
        }
        Err(error) => Err(format!("upgrade: {error}")),
    }
}

/// What one member says and hears on one socket.
struct Conversation<'a> {
    shared: &'a Shared,
    member: usize,
    lives: usize,
    /// When the messages that are not back were sent.
    under_way: VecDeque<Instant>,
    sent: u64,
    back: u64,
    close: Option<Option<CloseFrame>>,
}

impl<'a> Conversation<'a> {
    fn new(shared: &'a Shared, member: usize, lives: usize) -> Self {
        let under_way = VecDeque::new();
        Self { shared, member, lives, under_way, sent: 0, back: 0, close: None }
    }

    fn text(&self, number: u64) -> String {
        format!("{} {} {number}", self.member, self.lives)
    }

    /// How it ended; `None`: as it should, when the crowd dispersed.
    async fn hold(
        &mut self,
        mut stream: Stream,
        dispersing: &mut watch::Receiver<bool>,
    ) -> Option<Ended> {
        let Manner { pause, patience, .. } = self.shared.manner;
        // Not all in step.
        let first = tokio::time::Instant::now() + pause.mul_f64(fastrand::f64());
        let mut bursts = tokio::time::interval_at(first, pause);
        bursts.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut leaving = false;
        loop {
            if leaving && self.under_way.is_empty() {
                let _ = stream.close(None).await;
                let rest = async { while let Some(Ok(_)) = stream.next().await {} };
                let _ = tokio::time::timeout(Duration::from_secs(5), rest).await;
                return None;
            }
            tokio::select! {
                message = stream.next() => match message {
                    Some(Ok(Message::Text(text))) => self.hear(&text),
                    Some(Ok(Message::Close(frame))) => self.close = Some(frame),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Some(self.end(&error.to_string())),
                    None => return Some(self.end("the end of the stream")),
                },
                _ = bursts.tick() => {
                    if self.under_way.front().is_some_and(|sent| sent.elapsed() > patience) {
                        if !self.shared.manner.returns {
                            let lost = self.text(self.back);
                            self.shared.write().disorder.push(format!("{lost} did not come back"));
                        }
                        return Some(self.end("silence"));
                    }
                    if !leaving && self.close.is_none() {
                        // Written at once, so that one can overtake another where that is possible.
                        for _ in 0..fastrand::u32(1..=3) {
                            let text = self.text(self.sent);
                            self.sent += 1;
                            self.shared.write().sent += 1;
                            self.under_way.push_back(Instant::now());
                            if stream.feed(Message::text(text)).await.is_err() {
                                break;
                            }
                        }
                        // What is wrong is told by the next read.
                        let _ = stream.flush().await;
                    }
                }
                _ = dispersing.wait_for(|yes| *yes), if !leaving => leaving = true,
            }
        }
    }

    fn hear(&mut self, text: &str) {
        let wanted = self.text(self.back);
        self.under_way.pop_front();
        self.back += 1;
        let mut chronicle = self.shared.write();
        if text == wanted {
            chronicle.back += 1;
        } else {
            chronicle.disorder.push(format!("{text} came for {wanted}"));
        }
    }

    fn end(&mut self, how: &str) -> Ended {
        let code = self.close.take().flatten().map(|frame| frame.code.into());
        let how = format!(
            "member {}: {how}, Close {code:?}, {} messages under way",
            self.member,
            self.under_way.len()
        );
        Ended { at: Instant::now(), member: self.member, code, how }
    }
}

/// Opens new sockets all the time, one after the other, each for one message.
pub struct Arrivals {
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<JoinHandle<Vec<Arrival>>>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub took: Duration,
    pub result: Result<(), String>,
}

impl Arrivals {
    /// Begins, in turn at these addresses.
    pub fn begin(client: &Client, to: &[SocketAddr]) -> Self {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (client, to, stopped) = (client.clone(), to.to_vec(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut arrivals = Vec::new();
            for to in to.iter().cycle() {
                if stopped.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let at = Instant::now();
                let result = client.open(*to).map_err(String::from);
                let result = result.and_then(|mut socket| socket.try_echo("new"));
                arrivals.push(Arrival { took: at.elapsed(), result });
                wait_until(Instant::now() + Duration::from_millis(50));
            }
            arrivals
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends. All must have been opened. How many there were, and how long the slowest took.
    #[track_caller]
    pub fn expect_all_opened(self) -> (usize, Duration) {
        let arrivals = self.end();
        let failed: Vec<_> = arrivals.iter().filter(|arrival| arrival.result.is_err()).collect();
        assert!(failed.is_empty(), "{} of {}: {:#?}", failed.len(), arrivals.len(), failed.first());
        (arrivals.len(), arrivals.iter().map(|arrival| arrival.took).max().unwrap_or_default())
    }

    /// Ends, and tells of all.
    #[track_caller]
    pub fn end(mut self) -> Vec<Arrival> {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.take().expect("it ends once").join().expect("it does not panic")
    }
}

impl Drop for Arrivals {
    /// A test that has failed tells what there is in the log: not these.
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
