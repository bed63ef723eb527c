//! A namespace for one test, and what it holds.

use serde_json::{Value, json};

use super::{
    poll::eventually,
    tools::{kubectl, try_kubectl},
};

/// A namespace that ends with the test. When the test fails it tells what was in it.
pub struct Namespace {
    pub name: String,
}

/// A condition of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    pub status: String,
    pub reason: String,
    pub message: String,
    pub observed_generation: i64,
}

impl Namespace {
    /// Creates one whose name begins with `label`. Its pods are held to the Pod Security Standard "restricted".
    pub fn new(label: &str) -> Self {
        let name = format!("{label}-{:06x}", fastrand::u32(..1 << 24));
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": { "pod-security.kubernetes.io/enforce": "restricted" },
            },
        });
        try_kubectl(&["create", "--filename=-"], Some(&namespace.to_string()))
            .unwrap_or_else(|error| panic!("{error}"));
        Self { name }
    }

    /// A hostname that no other test uses.
    pub fn host(&self, first: &str) -> String {
        format!("{first}.{}.test", self.name)
    }

    /// Runs kubectl in this namespace, which must succeed.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["--namespace", &self.name], arguments].concat())
    }

    /// `kubectl apply`, which must succeed.
    #[track_caller]
    pub fn apply(&self, objects: &[&Value]) {
        if let Err(error) = self.try_apply(objects) {
            panic!("{error}");
        }
    }

    /// `kubectl apply`.
    pub fn try_apply(&self, objects: &[&Value]) -> Result<String, String> {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let arguments = ["--namespace", &self.name, "apply", "--filename=-"];
        try_kubectl(&arguments, Some(&list.to_string()))
    }

    /// Deletes and waits until it is gone.
    #[track_caller]
    pub fn delete(&self, what: &str) {
        self.kubectl(&["delete", "--wait", "--timeout=30s", what]);
    }

    /// An object, such as `wsr/chat`.
    #[track_caller]
    pub fn get(&self, what: &str) -> Value {
        let text = self.kubectl(&["get", what, "--output=json"]);
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// `kubectl wait` until the condition is true.
    #[track_caller]
    pub fn wait_for(&self, condition: &str, what: &str) {
        self.kubectl(&["wait", &format!("--for=condition={condition}"), "--timeout=30s", what]);
    }

    /// Waits until a Deployment has all its pods ready.
    #[track_caller]
    pub fn wait_for_rollout(&self, deployment: &str) {
        self.kubectl(&["rollout", "status", "--timeout=60s", &format!("deployment/{deployment}")]);
    }

    /// The names of the pods of an app that are not on their way out.
    pub fn pods(&self, app: &str) -> Vec<String> {
        let text =
            self.kubectl(&["get", "pods", &format!("--selector=app={app}"), "--output=json"]);
        let list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
        let pods = list["items"].as_array().into_iter().flatten();
        pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
            .collect()
    }

    /// A route's condition, if it has it.
    #[track_caller]
    pub fn condition(&self, route: &str, kind: &str) -> Option<Condition> {
        self.try_condition(route, kind).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_condition(&self, route: &str, kind: &str) -> Result<Option<Condition>, String> {
        let name = format!("wsr/{route}");
        let arguments = ["--namespace", &self.name, "get", &name, "--output=json"];
        let text = try_kubectl(&arguments, None)?;
        let object: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
        let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let found = conditions.find(|condition| condition["type"] == kind);
        Ok(found.map(|found| {
            let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
            Condition {
                status: text("status"),
                reason: text("reason"),
                message: text("message"),
                observed_generation: found["observedGeneration"].as_i64().unwrap_or_default(),
            }
        }))
    }

    /// Waits until a condition has this status and reason. Its message.
    #[track_caller]
    pub fn eventually(&self, route: &str, kind: &str, status: &str, reason: &str) -> String {
        eventually(&format!("{kind} of {route} is {status}, {reason}"), 20, || {
            let found = self.try_condition(route, kind)?.unwrap_or_default();
            if found.status == status && found.reason == reason {
                Ok(found.message)
            } else {
                Err(format!("{found:?}"))
            }
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let namespace = ["--namespace", self.name.as_str()];
        if std::thread::panicking() {
            for what in [
                &["get", "wsr", "--output=yaml"][..],
                &["get", "pods,services,endpointslices", "--output=wide"],
                &["get", "events", "--sort-by=.lastTimestamp"],
            ] {
                let said = try_kubectl(&[&namespace, what].concat(), None);
                eprintln!(
                    "---- kubectl {} in {}\n{}",
                    what.join(" "),
                    self.name,
                    said.unwrap_or_else(|error| error)
                );
            }
        }
        let delete = ["delete", "namespace", &self.name, "--wait=false"];
        if let Err(error) = try_kubectl(&delete, None) {
            eprintln!("{error}");
        }
    }
}
