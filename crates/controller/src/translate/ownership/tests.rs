//! What decides whose a hostname is, and that nothing of a newcomer's changes what is served under another's.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate_api::{HostnameDefault, HostnamePolicy, HostnameRule, Reason};
use tidegate_table::{ObjectRef, RoutingTable};

use crate::translate::{Budgets, Inputs, Output, RouteInput, Translator, translate};

const TOKEN: &str = "token";

/// A world of some namespaces; the days of 2026 are numbered.
struct World {
    inputs: Inputs,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl World {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let mut inputs = Inputs { reference_grants: Some(Vec::new()), ..Inputs::default() };
        inputs.hostname_policy = Some(Arc::new(HostnamePolicy {
            default: HostnameDefault::Contest,
            rules: Vec::new(),
            authorities: Some(authority.pem().into()),
        }));
        Self { inputs, authority }
    }

    fn policy(&mut self, change: impl FnOnce(&mut HostnamePolicy)) {
        change(Arc::make_mut(self.inputs.hostname_policy.as_mut().unwrap()));
    }

    fn rule(&mut self, hostname: &str, namespaces: &[&str], shared: bool) {
        let namespaces = namespaces.iter().map(|&name| name.to_owned()).collect();
        let hostnames = vec![hostname.to_owned()];
        self.policy(|policy| {
            let rule = HostnameRule { hostnames, namespaces, match_labels: None, shared };
            policy.rules.push(rule);
        });
    }

    /// A route `namespace/name` of a day, for everything under its hostnames.
    fn route(&mut self, name: &str, day: u32, hostnames: &[&str], tls: Option<&str>) {
        self.route_at(name, day, hostnames, tls, "/");
    }

    fn route_at(&mut self, name: &str, day: u32, hosts: &[&str], tls: Option<&str>, path: &str) {
        let mut spec = json!({
            "hostnames": hosts,
            "rules": [{
                "matches": [{"path": {"value": path}}],
                "backendRefs": [{"name": "app", "port": 80}],
            }],
        });
        if let Some(secret) = tls {
            let (namespace, secret) = secret.split_once('/').unwrap();
            spec["tls"] = json!({"secretRef": {"namespace": namespace, "name": secret}});
        }
        self.inputs.routes.push(route(name, day, &spec));
    }

    fn without(&mut self, name: &str) {
        self.inputs.routes.retain(|route| match route {
            RouteInput::Valid(route) => {
                reference(name) != super::super::routes::object_ref(&route.metadata)
            }
            RouteInput::Unreadable { .. } => true,
        });
    }

    /// A Secret whose certificate is by the authority, or of its owner's making.
    fn secret(&mut self, name: &str, day: u32, names: &[&str], proven: bool) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let chain = match proven {
            true => params.signed_by(&key, &self.authority).unwrap().pem(),
            false => params.self_signed(&key).unwrap().pem(),
        };
        self.inputs
            .secrets
            .insert(reference(name), Arc::new(secret(name, day, &chain, &key.serialize_pem())));
    }

    fn grant(&mut self, namespace: &str, from: &str, name: Option<&str>) {
        self.add_grant(namespace, from, "tidegate.io", "WebSocketRoute", name);
    }

    fn add_grant(
        &mut self,
        namespace: &str,
        from: &str,
        group: &str,
        kind: &str,
        name: Option<&str>,
    ) {
        let grant = json!({
            "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
            "metadata": {"namespace": namespace, "name": "grant"},
            "spec": {
                "from": [{"group": "tidegate.io", "kind": "WebSocketRoute", "namespace": from}],
                "to": [{"group": group, "kind": kind, "name": name}],
            },
        });
        self.inputs.reference_grants.as_mut().unwrap().push(Arc::new(read(grant)));
    }

    fn solver(&mut self, namespace: &str, host: &str) {
        let key = tidegate_table::SolverKey::new(host, TOKEN);
        let name = ObjectRef { namespace: namespace.into(), name: format!("cm-{host}") };
        let service = json!({
            "metadata": {"namespace": namespace, "name": name.name, "labels": {
                "acme.cert-manager.io/http01-solver": "true",
                "acme.cert-manager.io/http-domain": key.domain.to_string(),
                "acme.cert-manager.io/http-token": key.token.to_string(),
            }},
            "spec": {"ports": [{"port": 8089}]},
        });
        self.inputs.services.insert(name, Arc::new(read(service)));
    }

    fn translate(&self) -> Output {
        translate(&self.inputs, "tidegate")
    }

    fn translate_within(&self, budgets: Budgets) -> Output {
        Translator::default().with_budgets(budgets).translate(&self.inputs, "tidegate")
    }

    /// The namespaces whose routes serve a name.
    fn served_by(&self, name: &str) -> Vec<String> {
        served_by(&self.translate().table, name)
    }
}

