//! Live sockets move to new pods where a route asks for it, no faster than it says.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{App, Client, Release, eventually, objects};

const SOCKETS: usize = 60;
/// Of the sockets, in a minute.
const PERCENT: usize = 50;

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    /// Which pod each is at.
    pods: HashMap<usize, String>,
    /// The code and the time of each Close.
    moves: Vec<(u16, Instant)>,
}

#[test]
fn after_scale_out_sockets_move_to_the_new_pods_until_even_and_never_faster_than_asked() {
    let release = Release::shared();
    let app = App::prepare("rebalance", 2);
    let mut route = objects::route(App::NAME, &app.client.host);
    route["spec"]["className"] = release.class.as_str().into();
    route["spec"]["rules"][0]["loadBalancing"] =
        serde_json::json!({"slowStart": "0s", "rebalance": {"maxPercentPerMinute": PERCENT}});
    app.namespace.apply(&[&route]);
    app.wait_until_served(&release);
    // Each replica looks after its own.
    let replica = release.pods()[0].https();

    let seen = Mutex::new(Seen::default());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..SOCKETS {
            let (client, seen, over) = (&app.client, &seen, &over);
            scope.spawn(move || live(client, replica, number, seen, over));
        }
        let _over = Over(&over);
        eventually("all are open, on two pods", 30, || even(&seen, 2));
        app.namespace.kubectl(&["scale", "deployment/chat", "--replicas=4"]);
        let begin = Instant::now();
        app.namespace.wait_for_rollout("chat");
        eventually("each of four pods has its share", 150, || even(&seen, 4));
        let seen = seen.lock().unwrap();
        assert!(seen.moves.iter().all(|(code, _)| *code == 1012), "{:?}", seen.moves);
        for (before, (_, at)) in seen.moves.iter().enumerate() {
            // A client that looks late sees a move later, never earlier.
            let earliest = 60.0 * (before as f64 - 1.0) / (SOCKETS * PERCENT / 100) as f64;
            let after = at.duration_since(begin).as_secs_f64();
            assert!(after >= earliest, "move {before} after {after} s already");
        }
    });
}

/// A client that opens its socket again whenever it is closed.
fn live(
    client: &Client,
    replica: SocketAddr,
    number: usize,
    seen: &Mutex<Seen>,
    over: &AtomicBool,
) {
    while !over.load(Ordering::Relaxed) {
        let mut socket = client.open(replica).unwrap_or_else(|why| panic!("{}", String::from(why)));
        seen.lock().unwrap().pods.insert(number, socket.backend.clone());
        socket.be_patient_for(Duration::from_millis(500));
        let code = loop {
            match socket.read() {
                Ok(Message::Close(frame)) => break frame.map_or(1005, |frame| frame.code.into()),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                }
                // It has ended without a word.
                Err(_) => break 0,
            }
        };
        let _ = socket.read_to_end(Duration::from_secs(5));
        seen.lock().unwrap().moves.push((code, Instant::now()));
    }
}

/// Whether all sockets are open on so many pods, each with its share within a tenth.
fn even(seen: &Mutex<Seen>, pods: usize) -> Result<(), String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for pod in seen.lock().unwrap().pods.values() {
        *counts.entry(pod.clone()).or_default() += 1;
    }
    let share = SOCKETS as f64 / pods as f64;
    let even = counts.values().all(|count| (*count as f64 - share).abs() <= share / 10.0);
    let whole = counts.values().sum::<usize>() == SOCKETS && counts.len() == pods;
    if even && whole { Ok(()) } else { Err(format!("{counts:?}")) }
}

/// Ends the clients, also where the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
