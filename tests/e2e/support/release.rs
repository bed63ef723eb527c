//! The chart, installed.

use std::{
    collections::BTreeSet,
    fs::File,
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    http,
    metrics::Metrics,
    namespace::Namespace,
    poll::eventually,
    tools::{CHART, helm, kubectl, try_helm, try_kubectl},
};

/// Where the shared installation lives.
const SHARED: &str = "tidegate-system";

/// An installation of the chart: two replicas of the image under test, with the chart's own RBAC.
pub struct Release {
    pub name: String,
    pub namespace: String,
    pub class: String,
    /// Ends with the test, for a release of the test's own.
    own: Option<Namespace>,
}

/// One replica.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub address: IpAddr,
    pub node: String,
    pub restarts: i64,
}

impl Pod {
    /// Its port for wss://.
    pub fn https(&self) -> SocketAddr {
        (self.address, 8443).into()
    }

    /// Its admin port.
    pub fn admin(&self) -> SocketAddr {
        (self.address, 9090).into()
    }

    /// What it counts.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        match http::get(self.admin(), "/metrics") {
            Ok((200, text)) => Metrics::new(text),
            other => panic!("{}: {other:?}", self.name),
        }
    }
}

impl Release {
    /// The installation that tests share; the first test installs it.
    #[track_caller]
    pub fn shared() -> Self {
        let release = Self {
            name: "tidegate".into(),
            namespace: SHARED.into(),
            class: "tidegate".into(),
            own: None,
        };
        // Tests are processes, side by side.
        let state = std::env::var_os("TIDEGATE_E2E_STATE");
        let state = state.expect("these tests are started by tests/e2e/run");
        let lock = File::create(std::path::Path::new(&state).join("e2e.lock"));
        let lock = lock.expect("files can be made in the cluster's state");
        lock.lock().expect("files can be locked");
        release.install_shared_unless_there();
        release
    }

