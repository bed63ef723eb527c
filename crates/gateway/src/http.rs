//! From a request to a granted connection, a forwarded answer, or a refusal: the path of one request through the
//! pure parts beside this file.

use std::{
    cell::{Cell, OnceCell},
    convert::Infallible,
    error::Error,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header, request};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tidegate_table::{HttpMode, PathAmbiguities, Policy, RequestFacts, Rule};
use tidegate_telemetry::{OpenGauge, RouteMetrics};
use tokio::task::spawn_local;

use super::{
    ListenerKind, acme,
    balance::{EndpointPermit, PickRequest, key},
    connection::{ConnectionGuards, EstablishedConnection},
    fd_budget::FileToken,
    forwarded::{self, Scheme, Sender},
    frames::Extensions,
    handshake,
    headers::{FramingFault, HopByHop, X_REQUEST_ID},
    intermediaries::{IntermediaryTrace, RequestTarget},
    outgoing::{Marks, prepare_upgrade},
    pending::{Answering, Pending},
    refusal::{Refusal, RefusalReason},
    refused_requests::RefusedRequests,
    registry::Origin,
    route_match::{Arrival, Found, check_host, check_path, check_plaintext, find_rule},
    target::{Target, refuse_path},
    transport::Transport,
    upstream::{self, Answer},
    worker::{LiveToken, Worker},
};

/// An answer's body.
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// What a log line has in place of a status where there was nobody to answer.
const CLIENT_GONE: u16 = 499;

/// The most bytes of a value that somebody else made in a log line.
pub(super) const MAX_LOGGED: usize = 512;

/// A client's connection before it is upgraded.
#[derive(Debug)]
pub(super) struct ClientConnection {
    pub(super) worker: Rc<Worker>,
    pub(super) peer: SocketAddr,
    pub(super) listener: ListenerKind,
    pub(super) arrival: Arrival,
    pending: Arc<Pending>,
    /// What keeps the connection from being told no for ever.
    pub(super) refused: RefusedRequests,
    /// Held for as long as the socket lives; dropping it frees its place with the worker.
    pub(super) live: Rc<LiveToken>,
}

/// An open connection to an endpoint: its place in the gauge and among the files.
#[derive(Debug)]
pub(super) struct BackendOpen {
    _gauge: OpenGauge,
    _file: FileToken,
}

/// One request, as far as it is known.
#[derive(Clone)]
pub(super) struct RequestContext {
    pub(super) id: HeaderValue,
    pub(super) client: IpAddr,
    pub(super) uri: Uri,
    pub(super) way: IntermediaryTrace,
    /// The host that it is for, once that is known.
    pub(super) host: OnceCell<String>,
    pub(super) started: Instant,
}

/// What is found out about a request on the way to its answer, whatever that is.
#[derive(Default)]
struct RouteContext {
    rule: OnceCell<Arc<Rule>>,
    /// Whether the client came by TLS.
    secure: Cell<bool>,
    /// `Strict-Transport-Security` of its host.
    hsts: OnceCell<HeaderValue>,
}

/// A request without an answer yet. Dropped as such it is counted: the client has left.
struct PendingResponse<'a> {
    connection: &'a ClientConnection,
    facts: &'a RequestContext,
    learned: RouteContext,
    answered: bool,
}

impl Drop for PendingResponse<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let refusal =
                Refusal::new(RefusalReason::ClientGone, "The client left before it was answered.");
            let rule = self.learned.rule.get().map(Arc::as_ref);
            self.connection.count_refusal(self.facts, rule, &refusal, CLIENT_GONE, None);
        }
    }
}

