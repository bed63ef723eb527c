use super::*;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    headers
}

#[test]
fn hop_by_hop_headers_and_all_that_connection_names_are_taken_off_but_never_the_host() {
    let mut map = headers(&[
        ("host", "a.test"),
        ("connection", "Upgrade, X-Custom, host"),
        ("connection", "authorization"),
        ("upgrade", "h2c, websocket"),
        ("x-custom", "1"),
        ("authorization", "Bearer x"),
        ("keep-alive", "5"),
        ("te", "trailers"),
        ("proxy-connection", "keep-alive"),
        ("cookie", "a=b"),
    ]);
    let hop = HopByHop::take(&mut map);
    assert!(
        hop.connection_upgrade && hop.upgrade_websocket && !hop.content && !hop.transfer_encoding
    );
    let left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
    assert_eq!(left, ["host", "cookie"]);
}

fn told(lines: &[(&str, &str)], trusted: bool) -> Vec<(String, String)> {
    let mut map = headers(lines);
    let sender =
        Sender { address: "10.1.2.3".parse().unwrap(), trusted, secure: true, host: "a.test" };
    tell_sender(&mut map, sender);
    let mut all: Vec<_> = map
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    all.sort();
    all
}

#[test]
fn claims_of_a_peer_that_is_not_trusted_are_replaced() {
    let lies = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-proto", "ftp"),
        ("x-forwarded-host", "evil.test"),
        ("forwarded", "for=1.1.1.1"),
        ("x-real-ip", "1.1.1.1"),
        ("x-forwarded-port", "1"),
    ];
    let expected = [
        ("x-forwarded-for", "10.1.2.3"),
        ("x-forwarded-host", "a.test"),
        ("x-forwarded-proto", "https"),
    ];
    assert_eq!(
        told(&lies, false),
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[test]
fn claims_of_a_trusted_proxy_are_continued() {
    let claims = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "1.1.1.1"),
    ];
    let told = told(&claims, true);
    assert!(
        told.contains(&("x-forwarded-for".into(), "1.1.1.1, 2.2.2.2, 10.1.2.3".into())),
        "{told:?}"
    );
    assert!(told.contains(&("x-real-ip".into(), "1.1.1.1".into())), "{told:?}");
}

#[test]
fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
    let map = headers(&[("x-forwarded-for", "9.9.9.9, 1.1.1.1, 10.0.0.2")]);
    let inside = |address: IpAddr| matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10);
    let client = |peer: &str, map: &HeaderMap| {
        client_address(map, peer.parse().unwrap(), inside).to_string()
    };
    assert_eq!(client("10.0.0.1", &map), "1.1.1.1");
    assert_eq!(client("8.8.8.8", &map), "8.8.8.8");
    assert_eq!(client("::ffff:10.0.0.1", &map), "1.1.1.1");
    assert_eq!(client("10.0.0.1", &headers(&[("x-forwarded-for", "nonsense")])), "10.0.0.1");
    for (chain, expected) in [
        ("1.1.1.1:50123", "1.1.1.1"),
        ("9.9.9.9:1, 1.1.1.1:50123, 10.0.0.2:80", "1.1.1.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("1.1.1.1:", "10.0.0.1"),
    ] {
        let map = headers(&[("x-forwarded-for", chain)]);
        assert_eq!(client("10.0.0.1", &map), expected, "{chain}");
    }
}

#[test]
fn a_length_beside_a_transfer_encoding_is_taken_off_and_remembered() {
    let mut map = headers(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
    let hop = HopByHop::take(&mut map);
    assert!(hop.transfer_encoding && hop.content);
    assert!(map.is_empty(), "{map:?}");
    // Also where it was nominated, so that it can be refused.
    let mut map = headers(&[("connection", "upgrade, content-length"), ("content-length", "5")]);
    assert!(HopByHop::take(&mut map).content);
}

#[test]
fn no_spelling_of_a_claim_gets_through_from_a_peer_that_is_not_trusted() {
    let lies = [
        ("x-forwarded-user", "admin"),
        ("x-forwarded-client-cert", "x"),
        ("x_forwarded_for", "1.1.1.1"),
        ("x-forwarded_proto", "https"),
        ("x_real_ip", "1.1.1.1"),
    ];
    let names: Vec<_> = told(&lies, false).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
    assert!(told(&lies, true).len() > 5);
    assert!(told(&[("x-forwarde", "kept"), ("forwarded2", "kept")], false).len() == 5);
}
