//! What the chart's ServiceAccount may do: no less than the program needs, and no more.

use serde_json::{Value, json};

use crate::support::{
    App, Arrivals, Crowd, Manner, Pod, Release, eventually, expect_eq, get, kubectl, objects,
    try_kubectl,
};

/// After all that the program does was done once, its log tells of nothing that was forbidden.
#[test]
fn the_log_tells_of_nothing_forbidden() {
    let release = Release::shared();
    let app = App::start(&release, "permitted", 1);
    app.open(release.load_balancer()).echo("hello");
    let log = release.log();
    // So that an empty log does not pass.
    assert!(log.contains("ready"), "{log}");
    let forbidden: Vec<_> =
        log.lines().filter(|line| line.to_ascii_lowercase().contains("forbidden")).collect();
    assert!(forbidden.is_empty(), "{forbidden:#?}");
}

/// Without RBAC it keeps trying, is not ready, and says what is missing; with it, the same pods go on.
#[test]
fn without_permissions_it_is_not_ready_and_says_so_until_they_come() {
    let release = Release::own("no-rbac", &["--set=rbac.create=false,replicaCount=1"]);
    let pod = eventually("the pod runs", 30, || {
        release.pods().pop().ok_or_else(|| "there is none".to_owned())
    });
    eventually("it says that it is not ready, and the log says why", 30, || {
        let (status, text) = get(pod.admin(), "/readyz")?;
        let log = release.log();
        let told = log.lines().any(|line| {
            line.contains("cannot read WebSocketRoutes") && line.contains("ClusterRole")
        });
        match status == 503 && text.contains("websocketroutes") && told {
            true => Ok(()),
            false => Err(format!("{status} {text}{log}")),
        }
    });

    release.helm("upgrade", &["--wait", "--set=rbac.create=true,replicaCount=1"]);
    let app = App::start(&release, "no-rbac-app", 1);
    app.open(pod.https()).echo("hello");
    let after = release.pods();
    assert_eq!((after.len(), &after[0].name, after[0].restarts), (1, &pod.name, 0));
}

/// Its ClusterRole is taken away while it serves: it serves on, says so, and makes up for it when it has it again.
#[test]
fn sockets_and_routes_outlive_the_loss_of_its_permissions() {
    let release = Release::own("rbac-lost", &["--wait"]);
    let app = App::start(&release, "rbac-lost-app", 2);
    let replicas = release.pods();
    let to: Vec<_> = replicas.iter().map(Pod::https).collect();
    let crowd = Crowd::gather(&app.client, &to, 50, Manner::STAYS);
    let arrivals = Arrivals::begin(&app.client, &to);

    let binding = format!("clusterrolebinding/{}", release.name);
    let text = kubectl(&["get", &binding, "--output=json"]);
    let mut kept: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    kept["metadata"] = json!({
        "name": kept["metadata"]["name"],
        "labels": kept["metadata"]["labels"],
        "annotations": kept["metadata"]["annotations"],
    });
    kubectl(&["delete", &binding]);
    // A watch is let go on until its time is up, a minute at most.
    eventually("both say that they follow nothing any more", 90, || {
        for pod in &replicas {
            let metrics = pod.metrics();
            let kinds = ["websocketroutes", "secrets", "configmaps", "services", "endpointslices"];
            let synced = |kind| metrics.sum("tidegate_source_synced", &[("kind", kind)]);
            expect_eq(&kinds.map(synced), &[Some(0.0); 5])?;
        }
        Ok(())
    });
    let log = release.log();
    let told =
        log.lines().any(|line| line.contains("WebSocketRoutes") && line.contains("ClusterRole"));
    assert!(told, "{log}");
    // What is changed now is not seen until later.
    let mut route = objects::route("later", &app.namespace.host("later"));
    route["spec"]["className"] = release.class.as_str().into();
    app.namespace.apply(&[&route]);

    try_kubectl(&["create", "--filename=-"], Some(&kept.to_string()))
        .unwrap_or_else(|error| panic!("{error}"));
    // The pause between two tries grows up to 15 s.
    eventually("the status of the new route is right", 40, || {
        let found = app.namespace.condition("later", "ResolvedRefs").unwrap_or_default();
        expect_eq(
            &(found.status.as_str(), found.reason.as_str()),
            &("False", "InvalidCertificateRef"),
        )
    });
    let found = app.namespace.condition("chat", "Programmed").expect("it has been written");
    assert_eq!((found.status.as_str(), found.observed_generation), ("True", 1));
    let (count, slowest) = arrivals.expect_all_opened();
    eprintln!("{count} new sockets, the slowest after {slowest:?}");
    crowd.disperse().expect_unharmed();
    assert!(release.pods().iter().all(|pod| pod.restarts == 0));
}