/// Answers one request.
pub(super) async fn handle(
    connection: Rc<ClientConnection>,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    // A worker that ends waits for its requests to be answered, as for its connections to say goodbye.
    let _entry = connection.worker.sessions.enter_request();
    let answering = connection.answering();
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    let way = IntermediaryTrace::of(&parts);
    let hop = HopByHop::take(&mut parts.headers);
    let facts = connection.facts(&parts, way);
    let mut exchange = PendingResponse {
        connection: &connection,
        facts: &facts,
        learned: RouteContext::default(),
        answered: false,
    };
    let learned = &exchange.learned;
    let answer = connection.answer(&facts, learned, parts, &hop, body, on_upgrade).await;
    let rule = learned.rule.get().map(Arc::as_ref);
    let mut response = answer.unwrap_or_else(|refusal| connection.refuse(&facts, rule, &refusal));
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, facts.id.clone());
    if !learned.secure.get() {
        // RFC 6797 §7.2: none in clear text, whoever wrote it.
        headers.remove(header::STRICT_TRANSPORT_SECURITY);
    } else if let Some(value) = learned.hsts.get() {
        // §7.1: one and no more. The route's takes the place of the backend's.
        headers.insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
    }
    exchange.answered = true;
    connection.refused.answered(&mut response, Instant::now());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        answering.upgraded();
    }
    Ok(response)
}

impl ClientConnection {
    pub(super) fn new(
        worker: Rc<Worker>,
        peer: SocketAddr,
        listener: ListenerKind,
        arrival: Arrival,
        pending: Pending,
        live: LiveToken,
    ) -> Self {
        let refused = RefusedRequests::new(&worker.settings.limits, Instant::now());
        let (pending, live) = (Arc::new(pending), Rc::new(live));
        Self { worker, peer, listener, arrival, pending, refused, live }
    }

    /// A request of it is answered, until this is dropped.
    pub(super) fn answering(&self) -> Answering {
        self.pending.answer()
    }

    fn trusts(&self, address: std::net::IpAddr) -> bool {
        self.worker.settings.trusted_proxies.iter().any(|net| net.contains(&address.to_canonical()))
    }

