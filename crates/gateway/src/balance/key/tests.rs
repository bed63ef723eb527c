use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let lines = lines.iter().map(|(name, value)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
    });
    lines.collect()
}

fn header_key(lines: &[(&'static str, &str)]) -> Option<u64> {
    let name = HeaderName::from_static("x-tenant");
    of_request(&HashOn::Header(name), CLIENT, None, &headers(lines))
}

fn cookie_key(lines: &[&str]) -> Option<u64> {
    let lines: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
    of_request(&HashOn::Cookie("sid".into()), CLIENT, None, &headers(&lines))
}

fn query_key(name: &str, query: &str) -> Option<u64> {
    of_request(&HashOn::QueryParam(name.into()), CLIENT, Some(query), &HeaderMap::new())
}

#[test]
fn the_key_is_the_value_of_the_first_of_its_name() {
    let blue = of_bytes(b"blue");
    assert!(blue.is_some());
    assert_eq!(header_key(&[("x-other", "red"), ("x-tenant", "blue"), ("x-tenant", "red")]), blue);
    for lines in [
        &["sid=blue"][..],
        &["other=sid; SID=red;sid = blue ; sid=red"],
        &["a; =b; xsid=red", "sid=\"blue\""],
    ] {
        assert_eq!(cookie_key(lines), blue, "{lines:?}");
    }
    for query in ["room=blue", "x=room&room=blue&room=red", "ROOM=red&r%6fom=%62lue&&="] {
        assert_eq!(query_key("room", query), blue, "{query}");
    }
    assert_eq!(query_key("room id", "room+id=deep+blue%2b"), of_bytes(b"deep blue+"));
    assert_eq!(query_key("room id", "room%20id=a=b"), of_bytes(b"a=b"));
    assert_ne!(header_key(&[("x-tenant", "red")]), blue);
}

#[test]
fn without_a_value_there_is_no_key() {
    assert_eq!(header_key(&[("x-other", "blue")]), None);
    assert_eq!(header_key(&[("x-tenant", "")]), None);
    for lines in [&[][..], &["sid"], &["sid="], &["sid=\"\""], &["SID=blue"]] {
        assert_eq!(cookie_key(lines), None, "{lines:?}");
    }
    for query in ["", "room", "room=", "room=&room=blue", "Room=blue", "rooms=blue"] {
        assert_eq!(query_key("room", query), None, "{query}");
    }
    let nothing = of_request(&HashOn::QueryParam("a".into()), CLIENT, None, &HeaderMap::new());
    assert_eq!(nothing, None);
}

#[test]
fn a_client_has_one_key_however_its_address_is_written() {
    let key = |address: &str| {
        let address: IpAddr = address.parse().expect("an address");
        of_request(&HashOn::ClientIp, address, None, &HeaderMap::new()).expect("everybody has one")
    };
    assert_eq!(key("192.0.2.7"), key("::ffff:192.0.2.7"));
    assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
    assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
}

/// Gateways of different versions serve one cluster during an update: what they come to may not change unnoticed.
#[test]
fn keys_and_places_are_the_same_everywhere_and_always() {
    assert_eq!(of_bytes(b"blue"), Some(0xd6ac_a0b0_b9ba_62b1));
    let first = SocketAddr::from(([10, 0, 0, 1], 8080));
    assert_eq!(score(1, first), 0x6ea6_4567_2eac_6410);
}

#[test]
fn keys_are_spread_evenly_also_where_they_and_the_addresses_are_alike() {
    for port in [8080, 80] {
        let endpoints: Vec<_> =
            (1..=10).map(|pod| SocketAddr::from(([10, 0, 0, pod], port))).collect();
        let mut counts = [0_usize; 10];
        for room in 0..10_000 {
            let key = query_key("room", &format!("room={room}")).expect("a key");
            let best = (0..10).max_by_key(|index| score(key, endpoints[*index])).expect("ten");
            counts[best] += 1;
        }
        // 1,000 each; five standard deviations are 150.
        assert!(counts.iter().all(|count| (850..=1150).contains(count)), "{counts:?}");
    }
}

proptest! {
    /// Names and values are decoded as the rules' own matches are.
    #[test]
    fn a_value_has_one_key_however_it_is_encoded(value in "\\PC{1,20}") {
        let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        prop_assert_eq!(query_key("a", &format!("a={encoded}")), of_bytes(value.as_bytes()));
    }

    #[test]
    fn nothing_that_a_client_sends_is_too_odd(query in any::<String>(), cookie in "[ -~]{0,40}") {
        let _ = query_key("a", &query);
        let _ = cookie_key(&[&cookie]);
    }
}
