use proptest::prelude::*;

use super::*;

fn headers(lines: &[(&str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value).unwrap(),
        );
    }
    headers
}

/// What a backend is told, sorted, where a peer with the address 10.1.2.3 asks by TLS.
fn told(lines: &[(&str, &[u8])], trusted: bool, kept: &[&'static str]) -> Vec<(String, String)> {
    let mut map = headers(lines);
    let peer = "10.1.2.3".parse().unwrap();
    let client = client_address(&map, peer, |address| trusted && inside(address));
    let authority = Authority::parse(b"A.test:8443").unwrap();
    let sender = Sender { peer, trusted, client, scheme: Scheme::Https, authority: &authority };
    let kept: Vec<_> = kept.iter().map(|name| HeaderName::from_static(name)).collect();
    tell_sender(&mut map, &sender, &kept);
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    let mut all: Vec<_> = map.iter().map(line).collect();
    all.sort();
    all
}

fn inside(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10)
}

fn expected(chain: &str, client: &str, proto: &str) -> Vec<(String, String)> {
    [
        ("host", "a.test:8443"),
        ("x-forwarded-for", chain),
        ("x-forwarded-host", "a.test:8443"),
        ("x-forwarded-port", "8443"),
        ("x-forwarded-proto", proto),
        ("x-real-ip", client),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

const LIES: [(&str, &[u8]); 14] = [
    ("host", b"A.test:8443"),
    ("x-forwarded-for", b"1.1.1.1"),
    ("x-forwarded-proto", b"http"),
    ("x-forwarded-host", b"evil.test"),
    ("x-forwarded-port", b"1"),
    ("x-forwarded-server", b"evil"),
    ("x-forwarded-prefix", b"/evil"),
    ("x-forwarded-user", b"admin"),
    ("forwarded", b"for=1.1.1.1"),
    ("x-real-ip", b"2.2.2.2"),
    ("x-original-url", b"/admin"),
    ("x_forwarded_for", b"3.3.3.3"),
    ("x.real.ip", b"3.3.3.3"),
    ("sec_websocket_key", b"x"),
];

#[test]
fn claims_of_a_peer_that_is_not_trusted_are_replaced() {
    let told = told(&LIES, false, &["x-forwarded-user"]);
    assert_eq!(told, expected("10.1.2.3", "10.1.2.3", "https"));
}

#[test]
fn of_a_trusted_proxy_the_client_and_its_scheme_count_and_nothing_else() {
    let told = told(&LIES, true, &[]);
    assert_eq!(told, expected("1.1.1.1, 10.1.2.3", "1.1.1.1", "http"));
}

#[test]
fn what_operators_name_passes_from_a_trusted_proxy_and_no_alias_of_it() {
    let told =
        told(&LIES, true, &["x-forwarded-user", "x-forwarded-host", "x-real-ip", "forwarded"]);
    let find = |name: &str| told.iter().find(|(other, _)| other == name).map(|(_, value)| &**value);
    assert_eq!(find("x-forwarded-user"), Some("admin"));
    assert_eq!(find("x-forwarded-host"), Some("evil.test"));
    assert_eq!(find("x-real-ip"), Some("2.2.2.2"));
    assert_eq!(find("forwarded"), Some("for=1.1.1.1"));
    assert_eq!(find("x-forwarded-port"), Some("8443"));
    assert_eq!(find("x-forwarded-prefix"), None);
    assert_eq!(find("x_forwarded_for"), None);
}

#[test]
fn a_chain_goes_on_as_far_as_it_can_be_read_from_the_right() {
    let chain = |lines: &[(&str, &[u8])]| {
        let told = told(lines, true, &[]);
        told.into_iter().find(|(name, _)| name == "x-forwarded-for").unwrap().1
    };
    for (line, expected) in [
        (&b"\xe9, 203.0.113.9"[..], "203.0.113.9, 10.1.2.3"),
        (b"1.1.1.1, \xe9, 10.0.0.2", "10.0.0.2, 10.1.2.3"),
        (b"1.1.1.1, unknown, 2.2.2.2", "2.2.2.2, 10.1.2.3"),
        (b"\xe9", "10.1.2.3"),
        (b"1.1.1.1,,\t2.2.2.2 ,", "1.1.1.1, 2.2.2.2, 10.1.2.3"),
        (
            b"1.1.1.1:50123, [2001:db8::1]:443, [2001:DB8::2]",
            "1.1.1.1, 2001:db8::1, 2001:db8::2, 10.1.2.3",
        ),
        (b"::ffff:1.1.1.1", "1.1.1.1, 10.1.2.3"),
        (b"1.1.1.1; evil", "10.1.2.3"),
        (b"\"1.1.1.1\"", "10.1.2.3"),
    ] {
        assert_eq!(chain(&[("x-forwarded-for", line)]), expected, "{line:?}");
    }
    let lines = [("x-forwarded-for", &b"1.1.1.1"[..]), ("x-forwarded-for", b"2.2.2.2")];
    assert_eq!(chain(&lines), "1.1.1.1, 2.2.2.2, 10.1.2.3");
}

#[test]
fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
    let client = |peer: &str, chain: &[u8]| {
        let map = headers(&[("x-forwarded-for", chain)]);
        client_address(&map, peer.parse().unwrap(), inside).to_string()
    };
    assert_eq!(client("8.8.8.8", b"9.9.9.9, 1.1.1.1, 10.0.0.2"), "8.8.8.8");
    assert_eq!(client("::ffff:10.0.0.1", b"9.9.9.9, 1.1.1.1, 10.0.0.2"), "1.1.1.1");
    for (chain, expected) in [
        (&b"9.9.9.9, 1.1.1.1, 10.0.0.2"[..], "1.1.1.1"),
        (b"\xe9, 203.0.113.9", "203.0.113.9"),
        (b"1.1.1.1, \xe9, 10.0.0.2", "10.0.0.2"),
        (b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (b"nonsense", "10.0.0.1"),
        (b"1.1.1.1:50123", "1.1.1.1"),
        (b"9.9.9.9:1, 1.1.1.1:50123, 10.0.0.2:80", "1.1.1.1"),
        (b"[2001:db8::1]:443", "2001:db8::1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"fe80::1%eth0", "10.0.0.1"),
        (b"1.1.1.1:", "10.0.0.1"),
    ] {
        assert_eq!(client("10.0.0.1", chain), expected, "{chain:?}");
    }
}

#[test]
fn the_nearest_proxy_says_by_what_its_client_came() {
    let scheme = |lines: &[&[u8]]| {
        let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-proto", *line)).collect();
        claimed_scheme(&headers(&lines))
    };
    assert_eq!(scheme(&[b"http, HTTPS"]), Some(Scheme::Https));
    assert_eq!(scheme(&[b"https", b"ws"]), Some(Scheme::Http));
    assert_eq!(scheme(&[b"\xff, wss"]), Some(Scheme::Https));
    assert_eq!(scheme(&[b"https, ftp"]), None);
    assert_eq!(scheme(&[b"https", b""]), None);
    assert_eq!(scheme(&[]), None);
}

/// Requests with several hosts are refused before; none of them passes here either.
#[test]
fn one_host_goes_on_whatever_came() {
    for lines in [&["a.test:8443", "b.test"][..], &["b.test", "a.test:8443"], &["b.test"], &[]] {
        let lines: Vec<_> = lines.iter().map(|line| ("host", line.as_bytes())).collect();
        let told = told(&lines, true, &[]);
        let hosts: Vec<_> = told.iter().filter(|(name, _)| name == "host").collect();
        assert_eq!(hosts, [&("host".to_owned(), "a.test:8443".to_owned())], "{lines:?}");
    }
}

#[test]
fn a_host_without_port_has_that_of_the_scheme() {
    for (scheme, port) in [(Scheme::Http, "80"), (Scheme::Https, "443")] {
        let mut map = HeaderMap::new();
        let peer = "::1".parse().unwrap();
        let authority = Authority::parse(b"a.test").unwrap();
        let sender = Sender { peer, trusted: false, client: peer, scheme, authority: &authority };
        tell_sender(&mut map, &sender, &[]);
        assert_eq!(map["x-forwarded-port"], port);
        assert_eq!(map["host"], "a.test");
    }
}

proptest! {
    #[test]
    fn names_like_claims_and_unlike_them_are_told_apart(name in "x-forwarde|x-forwarded-?[a-z]{0,3}|forwarded2?|x-real-ip[a-z]?") {
        let claim = name.starts_with("x-forwarded-") || matches!(&*name, "forwarded" | "x-real-ip");
        prop_assert_eq!(is_claim(&HeaderName::from_bytes(name.as_bytes()).unwrap()), claim);
    }
}
