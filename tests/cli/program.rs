//! Starts the built program and waits for what it says.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A running program; ended when dropped.
pub struct Program {
    child: Child,
    out: Arc<Lines>,
    err: Arc<Lines>,
}

/// Lines that a thread reads as they come.
#[derive(Default)]
struct Lines {
    text: Mutex<String>,
    grown: Condvar,
}

impl Lines {
    fn follow(stream: impl Read + Send + 'static) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let writer = Arc::clone(&lines);
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
                writer.text.lock().unwrap().push_str(&line);
                line.clear();
                writer.grown.notify_all();
            }
        });
        lines
    }

    fn wait(&self, wanted: &str) -> String {
        let end = Instant::now() + DEADLINE;
        let mut text = self.text.lock().unwrap();
        while !text.contains(wanted) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{wanted:?} was never said, only:\n{text}");
            text = self.grown.wait_timeout(text, left).unwrap().0;
        }
        text.clone()
    }
}

/// A command of the program, without this machine's settings.
pub fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs it to its end: exit code, standard output, standard error.
pub fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

impl Program {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Lines::follow(child.stdout.take().unwrap());
        let err = Lines::follow(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// The same, with a log that is not read; it is held open for as long as what is returned.
    pub fn start_unread(command: &mut Command) -> (Self, ChildStderr) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Lines::follow(child.stdout.take().unwrap());
        let log = child.stderr.take().unwrap();
        (Self { child, out, err: Arc::default() }, log)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a text on standard output, and returns all of it so far.
    pub fn says(&self, wanted: &str) -> String {
        self.out.wait(wanted)
    }

    /// Waits for a text in the log, and returns all of it so far.
    pub fn logs(&self, wanted: &str) -> String {
        self.err.wait(wanted)
    }

    pub fn log_so_far(&self) -> String {
        self.err.text.lock().unwrap().clone()
    }

    /// The address printed for a listener, such as `https`.
    pub fn address(&self, listener: &str) -> SocketAddr {
        let text = self.says("ready");
        let line = text.lines().find(|line| line.starts_with(&format!("{listener} "))).unwrap();
        line[listener.len() + 1..].parse().unwrap()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub fn ends(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "still running; log:\n{}", self.log_so_far());
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// GET over plain HTTP; the whole answer.
pub fn get(address: SocketAddr, path: &str) -> String {
    get_with(address, path, "Host: localhost\r\n")
}

/// The same with other headers, each ending in CRLF.
pub fn get_with(address: SocketAddr, path: &str, lines: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    ask_with(&mut stream, path, lines)
}

/// GET on an open connection, the last one there; the whole answer.
pub fn ask<S: Read + Write>(stream: &mut S, host: &str, path: &str) -> String {
    ask_with(stream, path, &format!("Host: {host}\r\n"))
}

fn ask_with<S: Read + Write>(stream: &mut S, path: &str, lines: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    whole(answer)
}

/// An answer with its body in one piece.
fn whole(answer: String) -> String {
    let Some((head, mut rest)) = answer.split_once("\r\n\r\n") else { return answer };
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return answer;
    }
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").unwrap();
    }
    format!("{head}\r\n\r\n{body}")
}

/// Asks until the answer has this text.
pub fn get_until(address: SocketAddr, path: &str, wanted: &str) -> String {
    let end = Instant::now() + DEADLINE;
    loop {
        let answer = get(address, path);
        if answer.contains(wanted) {
            return answer;
        }
        assert!(Instant::now() < end, "{path} never had {wanted:?}:\n{answer}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// A TLS connection to a port of this machine as `localhost`, trusting this certificate.
pub fn tls(port: u16, ca: &Path) -> StreamOwned<ClientConnection, TcpStream> {
    tls_to("localhost", port, ca)
}

/// The same with another server name.
pub fn tls_to(host: &str, port: u16, ca: &Path) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    StreamOwned::new(connection, stream)
}

/// Does the opening handshake with the RFC's example key; panics unless it is granted.
pub fn upgrade<S: Read + Write>(stream: &mut S, path: &str) {
    upgrade_at(stream, "localhost", path);
}

/// The same at another host.
pub fn upgrade_at<S: Read + Write>(stream: &mut S, host: &str, path: &str) {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
}

/// Sends "hello" in a masked text frame and reads its echo.
pub fn echo<S: Read + Write>(stream: &mut S) {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![0x81, 0x85, 1, 2, 3, 4];
    frame.extend(b"hello".iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    stream.write_all(&frame).unwrap();
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x81\x05hello");
}

/// A folder with a route for http://localhost/ to a port of this machine.
pub fn folder(backend: u16) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("route.yaml"), route("echo", "/", backend)).unwrap();
    folder
}

/// A route in clear text with its Service and EndpointSlice.
pub fn route(name: &str, path: &str, backend: u16) -> String {
    format!(
        "apiVersion: tidegate.io/v1alpha1
kind: WebSocketRoute
metadata: {{name: {name}}}
spec:
  hostnames: [localhost]
  plaintext: Allow
  rules:
  - matches: [{{path: {{value: {path}}}}}]
    backendRefs: [{{name: {name}, port: 80}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{name: ws, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: ws, port: {backend}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    )
}

/// `serve` on free ports, from a folder. It ends at once where its connections do.
pub fn serve(source: &Path) -> Command {
    let mut command = serve_with_drain(source, ["0s", "0s", "5s"]);
    command.args(["--workers", "1", "--debug-endpoints"]);
    command
}

/// The same with delay, spread and timeout of its end, and as many workers as it likes.
pub fn serve_with_drain(source: &Path, [delay, spread, timeout]: [&str; 3]) -> Command {
    let mut command = tidegate();
    command.args(["serve", "--https-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    command.args(["--admin-listen", "127.0.0.1:0", "--drain-delay", delay]);
    command.args(["--drain-spread", spread, "--drain-timeout", timeout]);
    command.arg("--source").arg(source);
    command
}

/// The built-in echo backend and its port.
pub fn echo_backend() -> (Program, u16) {
    let program = Program::start(tidegate().args(["echo-backend", "--listen", "127.0.0.1:0"]));
    let text = program.says("echo backend on ");
    let port = text.trim().rsplit_once(':').unwrap().1.parse().unwrap();
    (program, port)
}

/// A path inside a folder.
pub fn inside(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}
