use std::sync::Arc;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate_table::TlsIdentity;

use super::*;

mod budgets;

#[test]
fn an_unchanged_certificate_is_the_same_object_in_the_next_table() {
    let mut translator = Translator::default();
    let mut inputs = world(&["a", "b"]);
    let first = translator.translate(&inputs, "tidegate");
    // Read again, as after a resync: another object with the same content.
    let again = inputs.secrets[&object("a")].as_ref().clone();
    inputs.secrets.insert(object("a"), Arc::new(again));
    inputs.secrets.insert(object("b"), Arc::new(secret("b")));
    let second = translator.translate(&inputs, "tidegate");

    let (a, b) = (identity(&first, "a"), identity(&first, "b"));
    let (a_next, b_next) = (identity(&second, "a"), identity(&second, "b"));
    assert!(Arc::ptr_eq(&a.config, &a_next.config), "its session tickets are lost");
    assert!(!Arc::ptr_eq(&b.config, &b_next.config));
    assert_ne!(b, b_next);
    assert_eq!(second, translate(&inputs, "tidegate"), "the cache changes no answer");
}

#[test]
fn trust_in_a_backend_lives_on_too() {
    let mut translator = Translator::default();
    let mut inputs = world(&["a"]);
    inputs.services.insert(
        object("chat"),
        Arc::new(read(json!({
            "metadata": {"name": "chat", "namespace": "chat"},
            "spec": {"ports": [{"port": 8080, "appProtocol": "kubernetes.io/wss"}]},
        }))),
    );
    inputs.routes = vec![route(
        "a",
        None,
        &json!({
            "hostnames": ["a.example"],
            "rules": [{"backendRefs": [{"name": "chat", "port": 8080, "tls": {"insecureSkipVerify": true}}]}],
        }),
    )];
    let mut config = || {
        let table = translator.translate(&inputs, "tidegate").table;
        let host = Arc::clone(table.host("a.example").expect("served"));
        let entry = host.entries().next().expect("one entry");
        Arc::clone(entry.rule.backends[0].tls.as_ref().expect("TLS"))
    };
    assert!(Arc::ptr_eq(&config(), &config()));
}

#[test]
fn the_cache_forgets_what_no_route_asks_for() {
    let mut translator = Translator::default();
    let mut inputs = world(&["a", "b"]);
    translator.translate(&inputs, "tidegate");
    assert_eq!(translator.certificates.len(), 2);
    inputs.routes.truncate(1);
    translator.translate(&inputs, "tidegate");
    assert_eq!(translator.certificates.len(), 1);
    translator.translate(&inputs, "another class");
    assert_eq!(translator.certificates.len(), 0);
}

#[test]
fn the_next_change_is_when_the_first_certificate_expires() {
    let mut inputs = world(&["a", "b"]);
    assert_eq!(
        translate(&inputs, "tidegate").next_change,
        None,
        "without a time nothing is judged"
    );
    inputs.now = Some(1_780_272_000);
    let output = translate(&inputs, "tidegate");
    let (a, b) = (identity(&output, "a"), identity(&output, "b"));
    assert_eq!(output.next_change, Some(a.not_after.min(b.not_after)));
    assert_eq!(output.problems, []);

    inputs.now = output.next_change;
    let expired = translate(&inputs, "tidegate");
    assert!(expired.problems[0].message.contains("expired"), "{:?}", expired.problems);
    assert_eq!(expired.table, output.table, "it is served all the same");
}

#[test]
fn a_class_has_only_its_own_routes() {
    let inputs = world(&["a"]);
    assert_eq!(translate(&inputs, "internal"), Output::default());
}

