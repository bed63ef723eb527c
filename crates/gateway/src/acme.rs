//! HTTP-01 challenges of ACME (RFC 8555 §8.3): `/.well-known/acme-challenge/TOKEN` goes to the solver that the table has for the
//! name and the token, whatever routes say about that host or its clear text. Of the request nothing goes on but
//! these two, and where it has passed (`CDN-Loop`), for two gateways may be each other's solver; of the answer nothing comes back but status and body, as plain text: a solver is no web server, and its answer
//! stands at the origin of whoever owns the name.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, Empty, Limited};
use tidegate_table::Solver;
use tokio::time::{Instant, timeout_at};

use super::{
    fd_budget::out_of_files,
    headers::{HopByHop, X_REQUEST_ID},
    http::{AnswerBody, ClientConnection, RequestContext, full},
    refusal::{Refusal, RefusalReason},
    socket,
    transport::Transport,
    upstream,
};

/// Where challenges are asked for.
const PREFIX: &str = "/.well-known/acme-challenge/";

/// The longest token that is looked up. That of Let's Encrypt has 43 characters.
const MAX_TOKEN: usize = 256;

/// From the first attempt to reach a solver to the end of its answer. Below the 10 s after which cert-manager and Let's
/// Encrypt give up.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Most endpoints that are tried.
const ATTEMPTS: usize = 3;

/// How much of an answer is passed on, bytes. It is a token, a dot and the thumbprint of a key.
const MAX_BODY: usize = 16 * 1024;

/// The token that a request asks for, if it can be one: base64url (RFC 8555 §8.3).
pub(super) fn token_of(request: &request::Parts) -> Option<&str> {
    let token = request.uri.path().strip_prefix(PREFIX)?;
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_token = (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(sound);
    let asked = matches!(request.method, Method::GET | Method::HEAD);
    (is_token && asked).then_some(token)
}

impl ClientConnection {
    /// Fetches the answer to a challenge.
    pub(super) async fn solve(
        &self,
        facts: &RequestContext,
        asked: &HeaderMap,
        solver: &Solver,
        host: &str,
        token: &str,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let deadline = Instant::now() + TIMEOUT;
        // Held until the answer is here.
        let _file = self.worker.files.backend().ok_or_else(Refusal::out_of_files)?;
        let transport = reach(solver, deadline).await?;
        let mut request = Request::get(format!("{PREFIX}{token}"))
            .header(header::HOST, host)
            .header(X_REQUEST_ID, facts.id.clone())
            .body(Empty::<Bytes>::new())
            .expect("a token is a path, and a host was parsed as one");
        self.worker.loop_mark.put_on_behind(asked, request.headers_mut());
        let answer = async {
            let (answer, _task) = upstream::send(transport, request).await?;
            let (mut parts, body) = answer.into_parts();
            if let Some(fault) = HopByHop::take(&mut parts.headers).fault {
                return Err(upstream::bad_framing(fault));
            }
            let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
                let mut refusal = Refusal::new(
                    RefusalReason::BackendBadHandshake,
                    "The answer of the ACME challenge's solver broke off, or is too long.",
                );
                refusal.source = Some(error.to_string());
                refusal
            })?;
            Ok((parts, body.to_bytes()))
        };
        let (parts, body) = timeout_at(deadline, answer).await.map_err(|_| late())??;
        let status = parts.status;
        if !(status == StatusCode::OK || status.is_client_error() || status.is_server_error()) {
            let mut refusal = Refusal::new(
                RefusalReason::BackendBadHandshake,
                "The ACME challenge's solver gave neither an answer (200) nor an error.",
            );
            refusal.source = Some(format!("status {} of {}", status.as_u16(), solver.service));
            return Err(refusal);
        }
        self.worker.metrics.challenged(parts.status.as_u16());
        tracing::info!(
            target: "tidegate::access",
            event = "acme_challenge",
            status = parts.status.as_u16(),
            request_id = facts.id.to_str().unwrap_or_default(),
            client = %facts.client,
            listener = self.listener.as_str(),
            host,
            service = %solver.service,
        );
        let mut response = Response::new(full(body));
        *response.status_mut() = parts.status;
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CACHE_CONTROL, "no-store"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Ok(response)
    }
}

/// Connects to an endpoint of the solver; to another one where that fails, each within its share of the time.
async fn reach(solver: &Solver, deadline: Instant) -> Result<Transport, Refusal> {
    let mut refusal = Refusal::new(
        RefusalReason::NoEndpoints,
        "The solver of this ACME challenge has no ready endpoint: try again soon.",
    );
    let endpoints = solver.endpoints.usable();
    let count = endpoints.len().min(ATTEMPTS);
    for (endpoint, left) in endpoints.iter().zip((1..=count).rev()) {
        let now = Instant::now();
        let limit = now + deadline.saturating_duration_since(now) / left as u32;
        match timeout_at(limit, socket::connect(endpoint.address)).await {
            Ok(Ok(stream)) => return Ok(Transport::Plain(stream)),
            Ok(Err(error)) if out_of_files(&error) => {
                return Err(Refusal::out_of_files().because(error));
            }
            Ok(Err(error)) => {
                refusal = Refusal::new(
                    RefusalReason::BackendConnect,
                    "The solver of this ACME challenge could not be reached.",
                );
                refusal.source =
                    Some(format!("{} of {}: {error}", endpoint.address, solver.service));
            }
            Err(_) => refusal = late(),
        }
    }
    Err(refusal)
}

fn late() -> Refusal {
    Refusal::new(
        RefusalReason::BackendTimeout,
        "The solver of this ACME challenge did not answer in time.",
    )
}
