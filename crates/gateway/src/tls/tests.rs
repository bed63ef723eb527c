use std::{
    io::Write,
    net::{Ipv4Addr, TcpListener, TcpStream as StdTcpStream},
    rc::Rc,
    time::Duration,
};

use tokio::{
    task::{LocalSet, spawn_local, yield_now},
    time::{sleep_until, timeout},
};

use super::*;
use crate::{
    PendingLimits,
    fd_budget::FileBudget,
    pending::{PendingConnections, Room},
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a worker has, and a client that has sent its hello.
struct Parts {
    table: TableCell,
    fallback: FallbackCertificate,
    metrics: Arc<GatewayMetrics>,
    gate: HandshakeGate,
    all: Arc<PendingConnections>,
}

impl Parts {
    fn new(fallback: FallbackCertificate) -> Rc<Self> {
        let metrics = GatewayMetrics::register(&prometheus::Registry::new()).unwrap();
        let metrics = Arc::new(metrics);
        let files = Arc::new(FileBudget::new(1000, 0, 0));
        let limits = PendingLimits::default();
        let all =
            PendingConnections::new(limits, 16 * 1024, Vec::new(), files, Arc::clone(&metrics));
        let table = TableCell::default();
        table.publish(RoutingTable::default());
        Rc::new(Self { table, fallback, metrics, gate: HandshakeGate::new(), all: Arc::new(all) })
    }

    /// Does the handshake of a connection that waits for us; whether it was done in time.
    async fn accept(self: Rc<Self>, stream: StdTcpStream, deadline: Instant) -> bool {
        let pending = self.all.enter(CLIENT);
        let task = spawn_local(std::future::pending::<()>());
        self.all.attach(pending.id(), task.abort_handle());
        pending.works();
        let accept = Accept {
            table: &self.table,
            fallback: &self.fallback,
            metrics: &self.metrics,
            gate: &self.gate,
            client: CLIENT,
            pending: &pending,
        };
        accept.run(TcpStream::from_std(stream).unwrap(), deadline).await.is_some()
    }
}

/// Both ends of a connection, with buffers as small as they can be; the client has sent its hello.
fn greeted() -> (StdTcpStream, StdTcpStream) {
    let listener = TcpListener::bind((CLIENT, 0)).unwrap();
    socket2::SockRef::from(&listener).set_send_buffer_size(1).unwrap();
    let mut client = StdTcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    let name = "a.test".try_into().unwrap();
    let mut tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    client.write_all(&hello).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    (client, server)
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_holds_up_nobody() {
    LocalSet::new()
        .run_until(async {
            let parts = Parts::new(FallbackCertificate::self_signed().unwrap());
            let giving = Rc::clone(&parts);
            // Nothing takes turns back here: there is none to be taken back.
            spawn_local(async move { match giving.gate.give_turns().await {} });
            let step = parts.gate.enter(Priority::Begun, || {}).await;
            let (_client, server) = greeted();
            let deadline = Instant::now() + Duration::from_millis(20);
            let late = spawn_local(Rc::clone(&parts).accept(server, deadline));
            sleep_until(deadline + Duration::from_millis(20)).await;
            yield_now().await;
            drop(step);
            let limit = Duration::from_secs(10);
            let next = timeout(limit, parts.gate.enter(Priority::New(CLIENT), || {})).await;
            drop(next.expect("the next one has its turn"));
            assert!(!timeout(limit, late).await.expect("it ends").unwrap());
        })
        .await;
}

#[tokio::test]
async fn who_does_not_take_our_flight_waits_for_nobody_but_itself() {
    let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let chain = made.cert.pem().repeat(2_000);
    let key = made.signing_key.serialize_pem();
    let fallback = FallbackCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    LocalSet::new()
        .run_until(async {
            let parts = Parts::new(fallback);
            let (_client, server) = greeted();
            let deadline = Instant::now() + Duration::from_secs(600);
            spawn_local(Rc::clone(&parts).accept(server, deadline));
            let evicted = async {
                while parts.all.free_file() == Room::Full {
                    yield_now().await;
                }
            };
            timeout(Duration::from_secs(10), evicted).await.expect("it makes way");
        })
        .await;
}