    fn facts(&self, parts: &request::Parts, way: IntermediaryTrace) -> RequestContext {
        let peer = self.peer.ip();
        let sound = |id: &&HeaderValue| {
            (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        let given = parts.headers.get(X_REQUEST_ID).filter(sound).filter(|_| self.trusts(peer));
        RequestContext {
            id: given.cloned().unwrap_or_else(|| {
                HeaderValue::from_str(&format!("{:032x}", fastrand::u128(..)))
                    .expect("hex is visible ASCII")
            }),
            client: forwarded::client_address(&parts.headers, peer, |address| self.trusts(address)),
            uri: parts.uri.clone(),
            way,
            host: OnceCell::new(),
            started: Instant::now(),
        }
    }

    async fn answer(
        self: &Rc<Self>,
        facts: &RequestContext,
        learned: &RouteContext,
        mut parts: request::Parts,
        hop: &HopByHop,
        body: Incoming,
        on_upgrade: OnUpgrade,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let trusted = self.trusts(self.peer.ip());
        let claims_tls = forwarded::claimed_scheme(&parts.headers) == Some(Scheme::Https);
        let secure = self.listener == ListenerKind::Https || (trusted && claims_tls);
        learned.secure.set(secure);
        if self.worker.loop_mark.is_looping(&parts.headers) {
            return Err(Refusal::new(
                RefusalReason::LoopDetected,
                "The request has passed this gateway several times, or many of its kind: an endpoint of a route leads back.",
            ));
        }
        let target = Target::of(&parts.method, &facts.uri, &parts.headers)?;
        if let Some(uri) = target.rewritten() {
            parts.uri = uri;
        }
        if let Some(fault) = hop.fault {
            return Err(bad_framing(fault));
        }
        let host = facts.host.get_or_init(|| target.authority.host().to_owned());
        let published = self
            .worker
            .table
            .load()
            .ok_or_else(|| Refusal::new(RefusalReason::NoRoute, "No routes are loaded yet."))?;
        if let Some(token) = acme::token_of(&parts)
            && let Some(solver) = published.table.solver(host, token)
        {
            let (solver, token) = (Arc::clone(solver), token.to_owned());
            drop(published);
            return self.solve(facts, &parts.headers, &solver, host, &token).await;
        }
        let request = RequestFacts {
            path: target.path.as_str(),
            query: parts.uri.query(),
            headers: &parts.headers,
        };
        check_host(&published.table, &self.arrival, host)?;
        if let Some(hsts) = published.table.host(host).and_then(|host| host.hsts.as_ref()) {
            learned.hsts.get_or_init(|| hsts.clone());
        }
        let Found { hostname, rule } =
            find_rule(&published.table, host, &request).map_err(|refusal| {
                // Often that is why no rule fits.
                target.path.check(PathAmbiguities::NONE).err().map_or(refusal, refuse_path)
            })?;
        let rule = Arc::clone(learned.rule.get_or_init(|| rule));
        check_path(&published.table, host, &rule, &target.path, &request)?;
        drop(published);
        let asked = RequestTarget {
            secure,
            claims_tls,
            websocket: facts.way.wants_websocket(),
            host,
            uri: &parts.uri,
            https_port: self.worker.settings.public_https_port,
        };
        check_plaintext(rule.plaintext, &asked)?;
        facts.way.check(rule.http == HttpMode::Refuse, &asked)?;
        let sender = Sender {
            peer: self.peer.ip(),
            trusted,
            client: facts.client,
            scheme: if secure { Scheme::Https } else { Scheme::Http },
            authority: &target.authority,
        };
        if !hop.upgrade_websocket {
            return self.plain_http(facts, &rule, parts, body, &sender).await;
        }
        let upgrade = handshake::check_request(&parts.method, parts.version, &parts.headers, hop)?;
        if self.worker.draining() {
            return Err(Refusal::new(
                RefusalReason::Draining,
                "The gateway is shutting down: connect again.",
            ));
        }
        let metrics = self.metrics(&rule);
        let key = hash_key(&rule, facts, &parts);
        let (seat, transport, backend_open) = self.reach(&rule, key, &metrics).await?;
        prepare_upgrade(&mut parts, &self.marks(facts, &sender));
        let offered = Request::from_parts(parts, Empty::new());
        match upstream::upgrade(transport, offered, &upgrade.accept, rule.timeouts.upgrade).await? {
            Answer::Refused(response) => Ok(self.pass_refusal(facts, &rule, &seat, response)),
            Answer::Switched { headers, transport, early } => {
                let extensions = Extensions::chosen(&headers);
                let response = handshake::switching(headers, &upgrade).map(|()| full(Bytes::new()));
                metrics.connections_total.inc();
                metrics.upgrade_duration.observe(facts.started.elapsed().as_secs_f64());
                let endpoint = seat.address();
                let origin = Origin { hostname, rule: Arc::clone(&rule), endpoint };
                let held = ConnectionGuards {
                    worker: Rc::clone(&self.worker),
                    listener: self.listener,
                    _live: Rc::clone(&self.live),
                    id: facts.id.to_str().unwrap_or_default().into(),
                    seat,
                    _open: OpenGauge::new(&metrics.connections_open),
                    _backend_open: backend_open,
                    entry: self.worker.sessions.enter(origin),
                    started: Instant::now(),
                };
                let granted = EstablishedConnection { held, rule, metrics };
                granted.log_open(facts, host, &response);
                spawn_local(granted.run(on_upgrade, transport, early, extensions));
                Ok(response)
            }
        }
    }

    /// Reaches an endpoint of the rule. Where one cannot be reached others are tried, as long as `timeouts.connect` lasts and
    /// each within its share of what is left of it: one that has vanished may not use up the time of the next.
    pub(super) async fn reach(
        &self,
        rule: &Rule,
        key: Option<u64>,
        metrics: &RouteMetrics,
    ) -> Result<(EndpointPermit, Transport, BackendOpen), Refusal> {
        let file = self.worker.files.backend().ok_or_else(Refusal::out_of_files)?;
        let deadline = Instant::now() + rule.timeouts.connect;
        let endpoints = rule.backends.iter().filter(|backend| backend.weight > 0);
        let attempts = endpoints
            .map(|backend| backend.endpoints.usable().len())
            .sum::<usize>()
            .min(usize::from(rule.connect_attempts));
        let mut refusal = Refusal::new(
            RefusalReason::NoEndpoints,
            "No backend of this route has a ready endpoint: try again soon.",
        );
        let mut tried = Vec::new();
        for left in (1..=attempts).rev() {
            let started = Instant::now();
            let (backends, how) = (&rule.backends, &rule.load_balancing);
            let wanted = PickRequest { backends, how, key, tried: &tried };
            let chosen = self.worker.load.choose(&wanted, fastrand::u64(..), started);
            let Some((backend, seat)) = chosen else { break };
            let limit = deadline.saturating_duration_since(started) / left as u32;
            let connected =
                upstream::connect(seat.address(), backend.tls.as_deref(), limit, metrics).await;
            metrics.backend_connect_duration.observe(started.elapsed().as_secs_f64());
            let fault = match connected {
                Ok(transport) => {
                    seat.reached(backend, Instant::now());
                    let gauge = OpenGauge::new(&metrics.backend_connections_open);
                    return Ok((seat, transport, BackendOpen { _gauge: gauge, _file: file }));
                }
                // Not the endpoint's fault, and no other endpoint would be better off.
                Err(failed) if failed.refusal.reason == RefusalReason::LimitFiles => {
                    return Err(failed.refusal);
                }
                Err(failed) => {
                    refusal = failed.refusal;
                    failed.fault
                }
            };
            metrics.backend_connect_failures.inc();
            let ejected = seat.missed(backend, fault, Instant::now());
            let endpoint = format!("{} of {}:{}", seat.address(), backend.service, backend.port);
            if ejected {
                metrics.backend_ejections.inc();
                tracing::info!(
                    "endpoint {endpoint} failed again and again: it is passed over for a while"
                );
            }
            refusal.source = Some(match refusal.source {
                Some(source) => format!("{endpoint}: {source}"),
                None => endpoint,
            });
            tracing::debug!(error = refusal.source, "endpoint not reached");
            tried.push(seat.address());
        }
        Err(refusal)
    }

    /// What is put on a request on its way to a backend.
    pub(super) fn marks<'a>(
        &'a self,
        facts: &'a RequestContext,
        sender: &'a Sender<'_>,
    ) -> Marks<'a> {
        Marks {
            id: &facts.id,
            loop_mark: &self.worker.loop_mark,
            sender,
            kept: &self.worker.settings.trusted_proxy_headers,
        }
    }

    pub(super) fn metrics(&self, rule: &Rule) -> Arc<RouteMetrics> {
        let worker = &self.worker;
        worker.metrics.route(
            &rule.route.namespace,
            &rule.route.name,
            self.listener.as_str(),
            worker.index,
        )
    }
}

/// The request's key, where the rule asks for one.
pub(super) fn hash_key(rule: &Rule, facts: &RequestContext, parts: &request::Parts) -> Option<u64> {
    let Policy::ConsistentHash(hash_on) = &rule.load_balancing.policy else { return None };
    key::of_request(hash_on, facts.client, parts.uri.query(), &parts.headers)
}

/// Why a body is refused before any of it was read.
fn bad_framing(fault: FramingFault) -> Refusal {
    let (reason, advice) = match fault {
        FramingFault::TransferCoding => (RefusalReason::TransferCoding, "send the body decoded"),
        FramingFault::ContentLength => (RefusalReason::BadHandshake, "send it once"),
    };
    Refusal::new(reason, format!("The request's {fault}: {advice}."))
}

pub(super) fn full(bytes: Bytes) -> AnswerBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
