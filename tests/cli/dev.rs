//! `tidegate dev` on a machine where nothing was prepared.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use socket2::{Domain, Socket, Type};

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

/// A port of loopback that nobody listens at, in either family, and that nobody else gets.
fn refusing_port() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

/// Runs a command that was printed, as a shell does.
fn shell(command: &str, home: &Path) -> (Option<i32>, String, String) {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env_clear().env("HOME", home);
    run(shell.env("PATH", std::env::var_os("PATH").unwrap()))
}

/// The line that begins with `start`, and those that it goes on in.
fn command(text: &str, start: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.trim_start().starts_with(start));
    let mut command = lines.next().unwrap_or_else(|| panic!("no {start:?} in:\n{text}")).to_owned();
    while command.ends_with('\\') {
        command = format!("{command}\n{}", lines.next().unwrap());
    }
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

#[test]
fn ports_come_from_the_environment_and_no_file_and_a_flag_comes_before() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(".env"), "PORT=1\nTLS_PORT=1\nADMIN_PORT=1\n").unwrap();
    let mut command = dev(home.path());
    command.current_dir(home.path());
    let wanted = |command: &Command, name: &str| -> u16 {
        let (_, value) = command.get_envs().find(|(key, _)| *key == name).unwrap();
        value.unwrap().to_str().unwrap().parse().unwrap()
    };
    let (http, tls) = (wanted(&command, "PORT"), wanted(&command, "TLS_PORT"));
    let program = Program::start(&mut command);
    let text = program.says("Ctrl-C ends it.");
    // Another test may have taken one meanwhile: then the note says so.
    for (before, wanted) in [(" ws://localhost:", http), ("wss://localhost:", tls)] {
        let got = port(&text, before);
        assert!(got == wanted || text.contains(&format!("Port {wanted} is taken")), "{text}");
    }
    let (_holder, flag) = refusing_port();
    let program = Program::start(dev(home.path()).args(["--port", &flag.to_string()]));
    let text = program.says("Ctrl-C ends it.");
    assert!(text.contains(&format!("Port {flag} is taken")), "{text}");
}

#[test]
fn a_port_that_is_taken_in_the_other_family_is_taken() {
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let number = taken.local_addr().unwrap().port();
    let program = Program::start(dev(home.path()).env("TLS_PORT", number.to_string()));
    let text = program.says("Ctrl-C ends it.");
    assert!(text.contains(&format!("Port {number} is taken by ")), "{text}");
    // Whoever takes "localhost" for ::1 comes to us, too.
    program.logs("ready");
    let tls = port(&text, "wss://localhost:");
    assert!(tls > number && TcpStream::connect((Ipv6Addr::LOCALHOST, tls)).is_ok(), "{text}");
}

#[test]
fn an_upstream_is_served_with_its_pages_and_its_sockets() {
    let (_backend, backend) = echo_backend();
    let home = tempfile::tempdir().unwrap();
    let mut command = dev(home.path());
    command.arg("--upstream").arg(format!("app=127.0.0.1:{backend}"));
    // Two at once, with the same ports to begin with.
    for program in &[Program::start(&mut command), Program::start(&mut command)] {
        let text = program.says("Ctrl-C ends it.");
        program.logs("ready");
        let certificate = PathBuf::from(word_after(&text, "Certificate "));
        let to = || tls_to("app.localhost", port(&text, "https://app.localhost:"), &certificate);
        let page = ask(&mut to(), "app.localhost", "/index.html");
        assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("/index.html"), "{page}");
        let mut stream = to();
        upgrade_at(&mut stream, "app.localhost", "/hmr");
        echo(&mut stream);
        let plain = port(&text, "http://app.localhost:");
        let mut plain = TcpStream::connect((Ipv4Addr::LOCALHOST, plain)).unwrap();
        upgrade_at(&mut plain, "app.localhost", "/hmr");
        echo(&mut plain);
    }
}

#[test]
fn several_upstreams_may_come_from_the_environment() {
    let ((_one, one), (_two, two)) = (echo_backend(), echo_backend());
    let home = tempfile::tempdir().unwrap();
    let upstreams = format!("app=127.0.0.1:{one},api=localhost:{two}");
    let program = Program::start(dev(home.path()).env("TIDEGATE_UPSTREAM", upstreams));
    let text = program.says("Ctrl-C ends it.");
    program.logs("ready");
    for host in ["app.localhost", "api.localhost"] {
        let certificate = home.path().join(format!(".local/share/tidegate/dev/{host}.pem"));
        assert!(text.contains(&certificate.display().to_string()), "{text}");
        let mut stream = tls_to(host, port(&text, &format!("https://{host}:")), &certificate);
        upgrade_at(&mut stream, host, "/");
        echo(&mut stream);
    }
}

#[test]
fn an_upstream_that_does_not_run_is_named_when_it_is_asked_and_served_when_it_does() {
    let home = tempfile::tempdir().unwrap();
    let (socket, number) = refusing_port();
    let mut command = dev(home.path());
    command.args(["--upstream", &format!("app=127.0.0.1:{number}"), "--log-level", "debug"]);
    let program = Program::start(&mut command);
    let text = program.says("Ctrl-C ends it.");
    program.logs("ready");
    let certificate = PathBuf::from(word_after(&text, "Certificate "));
    let get = |path| {
        let port = port(&text, "https://app.localhost:");
        ask(&mut tls_to("app.localhost", port, &certificate), "app.localhost", path)
    };
    let answer = get("/");
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let named = format!("127.0.0.1:{number} of default/app:80: Connection refused");
    assert!(answer.contains(&named), "{answer}");
    socket.listen(16).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = TcpListener::from(socket).accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere").unwrap();
    });
    let answer = get("/");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("here"), "{answer}");
    server.join().unwrap();
}

