//! The end of `tidegate serve` with two thousand open sockets: told to load balancers at once, to clients in their turn, and to
//! operators all along.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::program::*;

const SOCKETS: usize = 2000;

/// When each was told goodbye. All answer, and are then ended.
fn goodbyes(sockets: Vec<TcpStream>) -> Vec<Instant> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let waiting: Vec<_> = sockets
            .into_iter()
            .map(|socket| {
                socket.set_nonblocking(true).unwrap();
                let socket = tokio::net::TcpStream::from_std(socket).unwrap();
                tokio::spawn(tokio::time::timeout(DEADLINE, goodbye(socket)))
            })
            .collect();
        let mut told = Vec::new();
        for waiting in waiting {
            told.push(waiting.await.unwrap().expect("it is told goodbye in time"));
        }
        told
    })
}

async fn goodbye(mut socket: tokio::net::TcpStream) -> Instant {
    let mut frame = [0; 28];
    socket.read_exact(&mut frame).await.unwrap();
    let at = Instant::now();
    assert_eq!(&frame, b"\x88\x1a\x03\xf4gateway is shutting down");
    let answer = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4];
    socket.try_write(&answer).expect("there is room for a few bytes");
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = socket.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "{rest:?}");
    at
}

fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    upgrade(&mut stream, "/");
    stream
}

#[test]
fn two_thousand_sockets_are_told_goodbye_in_their_turn_and_none_is_lost() {
    // Two a socket in the program, and as many here with the backend's.
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let mut command = serve_with_drain(folder.path(), ["1s", "4s", "8s"]);
    let mut program = Program::start(command.args(["--log-format", "json", "--workers", "2"]));
    let (http, admin) = (program.address("http"), program.address("admin"));
    let sockets: Vec<_> = (0..SOCKETS).map(|_| connect(http)).collect();
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200 "));
    let signalled = Instant::now();
    program.signal("TERM");
    let answer = get_until(admin, "/readyz", "HTTP/1.1 503 ");
    assert!(answer.contains("shutting down, 2000 of 2000 connections left"), "{answer}");
    get_until(admin, "/metrics", "\ntidegate_draining 1\n");
    let mut told = goodbyes(sockets);
    assert_eq!(program.ends().code(), Some(0));
    told.sort_unstable();
    assert!(told[0] - signalled >= Duration::from_secs(1), "the delay is kept");
    let mut counts = [0; 9];
    let span = told[SOCKETS - 1] - told[0];
    told.iter().for_each(|at| counts[(*at - told[0]).as_secs() as usize] += 1);
    let mean = SOCKETS as f64 / span.as_secs_f64().max(1.0);
    assert!(counts.iter().all(|count| f64::from(*count) <= 3.0 * mean), "{counts:?}");
    assert!(span >= Duration::from_secs(3), "{counts:?}");
    let log = program.logs("shut down\"");
    let closes: Vec<Value> = log
        .lines()
        .filter(|line| line.contains("\"event\":\"close\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(closes.len(), SOCKETS);
    for close in closes {
        assert_eq!((&close["cause"], &close["initiator"]), (&"drain".into(), &"gateway".into()));
        assert_eq!(
            (&close["close_code_to_client"], &close["client_code"]),
            (&1012.into(), &1012.into())
        );
        assert_eq!(
            (&close["close_code_to_backend"], &close["backend_code"]),
            (&1001.into(), &1001.into())
        );
    }
}

#[test]
fn the_delay_serves_on_and_a_second_signal_ends_it_at_once() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let mut program = Program::start(&mut serve_with_drain(folder.path(), ["1h", "0s", "1h"]));
    let (http, admin) = (program.address("http"), program.address("admin"));
    let mut old = connect(http);
    program.signal("TERM");
    let answer = get_until(admin, "/readyz", "HTTP/1.1 503 ");
    assert!(answer.contains("shutting down, 1 of 1 connections left"), "{answer}");
    let mut new = connect(http);
    echo(&mut new);
    echo(&mut old);
    program.signal("INT");
    assert_eq!(program.ends().code(), Some(1));
    // The kernel has ended it: nobody was left to say Close.
    let mut left = Vec::new();
    let _ = std::io::Read::read_to_end(&mut old, &mut left);
    assert!(left.is_empty(), "{left:?}");
    let _ = new.write(b"");
}

#[test]
fn requests_that_are_left_at_the_end_are_not_called_connections() {
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let port = backend.local_addr().unwrap().port();
    let text = route("slow", "/", port).replace("backendRefs", "http: Forward\n    backendRefs");
    std::fs::write(inside(&folder, "route.yaml"), text).unwrap();
    let mut program = Program::start(&mut serve_with_drain(folder.path(), ["0s", "0s", "1s"]));
    let mut client = TcpStream::connect(program.address("http")).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let _asked = backend.accept().unwrap();
    program.signal("TERM");
    assert_eq!(program.ends().code(), Some(0));
    let log = program.logs("shut down");
    assert!(log.contains("requests were not answered in time"), "{log}");
    assert!(!log.contains("they are cut"), "{log}");
}