fn served_by(table: &RoutingTable, name: &str) -> Vec<String> {
    let entries = table.host(name).into_iter().flat_map(|host| host.entries());
    let mut namespaces: Vec<_> = entries.map(|entry| entry.rule.route.namespace.clone()).collect();
    namespaces.sort();
    namespaces.dedup();
    namespaces
}

fn solved_by(table: &RoutingTable, name: &str) -> Option<String> {
    table.solver(name, TOKEN).map(|solver| solver.service.namespace.clone())
}

fn certificate(table: &RoutingTable, name: &str) -> Option<String> {
    table.identity(name).map(|identity| identity.secret.to_string())
}

/// Reason and message of Accepted, and of PartiallyInvalid if it is there.
fn words(output: &Output, route: &str) -> Vec<(Reason, String)> {
    let conditions = &output.statuses[&reference(route)].conditions;
    let told =
        conditions.iter().filter(|it| matches!(it.kind.as_str(), "Accepted" | "PartiallyInvalid"));
    told.map(|it| (it.reason, it.message.clone())).collect()
}

fn reference(name: &str) -> ObjectRef {
    let (namespace, name) = name.split_once('/').unwrap();
    ObjectRef { namespace: namespace.into(), name: name.into() }
}

fn created(day: u32) -> String {
    format!("2026-01-{day:02}T00:00:00Z")
}

fn route(name: &str, day: u32, spec: &Value) -> RouteInput {
    let ObjectRef { namespace, name } = reference(name);
    RouteInput::Valid(Arc::new(read(json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "WebSocketRoute",
        "metadata": {"namespace": namespace, "name": name, "creationTimestamp": created(day)},
        "spec": spec,
    }))))
}

fn secret(name: &str, day: u32, chain: &str, key: &str) -> Secret {
    let ObjectRef { namespace, name } = reference(name);
    let data = [("tls.crt", chain), ("tls.key", key)];
    let mut secret = Secret {
        type_: Some("kubernetes.io/tls".into()),
        data: Some(
            data.into_iter().map(|(key, pem)| (key.into(), ByteString(pem.into()))).collect(),
        ),
        ..Secret::default()
    };
    secret.metadata.namespace = Some(namespace);
    secret.metadata.name = Some(name);
    secret.metadata.creation_timestamp = Some(Time(created(day).parse().unwrap()));
    secret
}

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A's names as in the finding: a wildcard and an exact one, each with a certificate that proves it.
fn with_a() -> World {
    let mut world = World::new();
    world.secret("a/wild", 1, &["*.shop.test"], true);
    world.secret("a/pay", 1, &["pay.bank.test"], true);
    world.route("a/shop", 5, &["*.shop.test"], Some("a/wild"));
    world.route("a/pay", 5, &["pay.bank.test"], Some("a/pay"));
    world
}

#[test]
fn a_name_under_another_s_wildcard_is_not_to_be_had() {
    let mut world = with_a();
    // Older, and without a certificate; later with one of its own making.
    world.route("b/admin", 1, &["admin.shop.test", "own.test"], None);
    for tls in [None, Some("b/made")] {
        if tls.is_some() {
            world.secret("b/made", 1, &["admin.shop.test", "own.test"], false);
            world.without("b/admin");
            world.route("b/admin", 1, &["admin.shop.test", "own.test"], tls);
        }
        world.solver("b", "admin.shop.test");
        let output = world.translate();
        assert_eq!(served_by(&output.table, "admin.shop.test"), ["a"]);
        assert_eq!(certificate(&output.table, "admin.shop.test").as_deref(), Some("a/wild"));
        assert_eq!(solved_by(&output.table, "admin.shop.test"), None);
        assert_eq!(served_by(&output.table, "own.test"), ["b"], "the rest of the route is served");
        let told = words(&output, "b/admin");
        assert_eq!(told[1].0, Reason::HostnameNotPermitted);
        assert!(told[1].1.contains("admin.shop.test is held by another namespace"), "{told:?}");
        assert!(told[1].1.contains("namespace: b}"), "{told:?}");
        let text = format!("{:?}", output.statuses[&reference("b/admin")]);
        assert!(
            !text.contains("a/") && !text.contains("wild"),
            "it names what it may not know: {text}"
        );
    }
}

#[test]
fn a_longer_path_or_a_header_under_an_exact_name_gets_nothing() {
    let mut world = with_a();
    world.route_at("b/path", 1, &["pay.bank.test"], None, "/login");
    let version = json!({
        "hostnames": ["pay.bank.test"],
        "rules": [{
            "matches": [{"headers": [{"name": "sec-websocket-version", "value": "13"}]}],
            "backendRefs": [{"name": "app", "port": 80}],
        }],
    });
    world.inputs.routes.push(route("b/header", 1, &version));
    let output = world.translate();
    assert_eq!(served_by(&output.table, "pay.bank.test"), ["a"]);
    for route in ["b/path", "b/header"] {
        assert_eq!(words(&output, route)[0].0, Reason::HostnameNotPermitted);
        assert_eq!(words(&output, route).len(), 1);
    }
}

