//! Many connections at once: a backend in a process of its own, and a look at when each of many clients is told goodbye.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{DEADLINE, Frame, Peer};

/// The program's own echo backend, which can be killed. Its answers to upgrades have its name in `x-backend`.
pub struct EchoProcess {
    child: Child,
    pub address: SocketAddr,
}

impl EchoProcess {
    /// Starts it and waits until it listens.
    pub fn start(name: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["echo-backend", "--listen", "127.0.0.1:0"])
            .env("HOSTNAME", name)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program was built for this test");
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("lines are UTF-8");
        let address = line.trim().rsplit(' ').next().and_then(|address| address.parse().ok());
        Self { child, address: address.unwrap_or_else(|| panic!("no address: {line:?}")) }
    }

    /// Kills it, as the kernel does that is out of memory.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for EchoProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// Lets this process have as many files as it may.
pub fn raise_file_limit() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the soft limit may be raised");
}

/// When each of these clients, in clear text, was told goodbye, and with which code; in their order. Each answers after
/// that, if it `answers`, and must then be ended by the other side.
pub fn goodbyes(clients: Vec<Peer>, answers: bool) -> Vec<(Instant, u16)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("threads can be started").block_on(async {
        let waiting: Vec<_> = clients
            .into_iter()
            .map(|client| {
                client.socket.set_nonblocking(true).expect("a socket has the option");
                let socket = client.socket.try_clone().expect("descriptors are not exhausted");
                let socket = tokio::net::TcpStream::from_std(socket).expect("there is a runtime");
                tokio::spawn(tokio::time::timeout(3 * DEADLINE, goodbye(client, socket, answers)))
            })
            .collect();
        let mut told = Vec::new();
        for waiting in waiting {
            told.push(waiting.await.expect("no panic").expect("it is told goodbye in time"));
        }
        told
    })
}

async fn goodbye(_held: Peer, mut socket: tokio::net::TcpStream, answers: bool) -> (Instant, u16) {
    let mut head = [0; 4];
    socket.read_exact(&mut head).await.expect("a Close frame comes");
    let at = Instant::now();
    assert_eq!(head[0], 0x88, "no Close frame: {head:?}");
    let mut reason = vec![0; usize::from(head[1]) - 2];
    socket.read_exact(&mut reason).await.expect("its reason comes");
    let code = u16::from_be_bytes([head[2], head[3]]);
    if answers {
        let answer = Frame::client_close(code, "");
        socket.write_all(&answer).await.expect("it is still open");
    }
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = socket.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "something came behind the Close frame: {rest:?}");
    (at, code)
}

/// Panics if in any `bin` more than three times the mean of all happened. Moments after the first one count.
#[track_caller]
pub fn assert_even(mut moments: Vec<Instant>, bin: Duration) {
    moments.sort_unstable();
    let (first, last) = (moments[0], moments[moments.len() - 1]);
    let bins = ((last - first).as_secs_f64() / bin.as_secs_f64()).ceil().max(1.0);
    let mut counts = vec![0_usize; bins as usize + 1];
    for moment in &moments {
        counts[((*moment - first).as_secs_f64() / bin.as_secs_f64()) as usize] += 1;
    }
    let mean = moments.len() as f64 / bins;
    assert!(counts.iter().all(|count| *count as f64 <= 3.0 * mean), "{counts:?}");
}
