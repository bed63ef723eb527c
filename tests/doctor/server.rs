//! Servers that do one thing, on a free port of 127.0.0.1, each connection in a thread of its own.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use rcgen::{CertificateParams, DistinguishedName, DnType, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use tidegate::gateway::handshake::accept_for;

use crate::program::DEADLINE;

/// A connection of a client, in clear text or over TLS.
pub trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// A server in clear text.
pub fn plain(serve: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                serve(&mut stream);
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

/// A server over TLS that shows these certificates.
pub fn tls(shown: &Shown, serve: impl Fn(&mut dyn Wire) + Send + Sync + 'static) -> u16 {
    let config = Arc::new(shown.config());
    plain(move |stream| {
        let stream = stream.try_clone().unwrap();
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        serve(&mut StreamOwned::new(connection, stream));
    })
}

/// A port at which nothing listens.
pub fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A certificate with its key, and the authority that signed it.
pub struct Shown {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
    /// The authority in PEM.
    pub authority: String,
}

impl Shown {
    /// For 127.0.0.1, by an authority of this name.
    pub fn by(authority: &str) -> Self {
        Self::with(authority, |_| {})
    }

    pub fn with(authority: &str, change: impl Fn(&mut CertificateParams)) -> Self {
        let name = |name: &str| {
            let mut distinguished = DistinguishedName::new();
            distinguished.push(DnType::CommonName, name);
            distinguished
        };
        let mut root = CertificateParams::default();
        root.distinguished_name = name(authority);
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root_key = KeyPair::generate().unwrap();
        let root_certificate = root.self_signed(&root_key).unwrap();
        let mut leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        leaf.distinguished_name = name("the server");
        change(&mut leaf);
        let key = KeyPair::generate().unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::new(root, root_key)).unwrap();
        Self { chain: vec![leaf.der().clone()], key, authority: root_certificate.pem() }
    }

    pub fn config(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                self.chain.clone(),
                PrivatePkcs8KeyDer::from(self.key.serialize_der()).into(),
            )
            .unwrap()
    }

    /// The authority in a file, for --ca.
    pub fn file(&self) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(self.authority.as_bytes()).unwrap();
        file
    }
}

/// The head of a request; empty where the client left before.
pub fn head<W: Read + ?Sized>(wire: &mut W) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match wire.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

/// The value of a header.
pub fn value<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Grants an upgrade, with more headers.
pub fn grant<W: Write + ?Sized>(wire: &mut W, head: &str, more: &str) {
    let accept = accept_for(value(head, "sec-websocket-key").unwrap().as_bytes());
    let text = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    );
    wire.write_all(text.as_bytes()).unwrap();
}

/// Answers pings, echoes text, until the client says Close, ends, or is silent for longer than the read timeout.
pub fn speak<W: Wire + ?Sized>(wire: &mut W) {
    while let Some((opcode, payload)) = frame(wire) {
        let first = match opcode {
            0x9 => 0x8a,
            0x1 => 0x81,
            0x8 => 0x88,
            _ => continue,
        };
        let mut frame = vec![first, u8::try_from(payload.len()).unwrap()];
        frame.extend(payload);
        if wire.write_all(&frame).is_err() || opcode == 0x8 {
            return;
        }
    }
}

/// A short masked frame, or nothing more.
fn frame<W: Read + ?Sized>(wire: &mut W) -> Option<(u8, Vec<u8>)> {
    let mut begin = [0; 6];
    match wire.read_exact(&mut begin) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Interrupted => return None,
        Err(_) => return None,
    }
    let mut payload = vec![0; usize::from(begin[1] & 0x7f)];
    wire.read_exact(&mut payload).ok()?;
    let mask = &begin[2..];
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    Some((begin[0] & 0xf, payload))
}

/// A server that echoes, and takes a quiet client for gone after a while.
pub fn echo(patience: Duration) -> u16 {
    plain(move |stream| {
        let head = head(stream);
        if head.is_empty() {
            return;
        }
        grant(stream, &head, "");
        stream.set_read_timeout(Some(patience)).unwrap();
        speak(stream);
    })
}
