//! What one opening handshake costs in its pure parts, both halves.
//! `make bench`, or `cargo bench --bench handshake`.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "workload/handshake.rs"]
mod workload;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn handshake(criterion: &mut Criterion) {
    let (whole, answer) = (workload::request(), workload::answer());
    let request = whole.headers.clone();
    criterion.bench_function("handshake: way of a request, 14 headers", |bencher| {
        bencher.iter(|| workload::way(black_box(&whole)));
    });
    criterion.bench_function("handshake: sender and path, 14 headers", |bencher| {
        let run = |headers| black_box(workload::sender(&whole.uri, headers));
        bencher.iter_batched(|| request.clone(), run, BatchSize::SmallInput);
    });
    criterion.bench_function("handshake: client's half, 14 headers", |bencher| {
        let run = |headers| black_box(workload::client_half(headers, &answer));
        bencher.iter_batched(|| request.clone(), run, BatchSize::SmallInput);
    });
    criterion.bench_function("handshake: backend's half, 6 headers", |bencher| {
        let run = |answer| workload::backend_half(answer, black_box(&request));
        bencher.iter_batched(|| answer.clone(), run, BatchSize::SmallInput);
    });
}

criterion_group!(benches, handshake);
criterion_main!(benches);
