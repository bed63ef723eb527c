//! `--hostname-policy`: a broken file at the start ends the program; later files are followed while sockets stay open, and a broken
//! one changes nothing but what is told.

use std::{fs, net::TcpStream};

use crate::program::*;

/// The route of [`folder`] is for localhost, in the namespace `default`.
const OURS: &str = "default: Deny\nrules:\n- {hostnames: [localhost], namespaces: [default]}\n";
const THEIRS: &str = "default: Deny\nrules:\n- {hostnames: [localhost], namespaces: [other]}\n";

#[test]
fn a_broken_policy_at_the_start_is_an_error_with_its_line() {
    let folder = folder(1);
    let policy = inside(&folder, "policy");
    for (text, told) in [
        ("default: Deny\nrule: []\n", "line 2"),
        ("default: Nobody\n", "neither Contest"),
        ("", "is empty; write default"),
    ] {
        fs::write(&policy, text).unwrap();
        let (code, out, err) = run(serve(folder.path()).arg("--hostname-policy").arg(&policy));
        assert_eq!(code, Some(1), "{text:?}: {err}");
        assert!(err.contains("--hostname-policy") && err.contains(told), "{text:?}: {err}");
        assert!(!out.contains("ready"), "{out}");
    }
    let (code, _, err) = run(serve(folder.path()).args(["--hostname-policy", "/absent/policy"]));
    assert!(code == Some(1) && err.contains("/absent/policy: cannot be read"), "{err}");
}

#[test]
fn a_policy_is_followed_while_sockets_stay_open() {
    let (_backend, port) = echo_backend();
    let folder = folder(port);
    let policy = inside(&folder, "policy");
    fs::write(&policy, OURS).unwrap();
    let program = Program::start(serve(folder.path()).arg("--hostname-policy").arg(&policy));
    let (http, admin) = (program.address("http"), program.address("admin"));
    let connect = || TcpStream::connect(http).unwrap();
    let mut open = connect();
    upgrade(&mut open, "/");
    echo(&mut open);

    fs::write(&policy, "default: [").unwrap();
    program.logs("the last sound hostname policy holds");
    let ready = get_until(admin, "/readyz", "degraded");
    assert!(ready.contains("--hostname-policy") && ready.contains("line 1"), "{ready}");
    let synced = "tidegate_source_synced{kind=\"hostname-policy\"}";
    get_until(admin, "/metrics", &format!("{synced} 0"));
    upgrade(&mut connect(), "/");

    fs::write(&policy, THEIRS).unwrap();
    program.logs("does not let namespace default have localhost");
    get_until(admin, "/metrics", &format!("{synced} 1"));
    let answer = ask(&mut connect(), "localhost", "/");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    echo(&mut open);

    fs::write(&policy, OURS).unwrap();
    program.logs("no longer: WebSocketRoute default/");
    upgrade(&mut connect(), "/");
    echo(&mut open);
}

#[test]
fn check_judges_by_a_policy() {
    let folder = folder(8080);
    let policy = inside(&folder, "policy");
    for (text, code, told) in [
        (OURS, 0, "ok: "),
        (THEIRS, 1, "HostnameNotPermitted"),
        (
            "default: Deny\nrules: [{hostnames: [localhost], namespaceSelector: {matchLabels: {a: b}}}]",
            1,
            "Namespace default is not among the files",
        ),
        ("rules: []", 2, "--hostname-policy"),
    ] {
        fs::write(&policy, text).unwrap();
        let mut command = tidegate();
        command.arg("check").arg("--hostname-policy").arg(&policy).arg(folder.path());
        let (found, out, err) = run(&mut command);
        assert_eq!(found, Some(code), "{text:?}: {out}{err}");
        assert!(format!("{out}{err}").contains(told), "{text:?}: {out}{err}");
    }
}
