//! Two tenants that may write routes, Services, Secrets and ReferenceGrants in their own namespaces and nowhere else: what one of
//! them does through the API server to get the other's hostnames, and what each is told.

use serde_json::{Value, json};

use crate::{
    acme::{TOKEN, start_solver},
    grants::ReferenceGrants,
    support::{
        Authority, Client, Identity, Namespace, Pod, Release, Socket, certificate_shown,
        eventually, get_from, kubectl, objects, try_kubectl,
    },
};

/// A namespace with pods that echo, and a ServiceAccount that may write in it.
struct Tenant {
    namespace: Namespace,
    account: String,
}

impl Tenant {
    fn new(label: &str) -> Self {
        let namespace = Namespace::new(label);
        let account = format!("system:serviceaccount:{}:tenant", namespace.name);
        let rule = |groups: &[&str], resources: &[&str]| json!({ "apiGroups": groups, "resources": resources, "verbs": ["*"] });
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": { "name": "tenant" },
            "rules": [
                rule(&["tidegate.io"], &["websocketroutes"]),
                rule(&[""], &["services", "secrets"]),
                rule(&["gateway.networking.k8s.io"], &["referencegrants"]),
            ],
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": "tenant" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tenant" },
            "subjects": [{ "kind": "ServiceAccount", "name": "tenant", "namespace": namespace.name }],
        });
        let account_object = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "tenant" } });
        namespace.apply(&[&account_object, &role, &binding, &objects::deployment("chat", 1)]);
        namespace.wait_for_rollout("chat");
        Self { namespace, account }
    }

    /// As its own ServiceAccount, which must be allowed to.
    #[track_caller]
    fn apply(&self, objects: &[&Value]) {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let arguments =
            ["--as", &self.account, "--namespace", &self.namespace.name, "apply", "--filename=-"];
        try_kubectl(&arguments, Some(&list.to_string())).unwrap_or_else(|error| panic!("{error}"));
    }

    #[track_caller]
    fn delete(&self, what: &str) {
        kubectl(&[
            "--as",
            &self.account,
            "--namespace",
            &self.namespace.name,
            "delete",
            "--wait",
            what,
        ]);
    }

    fn may(&self, verb: &str, what: &str, namespace: &str) -> bool {
        let arguments =
            ["--as", &self.account, "--namespace", namespace, "auth", "can-i", verb, what];
        try_kubectl(&arguments, None).is_ok_and(|answer| answer.trim() == "yes")
    }

    fn pod(&self) -> String {
        self.namespace.pods("chat").pop().expect("its rollout was waited for")
    }
}

fn route(class: &str, name: &str, hosts: &[&str], secret: Option<&str>, matches: &Value) -> Value {
    let mut route = objects::route(name, "");
    route["spec"]["className"] = class.into();
    route["spec"]["hostnames"] = json!(hosts);
    route["spec"]["rules"] =
        json!([{ "matches": matches, "backendRefs": [{ "name": "chat", "port": 8080 }] }]);
    match secret {
        Some(secret) => route["spec"]["tls"] = json!({ "secretName": secret }),
        None => drop(route["spec"].as_object_mut().expect("it is one").remove("tls")),
    }
    route
}

/// A's names on one installation, and who is to serve them.
struct Stage {
    release: Release,
    a: Tenant,
    b: Tenant,
    authority: Authority,
    wildcard: Identity,
    /// Under A's wildcard; one that A has by name.
    admin: String,
    pay: String,
}

impl Stage {
    fn new() -> Self {
        // A policy from the start, so that a later one needs no other arguments.
        let release = Release::own("owners", &["--wait", "--set=hostnamePolicy.default=Contest"]);
        let (a, b) = (Tenant::new("owner-a"), Tenant::new("owner-b"));
        let (admin, pay) =
            (a.namespace.host("admin"), format!("pay.{}-bank.test", a.namespace.name));
        let authority = Authority::new();
        let wildcard = authority.issue(&[&a.namespace.host("*")]);
        let exact = authority.issue(&[&pay]);
        a.apply(&[
            &objects::service("chat"),
            &objects::tls_secret("wild-tls", &wildcard),
            &objects::tls_secret("pay-tls", &exact),
        ]);
        b.apply(&[&objects::service("chat")]);
        let stage = Self { release, a, b, authority, wildcard, admin, pay };
        stage.a.apply(&[&stage.a_shop(), &stage.a_pay()]);
        for route in ["shop", "pay"] {
            stage.a.namespace.eventually(route, "Programmed", "True", "Programmed");
        }
        stage
    }

    fn a_shop(&self) -> Value {
        let every = json!([]);
        route(&self.release.class, "shop", &[&self.a.namespace.host("*")], Some("wild-tls"), &every)
    }

    fn a_pay(&self) -> Value {
        route(&self.release.class, "pay", &[&self.pay], Some("pay-tls"), &json!([]))
    }

    fn client(&self, host: &str) -> Client {
        Client::new(host, self.authority.client_config())
    }

    /// Every replica gives this name, at this path, to this tenant.
    #[track_caller]
    fn serves(&self, client: &Client, tenant: &Tenant) -> Socket {
        let mut last = None;
        for pod in self.release.pods() {
            let mut socket =
                eventually(&format!("{}{} is served", client.host, client.path), 20, || {
                    let socket = client.open(pod.https())?;
                    match socket.backend == tenant.pod() {
                        true => Ok(socket),
                        false => Err(format!("by {}", socket.backend)),
                    }
                });
            socket.echo("hello");
            last = Some(socket);
        }
        last.expect("there are replicas")
    }