#[test]
fn a_name_does_not_change_hands_because_its_owner_makes_its_route_anew() {
    for proven in [true, false] {
        let mut world = World::new();
        world.secret("a/pay", 2, &["pay.bank.test"], proven);
        world.route("a/pay", 2, &["pay.bank.test"], Some("a/pay"));
        world.secret("b/made", 4, &["pay.bank.test"], false);
        world.route("b/waits", 4, &["pay.bank.test"], Some("b/made"));
        assert_eq!(world.served_by("pay.bank.test"), ["a"]);
        world.without("a/pay");
        world.route("a/pay", 9, &["pay.bank.test"], Some("a/pay"));
        assert_eq!(world.served_by("pay.bank.test"), ["a"], "proven: {proven}");
        // Renewed in place: the Secret's content is new, its age is not.
        world.secret("a/pay", 2, &["pay.bank.test"], proven);
        assert_eq!(world.served_by("pay.bank.test"), ["a"], "proven: {proven}");
    }
}

#[test]
fn a_certificate_of_an_authority_is_better_than_age_and_one_of_one_s_own_making_is_not() {
    let mut world = World::new();
    world.route("b/squats", 1, &["pay.bank.test"], None);
    world.route("a/pay", 5, &["pay.bank.test"], Some("a/pay"));
    world.secret("a/pay", 5, &["pay.bank.test"], false);
    assert_eq!(world.served_by("pay.bank.test"), ["b"]);
    world.secret("a/pay", 5, &["other.test"], true);
    assert_eq!(world.served_by("pay.bank.test"), ["b"], "it covers another name");
    world.secret("a/pay", 5, &["pay.bank.test"], true);
    assert_eq!(world.served_by("pay.bank.test"), ["a"]);
    // Chains are public; keys are not.
    let (stolen, own) =
        (world.inputs.secrets[&reference("a/pay")].clone(), KeyPair::generate().unwrap());
    let chain = String::from_utf8(stolen.data.as_ref().unwrap()["tls.crt"].0.clone()).unwrap();
    let copy = secret("b/copy", 1, &chain, &own.serialize_pem());
    world.inputs.secrets.insert(reference("b/copy"), Arc::new(copy));
    world.route("b/thief", 1, &["pay.bank.test"], Some("b/copy"));
    assert_eq!(world.served_by("pay.bank.test"), ["a"]);
}

#[test]
fn one_that_another_namespace_lends_comes_after_one_s_own() {
    let mut world = World::new();
    world.secret("certs/wild", 1, &["*.shop.test"], true);
    world.add_grant("certs", "a", "", "Secret", Some("wild"));
    world.route("a/shop", 9, &["chat.shop.test"], Some("certs/wild"));
    world.route("b/older", 1, &["chat.shop.test"], None);
    assert_eq!(world.served_by("chat.shop.test"), ["a"]);
    world.route("c/liar", 1, &["chat.shop.test"], Some("certs/wild"));
    assert_eq!(world.served_by("chat.shop.test"), ["a"], "who may not use it shows nothing by it");
    world.secret("b/own", 9, &["chat.shop.test"], true);
    world.route("b/proves", 9, &["chat.shop.test"], Some("b/own"));
    assert_eq!(world.served_by("chat.shop.test"), ["b"]);
}

#[test]
fn an_older_name_is_not_taken_by_a_newcomer_s_wildcard_nor_shown_its_certificate() {
    let mut world = World::new();
    world.route("b/own", 1, &["own.shop.test"], None);
    world.secret("a/wild", 5, &["*.shop.test"], false);
    world.route("a/shop", 5, &["*.shop.test"], Some("a/wild"));
    world.solver("a", "own.shop.test");
    let output = world.translate();
    assert_eq!(served_by(&output.table, "own.shop.test"), ["b"]);
    assert_eq!(certificate(&output.table, "own.shop.test"), None);
    assert_eq!(certificate(&output.table, "other.shop.test").as_deref(), Some("a/wild"));
    assert_eq!(solved_by(&output.table, "own.shop.test"), None);
    // It is b's to choose the certificate, and a's to let it.
    world.grant("a", "b", None);
    assert_eq!(certificate(&world.translate().table, "own.shop.test"), None);
    world.add_grant("a", "b", "", "Secret", Some("wild"));
    world.without("b/own");
    world.route("b/own", 1, &["own.shop.test"], Some("a/wild"));
    let output = world.translate();
    assert_eq!(served_by(&output.table, "own.shop.test"), ["b"]);
    assert_eq!(certificate(&output.table, "own.shop.test").as_deref(), Some("a/wild"));
}

