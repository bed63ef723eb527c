//! What one read of the relay costs in looking at frames.
//! `make bench`, or `cargo bench --bench frames`.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "workload/frames.rs"]
mod workload;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frames");
    for (name, frames, payload) in
        [("1 of 64 B", 1, 64), ("1 of 16 KiB", 1, 16_384), ("100 of 64 B", 100, 64)]
    {
        let mut read = workload::read(frames, payload);
        group.throughput(Throughput::Elements(frames as u64));
        let mut scanner = workload::scanner();
        group.bench_function(format!("scan: {name}"), |bencher| {
            bencher.iter(|| workload::scan(&mut scanner, black_box(&read)));
        });
        let mut filter = workload::filter();
        group.bench_function(format!("sift: {name}"), |bencher| {
            bencher.iter(|| workload::apply(&mut filter, black_box(&mut read)));
        });
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
