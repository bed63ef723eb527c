//! The admin port: health, metrics and what the gateway serves by. Plain HTTP, never on the data ports.
//!
//! One thread answers, and does nothing that takes long: what is large is rendered on threads of its own and handed over as its reader
//! takes it, so that a probe never waits for anybody else's request. Connections are few (`connections`), short, and have files of
//! their own, which the data plane leaves to them.

mod body;
mod connections;
mod host;
mod patience;
mod table_view;
#[cfg(test)]
mod testing;

use std::{
    convert::Infallible,
    io,
    net::TcpListener as StdTcpListener,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, watch},
};

use self::{
    body::AdminBody,
    connections::{Connections, Large, Place},
    patience::Impatient,
    table_view::{Page, Wanted},
};
use tidegate_core::escape;

use crate::table::TableCell;

/// Connections at once, unless set otherwise.
pub const DEFAULT_CONNECTIONS: u16 = 32;

/// Prometheus' text exposition format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// For a request's head to come in, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte of an answer being taken.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// For a connection as a whole, whatever it does.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Of a request's head: the least that hyper takes.
const MOST_HEAD_BYTES: usize = 8 << 10;
const MOST_HEADERS: usize = 64;
/// Sentences about faults in an answer to `/readyz`.
const MOST_FAULTS: usize = 20;
/// Threads that render: as many as there may be large answers, and one for who comes in the place of one that is cut.
const RENDERERS: usize = 5;
/// The pause after a failed accept: it fails again at once where the process is out of files.
const BACK_OFF: Duration = Duration::from_millis(100);
const PATHS: &str = "/livez /readyz /metrics /debug/table";

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

/// Whom the admin port answers, and what.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// Connections at once.
    pub connections: u16,
    /// Names that it may be asked by, besides addresses and those that nobody can register; `*` is all.
    pub hosts: Vec<String>,
    /// Whether `/debug/table` is answered.
    pub debug: DebugEndpoints,
}

/// Whether `/debug/table` is answered: it names routes, Services and addresses of all namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DebugEndpoints {
    /// It is not.
    #[default]
    Off,
    /// It is.
    On,
}

/// All that an answer needs.
struct Admin {
    state: Arc<AdminState>,
    settings: AdminSettings,
    /// Held by who renders: one at a time.
    rendering: Mutex<()>,
}

/// Starts the admin thread on bound listeners. It ends when `shutdown` turns true.
pub fn spawn(
    listeners: Vec<StdTcpListener>,
    state: Arc<AdminState>,
    settings: AdminSettings,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(RENDERERS)
        .thread_name("admin-render")
        .build()?;
    let listeners = {
        let _entered = runtime.enter();
        listeners.into_iter().map(TcpListener::from_std).collect::<io::Result<Vec<_>>>()?
    };
    let connections = Connections::new(usize::from(settings.connections));
    let admin = Arc::new(Admin { state, settings, rendering: Mutex::new(()) });
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async {
            for listener in listeners {
                tokio::spawn(accept(listener, Arc::clone(&admin), Arc::clone(&connections)));
            }
            // An error means that the sender is gone: the program is ending as well.
            let _ = shutdown.wait_for(|down| *down).await;
        });
        // Whoever renders for a reader that does not read is not waited for.
        runtime.shutdown_background();
    })
}

