//! The API server or etcd is killed, the CRD is deleted: whoever is connected does not notice.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::await_readiness;
use crate::support::{
    App, Arrivals, Crowd, Manner, Part, Pod, Release, eventually, expect_eq, get, kubectl, objects,
    setting, try_kubectl,
};

/// What a replica follows in any case.
const KINDS: [&str; 5] = ["websocketroutes", "secrets", "configmaps", "services", "endpointslices"];

/// A route that nobody touches, with a crowd on both replicas.
struct Bystanders {
    release: Release,
    replicas: Vec<Pod>,
    app: App,
    crowd: Crowd,
}

impl Bystanders {
    const MEMBERS: usize = 100;

    #[track_caller]
    fn gather(label: &str) -> Self {
        let release = Release::shared();
        let replicas = release.pods();
        let app = App::start(&release, label, 2);
        let crowd =
            Crowd::gather(&app.client, &[release.load_balancer()], Self::MEMBERS, Manner::STAYS);
        Self { release, replicas, app, crowd }
    }

    /// New ones at each replica.
    fn arrivals(&self) -> Arrivals {
        let to: Vec<_> = self.replicas.iter().map(Pod::https).collect();
        Arrivals::begin(&self.app.client, &to)
    }

    /// How many replicas follow this kind of object.
    fn following(&self, kind: &str) -> usize {
        let labels = [("kind", kind)];
        let synced = |pod: &&Pod| pod.metrics().sum("tidegate_source_synced", &labels) == Some(1.0);
        self.replicas.iter().filter(synced).count()
    }

    /// A route of this name beside the one that nobody touches gets the status that it should have, and that one keeps
    /// its own.
    #[track_caller]
    fn expect_right_statuses(&self, name: &str) {
        let namespace = &self.app.namespace;
        let mut route = objects::route(name, &namespace.host(name));
        // The parts of the API server find back one after the other.
        eventually("a route is taken", 20, || namespace.try_apply(&[&route]));
        let told = namespace.eventually(name, "ResolvedRefs", "False", "InvalidCertificateRef");
        assert!(told.contains(&format!("{name}-tls")), "{told}");
        route["spec"]["tls"]["secretName"] = "chat-tls".into();
        route["spec"]["hostnames"] = json!([self.app.client.host]);
        route["spec"]["rules"][0]["matches"] = json!([{ "path": { "value": format!("/{name}") } }]);
        route["spec"]["rules"][0]["backendRefs"][0]["name"] = "chat".into();
        namespace.apply(&[&route]);
        namespace.eventually(name, "Programmed", "True", "Programmed");
        let found = namespace.condition(name, "Programmed").expect("it was waited for");
        assert_eq!(found.observed_generation, 2);
        let untouched = namespace.condition("chat", "Programmed").expect("it has been written");
        assert_eq!((untouched.status.as_str(), untouched.observed_generation), ("True", 1));
    }

    /// Kills a part of the control plane, has it away for a while, and waits until all follow it again.
    #[track_caller]
    fn live_without(&self, part: &str) {
        let outage = Duration::from_secs(setting("TIDEGATE_E2E_OUTAGE", 20));
        let address = self.release.load_balancer();
        let leading = || -> f64 {
            let each = self.replicas.iter();
            each.filter_map(|pod| pod.metrics().sum("tidegate_leader", &[])).sum()
        };
        eventually("one leads", 30, || expect_eq(&leading(), &1.0));
        await_readiness(&["nodes"]);
        eventually("the load balancer has found them", 20, || {
            Ok(self.app.client.open(address).map(|_| ())?)
        });
        // One that elects its leader ends as well, with its Lease. This one would take the nodes for dead afterwards, until it
        // has read their Leases again: its pauses between two tries grow to a minute.
        let manager = Part::stop("kube-controller-manager");
        let stopped = Part::stop(part);
        let begin = Instant::now();
        try_kubectl(&["get", "nodes", "--request-timeout=2s"], None).expect_err("it is away");
        while begin.elapsed() < outage {
            self.app.open(address).echo("new, through the load balancer");
            for replica in &self.replicas {
                let (status, text) = get(replica.admin(), "/readyz").expect("it answers");
                assert_eq!(status, 200, "{text}");
            }
        }
        assert_eq!(leading(), 0.0, "who cannot renew the Lease does not lead");
        stopped.start();
        manager.start();
        let back = Instant::now();
        // The pauses between two tries have grown to 15 s.
        eventually("one leads again", 30, || expect_eq(&leading(), &1.0));
        eventually("both follow all kinds", 40, || {
            expect_eq(&KINDS.map(|kind| self.following(kind)), &[2; KINDS.len()])
        });
        eprintln!("{part} was away for {outage:?}; all was read {:?} after it", back.elapsed());
    }

