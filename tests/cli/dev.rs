//! `tidegate dev` on a machine where nothing was prepared.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use crate::program::*;

/// `dev` with a home of its own, on ports that are free at the moment.
fn dev(home: &Path) -> Command {
    let free =
        || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut command = tidegate();
    command.arg("dev").env("HOME", home).env("TMPDIR", home);
    command.env("PORT", free()).env("TLS_PORT", free()).env("ADMIN_PORT", free());
    command
}

/// The number between `before` and the next `/`.
fn port(text: &str, before: &str) -> u16 {
    let rest = &text[text.find(before).unwrap() + before.len()..];
    rest.split('/').next().unwrap().parse().unwrap()
}

fn word_after<'t>(text: &'t str, before: &str) -> &'t str {
    let rest = &text[text.find(before).unwrap() + before.len()..];
    rest.split_whitespace().next().unwrap()
}

#[test]
fn it_ends_in_a_wss_echo_with_the_certificate_that_it_prints() {
    let home = tempfile::tempdir().unwrap();
    let program = Program::start(&mut dev(home.path()));
    let text = program.says("Ctrl-C ends it.");
    program.logs("ready");
    let certificate = PathBuf::from(word_after(&text, "Certificate "));
    let mut stream = tls(port(&text, "wss://localhost:"), &certificate);
    upgrade(&mut stream, "/any/path");
    echo(&mut stream);
    let mut plain = TcpStream::connect(("127.0.0.1", port(&text, " ws://localhost:"))).unwrap();
    upgrade(&mut plain, "/");
    echo(&mut plain);
}

#[test]
fn the_sample_is_served_anew_when_it_is_edited_and_removed_at_the_end() {
    let home = tempfile::tempdir().unwrap();
    let mut program = Program::start(&mut dev(home.path()));
    let text = program.says("Ctrl-C ends it.");
    program.logs("ready");
    let sample = PathBuf::from(word_after(&text, "Manifests ")).join("sample.yaml");
    let edited = fs::read_to_string(&sample).unwrap().replace("value: /}", "value: /ws}");
    fs::write(&sample, edited).unwrap();
    let http = ([127, 0, 0, 1], port(&text, " ws://localhost:")).into();
    get_until(http, "/elsewhere", "404 Not Found");
    assert!(get(http, "/ws").contains("426 Upgrade Required"));
    program.signal("INT");
    assert_eq!(program.ends().code(), Some(0));
    assert!(!sample.exists());
}

#[test]
fn a_taken_port_is_named_with_its_owner_and_the_next_free_one_is_used() {
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = taken.local_addr().unwrap().port();
    let program = Program::start(dev(home.path()).env("TLS_PORT", number.to_string()));
    let text = program.says("Ctrl-C ends it.");
    let me = format!("(pid {})", std::process::id());
    assert!(text.contains(&format!("Port {number} is taken by ")) && text.contains(&me), "{text}");
    assert!(port(&text, "wss://localhost:") > number, "{text}");
}

#[test]
fn two_at_once_do_not_disturb_each_other_and_share_the_certificate() {
    let home = tempfile::tempdir().unwrap();
    let mut command = dev(home.path());
    let (one, two) = (Program::start(&mut command), Program::start(&mut command));
    for program in [&one, &two] {
        let text = program.says("Ctrl-C ends it.");
        program.logs("ready");
        let certificate = PathBuf::from(word_after(&text, "Certificate "));
        let mut stream = tls(port(&text, "wss://localhost:"), &certificate);
        upgrade(&mut stream, "/");
        echo(&mut stream);
    }
}

#[test]
fn a_folder_of_ones_own_is_served() {
    let (_backend, backend) = echo_backend();
    let (home, folder) = (tempfile::tempdir().unwrap(), folder(backend));
    let program = Program::start(dev(home.path()).arg(folder.path()));
    let text = program.says("Ctrl-C ends it.");
    program.logs("ready");
    // Without a Secret of its own the host is shown the certificate of `dev`.
    let mut stream =
        tls(port(&text, "wss://localhost:"), Path::new(word_after(&text, "Certificate ")));
    upgrade(&mut stream, "/");
    echo(&mut stream);
}
