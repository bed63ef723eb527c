//! As ../src/gateway, as far as it is pure.

#[path = "../../src/gateway/tls/client_hello.rs"]
pub mod client_hello;
#[path = "../../src/gateway/frames.rs"]
pub mod frames;
#[path = "../../src/gateway/goodbye.rs"]
pub mod goodbye;
#[path = "../../src/gateway/handshake.rs"]
pub mod handshake;
#[path = "../../src/gateway/head.rs"]
pub mod head;
#[path = "../../src/gateway/headers.rs"]
pub mod headers;
#[path = "../../src/gateway/refuse.rs"]
pub mod refuse;
#[path = "../../src/gateway/sieve.rs"]
pub mod sieve;
#[path = "../../src/gateway/way.rs"]
pub mod way;
