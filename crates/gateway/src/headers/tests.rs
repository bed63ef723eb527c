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
fn bytes_that_are_no_text_take_nothing_else_of_their_line_away() {
    let mut map = HeaderMap::new();
    map.append("connection", HeaderValue::from_bytes(b"X-Secret, \xff, upgrade").unwrap());
    map.append("x-secret", HeaderValue::from_static("1"));
    map.append("upgrade", HeaderValue::from_bytes(b"\xff, websocket").unwrap());
    let hop = HopByHop::take(&mut map);
    assert!(hop.connection_upgrade && hop.upgrade_websocket);
    assert!(map.is_empty(), "{map:?}");
}

#[test]
fn what_guards_against_loops_and_says_who_the_client_is_cannot_be_nominated() {
    let lines = [("cdn-loop", "a"), ("x-real-ip", "b"), ("x-forwarded-for", "c")];
    let names = ("connection", "cdn-loop, x-real-ip, x-forwarded-for");
    let mut map = headers(&[&lines[..], &[names]].concat());
    HopByHop::take(&mut map);
    assert_eq!(map.len(), 3);
}

#[test]
fn codings_other_than_chunked_and_lengths_that_are_none_are_found() {
    let fault = |lines: &[(&str, &str)]| HopByHop::take(&mut headers(lines)).fault;
    let coding = Some(FramingFault::TransferCoding);
    for (value, expected) in [
        ("chunked", None),
        ("Chunked", None),
        ("gzip, chunked", coding),
        ("chunked, chunked", coding),
        ("chunked, gzip", coding),
        ("gzip", coding),
        ("identity", coding),
        ("xchunked", coding),
        ("chunked;q=1", coding),
        ("", coding),
    ] {
        assert_eq!(fault(&[("transfer-encoding", value)]), expected, "{value}");
    }
    assert_eq!(fault(&[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")]), coding);
    let length = Some(FramingFault::ContentLength);
    for value in ["5, 6", "+5", "-1", "0x5", "5 5", "", ",", "99999999999999999999", "5;"] {
        assert_eq!(fault(&[("content-length", value)]), length, "{value}");
    }
    assert_eq!(fault(&[("content-length", "5"), ("content-length", "6")]), length);
}

#[test]
fn equal_lengths_become_one() {
    for lines in [
        &[("content-length", "5, 5")][..],
        &[("content-length", "5"), ("content-length", "05,5")],
        &[("content-length", "5")],
    ] {
        let mut map = headers(lines);
        let hop = HopByHop::take(&mut map);
        assert_eq!((hop.fault, hop.content), (None, true));
        let all: Vec<_> = map.get_all("content-length").iter().collect();
        assert_eq!(all, ["5"], "{lines:?}");
    }
    assert!(!HopByHop::take(&mut headers(&[("content-length", "0")])).content);
}

#[test]
fn names_that_others_take_for_ours_are_known() {
    let alias = |name: &str| is_alias(&HeaderName::from_bytes(name.as_bytes()).unwrap());
    for name in [
        "x_forwarded_for",
        "x.forwarded.for",
        "x-forwarded_proto",
        "x_forwarded_anything",
        "x_real_ip",
        "sec_websocket_key",
        "sec.websocket-protocol",
        "content_length",
        "transfer.encoding",
        "x_request_id",
        "x~request~id",
        "cdn_loop",
        "proxy_connection",
        "keep_alive",
        "x_original_url",
    ] {
        assert!(alias(name), "{name}");
    }
    for name in ["x-forwarded-for", "host", "x_custom", "api.key", "x-forwarde_", "hos_t"] {
        assert!(!alias(name), "{name}");
    }
}