#[test]
fn routes_without_an_age_come_after_those_with_one() {
    let mut inputs = world(&[]);
    let spec = json!({"hostnames": ["a.example"], "rules": [{"backendRefs": [{"name": "chat", "port": 8080}]}]});
    inputs.routes = vec![route("a", None, &spec), route("b", Some("2026-01-01T00:00:00Z"), &spec)];
    let output = translate(&inputs, "tidegate");
    let accepted = |name| output.statuses[&object(name)].conditions[0].status;
    assert_eq!((accepted("a"), accepted("b")), (false, true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In whatever order objects come, and whatever was translated before: one answer.
    #[test]
    fn the_order_of_objects_means_nothing(
        (inputs, shuffled) in any_world().prop_flat_map(|inputs| {
            let routes = Just(inputs.routes.clone()).prop_shuffle();
            let slices = Just(inputs.endpoint_slices.clone()).prop_shuffle();
            (Just(inputs), routes, slices).prop_map(|(inputs, routes, endpoint_slices)| {
                let shuffled = Inputs { routes, endpoint_slices, ..inputs.clone() };
                (inputs, shuffled)
            })
        })
    ) {
        let answer = translate(&inputs, "tidegate");
        let mut used = Translator::default();
        used.translate(&inputs, "tidegate");
        prop_assert_eq!(&used.translate(&shuffled, "tidegate"), &answer);
        prop_assert_eq!(&translate(&shuffled, "tidegate"), &answer);
    }

    /// Every route of the class has its three conditions, and is in the table if and only if it is accepted.
    #[test]
    fn a_route_is_in_the_table_if_it_is_accepted(inputs in any_world()) {
        let output = translate(&inputs, "tidegate");
        let hosts = output.table.hosts();
        let served: std::collections::BTreeSet<_> = hosts
            .iter()
            .flat_map(|host| host.entries())
            .map(|entry| entry.rule.route.clone())
            .collect();
        prop_assert!(hosts.iter().all(|host| host.entries().count() > 0), "an empty host");
        prop_assert_eq!(output.statuses.len(), inputs.routes.len());
        for (name, status) in &output.statuses {
            let kinds: Vec<_> = status.conditions.iter().map(|condition| condition.kind.as_str()).collect();
            prop_assert_eq!(&kinds[..3], &["Accepted", "ResolvedRefs", "Programmed"][..]);
            prop_assert_eq!(status.conditions[0].status, served.contains(name));
        }
    }
}

/// Routes that compete for few hostnames and paths.
fn any_world() -> impl Strategy<Value = Inputs> {
    let any_route = (
        prop::sample::subsequence(vec!["a.example", "b.example", "*.example", "Bad"], 1..=3),
        prop::collection::vec(
            (
                prop::sample::select(vec!["/", "/ws", "/ws/", "/news", "bad"]),
                0..3_u32,
                any::<bool>(),
            ),
            1..4,
        ),
        prop::option::of(prop::sample::select(vec!["one", "two", "absent"])),
        0..3_u32,
    );
    let slices = prop::collection::vec(prop::collection::vec(0..6_u32, 0..4), 0..4);
    (prop::collection::vec(any_route, 0..12), slices).prop_map(|(routes, slices)| {
        let mut inputs = world(&[]);
        for name in ["one", "two"] {
            let content = json!({"metadata": {}, "type": "kubernetes.io/tls", "data": {"tls.crt": "eA==", "tls.key": "eA=="}});
            inputs.secrets.insert(object(name), Arc::new(read(content)));
        }
        inputs.endpoint_slices = slices
            .into_iter()
            .map(|addresses| {
                let addresses = addresses.into_iter().map(|n| format!("10.0.0.{n}"));
                let endpoints: Vec<_> = addresses.map(|address| json!({"addresses": [address]})).collect();
                slice(&json!(endpoints))
            })
            .collect();
        inputs.routes = routes
            .into_iter()
            .enumerate()
            .map(|(index, (hostnames, rules, tls, age))| {
                let rules: Vec<_> = rules
                    .into_iter()
                    .map(|(path, weight, known)| {
                        let service = if known { "chat" } else { "absent" };
                        let backend = json!({"name": service, "port": 8080, "weight": weight});
                        json!({"matches": [{"path": {"value": path}}], "backendRefs": [backend]})
                    })
                    .collect();
                let mut spec = json!({"hostnames": hostnames, "rules": rules});
                if let Some(secret) = tls {
                    spec["tls"] = json!({"secretName": secret});
                }
                let created = (age > 0).then(|| format!("2026-01-0{age}T00:00:00Z"));
                route(&format!("route-{index}"), created.as_deref(), &spec)
            })
            .collect();
        inputs
    })
}

/// A Service with one endpoint, and for each name a route with its own certificate.
fn world(names: &[&str]) -> Inputs {
    let mut inputs = Inputs::default();
    for name in names {
        inputs.secrets.insert(object(name), Arc::new(secret(name)));
        inputs.routes.push(route(
            name,
            None,
            &json!({
                "hostnames": [format!("{name}.example")],
                "tls": {"secretName": name},
                "rules": [{"backendRefs": [{"name": "chat", "port": 8080}]}],
            }),
        ));
    }
    let service = json!({"metadata": {"name": "chat", "namespace": "chat"}, "spec": {"ports": [{"port": 8080}]}});
    inputs.services.insert(object("chat"), Arc::new(read(service)));
    inputs.endpoint_slices.push(slice(&json!([{"addresses": ["10.0.0.1"]}])));
    inputs
}

fn slice<T: DeserializeOwned>(endpoints: &Value) -> Arc<T> {
    Arc::new(read(json!({
        "metadata": {"namespace": "chat", "labels": {"kubernetes.io/service-name": "chat"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}],
        "endpoints": endpoints,
    })))
}

fn secret(name: &str) -> Secret {
    let made =
        rcgen::generate_simple_self_signed([format!("{name}.example")]).expect("a certificate");
    let data = [("tls.crt", made.cert.pem()), ("tls.key", made.signing_key.serialize_pem())];
    Secret {
        type_: Some("kubernetes.io/tls".into()),
        data: Some(
            data.into_iter().map(|(key, pem)| (key.into(), ByteString(pem.into_bytes()))).collect(),
        ),
        ..Secret::default()
    }
}

fn route(name: &str, created: Option<&str>, spec: &Value) -> RouteInput {
    let metadata = json!({"name": name, "namespace": "chat", "creationTimestamp": created});
    RouteInput::Valid(Arc::new(read(json!({
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "WebSocketRoute",
        "metadata": metadata,
        "spec": spec,
    }))))
}

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn identity(output: &Output, name: &str) -> Arc<TlsIdentity> {
    let host = output.table.host(&format!("{name}.example")).expect("served");
    Arc::clone(host.tls.as_ref().expect("with its certificate"))
}

fn object(name: &str) -> ObjectRef {
    ObjectRef { namespace: "chat".into(), name: name.into() }
}
