//! A stand-in for the Kubernetes API server that can be made to fail as a real one only does in the worst of nights: lists,
//! watches, server-side apply of statuses, Leases and Events, over plain HTTP, as much of them as Tidegate asks for.
//!
//! What it cannot show is what the real one decides: ownership of fields, validation, RBAC. tests/e2e is for that.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::program::DEADLINE;

/// Kind of object, namespace, name.
type Key = (String, String, String);

/// What is answered instead of what was asked for.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, with the seconds that the client is asked to wait, if any.
    Status(u16, &'static str, Option<u32>),
    /// Nothing at all, while it lasts.
    Hang,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub path: String,
    pub body: Value,
    pub at: Instant,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Key, Value>,
    /// Kind, type of event, object; in the order of their versions.
    history: Vec<(String, u64, &'static str, Value)>,
    /// Versions below this one can no longer be watched from.
    forgotten: u64,
    /// By a part of the path.
    faults: BTreeMap<String, Fault>,
    asked: Vec<Asked>,
    /// How often all watches have been cut.
    cuts: u64,
}

/// The server; it ends with the test.
#[derive(Clone)]
pub struct ApiServer {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
    folder: Arc<tempfile::TempDir>,
}

impl ApiServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let server = Self { address, state: Arc::default(), folder };
        let serving = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                // A client that has left is no fault of the test.
                thread::spawn(move || drop(serving.serve(stream)));
            }
        });
        server
    }

    /// A kubeconfig that leads here, as a user with the token of `token`, a file beside it.
    pub fn kubeconfig(&self) -> PathBuf {
        let path = self.folder.path().join("kubeconfig");
        let cluster =
            json!({ "name": "c", "cluster": { "server": format!("http://{}", self.address) } });
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [cluster],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u", "namespace": "home" } }],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    /// Creates an object, or replaces it.
    pub fn apply(&self, plural: &str, mut object: Value) {
        let key = key(plural, &object);
        let mut state = self.lock();
        let old = state.objects.get(&key);
        let generation = old.map_or(1, |old| {
            let before = old["metadata"]["generation"].as_i64().unwrap();
            before + i64::from(old["spec"] != object["spec"])
        });
        object["metadata"]["generation"] = generation.into();
        object["metadata"]["uid"] = format!("{}-{}", key.1, key.2).into();
        if let Some(old) = old.filter(|_| object["status"].is_null()) {
            object["status"] = old["status"].clone();
            object["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
        }
        let change = if old.is_some() { "MODIFIED" } else { "ADDED" };
        state.store(key, change, object);
        drop(state);
        self.state.1.notify_all();
    }

    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let mut state = self.lock();
        let object = state.objects.get(&key).cloned().expect("it is there");
        state.store(key.clone(), "DELETED", object);
        state.objects.remove(&key);
        drop(state);
        self.state.1.notify_all();
    }

    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.lock().objects.get(&key).cloned()
    }

    /// Every object of a kind.
    pub fn all(&self, plural: &str) -> Vec<Value> {
        let state = self.lock();
        let of_kind = state.objects.iter().filter(|((kind, ..), _)| kind == plural);
        of_kind.map(|(_, object)| object.clone()).collect()
    }

    /// From now on requests with this in their path are answered like this. Watches go on: cut them.
    pub fn fail(&self, part: &str, fault: Fault) {
        self.lock().faults.insert(part.to_owned(), fault);
    }

    pub fn mend(&self) {
        self.lock().faults.clear();
        self.state.1.notify_all();
    }

    /// Cuts every watch in the middle of an object.
    pub fn cut_watches(&self) {
        self.lock().cuts += 1;
        self.state.1.notify_all();
    }

    /// Forgets all versions so far: who watches from one of them is told 410.
    pub fn forget_history(&self) {
        let mut state = self.lock();
        state.version += 1;
        state.forgotten = state.version;
    }

    /// The requests so far that have this in their path.
    pub fn asked(&self, part: &str) -> Vec<Asked> {
        self.lock().asked.iter().filter(|asked| asked.path.contains(part)).cloned().collect()
    }

    /// Waits until the server's state is as it should be; `look` says what is missing.
    pub fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let state = self.lock();
            if Instant::now() > end {
                let asked =
                    state.asked.iter().map(|asked| format!("{} {}", asked.method, asked.path));
                let asked: Vec<_> = asked.collect();
                drop(state);
                let last = &asked[asked.len().saturating_sub(30)..];
                panic!("{what}: never; the last requests: {last:#?}");
            }
            drop(self.state.1.wait_timeout(state, Duration::from_millis(20)).unwrap());
        }
    }

    /// The status of a route, once its Programmed condition speaks of the newest spec.
    pub fn status_of(&self, namespace: &str, name: &str) -> Value {
        self.until("the status is written", |server| {
            let route = server.get("websocketroutes", namespace, name)?;
            let status = route["status"].clone();
            (status["observedGeneration"] == route["metadata"]["generation"]).then_some(status)
        })
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some((method, path, body)) = request(&mut reader)? {
            let asked = Asked { method, path, body, at: Instant::now() };
            let mut state = self.lock();
            state.asked.push(asked.clone());
            let target = Target::of(&asked.path);
            let fault = |state: &State| {
                let mut faults = state.faults.iter();
                faults.find(|(part, _)| asked.path.contains(*part)).map(|(_, fault)| fault.clone())
            };
            while let Some(Fault::Hang) = fault(&state) {
                state = self.state.1.wait(state).unwrap();
            }
            if let Some(Fault::Status(code, message, retry)) = fault(&state) {
                drop(state);
                answer(&mut stream, code, &failure(code, message, retry))?;
                continue;
            }
            if target.query("watch") == Some("true") {
                return self.watch(&mut stream, &target, state);
            }
            let (code, object) = state.answer(&asked, &target);
            drop(state);
            self.state.1.notify_all();
            answer(&mut stream, code, &object)?;
        }
        Ok(())
    }

    fn watch<'s>(
        &'s self,
        stream: &mut TcpStream,
        target: &Target,
        mut state: MutexGuard<'s, State>,
    ) -> std::io::Result<()> {
        let mut seen: u64 =
            target.query("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
        let seconds = target.query("timeoutSeconds").and_then(|v| v.parse().ok()).unwrap_or(60);
        let (end, cuts) = (Instant::now() + Duration::from_secs(seconds), state.cuts);
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )?;
        if seen < state.forgotten {
            let gone = failure(410, "too old resource version", None);
            chunk(stream, &format!("{}\n", json!({ "type": "ERROR", "object": gone })))?;
            return stream.write_all(b"0\r\n\r\n");
        }
        loop {
            let news: Vec<_> = state
                .history
                .iter()
                .filter(|(kind, version, _, object)| {
                    *kind == target.plural && *version > seen && target.has(object)
                })
                .map(|(_, _, change, object)| json!({ "type": change, "object": object }))
                .collect();
            seen = state.version;
            if state.cuts > cuts {
                drop(state);
                chunk(stream, "{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"na")?;
                return stream.shutdown(std::net::Shutdown::Both);
            }
            drop(state);
            for event in news {
                chunk(stream, &format!("{event}\n"))?;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return stream.write_all(b"0\r\n\r\n");
            }
            state = self.lock();
            if state.version == seen && state.cuts == cuts {
                state = self.state.1.wait_timeout(state, left).unwrap().0;
            }
        }
    }
}