#[test]
fn the_service_account_may_do_no_more_than_it_needs() {
    let release = Release::shared();
    let account = format!("--as=system:serviceaccount:{}:{}", release.namespace, release.name);
    let may = |arguments: &[&str]| {
        let answer = try_kubectl(&[&["auth", "can-i", &account], arguments].concat(), None);
        // "no" is a failure.
        answer.is_ok_and(|answer| answer.trim() == "yes")
    };
    let everywhere = "--all-namespaces";
    let here = format!("--namespace={}", release.namespace);
    for allowed in [
        &["watch", "websocketroutes.tidegate.io", everywhere][..],
        &["patch", "websocketroutes.tidegate.io", "--subresource=status", everywhere],
        &["list", "secrets", everywhere],
        &["watch", "endpointslices.discovery.k8s.io", everywhere],
        &["update", "leases.coordination.k8s.io/tidegate-tidegate", &here],
    ] {
        assert!(may(allowed), "it may not {}", allowed.join(" "));
    }
    for forbidden in [
        &["patch", "websocketroutes.tidegate.io", everywhere][..],
        &["delete", "websocketroutes.tidegate.io", everywhere],
        &["create", "secrets", everywhere],
        &["patch", "secrets", everywhere],
        &["delete", "secrets", everywhere],
        &["list", "pods", everywhere],
        &["create", "pods", everywhere],
        &["create", "pods", "--subresource=exec", &here],
        &["create", "serviceaccounts", "--subresource=token", &here],
        &["patch", "services", everywhere],
        &["patch", "endpointslices.discovery.k8s.io", everywhere],
        &["create", "configmaps", &here],
        &["list", "nodes"],
        &["patch", "customresourcedefinitions.apiextensions.k8s.io"],
        &["update", "leases.coordination.k8s.io/another", &here],
        &["delete", "leases.coordination.k8s.io/tidegate-tidegate", &here],
        &["update", "leases.coordination.k8s.io/tidegate-tidegate", "--namespace=kube-system"],
        &["create", "leases.coordination.k8s.io", "--namespace=kube-system"],
        &["impersonate", "serviceaccounts", everywhere],
    ] {
        assert!(!may(forbidden), "it may {}", forbidden.join(" "));
    }
}

/// The pods run where the API server enforces the Pod Security Standard "restricted".
#[test]
fn the_pods_run_under_the_restricted_pod_security_standard() {
    let release = Release::shared();
    assert_eq!(release.pods().len(), 2);
    // That it is enforced: pods that would not comply are refused there.
    let mut pod = objects::deployment("privileged", 1)["spec"]["template"].take();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"] = json!({ "name": "privileged", "namespace": release.namespace });
    pod["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
    let create = ["create", "--dry-run=server", "--filename=-"];
    let error = try_kubectl(&create, Some(&pod.to_string())).expect_err("it is privileged");
    assert!(error.contains("violates PodSecurity \"restricted"), "{error}");
    pod["spec"]["containers"][0]["securityContext"] =
        objects::deployment("same", 1)["spec"]["template"]["spec"]["containers"][0]["securityContext"].take();
    try_kubectl(&create, Some(&pod.to_string())).expect("the same without privileges");
}
