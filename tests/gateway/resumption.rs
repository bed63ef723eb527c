//! Sessions that clients resume: with which settings they may, and when a full handshake takes place instead.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use tidegate::table::RoutingTable;

use crate::support::{
    Authority, Backend, DEADLINE, Harness, client_config, only_tls12, rule, tls_host,
};

const NAMES: [&str; 2] = ["a.test", "b.test"];

/// A gateway of hosts that each have a certificate of their own.
fn serving(authority: &Authority, backend: &Backend) -> Harness {
    let host = |name| {
        let identity = authority.certify(name).identity(name, false);
        tls_host(name, &identity, rule(&[backend.address()]))
    };
    Harness::start(NAMES.map(host).into())
}

/// A connection as far as the first answer, which a ticket comes with; what kind of handshake there was.
#[track_caller]
fn visit(gateway: &Harness, config: &Arc<ClientConfig>, name: &str) -> HandshakeKind {
    let mut socket = TcpStream::connect(gateway.https).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let server_name = name.to_owned().try_into().unwrap();
    let mut tls = ClientConnection::new(Arc::clone(config), server_name).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    write!(stream, "GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    tls.handshake_kind().unwrap()
}

#[track_caller]
fn assert_resumed(config: &Arc<ClientConfig>, authority: &Authority) {
    let gateway = serving(authority, &Backend::bind());
    assert_eq!(visit(&gateway, config, "a.test"), HandshakeKind::Full);
    // Each gets a ticket for the next.
    for _ in 0..3 {
        assert_eq!(visit(&gateway, config, "a.test"), HandshakeKind::Resumed);
    }
}

#[test]
fn a_client_that_comes_back_resumes() {
    let authority = Authority::new();
    assert_resumed(&client_config(&authority.pem), &authority);
}

#[test]
fn a_tls_1_2_client_that_comes_back_resumes() {
    let authority = Authority::new();
    assert_resumed(&only_tls12(&authority.pem), &authority);
}

#[test]
fn a_new_table_with_the_same_certificates_keeps_the_tickets() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let identity = authority.certify("a.test").identity("a", false);
    let gateway = Harness::start(vec![tls_host("a.test", &identity, rule(&[backend.address()]))]);
    let config = client_config(&authority.pem);
    assert_eq!(visit(&gateway, &config, "a.test"), HandshakeKind::Full);
    let hosts = [tls_host("a.test", &identity, rule(&[]))];
    gateway.table.publish(RoutingTable::new(hosts)).unwrap();
    assert_eq!(visit(&gateway, &config, "a.test"), HandshakeKind::Resumed);
}

#[test]
fn after_a_renewed_certificate_a_client_makes_a_full_handshake_once() {
    for config in [client_config, only_tls12] {
        let authority = Authority::new();
        let backend = Backend::bind();
        let gateway = serving(&authority, &backend);
        let config = config(&authority.pem);
        visit(&gateway, &config, "a.test");
        assert_eq!(visit(&gateway, &config, "a.test"), HandshakeKind::Resumed);
        let renewed = authority.certify("a.test").identity("a", false);
        let hosts = [tls_host("a.test", &renewed, rule(&[backend.address()]))];
        gateway.table.publish(RoutingTable::new(hosts)).unwrap();
        assert_eq!(visit(&gateway, &config, "a.test"), HandshakeKind::Full);
        assert_eq!(visit(&gateway, &config, "a.test"), HandshakeKind::Resumed);
    }
}

#[test]
fn a_session_of_tls_1_2_ends_where_1_3_is_demanded() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let certificate = authority.certify("a.test");
    let host = |only_tls13| {
        tls_host("a.test", &certificate.identity("a", only_tls13), rule(&[backend.address()]))
    };
    let gateway = Harness::start(vec![host(false)]);
    let config = client_config(&authority.pem);
    visit(&gateway, &config, "a.test");
    gateway.table.publish(RoutingTable::new([host(true)])).unwrap();
    assert_eq!(visit(&gateway, &config, "a.test"), HandshakeKind::Full);
}

#[test]
fn the_fallback_certificate_gives_no_tickets() {
    let authority = Authority::new();
    let fallback = authority.certify("unknown.test");
    let made = tidegate::gateway::FallbackCertificate::from_pem(
        fallback.chain.as_bytes(),
        fallback.key.as_bytes(),
    );
    let gateway = Harness::with(Vec::new(), |settings| settings.fallback = made.unwrap());
    for config in [client_config(&authority.pem), only_tls12(&authority.pem)] {
        for _ in 0..2 {
            let mut socket = TcpStream::connect(gateway.https).unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            let name = "unknown.test".try_into().unwrap();
            let mut tls = ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            write!(stream, "GET / HTTP/1.1\r\nhost: unknown.test\r\nconnection: close\r\n\r\n")
                .unwrap();
            stream.read_to_string(&mut String::new()).unwrap();
            assert_eq!(tls.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(tls.tls13_tickets_received(), 0);
        }
    }
}

#[test]
fn a_client_that_is_slow_with_its_head_is_sent_its_tickets_meanwhile() {
    let authority = Authority::new();
    let backend = Backend::bind();
    let gateway = serving(&authority, &backend);
    let mut socket = TcpStream::connect(gateway.https).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let name = "a.test".try_into().unwrap();
    let mut tls = ClientConnection::new(client_config(&authority.pem), name).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    while tls.tls13_tickets_received() == 0 {
        assert_ne!(tls.read_tls(&mut socket).expect("the tickets come"), 0);
        tls.process_new_packets().unwrap();
    }
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    stream.write_all(b"host: a.test\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
}