async fn accept(listener: TcpListener, admin: Arc<Admin>, connections: Arc<Connections>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let place = connections.enter();
                let task = tokio::spawn(serve(stream, Arc::clone(&admin), Arc::clone(&place)));
                place.belongs_to(task.abort_handle());
            }
            Err(error) => {
                tracing::debug!(%error, "admin connection not accepted");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, admin: Arc<Admin>, place: Arc<Place>) {
    let service = service_fn(|request: Request<Incoming>| {
        let (admin, place) = (&admin, &place);
        async move {
            place.asked();
            let response = answer(admin, place, &request).await;
            if !matches!(response.body(), AdminBody::Parts { .. } | AdminBody::Whole(_, Some(_))) {
                place.answered();
            }
            Ok::<_, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MOST_HEAD_BYTES)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(Impatient::new(stream, WRITE_TIMEOUT)), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin connection failed"),
        Err(_) => tracing::debug!("admin connection ended: it was open for too long"),
    }
}

async fn answer<B>(admin: &Admin, place: &Arc<Place>, request: &Request<B>) -> Response<AdminBody> {
    let Admin { state, settings, .. } = admin;
    let asked_well =
        host::is_allowed(request.uri().authority(), request.headers(), &settings.hosts);
    let path = request.uri().path();
    // Only gateways write it: a route leads here. What is told here is for nobody behind one.
    if request.headers().contains_key("cdn-loop") {
        return text(
            StatusCode::FORBIDDEN,
            "Tidegate's admin port answers to nobody who comes through a gateway.\n",
        );
    }
    // Load balancers probe by whatever name they serve: they are told the status, and nothing else is.
    if !asked_well && !matches!(path, "/livez" | "/readyz") {
        return text(
            StatusCode::MISDIRECTED_REQUEST,
            "Tidegate's admin port answers to addresses, to localhost and to names of Services; \
             allow this name with --admin-host (chart: adminHosts).\n",
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response =
            text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are answered here.\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/livez" => text(StatusCode::OK, "alive\n"),
        "/readyz" if !asked_well => match ready(state).status() {
            StatusCode::OK => text(StatusCode::OK, "ready\n"),
            status => text(status, "not ready\n"),
        },
        "/readyz" => ready(state),
        "/metrics" => match place.large(Instant::now()) {
            Some(right) => metrics(admin, right).await,
            None => busy(),
        },
        "/debug/table" if settings.debug == DebugEndpoints::Off => text(
            StatusCode::NOT_FOUND,
            "/debug/table is off: start with --debug-endpoints (chart: debugEndpoints: true).\n",
        ),
        "/debug/table" => match (Wanted::of(request.uri().query()), place.large(Instant::now())) {
            (Err(message), _) => text(StatusCode::BAD_REQUEST, message),
            (Ok(wanted), Some(right)) => table(admin, wanted, right).await,
            (Ok(_), None) => busy(),
        },
        "/" => text(StatusCode::OK, format!("Tidegate's admin port: {PATHS}\n")),
        _ => text(StatusCode::NOT_FOUND, format!("Not here: {PATHS}\n")),
    }
}

async fn metrics(admin: &Admin, right: Large) -> Response<AdminBody> {
    let _one = admin.rendering.lock().await;
    let state = Arc::clone(&admin.state);
    match tokio::task::spawn_blocking(move || (state.metrics)()).await {
        Ok(rendered) => {
            with_type(METRICS_TYPE, AdminBody::Whole(Some(rendered.into()), Some(right)))
        }
        Err(error) => {
            tracing::error!(%error, "metrics could not be rendered");
            text(StatusCode::INTERNAL_SERVER_ERROR, "The metrics could not be rendered.\n")
        }
    }
}

async fn table(admin: &Admin, wanted: Wanted, right: Large) -> Response<AdminBody> {
    let Some(published) = admin.state.table.load() else {
        return with_type("application/json", AdminBody::Whole(Some("null\n".into()), Some(right)));
    };
    if wanted.names_nobody(&published.table) {
        return text(StatusCode::NOT_FOUND, "No route serves this hostname.\n");
    }
    let _one = admin.rendering.lock().await;
    let page = tokio::task::spawn_blocking(move || Page::of(published, &wanted));
    let Ok(page) = page.await else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "The table could not be rendered.\n");
    };
    let (parts, body) = AdminBody::in_parts(right);
    // It goes on for as long as its reader takes, beside others.
    tokio::task::spawn_blocking(move || {
        page.write(&mut |part: Bytes| parts.blocking_send(part).is_ok());
    });
    with_type("application/json", body)
}

fn ready(state: &AdminState) -> Response<AdminBody> {
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
    let faults = (state.faults)();
    for fault in faults.iter().take(MOST_FAULTS) {
        answer.push_str(&format!("degraded: {}\n", escape::value(fault)));
    }
    if faults.len() > MOST_FAULTS {
        answer.push_str(&format!("degraded: {} more\n", faults.len() - MOST_FAULTS));
    }
    text(status, answer)
}

/// As many large answers as there may be are under way.
fn busy() -> Response<AdminBody> {
    let mut response =
        text(StatusCode::SERVICE_UNAVAILABLE, "Others are reading what is large; ask again.\n");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<AdminBody> {
    let mut response =
        with_type("text/plain; charset=utf-8", AdminBody::Whole(Some(body.into()), None));
    *response.status_mut() = status;
    response
}

fn with_type(kind: &'static str, body: AdminBody) -> Response<AdminBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