impl State {
    fn store(&mut self, key: Key, change: &'static str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.history.push((key.0.clone(), self.version, change, object.clone()));
        self.objects.insert(key, object);
    }

    /// What is not a watch.
    fn answer(&mut self, asked: &Asked, target: &Target) -> (u16, Value) {
        let Some(name) = &target.name else {
            if asked.method == "POST" {
                let mut body = asked.body.clone();
                body["metadata"]["namespace"] = target.namespace.clone().into();
                let key = key(&target.plural, &body);
                if self.objects.contains_key(&key) {
                    return (409, failure(409, "it exists", None));
                }
                self.store(key.clone(), "ADDED", body);
                return (201, self.objects[&key].clone());
            }
            let items: Vec<_> = self
                .objects
                .iter()
                .filter(|((kind, ..), object)| *kind == target.plural && target.has(object))
                .map(|(_, object)| object)
                .collect();
            let list = json!({
                "kind": "List", "apiVersion": "v1",
                "metadata": { "resourceVersion": self.version.to_string() }, "items": items,
            });
            return (200, list);
        };
        let key =
            (target.plural.clone(), target.namespace.clone().unwrap_or_default(), name.clone());
        let Some(mut object) = self.objects.get(&key).cloned() else {
            return (404, failure(404, "not found", None));
        };
        match asked.method.as_str() {
            "GET" => {}
            "PUT"
                if asked.body["metadata"]["resourceVersion"]
                    != object["metadata"]["resourceVersion"] =>
            {
                return (409, failure(409, "it has changed", None));
            }
            "PUT" => object = asked.body.clone(),
            // Server-side apply by one manager: its fields are what it says.
            "PATCH" if asked.path.contains("/status?") => {
                if asked.body["metadata"]["uid"] != object["metadata"]["uid"] {
                    return (409, failure(409, "another uid", None));
                }
                let manager = target.query("fieldManager").unwrap().replace("%2F", "/");
                object["status"] = asked.body["status"].clone();
                object["metadata"]["managedFields"] = match object["status"].is_null() {
                    true => Value::Null,
                    false => json!([{
                        "manager": manager, "operation": "Apply", "subresource": "status",
                        "apiVersion": "tidegate.io/v1alpha1", "fieldsType": "FieldsV1", "fieldsV1": {},
                    }]),
                };
            }
            "PATCH" => {
                for (field, value) in asked.body.as_object().unwrap() {
                    object[field] = value.clone();
                }
            }
            other => panic!("{other} {}", asked.path),
        }
        if asked.method != "GET" {
            self.store(key.clone(), "MODIFIED", object);
        }
        (200, self.objects[&key].clone())
    }
}

