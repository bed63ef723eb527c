//! A real Prometheus scrapes what the chart tells it to, and answers what the dashboard asks.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    App, CHART, Client, ROOT, Release, eventually, expect_eq, get, helm, objects, url_encoded,
    wait_until,
};

/// The window of rates, for Grafana's $__rate_interval.
const WINDOW: &str = "15s";
/// Panels that stay empty as long as all is well. All others must show something.
const MAY_BE_EMPTY: [&str; 1] = ["Accept errors by reason"];

/// A Prometheus that ends with the test.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes what the chart's ServiceMonitor selects, the way Prometheus Operator would.
    fn start(release: &Release) -> Self {
        let folder = TempDir::new().expect("a folder can be made");
        let config = folder.path().join("prometheus.yaml");
        fs::write(&config, scrape_config(release).to_string()).expect("a file can be written");
        let log = File::create(folder.path().join("log")).expect("a file can be made");
        // Free now; nobody else in this network namespace asks for ports.
        let free =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let address = free.expect("a port is free");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stderr(log.try_clone().expect("a file can be shared"))
            .stdout(log)
            .spawn()
            .expect("tests/chart/setup brings prometheus");
        let prometheus = Self { process, address, folder };
        eventually("Prometheus is ready", 30, || {
            let (status, text) = get(address, "/-/ready")?;
            expect_eq(&status, &200).map_err(|_| text)
        });
        prometheus
    }

    /// The result of a query.
    fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let path = format!("/api/v1/query?query={}", url_encoded(expression));
        let (status, text) = get(self.address, &path)?;
        let answer: Value =
            serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        match (status, answer["data"]["result"].as_array()) {
            (200, Some(result)) => Ok(result.clone()),
            _ => Err(format!("{expression}: {status} {text}")),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("---- Prometheus' log\n{log}");
        }
    }
}

/// What the chart's ServiceMonitor selects, as Prometheus Operator would have it scraped: the endpoints of the
/// Services with its labels, at the port of its name. (Debian's Prometheus cannot look for itself.) JSON is YAML.
fn scrape_config(release: &Release) -> Value {
    let text = helm(&[
        "template",
        &release.name,
        CHART,
        "--namespace",
        &release.namespace,
        "--set=metrics.serviceMonitor.enabled=true",
        "--show-only=templates/servicemonitor.yaml",
    ]);
    let monitor: Value = serde_saphyr::from_str(&text).expect("helm renders YAML");
    let endpoint = &monitor["spec"]["endpoints"][0];
    let labels = monitor["spec"]["selector"]["matchLabels"].as_object().expect("it has labels");
    let selector: Vec<_> = labels
        .iter()
        .map(|(label, value)| format!("{label}={}", value.as_str().unwrap_or_default()))
        .collect();
    let namespaces = &monitor["spec"]["namespaceSelector"]["matchNames"];
    assert_eq!(*namespaces, json!([release.namespace]));
    let list = |arguments: &[&str]| -> Vec<Value> {
        let text = release.kubectl(&[&["get", "--output=json"], arguments].concat());
        let list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
        list["items"].as_array().cloned().unwrap_or_default()
    };
    let services = list(&["services", "--selector", &selector.join(",")]);
    let [service] = services.as_slice() else { panic!("it selects {services:#?}") };
    let service = service["metadata"]["name"].as_str().unwrap_or_default();
    let slices =
        list(&["endpointslices", &format!("--selector=kubernetes.io/service-name={service}")]);
    let mut targets = Vec::new();
    for slice in &slices {
        let ports = slice["ports"].as_array().into_iter().flatten();
        for port in ports.filter(|port| port["name"] == endpoint["port"]) {
            for pod in slice["endpoints"].as_array().into_iter().flatten() {
                let address = pod["addresses"][0].as_str().unwrap_or_default();
                targets.push(json!({
                    "targets": [format!("{address}:{}", port["port"])],
                    "labels": {
                        "namespace": release.namespace,
                        "service": service,
                        "pod": pod["targetRef"]["name"],
                    },
                }));
            }
        }
    }
    json!({
        "global": { "scrape_interval": "1s" },
        "scrape_configs": [{
            "job_name": "tidegate",
            "metrics_path": endpoint["path"],
            "honor_labels": endpoint["honorLabels"],
            "static_configs": targets,
        }],
    })
}

