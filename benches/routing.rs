//! What one request and one change cost in routing: look-ups in a large table, and its translation.
//! `make bench`, or `cargo bench --bench routing`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate::{
    table::{ObjectRef, RequestFacts},
    translate::{Inputs, RouteInput, Translator},
};

const ROUTES: usize = 5_000;
const ENDPOINTS: usize = 4;

fn read<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

/// Routes with a host, a Service and some endpoints each.
fn inputs() -> Inputs {
    let mut inputs = Inputs { reference_grants: Some(Vec::new()), ..Inputs::default() };
    let mut services = BTreeMap::new();
    for number in 0..ROUTES {
        let name = format!("app-{number}");
        inputs.routes.push(RouteInput::Valid(read(json!({
            "apiVersion": "tidegate.io/v1alpha1", "kind": "WebSocketRoute",
            "metadata": {"name": name, "namespace": "bench"},
            "spec": {
                "hostnames": [format!("{name}.example.com")],
                "rules": [
                    {"matches": [{"path": {"value": "/ws"}}], "backendRefs": [{"name": name, "port": 80}]},
                    {"matches": [{"path": {"type": "Exact", "value": "/health"}}], "backendRefs": [{"name": name, "port": 80}]},
                ],
            },
        }))));
        let key = ObjectRef { namespace: "bench".into(), name: name.clone() };
        services.insert(
            key,
            read(json!({
                "metadata": {"name": name, "namespace": "bench"},
                "spec": {"ports": [{"name": "ws", "port": 80}]},
            })),
        );
        let addresses = (0..ENDPOINTS).map(
            |pod| json!({"addresses": [format!("10.{}.{}.{pod}", number / 250, number % 250)]}),
        );
        inputs.endpoint_slices.push(read(json!({
            "metadata": {"name": format!("{name}-1"), "namespace": "bench", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "ws", "port": 8080}],
            "endpoints": addresses.collect::<Vec<_>>(),
        })));
    }
    inputs.services = services;
    inputs
}

fn routing(criterion: &mut Criterion) {
    let inputs = inputs();
    let mut translator = Translator::default();
    let table = translator.translate(&inputs, "tidegate").table;
    let headers = HeaderMap::new();
    criterion.bench_function("look-up: host and path among 5,000 routes", |bencher| {
        bencher.iter(|| {
            let host = table.host(black_box("app-4321.example.com")).unwrap();
            let facts =
                RequestFacts { path: black_box("/ws/rooms/17"), query: None, headers: &headers };
            black_box(host.find(&facts).unwrap().timeouts);
        });
    });
    let mut group = criterion.benchmark_group("translation");
    group.sample_size(10);
    group.bench_function("5,000 routes, 5,000 Services, 20,000 endpoints", |bencher| {
        bencher.iter(|| black_box(translator.translate(black_box(&inputs), "tidegate")));
    });
    group.finish();
}

criterion_group!(benches, routing);
criterion_main!(benches);