/// What a path asks for: `/api/v1/…` or `/apis/GROUP/VERSION/…`.
struct Target {
    plural: String,
    namespace: Option<String>,
    name: Option<String>,
    query: Vec<(String, String)>,
}

impl Target {
    fn of(path: &str) -> Self {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let skipped = if parts.next() == Some("api") { 1 } else { 2 };
        let mut rest = parts.skip(skipped).map(str::to_owned).peekable();
        let of_one = rest.next_if(|part| part == "namespaces");
        let namespace = of_one.as_ref().and_then(|_| rest.next());
        // Without a name behind it the word is the kind itself.
        let plural = if namespace.is_none() { of_one } else { None };
        let query = query.split('&').filter_map(|pair| pair.split_once('='));
        Self {
            plural: plural.or_else(|| rest.next()).unwrap_or_default(),
            namespace,
            name: rest.next(),
            query: query.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }
    }

    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether an object of the kind is asked for: by namespace, and by name where the field selector has one.
    fn has(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let by_name = self.query("fieldSelector").and_then(|s| s.strip_prefix("metadata.name%3D"));
        self.namespace.as_ref().is_none_or(|namespace| metadata["namespace"] == **namespace)
            && by_name.is_none_or(|name| metadata["name"] == *name)
    }
}

fn key(plural: &str, object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (plural.to_owned(), text("namespace"), text("name"))
}

fn failure(code: u16, message: &str, retry: Option<u32>) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
        "details": { "retryAfterSeconds": retry.unwrap_or(0) },
    })
}

/// The next request; `None` where the client has left.
fn request(reader: &mut impl BufRead) -> std::io::Result<Option<(String, String, Value)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((method, path, serde_json::from_slice(&body).unwrap_or_default())))
}

fn answer(stream: &mut TcpStream, code: u16, object: &Value) -> std::io::Result<()> {
    let body = object.to_string();
    let retry = match object["details"]["retryAfterSeconds"].as_u64() {
        Some(seconds) if code == 429 => format!("Retry-After: {seconds}\r\n"),
        _ => String::new(),
    };
    write!(
        stream,
        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\n{retry}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn chunk(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n{text}\r\n", text.len())
}
