//! Runs one workload a number of times and nothing else, to have its instructions counted: `benches/instructions`.
//! Without arguments it lists the workloads.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod handshake;

use std::hint::black_box;

/// Names, and what they run. What a run is given is made for each of them, and counted.
const WORKLOADS: [(&str, fn(u64)); 2] = [
    ("handshake: client's half, 14 headers", |times| {
        let (request, answer) = (handshake::request(), handshake::answer());
        for _ in 0..times {
            black_box(handshake::client_half(black_box(&request).clone(), &answer.headers));
        }
    }),
    ("handshake: backend's half, 6 headers", |times| {
        let (request, answer) = (handshake::request(), handshake::answer());
        for _ in 0..times {
            handshake::backend_half(black_box(&answer).clone(), black_box(&request));
        }
    }),
];

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
