//! Through an HTTP proxy, and without.

use std::{io::Write, net::TcpStream, thread};

use crate::{
    doctor, examine, finds,
    server::{closed_port, echo, head, plain, value},
};

/// "joe:p@ss".
const LOGIN: &str = "Basic am9lOnBAc3M=";

/// A proxy for those who log in, which knows the name gw.test.
fn proxy(server: u16) -> u16 {
    plain(move |client| {
        let head = head(client);
        if value(&head, "proxy-authorization") != Some(LOGIN) {
            let text =
                "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=\"lab\"\r\n\r\n";
            client.write_all(text.as_bytes()).unwrap();
        } else if head.starts_with("CONNECT gw.test:80 HTTP/1.1\r\n") {
            client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
            let mut upstream = TcpStream::connect(("127.0.0.1", server)).unwrap();
            let (mut from, mut back) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            let copying = thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut back);
                let _ = back.shutdown(std::net::Shutdown::Both);
            });
            let _ = std::io::copy(client, &mut upstream);
            let _ = upstream.shutdown(std::net::Shutdown::Write);
            copying.join().unwrap();
        } else {
            client
                .write_all(b"HTTP/1.1 403 Forbidden\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n")
                .unwrap();
        }
    })
}

#[test]
fn what_only_the_proxy_reaches_is_well_through_it() {
    let proxy = proxy(echo(crate::program::DEADLINE));
    let url = format!("http://joe:p%40ss@127.0.0.1:{proxy}");
    // The name is the proxy's to resolve.
    let found = examine("ws://gw.test/", &["--proxy", &url], 0);
    assert_eq!(found.says(), []);
    assert_eq!(found.seen("proxy")["status"], 200);
    assert!(!found.text.contains("p%40ss") && !found.text.contains("am9l"), "{}", found.text);
    assert!(found.document["notes"].to_string().contains("through the proxy only"));
}

#[test]
fn the_proxys_own_faults_are_its_own() {
    let port = proxy(echo(crate::program::DEADLINE));
    let with = |url: &str, proxy: &str| examine(url, &["--proxy", proxy], 19);
    let found = with("ws://gw.test/", &format!("http://127.0.0.1:{port}"));
    assert_eq!(found.says(), [("proxy_auth", "http_proxy")]);
    let found = with("ws://other.test/", &format!("http://joe:p%40ss@127.0.0.1:{port}"));
    assert_eq!(found.says(), [("proxy_refused", "http_proxy")]);
    assert!(found.evidence().contains("ERR_ACCESS_DENIED"), "{}", found.text);
    let found = with("ws://gw.test/", &format!("http://127.0.0.1:{}", closed_port()));
    assert_eq!(found.says(), [("proxy_unreachable", "http_proxy")]);
}

#[test]
fn the_environment_names_it_and_the_way_without_it_is_compared() {
    let server = echo(crate::program::DEADLINE);
    let url = format!("ws://127.0.0.1:{server}/");
    let dead = format!("http://127.0.0.1:{}", closed_port());
    let mut command = doctor(&url, &[]);
    let found = finds(command.env("HTTP_PROXY", &dead), 19);
    assert!(found.evidence().contains("NO_PROXY=127.0.0.1"), "{}", found.text);
    assert_eq!(found.document["proxy"], dead.trim_start_matches("http://"));
    finds(command.env("NO_PROXY", "127.0.0.0/8"), 0);
    finds(doctor(&url, &["--proxy", "none"]).env("http_proxy", &dead), 0);
    finds(doctor(&url, &[]).env("HTTPS_PROXY", &dead), 0);
}