#[test]
fn a_grant_of_the_owner_admits_and_its_own_routes_come_first() {
    for (name, admitted) in [(None, true), (Some("shop"), true), (Some("pay"), false)] {
        let mut world = with_a();
        world.route("a/admin", 6, &["admin.shop.test"], None);
        world.route("b/admin", 1, &["admin.shop.test"], None);
        world.route_at("b/more", 1, &["admin.shop.test"], None, "/more");
        // One of b's own makes no difference.
        world.grant("b", "b", None);
        world.grant("b", "a", None);
        assert_eq!(world.served_by("admin.shop.test"), ["a"]);
        world.grant("a", "b", name);
        let output = world.translate();
        let expected: &[&str] = if admitted { &["a", "b"] } else { &["a"] };
        assert_eq!(served_by(&output.table, "admin.shop.test"), expected, "{name:?}");
        assert_eq!(certificate(&output.table, "admin.shop.test").as_deref(), Some("a/wild"));
        if admitted {
            let told = words(&output, "b/admin");
            assert_eq!(told[0].0, Reason::Conflicted);
            assert!(!told[0].1.contains("a/admin"), "{told:?}");
        }
    }
}

#[test]
fn a_route_that_is_broken_for_a_while_holds_its_name() {
    let mut world = World::new();
    let broken = json!({"hostnames": ["pay.bank.test", "*.shop.test"], "rules": []});
    world.inputs.routes.push(route("a/pay", 1, &broken));
    world.route("b/waits", 2, &["pay.bank.test", "admin.shop.test"], None);
    for name in ["pay.bank.test", "admin.shop.test"] {
        world.solver("a", name);
        world.solver("b", name);
    }
    let output = world.translate();
    assert!(output.table.is_empty());
    for name in ["pay.bank.test", "admin.shop.test"] {
        assert_eq!(solved_by(&output.table, name).as_deref(), Some("a"), "{name}");
    }
    assert_eq!(words(&output, "b/waits")[0].0, Reason::HostnameNotPermitted);
}

#[test]
fn a_name_whose_route_has_no_room_falls_to_nobody_elses_wildcard() {
    let mut world = World::new();
    world.route("a/first", 1, &["first.test"], None);
    world.route("a/admin", 2, &["admin.shop.test"], None);
    world.secret("b/wild", 5, &["*.shop.test"], false);
    world.route("b/shop", 5, &["*.shop.test"], Some("b/wild"));
    for namespace in ["a", "b"] {
        world.solver(namespace, "admin.shop.test");
    }
    let output = world.translate_within(Budgets { matches_per_namespace: 1, ..Budgets::default() });
    assert_eq!(words(&output, "a/admin")[0].0, Reason::BudgetExceeded);
    // No host can have a match, so that none is built.
    let bare = world.translate_within(Budgets { matches_per_host: 0, ..Budgets::default() });
    assert_eq!(served_by(&output.table, "other.shop.test"), ["b"]);
    for output in [output, bare] {
        assert_eq!(served_by(&output.table, "admin.shop.test"), [""; 0]);
        assert_eq!(certificate(&output.table, "admin.shop.test"), None);
        assert_eq!(solved_by(&output.table, "admin.shop.test").as_deref(), Some("a"));
        assert_eq!(output.table.reserved()["admin.shop.test"], Some("a"));
    }
}

#[test]
fn nothing_is_looked_up_for_a_route_that_has_no_hostname() {
    let mut world = with_a();
    // What is referred to is missing, Secret and Service alike.
    world.route("b/many", 6, &["pay.bank.test"], Some("b/missing"));
    let output = world.translate();
    let told = &output.statuses[&reference("b/many")].conditions[1];
    assert_eq!((told.status, told.reason), (false, Reason::HostnameNotPermitted));
    assert!(told.message.contains("see Accepted"), "{told:?}");
    let of_b = output.problems.iter().filter(|problem| problem.object.namespace == "b");
    assert_eq!(
        of_b.map(|problem| problem.reason).collect::<Vec<_>>(),
        [Reason::HostnameNotPermitted]
    );
}

#[test]
fn without_a_route_whoever_may_claim_a_name_may_prove_it() {
    let mut world = with_a();
    world.solver("b", "free.test");
    world.solver("b", "any.shop.test");
    world.solver("b", "pay.bank.test");
    let table = world.translate().table;
    assert_eq!(solved_by(&table, "free.test").as_deref(), Some("b"));
    assert_eq!(solved_by(&table, "any.shop.test"), None);
    assert_eq!(solved_by(&table, "pay.bank.test"), None);
}

mod certificates;
mod many;
mod policy;
mod property;
