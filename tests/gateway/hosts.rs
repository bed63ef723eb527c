//! `Host`: what is asked for is a name in one form, or nothing.

use crate::support::{Backend, Harness, switching, upgrade_request};

#[test]
fn a_host_that_is_more_than_a_name_and_a_port_is_refused() {
    let backend = Backend::bind();
    let gateway = Harness::to(&backend);
    for host in [
        "a.test:80,evil.example",
        "a'(b);--.a.test",
        "a.test:99999",
        "a.test:port",
        "a.test:-1",
        "a.test:+80",
        "a.test:80:80",
        "a..test",
        "a.test%00",
        "a%2etest",
        "a.test\\evil",
        "a.test|evil",
        "[::1",
        "127.1",
    ] {
        let (head, body) = gateway.ask(upgrade_request(host));
        assert_eq!(
            (head.status(), head.get("tidegate-reason")),
            (400, Some("bad_handshake")),
            "{host}"
        );
        assert!(body.starts_with("The Host header "), "{body}");
        assert!(!body.contains("evil"), "{body}");
    }
    backend.assert_untouched();
}

#[test]
fn the_same_host_goes_on_as_was_matched() {
    for (sent, expected) in [
        ("a.test", "a.test"),
        ("A.TEST.", "a.test"),
        ("A.test:8080", "a.test:8080"),
        ("a.test:", "a.test"),
        ("a.test:00080", "a.test:80"),
    ] {
        let backend = Backend::bind();
        let gateway = Harness::to(&backend);
        let mut client = gateway.client();
        client.send(upgrade_request(sent));
        let (_server, asked) = backend.answer(switching(""));
        assert_eq!(asked.get("host"), Some(expected), "{sent}");
        assert_eq!(asked.get("x-forwarded-host"), Some(expected), "{sent}");
        let port = expected.split_once(':').map_or("80", |(_, port)| port);
        assert_eq!(asked.get("x-forwarded-port"), Some(port), "{sent}");
    }
}
