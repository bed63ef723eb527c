//! A gateway with one backend, in clear text or with TLS on both legs, on which connections are played through to their end.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use tidegate::table::{BackendTls, Rule};

use super::{
    Authority, Backend, Harness, Peer, client_config, host, rule, server_config, switching,
    tls_host, upgrade_request,
};

/// What both legs are carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Clear,
    Tls,
}

impl Wire {
    pub const BOTH: [Self; 2] = [Self::Clear, Self::Tls];
}

/// A gateway whose one route serves `a.test`.
pub struct Stage {
    pub gateway: Harness,
    backend: Backend,
    tls: Option<(Arc<ClientConfig>, Arc<ServerConfig>)>,
}

impl Stage {
    /// A gateway with a rule that differs from the usual one.
    pub fn new(wire: Wire, adjust: impl FnOnce(&mut Rule)) -> Self {
        let backend = Backend::bind();
        let mut rule = rule(&[backend.address()]);
        adjust(&mut rule);
        if wire == Wire::Clear {
            let gateway = Harness::start(vec![host("a.test", rule)]);
            return Self { gateway, backend, tls: None };
        }
        let authority = Authority::new();
        let trust = BackendTls::verified("backend.test", authority.pem.as_bytes());
        rule.backends[0].tls = Some(Arc::new(trust.expect("the authority is a certificate")));
        let identity = authority.certify("a.test").identity("a", false);
        let server = server_config(&authority.certify("backend.test"));
        Self {
            gateway: Harness::start(vec![tls_host("a.test", &identity, rule)]),
            backend,
            tls: Some((client_config(&authority.pem), server)),
        }
    }

    /// An open connection: the client's and the backend's end.
    #[track_caller]
    pub fn open(&self) -> (Peer, Peer) {
        self.open_with(b"", b"")
    }

    /// An open connection; both peers send something right behind their part of the handshake.
    #[track_caller]
    pub fn open_with(&self, from_client: &[u8], from_server: &[u8]) -> (Peer, Peer) {
        let asked = self.ask_with(from_client);
        Self::grant(asked, from_server)
    }

    /// An open connection in clear text whose client lets only some KiB come that it has not read; the backend sends something
    /// right behind its part of the handshake.
    #[track_caller]
    pub fn open_narrow(&self, from_server: &[u8]) -> (Peer, Peer) {
        let asked = self.ask_as(Peer::narrow(self.gateway.http), b"");
        Self::grant(asked, from_server)
    }

    /// A client that has asked for an upgrade, with something right behind it, and the backend, which has not read that yet.
    #[track_caller]
    pub fn ask_with(&self, from_client: &[u8]) -> (Peer, Peer) {
        let client = match &self.tls {
            None => self.gateway.client(),
            Some((config, _)) => self.gateway.tls_client(config, "a.test"),
        };
        self.ask_as(client, from_client)
    }

    #[track_caller]
    fn ask_as(&self, mut client: Peer, from_client: &[u8]) -> (Peer, Peer) {
        client.send([upgrade_request("a.test").as_bytes(), from_client].concat());
        let server = match &self.tls {
            None => self.backend.accept(),
            Some((_, config)) => self.backend.accept_tls(config),
        };
        (client, server)
    }

    /// The backend grants what the client has asked for, and sends something right behind that.
    #[track_caller]
    fn grant((mut client, mut server): (Peer, Peer), from_server: &[u8]) -> (Peer, Peer) {
        server.head();
        server.send([switching("").as_bytes(), from_server].concat());
        let head = client.head();
        assert_eq!(head.status(), 101, "{head:?}");
        (client, server)
    }

    /// Waits until so many connections have ended for this cause, and checks that none has for another; then that these Close
    /// frames were counted, each so often, and no others.
    #[track_caller]
    pub fn assert_ended(&self, cause: &str, count: usize, codes: &[(&str, &str)]) {
        let closed = "tidegate_connections_closed_total";
        self.gateway.await_metric(closed, &[], count as f64);
        let counted = self.gateway.metric(closed, &[("cause", cause)]);
        assert!(
            counted.total_cmp(&(count as f64)).is_eq(),
            "not ended as {cause}: {:?}",
            self.gateway.series(closed)
        );
        let mut expected: Vec<String> = codes
            .iter()
            .map(|(direction, code)| {
                let labels = format!("code=\"{code}\",direction=\"{direction}\"");
                format!("tidegate_close_codes_total{{{labels},namespace=\"test\",route=\"route\"}} {count}")
            })
            .collect();
        expected.sort();
        assert_eq!(self.gateway.series("tidegate_close_codes_total"), expected);
        self.gateway.await_metric("tidegate_connections_open", &[], 0.0);
        self.gateway.await_metric("tidegate_backend_connections_open", &[], 0.0);
    }
}
