//! What the table of a tenant costs that writes all that the schema lets it: routes of 16 hostnames, 16 rules and 16 matches each.
//! `_RJEM_MALLOC_CONF=dirty_decay_ms:0,muzzy_decay_ms:0 cargo bench --bench table_memory -- ROUTES [default]`: so what is freed
//! goes back at once, and the resident memory is what is held. With `default` the default budgets hold, else none.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::{fs, hint::black_box, sync::Arc};

use serde_json::{Value, json};
use tidegate::{
    api::WebSocketRoute,
    translate::{Budgets, Inputs, RouteInput, Translator},
};
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ITEMS: usize = 16;

/// MiB of a line of proc_pid_status(5).
fn memory(line: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    found.trim_matches([':', '\t', ' ']).trim_end_matches(" kB").trim().parse::<f64>().unwrap()
        / 1024.0
}

fn resident() -> f64 {
    memory("VmRSS")
}

fn route(number: usize) -> RouteInput {
    let hostnames: Vec<_> =
        (0..ITEMS).map(|host| format!("h{host}.r{number}.example.com")).collect();
    let rule = |rule: usize| -> Value {
        let matches: Vec<_> =
            (0..ITEMS).map(|path| json!({"path": {"value": format!("/{rule}/{path}")}})).collect();
        json!({"matches": matches, "backendRefs": [{"name": "app", "port": 80}]})
    };
    let rules: Vec<_> = (0..ITEMS).map(rule).collect();
    let route: WebSocketRoute = serde_json::from_value(json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "WebSocketRoute",
        "metadata": {"name": format!("r-{number}"), "namespace": "tenant"},
        "spec": {"hostnames": hostnames, "rules": rules},
    }))
    .unwrap();
    RouteInput::Valid(Arc::new(route))
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|text| text != "--bench");
    let routes = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(450);
    let budgets = match arguments.next().as_deref() {
        Some("default") => Budgets::default(),
        _ => Budgets {
            matches_per_namespace: usize::MAX,
            backends_per_namespace: usize::MAX,
            match_bytes_per_namespace: usize::MAX,
            ..Budgets::default()
        },
    };
    let start = resident();
    let inputs = Inputs { routes: (0..routes).map(route).collect(), ..Inputs::default() };
    println!("{routes} routes: inputs {:.1} MiB", resident() - start);
    let before = resident();
    let mut translator = Translator::default().with_budgets(budgets);
    let output = translator.translate(&inputs, "tidegate");
    let table = output.table;
    drop((output.statuses, output.problems));
    let entries: usize = table.hosts().iter().map(|host| host.entries().count()).sum();
    println!(
        "table: {entries} entries, {:.1} MiB; peak of the process {:.1} MiB",
        resident() - before,
        memory("VmHWM")
    );
    black_box(&table);
}
