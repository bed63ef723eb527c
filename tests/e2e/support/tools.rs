//! kubectl and helm, as processes.

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// The checkout.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The chart under test.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/tidegate");

/// Runs kubectl, with `input` as its standard input. Its output, or what it complained about.
pub fn try_kubectl(arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    run("kubectl", &[&["--request-timeout=30s"], arguments].concat(), input)
}

/// Runs kubectl, which must succeed.
#[track_caller]
pub fn kubectl(arguments: &[&str]) -> String {
    try_kubectl(arguments, None).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs helm. Its output, or what it complained about.
pub fn try_helm(arguments: &[&str]) -> Result<String, String> {
    run("helm", arguments, None)
}

/// Runs helm, which must succeed.
#[track_caller]
pub fn helm(arguments: &[&str]) -> String {
    try_helm(arguments).unwrap_or_else(|error| panic!("{error}"))
}

fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    let said = || format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            format!("{}: {error}; these tests are started by tests/e2e/run", said())
        })?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        // A program that ends before it has read everything says why itself.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| format!("{}: {error}", said()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{} failed: {}{}", said(), text(&output.stderr), text(&output.stdout)))
    }
}

/// A number from the environment, by which longer runs differ from the regular one.
pub fn setting(name: &str, regular: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => regular,
    }
}