    /// They have lost nothing, and still talk.
    #[track_caller]
    fn expect_unharmed(self) {
        self.release.expect_not_restarted(&self.replicas);
        assert_eq!(self.crowd.open(), Self::MEMBERS);
        let chronicle = self.crowd.disperse();
        eprintln!("{}", chronicle.summary());
        chronicle.expect_unharmed();
        assert_eq!(chronicle.sent, chronicle.back);
        assert!(chronicle.back > Self::MEMBERS as u64, "hardly anything was said");
    }
}

/// While a part of the control plane is away, longer than the leader's deadline to renew its Lease, sockets exchange
/// messages, new ones are opened and the replicas stay ready. When it is back, changes are served and statuses are
/// right.
#[test]
fn clients_do_not_notice_that_the_api_server_or_etcd_is_killed() {
    let bystanders = Bystanders::gather("outage");
    for (part, later) in [("kube-apiserver", "after-api-server"), ("etcd", "after-etcd")] {
        let arrivals = bystanders.arrivals();
        bystanders.live_without(part);
        bystanders.expect_right_statuses(later);
        let (count, slowest) = arrivals.expect_all_opened();
        eprintln!("without {part}: {count} new sockets, the slowest after {slowest:?}");
        bystanders.crowd.chronicle().expect_unharmed();
    }
    bystanders.expect_unharmed();
}

/// With the kind all routes go; who is connected stays. When kind and routes are back, so is everything.
#[test]
fn sockets_outlive_the_crd_and_its_routes_come_back_with_it() {
    let bystanders = Bystanders::gather("crd");
    let (app, crowd) = (&bystanders.app, &bystanders.crowd);
    let route = kept(&app.namespace.kubectl(&["get", "wsr/chat", "--output=json"]));

    let crd = DeletedKind::delete();
    eventually("it is said that routes are not followed", 30, || {
        expect_eq(&bystanders.following("websocketroutes"), &0)
    });
    let before = crowd.chronicle().back;
    eventually("those that are connected go on", 20, || {
        let heard = crowd.chronicle().back - before;
        if heard > 2 * Bystanders::MEMBERS as u64 { Ok(()) } else { Err(format!("{heard}")) }
    });

    drop(crd);
    app.namespace.apply(&[&route]);
    app.wait_until_served(&bystanders.release);
    bystanders.expect_right_statuses("later");
    bystanders.expect_unharmed();
}

/// The CRD, deleted; it is there again when this is dropped.
struct DeletedKind(Value);

impl DeletedKind {
    const NAME: &str = "crd/websocketroutes.tidegate.io";

    #[track_caller]
    fn delete() -> Self {
        let object = kept(&kubectl(&["get", Self::NAME, "--output=json"]));
        kubectl(&["delete", Self::NAME, "--wait", "--timeout=30s"]);
        Self(object)
    }
}

impl Drop for DeletedKind {
    fn drop(&mut self) {
        let apply = ["apply", "--server-side", "--filename=-"];
        let done = try_kubectl(&apply, Some(&self.0.to_string())).and_then(|_| {
            let established = ["wait", "--for=condition=Established", "--timeout=30s", Self::NAME];
            try_kubectl(&established, None)
        });
        if let Err(error) = done {
            eprintln!("{error}");
        }
    }
}

/// An object as one would have kept it in a repository.
fn kept(text: &str) -> Value {
    let mut object: Value = serde_json::from_str(text).expect("kubectl prints JSON");
    for field in ["creationTimestamp", "generation", "managedFields", "resourceVersion", "uid"] {
        object["metadata"].as_object_mut().expect("it is an object").remove(field);
    }
    object.as_object_mut().expect("it is one").remove("status");
    object
}