/// What is left of an upgrade behind a proxy that knows none.
const STRIPPED: &str =
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

#[test]
fn every_panel_of_the_dashboard_has_an_answer() {
    let release = Release::shared();
    let prometheus = Prometheus::start(&release);
    let app = App::prepare("dashboard", 1);
    let mut route = objects::route("chat", &app.client.host);
    route["spec"]["rules"][0]["http"] = "Forward".into();
    route["spec"]["rules"][0]["keepalive"] = json!({ "clientPing": "1s" });
    let mut nobody = route["spec"]["rules"][0].clone();
    nobody["matches"] = json!([{ "path": { "value": "/nobody" } }]);
    nobody["backendRefs"][0]["name"] = "nobody".into();
    route["spec"]["rules"].as_array_mut().expect("a list").push(nobody);
    app.namespace.apply(&[&objects::service("nobody"), &route]);
    app.wait_until_served(&release);
    eventually("both replicas are scraped", 30, || {
        let up = prometheus.query("up{job=\"tidegate\"} == 1")?;
        expect_eq(&up.len(), &2)
    });

    let text = fs::read_to_string(format!("{ROOT}/dashboards/tidegate.json"));
    let dashboard: Value = serde_json::from_str(&text.expect("it is there")).expect("it is JSON");
    let panels: Vec<(String, String)> = dashboard["panels"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|panel| {
            panel["targets"].as_array().into_iter().flatten().map(move |target| (panel, target))
        })
        .filter_map(|(panel, target)| Some((panel["title"].as_str()?, target["expr"].as_str()?)))
        .map(|(title, expression)| {
            let expression = expression
                .replace("$__rate_interval", WINDOW)
                .replace("$namespace", &app.namespace.name)
                .replace("$route", "chat");
            (title.to_owned(), expression)
        })
        .collect();
    assert!(panels.len() > 20, "{panels:?}");

    // One of everything on each replica, again and again: rates are made of two scrapes at least.
    let mut held: Vec<_> = release.pods().iter().map(|pod| app.open(pod.https())).collect();
    let stranger = Client::trusting_anyone(&app.namespace.host("stranger"));
    let misplaced = Client::new(&stranger.host, app.authority.client_config());
    eventually("all panels show something", 60, || {
        for pod in release.pods() {
            app.open(pod.https()).echo("opened, and closed");
            expect_eq(&app.client.get(pod.https())?.0, &200)?;
            expect_eq(&app.client.get_with(pod.https(), STRIPPED)?.0, &426)?;
            expect_eq(
                &app.client.at("/nobody").refused(pod.https())?.reason.as_str(),
                &"no_endpoints",
            )?;
            stranger.refused(pod.https())?;
            // It ends the handshake, as it does not trust what it is shown.
            misplaced.open(pod.https()).err().ok_or("it was trusted")?;
        }
        // Long enough for a ping; what answers it is the next read.
        wait_until(Instant::now() + Duration::from_millis(1100));
        held.iter_mut().for_each(|socket| socket.echo("hello"));
        let mut empty = Vec::new();
        for (title, expression) in &panels {
            let result = prometheus.query(expression)?;
            let numbers = result.iter().filter(|sample| sample["value"][1] != "NaN");
            if numbers.count() == 0 && !MAY_BE_EMPTY.contains(&title.as_str()) {
                empty.push(format!("{title}: {expression}"));
            }
        }
        if empty.is_empty() { Ok(()) } else { Err(format!("nothing in {empty:#?}")) }
    });

    // What is shown is what is so.
    eventually("the number of open connections is right", 15, || {
        let name = &app.namespace.name;
        let open =
            prometheus.query(&format!("sum(tidegate_connections_open{{namespace=\"{name}\"}})"))?;
        expect_eq(&open[0]["value"][1], &json!("2"))
    });
    held.pop()
        .expect("there are two")
        .read_to_end(Duration::from_millis(1))
        .expect_err("it is open");
}
