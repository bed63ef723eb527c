//! Runs one workload a number of times and nothing else, to have its instructions counted: `benches/instructions`.
//! Without arguments it lists the workloads.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod frames;
mod handshake;

use std::hint::black_box;

/// Names, and what they run. What a run is given is made for each of them, and counted.
const WORKLOADS: [(&str, fn(u64)); 8] = [
    ("frames: scan a read of 100 of 64 B", |times| {
        let (mut scanner, read) = (frames::scanner(), frames::read(100, 64));
        for _ in 0..times {
            black_box(frames::scan(&mut scanner, black_box(&read)));
        }
    }),
    ("frames: sift a read of 1 of 64 B", |times| apply(times, 1, 64)),
    ("frames: sift a read of 1 of 16 KiB", |times| apply(times, 1, 16_384)),
    ("frames: sift a read of 100 of 64 B", |times| apply(times, 100, 64)),
    ("handshake: way of a request, 14 headers", |times| {
        let request = handshake::request();
        for _ in 0..times {
            black_box(handshake::way(black_box(&request)));
        }
    }),
    ("handshake: sender and path, 14 headers", |times| {
        let request = handshake::request();
        for _ in 0..times {
            let request = black_box(&request);
            black_box(handshake::sender(&request.uri, request.headers.clone()));
        }
    }),
    ("handshake: client's half, 14 headers", |times| {
        let (request, answer) = (handshake::request().headers, handshake::answer());
        for _ in 0..times {
            black_box(handshake::client_half(black_box(&request).clone(), &answer));
        }
    }),
    ("handshake: backend's half, 6 headers", |times| {
        let (request, answer) = (handshake::request().headers, handshake::answer());
        for _ in 0..times {
            handshake::backend_half(black_box(&answer).clone(), black_box(&request));
        }
    }),
];

fn apply(times: u64, frames: usize, payload: u16) {
    let (mut filter, mut read) = (frames::filter(), frames::read(frames, payload));
    for _ in 0..times {
        black_box(frames::apply(&mut filter, black_box(&mut read)));
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [name, times] => {
            let found = WORKLOADS.iter().find(|(known, _)| known == name);
            let (_, run) = found.expect("one of the names that are listed without arguments");
            run(times.parse().unwrap());
        }
        _ => WORKLOADS.iter().for_each(|(name, _)| println!("{name}")),
    }
}
