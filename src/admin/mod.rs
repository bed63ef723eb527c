//! The admin port: health, metrics and what the gateway serves by. Plain HTTP, never on the data ports.

mod table_view;

use std::{
    convert::Infallible, io, net::TcpListener as StdTcpListener, sync::Arc, thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::watch};

use crate::table::TableCell;

/// Prometheus' text exposition format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// For a request's head to come in.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a failed accept: it fails again at once where the process is out of files.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What the admin port tells of.
pub struct AdminState {
    /// Ready once it holds a table.
    pub table: Arc<TableCell>,
    /// All metrics in Prometheus' text format.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// How far the end has come, in a sentence, once it has begun: not ready any more.
    pub draining: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Why there is no table yet, in a sentence.
    pub waiting_for: Box<dyn Fn() -> String + Send + Sync>,
    /// What keeps the table from being up to date, a sentence each.
    pub faults: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// Starts the admin thread on bound listeners. It ends when `shutdown` turns true.
pub fn spawn(
    listeners: Vec<StdTcpListener>,
    state: Arc<AdminState>,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listeners = {
        let _entered = runtime.enter();
        listeners.into_iter().map(TcpListener::from_std).collect::<io::Result<Vec<_>>>()?
    };
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async {
            for listener in listeners {
                tokio::spawn(accept(listener, Arc::clone(&state)));
            }
            // An error means that the sender is gone: the program is ending as well.
            let _ = shutdown.wait_for(|down| *down).await;
        });
    })
}

async fn accept(listener: TcpListener, state: Arc<AdminState>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        let response = answer(&state, &request);
                        async { Ok::<_, Infallible>(response) }
                    });
                    let served = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIMEOUT)
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    if let Err(error) = served {
                        tracing::debug!(%error, "admin connection failed");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "admin connection not accepted");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

fn answer<B>(state: &AdminState, request: &Request<B>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Only GET is answered here.\n");
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "alive\n"),
        "/readyz" => ready(state),
        "/metrics" => {
            let mut response = text(StatusCode::OK, (state.metrics)());
            let kind = HeaderValue::from_static(METRICS_TYPE);
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        "/debug/table" => {
            let view = state.table.load().map(|published| table_view::render(&published));
            let mut response = text(StatusCode::OK, view.unwrap_or_else(|| "null\n".into()));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        "/" => {
            text(StatusCode::OK, "Tidegate's admin port: /livez /readyz /metrics /debug/table\n")
        }
        _ => text(StatusCode::NOT_FOUND, "Not here: /livez /readyz /metrics /debug/table\n"),
    }
}

fn ready(state: &AdminState) -> Response<Full<Bytes>> {
    if let Some(progress) = (state.draining)() {
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {progress}\n"));
    }
    let (status, mut answer) = match state.table.load() {
        Some(published) => {
            (StatusCode::OK, format!("ready: table generation {}\n", published.generation))
        }
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", (state.waiting_for)()))
        }
    };
    // Ready all the same: the last table serves.
    for fault in (state.faults)() {
        answer.push_str(&format!("degraded: {fault}\n"));
    }
    text(status, answer)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