#[test]
fn the_port_of_an_upstream_is_left_to_it() {
    let home = tempfile::tempdir().unwrap();
    let (_socket, number) = refusing_port();
    let upstream = format!("app=localhost:{number}");
    let mut command = dev(home.path());
    command.args(["--upstream", &upstream]).env("TLS_PORT", number.to_string());
    let text = Program::start(&mut command).says("Ctrl-C ends it.");
    let note = format!("Port {number} is for the upstream app: using ");
    assert!(text.contains(&note) && port(&text, "https://app.localhost:") > number, "{text}");
}

#[test]
fn bad_arguments_get_one_sentence() {
    let home = tempfile::tempdir().unwrap();
    let sentence = |command: &mut Command| {
        let (code, out, err) = run(command);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        let first = err.lines().next().unwrap_or_default().to_owned();
        assert!(first.starts_with("error: "), "{err}");
        first
    };
    for port in ["", "http", "99999", "-1"] {
        let first = sentence(dev(home.path()).env("PORT", port));
        assert!(first.contains("expected a port number, 1 to 65535"), "{first}");
    }
    let upstream = |value: &str| sentence(dev(home.path()).args(["--upstream", value]));
    assert!(upstream("3000").contains("expected NAME=ADDRESS:PORT, such as app=127.0.0.1:3000"));
    assert!(upstream("app=http://127.0.0.1:3000").contains("is a URL: give address and port"));
    let twice = ["--upstream", "app=3000", "--upstream", "app=3001"];
    assert!(sentence(dev(home.path()).args(twice)).contains("app=… is there twice"));
    let both = sentence(dev(home.path()).args(["--upstream", "app=3000", "manifests"]));
    assert!(both.contains("cannot be used with"), "{both}");
}

#[test]
fn the_commands_that_are_printed_work_as_printed() {
    let (_backend, backend) = echo_backend();
    // A path that a shell would take for two words.
    let home = tempfile::tempdir().unwrap();
    let home = home.path().join("my home");
    fs::create_dir(&home).unwrap();
    let program = Program::start(&mut dev(&home));
    let text = program.says("Ctrl-C ends it.");
    program.logs("ready");
    // It ends by its time limit: what it opened is a WebSocket.
    let (_, out, err) = shell(&command(&text, "curl "), &home);
    assert!(out.starts_with("HTTP/1.1 101 Switching Protocols"), "{out}{err}");
    let upstream = format!("app=127.0.0.1:{backend}");
    let program = Program::start(dev(&home).args(["--upstream", &upstream]));
    let text = program.says("Ctrl-C ends it.");
    program.logs("ready");
    let (code, out, err) = shell(&command(&text, "curl "), &home);
    assert_eq!(code, Some(0), "{out}{err}");
}

/// Does what mkcert does with these arguments, with openssl, under the authority in $CAROOT or where it is by default.
const MKCERT: &str = r#"#!/bin/sh
set -eu
[ "$1" = -cert-file ] && [ "$3" = -key-file ]
chain=$2 key=$4
shift 4
names=
for name; do
    case $name in *:* | *.*.*.*) names=$names,IP:$name ;; *) names=$names,DNS:$name ;; esac
done
root=${CAROOT:-$HOME/.local/share/mkcert}
exec openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 -subj /CN=mkcert     -keyout "$key" -out "$chain" -CA "$root/rootCA.pem" -CAkey "$root/rootCA-key.pem"     -addext "subjectAltName=${names#,}" -addext basicConstraints=critical,CA:FALSE
"#;

#[test]
fn where_mkcert_is_its_certificate_is_a_command_away() {
    let (_backend, backend) = echo_backend();
    let home = tempfile::tempdir().unwrap();
    let start = |path: &str| {
        let upstream = format!("app=127.0.0.1:{backend}");
        let program =
            Program::start(dev(home.path()).env("PATH", path).arg("--upstream").arg(upstream));
        let text = program.says("Ctrl-C ends it.");
        program.logs("ready");
        (program, text)
    };
    let bin = home.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("mkcert"), MKCERT).unwrap();
    fs::set_permissions(bin.join("mkcert"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    // The program alone has no authority yet.
    assert!(!start(&path).1.contains("mkcert -cert-file"));
    let root = home.path().join(".local/share/mkcert");
    fs::create_dir_all(&root).unwrap();
    let (code, _, err) = shell(
        &format!(
            "cd {} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 30 -subj /CN=root -keyout rootCA-key.pem -out rootCA.pem",
            root.display()
        ),
        home.path(),
    );
    assert_eq!(code, Some(0), "{err}");
    assert!(!start("/nowhere").1.contains("mkcert -cert-file"));
    let (_, text) = start(&path);
    let line = command(&text, "mkcert ");
    assert!(line.ends_with(" app.localhost"), "{line}");
    let (code, _, err) = shell(&format!("PATH={path}; {line}"), home.path());
    assert_eq!(code, Some(0), "{err}");
    let (_program, text) = start(&path);
    assert!(text.contains("made by mkcert"), "{text}");
    assert!(!text.contains("mkcert -cert-file"), "{text}");
    let port = port(&text, "https://app.localhost:");
    let mut stream = tls_to("app.localhost", port, &root.join("rootCA.pem"));
    upgrade_at(&mut stream, "app.localhost", "/");
    echo(&mut stream);
    let (code, _, err) = shell(&command(&text, "curl "), home.path());
    assert_eq!(code, Some(0), "{err}");
}
