//! As ../src/untrusted, as far as it reads text.

#[path = "../../src/untrusted/escape.rs"]
pub mod escape;
#[path = "../../src/untrusted/yaml.rs"]
pub mod yaml;