    /// All that B tried has brought it nothing.
    #[track_caller]
    fn is_a_s(&self) {
        for path in ["/", "/login"] {
            self.serves(&self.client(&self.pay).at(path), &self.a);
            let socket = self.serves(&self.client(&self.admin).at(path), &self.a);
            assert_eq!(socket.certificate, self.wildcard.der);
        }
    }

    /// B is told what to do, and nothing of what A has.
    #[track_caller]
    fn is_told(&self, route: &str, kind: &str) {
        let status = if kind == "Accepted" { "False" } else { "True" };
        let message = self.b.namespace.eventually(route, kind, status, "HostnameNotPermitted");
        assert!(message.contains("held by another namespace"), "{message}");
        assert!(
            message.contains("ReferenceGrant") && message.contains("whoever runs this gateway"),
            "{message}"
        );
        assert!(message.contains(&format!("namespace: {}", self.b.namespace.name)), "{message}");
        for told in
            [" shop", "wild-tls", "pay-tls", &format!("namespace {}", self.a.namespace.name)]
        {
            assert!(!message.contains(told), "{told}: {message}");
        }
    }

    fn policy(&self, policy: &Value) {
        self.release.helm("upgrade", &["--wait", &format!("--set-json=hostnamePolicy={policy}")]);
    }
}

#[test]
fn a_tenant_gets_nothing_of_another_s_hostnames_but_by_its_grant_or_by_the_policy() {
    let _installed = ReferenceGrants::install();
    let stage = Stage::new();
    let Stage { release, a, b, admin, pay, .. } = &stage;
    let class = release.class.as_str();
    assert!(b.may("create", "websocketroutes", &b.namespace.name));
    for what in ["websocketroutes", "secrets", "services", "referencegrants"] {
        assert!(!b.may("create", what, &a.namespace.name), "{what}");
        assert!(!b.may("get", what, &a.namespace.name), "{what}");
    }
    assert!(!b.may("get", "websocketroutes", &release.namespace));

    // A name under the wildcard; a longer path; "/" with a header that every upgrade has; a certificate of its own making.
    let own = b.namespace.host("own");
    let made = Authority::new().issue(&[admin, pay, &own]);
    let version = json!([{ "headers": [{ "name": "sec-websocket-version", "value": "13" }] }]);
    b.apply(&[
        &objects::tls_secret("made-tls", &made),
        &route(class, "admin", &[admin, &own], None, &json!([])),
        &route(class, "login", &[pay], None, &json!([{ "path": { "value": "/login" } }])),
        &route(class, "version", &[pay], Some("made-tls"), &version),
        &route(
            class,
            "wild",
            &[&a.namespace.host("*")],
            Some("made-tls"),
            &json!([{ "path": { "value": "/login" } }]),
        ),
    ]);
    stage.is_told("admin", "PartiallyInvalid");
    for route in ["login", "version", "wild"] {
        stage.is_told(route, "Accepted");
    }
    stage.is_a_s();
    stage.serves(&Client::trusting_anyone(&own), b);

    // An answer to A's challenge.
    start_solver(release, &b.namespace, pay);
    for pod in release.pods() {
        let http = (pod.address, 8080).into();
        let (status, body) = get_from(http, pay, &format!("/.well-known/acme-challenge/{TOKEN}"))
            .expect("port 80 answers");
        assert_eq!(status, 403, "{body}");
    }

    // A makes its route anew while B waits.
    a.delete("wsr/pay");
    a.apply(&[&stage.a_pay()]);
    a.namespace.eventually("pay", "Programmed", "True", "Programmed");
    stage.is_told("login", "Accepted");
    stage.is_a_s();

    // A admits B to its wildcard, and takes that back.
    a.apply(&[&grant(&b.namespace.name, "shop")]);
    b.namespace.eventually("admin", "Accepted", "True", "Accepted");
    let mut socket = stage.serves(&stage.client(admin), b);
    assert_eq!(socket.certificate, stage.wildcard.der);
    stage.serves(&stage.client(pay).at("/login"), a);
    a.delete("referencegrants.gateway.networking.k8s.io/share");
    stage.is_told("admin", "PartiallyInvalid");
    stage.is_a_s();
    socket.echo("still here");

    // Whoever runs the gateway gives the name to B: with no pod restarted, and without A's certificate.
    let before = release.pods();
    stage.policy(&json!({
        "default": "Contest", "rules": [{ "hostnames": [admin], "namespaces": [b.namespace.name] }],
    }));
    eventually("the policy has come to the pods", 120, || {
        let found = b.namespace.condition("admin", "Programmed").unwrap_or_default();
        if found.status == "True" { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let mut given = stage.serves(&Client::trusting_anyone(admin), b);
    assert_ne!(given.certificate, stage.wildcard.der);
    assert_same(&before, &release.pods());
    socket.echo("and still");
    given.echo("under the policy");
    // The rest of the wildcard stays A's.
    let other = a.namespace.host("other");
    assert_eq!(stage.serves(&stage.client(&other), a).certificate, stage.wildcard.der);
    let shown = certificate_shown(&other, before[0].https());
    assert_eq!(shown.as_ref(), Ok(&stage.wildcard.der));
}

fn grant(from: &str, route: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
        "metadata": { "name": "share" },
        "spec": {
            "from": [{ "group": "tidegate.io", "kind": "WebSocketRoute", "namespace": from }],
            "to": [{ "group": "tidegate.io", "kind": "WebSocketRoute", "name": route }],
        },
    })
}

/// The same pods, none of them started again.
#[track_caller]
fn assert_same(before: &[Pod], after: &[Pod]) {
    let names = |pods: &[Pod]| {
        let mut names: Vec<_> = pods.iter().map(|pod| (pod.name.clone(), pod.restarts)).collect();
        names.sort();
        names
    };
    assert_eq!(names(after), names(before));
}
