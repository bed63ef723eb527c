use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Condvar, Mutex as StdMutex},
};

use super::{testing::table, *};

/// Nothing here takes nearly as long; a test that waits in vain ends.
const DEADLINE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    /// Metrics are rendered once this is true.
    open: Arc<(StdMutex<bool>, Condvar)>,
    _shutdown: watch::Sender<bool>,
}

impl Running {
    fn start(settings: AdminSettings, metrics: &'static str) -> Self {
        let listener = StdTcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let cell = Arc::new(TableCell::default());
        cell.publish(table(&[("a.test", 60_000)]));
        let open = Arc::new((StdMutex::new(true), Condvar::new()));
        let gate = Arc::clone(&open);
        let state = Arc::new(AdminState {
            table: cell,
            metrics: Box::new(move || {
                let (open, changed) = &*gate;
                let _open = changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap();
                metrics.repeat(1 << 20)
            }),
            draining: Box::new(|| None),
            waiting_for: Box::new(String::new),
            faults: Box::new(|| vec!["fault".to_owned(); 1_000]),
        });
        let (_shutdown, down) = watch::channel(false);
        spawn(vec![listener], state, settings, down).unwrap();
        Self { address, open, _shutdown }
    }

    fn gate(&self, open: bool) {
        *self.open.0.lock().unwrap() = open;
        self.open.1.notify_all();
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Asks on a connection of its own, and does not read.
    fn ask(&self, path: &str, headers: &str) -> TcpStream {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
        stream
    }

    fn get(&self, path: &str, headers: &str) -> String {
        read(self.ask(path, headers))
    }
}

fn read(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

fn settings() -> AdminSettings {
    AdminSettings { connections: 32, hosts: Vec::new(), debug: DebugEndpoints::On }
}

const LOCAL: &str = "Host: localhost\r\n";

#[test]
fn a_prober_comes_through_a_thousand_strangers_who_say_nothing() {
    let running = Running::start(settings(), "x");
    rlimit::increase_nofile_limit(8_192).unwrap();
    let mut idle: Vec<_> = (0..1_200).map(|_| running.connect()).collect();
    let answer = running.get("/livez", LOCAL);
    assert!(answer.ends_with("\r\n\r\nalive\n"), "{answer}");
    // All but the last were let go: how soon is for tests/cli/admin.rs to see.
    for stream in &mut idle[..1_200 - 32] {
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
}

#[test]
fn probes_wait_for_no_reader_and_for_no_rendering() {
    let running = Running::start(settings(), "xxxxxxxxxxxxxxxx");
    // 16 MiB, and a page of more than the kernel buffers: none of them reads.
    let readers: Vec<_> = (0..8)
        .map(|number| {
            let path = if number % 2 == 0 { "/metrics" } else { "/debug/table?limit=1000" };
            running.ask(path, LOCAL)
        })
        .collect();
    assert!(running.get("/livez", LOCAL).ends_with("alive\n"));
    drop(readers);
    running.gate(false);
    let scraper = running.ask("/metrics", LOCAL);
    assert!(running.get("/livez", LOCAL).ends_with("alive\n"));
    let ready = running.get("/readyz", LOCAL);
    assert!(ready.contains("ready: table generation 1\n"), "{ready}");
    assert!(ready.ends_with("degraded: 980 more\n") && ready.len() < 1_000, "{ready}");
    running.gate(true);
    assert!(read(scraper).len() > 16 << 20);
}

#[test]
fn more_large_answers_than_there_may_be_are_asked_for_again() {
    let running = Running::start(settings(), "x");
    running.gate(false);
    let scrapers: Vec<_> = (0..4).map(|_| running.ask("/metrics", LOCAL)).collect();
    let end = Instant::now() + DEADLINE;
    // Those before may come later than this one.
    let refused = loop {
        let stream = running.ask("/metrics", LOCAL);
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (mut stream, mut answer) = (stream, String::new());
        if stream.read_to_string(&mut answer).is_ok() && !answer.is_empty() {
            break answer;
        }
        assert!(Instant::now() < end, "nobody was refused");
    };
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    running.gate(true);
    drop(scrapers);
}

#[test]
fn a_name_that_a_stranger_may_hold_is_not_answered() {
    let running = Running::start(settings(), "x");
    for path in ["/", "/metrics", "/debug/table"] {
        let answer = running.get(path, "Host: rebound.example:9090\r\n");
        assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
        assert!(answer.contains("--admin-host") && !answer.contains("rebound"), "{answer}");
    }
    // Probes are told the status, whatever name they come by, and no more.
    for (path, body) in [("/livez", "alive\n"), ("/readyz", "ready\n")] {
        let answer = running.get(path, "Host: chat.example.com\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
    }
    let allowed = vec!["rebound.example".to_owned()];
    let running = Running::start(AdminSettings { hosts: allowed, ..settings() }, "x");
    let answer = running.get("/metrics", "Host: rebound.example:9090\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn the_table_is_told_only_where_asked_for_and_page_by_page() {
    let off = Running::start(AdminSettings { debug: DebugEndpoints::Off, ..settings() }, "x");
    let answer = off.get("/debug/table", LOCAL);
    assert!(
        answer.starts_with("HTTP/1.1 404 ") && answer.contains("--debug-endpoints"),
        "{answer}"
    );
    let on = Running::start(settings(), "x");
    let answer = on.get("/debug/table", LOCAL);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.len() < 1 << 20, "{}", answer.len());
    assert!(answer.contains("\"next\": \"/debug/table?limit=100&after=a%2Etest%3A100\""));
    let answer = on.get("/debug/table?host=b.test", LOCAL);
    assert!(answer.ends_with("\r\n\r\nNo route serves this hostname.\n"), "{answer}");
    let answer = on.get("/debug/table?limit=0", LOCAL);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn heads_are_small_and_methods_few() {
    let running = Running::start(settings(), "x");
    let answer = running.get("/livez", &format!("{LOCAL}X: {}\r\n", "x".repeat(MOST_HEAD_BYTES)));
    assert!(!answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = running.get("/livez", &format!("{LOCAL}{}", "X: x\r\n".repeat(MOST_HEADERS + 1)));
    assert!(!answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut stream = running.connect();
    write!(stream, "POST /livez HTTP/1.1\r\n{LOCAL}Connection: close\r\n\r\n").unwrap();
    let answer = read(stream);
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD"), "{answer}");
}

/// A route leads to the port: whoever comes by it is a stranger, whatever name it is asked by.
#[test]
fn who_comes_through_a_gateway_is_told_nothing() {
    let admin = Running::start(settings(), "metrics\n");
    for path in ["/metrics", "/debug/table", "/readyz", "/livez", "/"] {
        let mut stream = admin.ask(path, "Host: localhost\r\nCDN-Loop: tidegate; id=1\r\n");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
    }
}