    #[track_caller]
    fn install_shared_unless_there(&self) {
        let found = helm(&["list", "--namespace", SHARED, "--output=json"]);
        let found: Value = serde_json::from_str(&found).expect("helm prints JSON");
        match found[0]["status"].as_str() {
            Some("deployed") => return,
            // Every test would wait for the same in vain.
            Some(status) => panic!(
                "the shared installation is {status}: the first test that failed tells why; to try again, \
                 helm uninstall {} --namespace {SHARED}",
                self.name
            ),
            None => {}
        }
        // For pods of this namespace the API server enforces the Pod Security Standard "restricted".
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": SHARED,
                "labels": {
                    "pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/warn": "restricted",
                },
            },
        });
        try_kubectl(&["apply", "--filename=-"], Some(&namespace.to_string()))
            .unwrap_or_else(|error| panic!("{error}"));
        self.install(&[]);
    }

    /// An installation of the test's own, for a class of its own, reached from inside of the cluster only. `--wait`
    /// is for the caller to give.
    #[track_caller]
    pub fn own(label: &str, values: &[&str]) -> Self {
        // It has brought the CRD.
        Self::shared();
        let namespace = Namespace::new(label);
        let release = Self {
            name: format!("tidegate-{label}"),
            namespace: namespace.name.clone(),
            class: namespace.name.clone(),
            own: Some(namespace),
        };
        release.helm("install", values);
        release
    }

    /// `helm install --wait`, then waits until clients reach it.
    #[track_caller]
    pub fn install(&self, values: &[&str]) {
        self.helm("install", &[&["--wait"], values].concat());
        let address = self.load_balancer();
        eventually(&format!("{address} takes connections"), 20, || {
            let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1));
            stream.map(|_| ()).map_err(|error| error.to_string())
        });
    }

    /// `helm install` or `helm upgrade` with the image under test.
    #[track_caller]
    pub fn helm(&self, action: &str, values: &[&str]) {
        let class = format!("--set=class={}", self.class);
        let mut arguments = vec![
            action,
            &self.name,
            CHART,
            "--namespace",
            &self.namespace,
            "--timeout=60s",
            "--set=image.repository=docker.io/library/tidegate,image.tag=test,image.pullPolicy=Never",
            // Nothing is served that takes longer to say goodbye to.
            "--set=drain.delay=1s,drain.spread=1s,drain.timeout=5s,debugEndpoints=true",
            &class,
        ];
        if self.own.is_some() {
            arguments.push("--set=crds.install=false,service.type=ClusterIP");
        }
        arguments.extend(values);
        helm(&arguments);
    }

    /// `helm uninstall`.
    #[track_caller]
    pub fn uninstall(&self) {
        helm(&["uninstall", &self.name, "--namespace", &self.namespace, "--wait", "--timeout=60s"]);
    }

    /// Runs kubectl in its namespace, which must succeed.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["--namespace", &self.namespace], arguments].concat())
    }

    /// The running replicas that are not on their way out.
    #[track_caller]
    pub fn pods(&self) -> Vec<Pod> {
        let selector = format!("--selector=app.kubernetes.io/instance={}", self.name);
        let text = self.kubectl(&["get", "pods", &selector, "--output=json"]);
        let list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
        let pods = list["items"].as_array().into_iter().flatten();
        pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .filter_map(|pod| {
                Some(Pod {
                    name: pod["metadata"]["name"].as_str()?.to_owned(),
                    address: pod["status"]["podIP"].as_str()?.parse().ok()?,
                    node: pod["spec"]["nodeName"].as_str()?.to_owned(),
                    restarts: pod["status"]["containerStatuses"][0]["restartCount"].as_i64()?,
                })
            })
            .collect()
    }

    /// Panics if one of these replicas has gone, or was started again, since they looked like this.
    #[track_caller]
    pub fn expect_not_restarted(&self, before: &[Pod]) {
        let after = self.pods();
        for pod in before {
            let now = after.iter().find(|other| other.name == pod.name);
            assert_eq!(now.map(|now| now.restarts), Some(pod.restarts), "{after:?}");
        }
    }

    /// The address that clients outside of the cluster use.
    #[track_caller]
    pub fn load_balancer(&self) -> SocketAddr {
        let address = eventually("the Service has an external address", 20, || {
            let path = "--output=jsonpath={.status.loadBalancer.ingress[0].ip}";
            let text = self.kubectl(&["get", "service", &self.name, path]);
            text.parse::<IpAddr>().map_err(|_| format!("{text:?}"))
        });
        (address, 443).into()
    }

    /// The address of a Service inside of the cluster.
    #[track_caller]
    pub fn cluster_ip(&self, service: &str) -> IpAddr {
        let text =
            self.kubectl(&["get", "service", service, "--output=jsonpath={.spec.clusterIP}"]);
        text.parse().unwrap_or_else(|_| panic!("{service} has the address {text:?}"))
    }

    /// The sum over all replicas of a metric.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.pods().iter().filter_map(|pod| pod.metrics().sum(name, labels)).sum()
    }

    /// The names of its pods, also of those on their way out.
    #[track_caller]
    pub fn pods_left(&self) -> Vec<String> {
        let selector = format!("--selector=app.kubernetes.io/instance={}", self.name);
        let names = self.kubectl(&["get", "pods", &selector, "--output=name"]);
        names.lines().map(|name| name.trim_start_matches("pod/").to_owned()).collect()
    }

    /// The log of every replica.
    pub fn log(&self) -> String {
        let selector = format!("--selector=app.kubernetes.io/instance={}", self.name);
        self.kubectl(&["logs", &selector, "--tail=-1", "--prefix"])
    }

    /// The spec of the Lease.
    pub fn lease(&self) -> Result<Value, String> {
        let lease = format!("lease/tidegate-{}", self.class);
        let arguments = ["--namespace", &self.namespace, "get", &lease, "--output=json"];
        let text = try_kubectl(&arguments, None)?;
        let mut lease: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        Ok(lease["spec"].take())
    }

    /// The name of the replica that holds the Lease.
    pub fn lease_holder(&self) -> Result<String, String> {
        let holder = self.lease()?["holderIdentity"].as_str().unwrap_or_default().to_owned();
        let pods: BTreeSet<_> = self.pods().into_iter().map(|pod| pod.name).collect();
        if pods.contains(&holder) {
            Ok(holder)
        } else {
            Err(format!("the Lease is held by {holder:?}, the replicas are {pods:?}"))
        }
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let selector = format!("--selector=app.kubernetes.io/instance={}", self.name);
            for what in [
                &["get", "pods", "--output=wide"][..],
                &["logs", &selector, "--tail=40", "--prefix"],
            ] {
                let said = try_kubectl(&[&["--namespace", &self.namespace], what].concat(), None);
                eprintln!("---- {}\n{}", what.join(" "), said.unwrap_or_else(|error| error));
            }
        }
        if self.own.is_some() {
            // Not all of it is in the namespace.
            let uninstall =
                ["uninstall", &self.name, "--namespace", &self.namespace, "--ignore-not-found"];
            if let Err(error) = try_helm(&uninstall) {
                eprintln!("{error}");
            }
        }
    }
}
