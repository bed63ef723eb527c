//! What one change costs the control plane: from inputs of a large cluster to the table, in milliseconds of CPU time of this
//! thread. `make bench`, or `cargo bench --bench translation`. Without criterion: CPU time, not the time of a shared machine.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::{collections::BTreeMap, fs, hint::black_box, sync::Arc};

use k8s_openapi::{ByteString, api::core::v1::Secret, api::discovery::v1::EndpointSlice};
use rcgen::{CertificateParams, KeyPair};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate::{
    api::WebSocketRoute,
    table::{ObjectRef, TableCell},
    translate::{Inputs, RouteInput, Translator},
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROUTES: usize = 5_000;
const SERVICES: usize = 2_000;
const ENDPOINTS: usize = 10;
const ROUNDS: usize = 15;

fn read<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn name(number: usize) -> String {
    format!("app-{number:04}")
}

fn object(name: &str) -> ObjectRef {
    ObjectRef { namespace: "bench".into(), name: name.into() }
}

fn route(number: usize, path: &str) -> RouteInput {
    let (name, service) = (name(number), name(number % SERVICES));
    // Routes come in the order of names, as the store has them, and not in that of their ages.
    let created =
        jiff::Timestamp::from_second(1_770_000_000 + (number as i64 * 7_919) % 5_003).unwrap();
    RouteInput::Valid(read::<WebSocketRoute>(json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "WebSocketRoute",
        "metadata": {"name": name, "namespace": "bench", "generation": 1, "creationTimestamp": created},
        "spec": {
            "hostnames": [format!("{name}.example.com")],
            "tls": {"secretName": name},
            "rules": [
                {"matches": [{"path": {"value": path}}], "backendRefs": [{"name": service, "port": 80}]},
                {"matches": [{"path": {"type": "Exact", "value": "/health"}}], "backendRefs": [{"name": service, "port": 80}]},
            ],
        },
    })))
}

fn slice(number: usize, last: usize) -> Arc<EndpointSlice> {
    let name = name(number);
    let address = |pod| format!("10.{}.{}.{pod}", number / 250, number % 250);
    let addresses = (0..ENDPOINTS - 1).chain([last]);
    let endpoints: Vec<_> = addresses
        .map(|pod| {
            json!({"addresses": [address(pod)], "conditions": {"ready": true, "serving": true, "terminating": false},
                   "nodeName": format!("node-{pod}"), "zone": "a",
                   "targetRef": {"kind": "Pod", "namespace": "bench", "name": format!("{name}-{pod}")}})
        })
        .collect();
    read(json!({
        "metadata": {"name": format!("{name}-1"), "namespace": "bench", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "ws", "port": 8080}],
        "endpoints": endpoints,
    }))
}

fn secret(number: usize, key: &KeyPair) -> Arc<Secret> {
    let params = CertificateParams::new([format!("{}.example.com", name(number))]).unwrap();
    let pem = params.self_signed(key).unwrap().pem();
    let data = [("tls.crt", pem), ("tls.key", key.serialize_pem())];
    Arc::new(Secret {
        type_: Some("kubernetes.io/tls".into()),
        data: Some(
            data.into_iter()
                .map(|(name, pem)| (name.into(), ByteString(pem.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    })
}

fn inputs(key: &KeyPair) -> Inputs {
    let mut inputs = Inputs {
        reference_grants: Some(Vec::new()),
        now: Some(1_780_272_000),
        ..Inputs::default()
    };
    let mut services = BTreeMap::new();
    for number in 0..ROUTES {
        inputs.routes.push(route(number, "/ws"));
        inputs.secrets.insert(object(&name(number)), secret(number, key));
    }
    for number in 0..SERVICES {
        let name = name(number);
        services.insert(
            object(&name),
            read(json!({
                "metadata": {"name": name, "namespace": "bench"},
                "spec": {"ports": [{"name": "ws", "port": 80}]},
            })),
        );
        inputs.endpoint_slices.push(slice(number, ENDPOINTS));
    }
    inputs.services = services;
    inputs
}

/// Milliseconds that this thread has been on a CPU (proc_pid_schedstat(5)).
fn cpu() -> f64 {
    // The kernel brings the figure up to date when it looks whom to run next.
    std::thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
}

fn resident_mib() -> f64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn main() {
    let key = KeyPair::generate().unwrap();
    let before = resident_mib();
    let mut inputs = inputs(&key);
    println!(
        "{ROUTES} routes, {ROUTES} Secrets, {SERVICES} Services, {} endpoints; the objects take {:.0} MiB",
        SERVICES * ENDPOINTS,
        resident_mib() - before
    );
    let mut translator = Translator::default();
    let cell = TableCell::default();
    // As the control loop does it: a copy of the inputs, the translation, the comparison with the table in service.
    let mut build = |inputs: &Inputs| {
        let start = cpu();
        let snapshot = black_box(inputs).clone();
        let copied = cpu();
        let output = translator.translate(&snapshot, "tidegate");
        let translated = cpu();
        assert!(output.problems.is_empty(), "{:?}", output.problems.first());
        let published = cell.publish(output.table).is_some();
        drop(output.statuses);
        drop(snapshot);
        let end = cpu();
        (end - start, copied - start, translated - copied, published)
    };
    let before = resident_mib();
    let (whole, _, translation, _) = build(&inputs);
    println!(
        "the first table: {whole:.0} ms of CPU, {translation:.0} of it translation; {:.0} MiB",
        resident_mib() - before
    );
    type Change = fn(&mut Inputs, usize, &KeyPair);
    let changes: [(&str, Change); 4] = [
        ("nothing", |_, _, _| {}),
        ("an endpoint", |inputs, round, _| inputs.endpoint_slices[7] = slice(7, 100 + round)),
        ("a route", |inputs, round, _| inputs.routes[7] = route(7, &format!("/v{round}"))),
        ("a Secret", |inputs, _, key| {
            inputs.secrets.insert(object(&name(7)), secret(7, key));
        }),
    ];
    for (what, change) in changes {
        let mut rounds: Vec<_> = (0..ROUNDS)
            .map(|round| {
                change(&mut inputs, round, &key);
                build(&inputs)
            })
            .collect();
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (whole, copy, translation, published) = rounds[ROUNDS / 2];
        let (least, most) = (rounds[0].0, rounds[ROUNDS - 1].0);
        println!(
            "change of {what}: {whole:.1} ms of CPU (median of {ROUNDS}; {least:.1} to {most:.1}), of it copy {copy:.1}, \
             translation {translation:.1}, comparison and freeing {:.1}; published: {published}",
            whole - copy - translation
        );
    }
    println!("in the end {:.0} MiB", resident_mib());
}
