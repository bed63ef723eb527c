use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

#[test]
fn an_exact_hostname_beats_a_wildcard() {
    let table = table(&["*.example.com", "chat.example.com", "example.com", "*.a.example.com"]);
    let found = |name: &str| table.host(name).map(|host| host.pattern.to_string());
    assert_eq!(found("chat.example.com").as_deref(), Some("chat.example.com"));
    assert_eq!(found("news.example.com").as_deref(), Some("*.example.com"));
    assert_eq!(found("example.com").as_deref(), Some("example.com"));
    assert_eq!(found("b.a.example.com").as_deref(), Some("*.a.example.com"));
    assert_eq!(found("a.example.com").as_deref(), Some("*.example.com"));
}

#[test]
fn a_wildcard_stands_for_exactly_one_label() {
    let table = table(&["*.example.com"]);
    for name in ["example.com", "a.b.example.com", ".example.com", "com", "", "*", "xexample.com"] {
        assert_eq!(table.host(name), None, "{name:?}");
    }
    assert!(table.host("a.example.com").is_some());
}

#[test]
fn the_certificate_of_a_wildcard_serves_the_exact_hosts_that_have_none() {
    let made = rcgen::generate_simple_self_signed(vec!["*.example.com".to_owned()]).unwrap();
    let secret = ObjectRef { namespace: "n".into(), name: "s".into() };
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = TlsIdentity::from_pem(secret, chain.as_bytes(), key.as_bytes(), false).unwrap();
    let wildcard = VirtualHost::new("*.example.com", Some(Arc::new(tls)), []);
    let exact = ["a.example.com", "example.org"].map(|name| VirtualHost::new(name, None, []));
    let table = RoutingTable::new(exact.into_iter().chain([wildcard]));
    for (name, has) in [("a.example.com", true), ("b.example.com", true), ("example.org", false)] {
        assert_eq!(table.identity(name).is_some(), has, "{name}");
    }
}

#[test]
fn hosts_are_listed_exact_ones_first() {
    let table = table(&["*.a.example", "b.example", "A.example", "*.example"]);
    let patterns: Vec<_> = table.hosts().iter().map(|host| host.pattern.to_string()).collect();
    assert_eq!(patterns, ["a.example", "b.example", "*.a.example", "*.example"]);
    assert!(!table.is_empty());
    assert!(RoutingTable::default().is_empty());
}

#[test]
fn a_cell_publishes_only_what_differs() {
    let cell = TableCell::default();
    assert!(cell.load().is_none());
    let publish = |table| cell.publish(table).map(|published| published.generation);
    assert_eq!(publish(table(&["a.example"])), Some(1));
    assert_eq!(publish(table(&["a.example"])), None);
    assert_eq!(publish(table(&["b.example"])), Some(2));
    assert_eq!(cell.load().map(|published| published.generation), Some(2));
    assert_eq!(publish(RoutingTable::default()), Some(3));
}

#[test]
fn prefixes_end_at_path_elements() {
    let host =
        host([entry("ws", key(PathKind::Prefix, "/ws")), entry("root", key(PathKind::Prefix, ""))]);
    for (path, rule) in [
        ("/ws", "ws"),
        ("/ws/", "ws"),
        ("/ws/room/1", "ws"),
        ("/wss", "root"),
        ("/w", "root"),
        ("/", "root"),
        ("/WS", "root"),
        ("/%77s", "root"),
    ] {
        assert_eq!(find(&host, path, None, &HeaderMap::new()).as_deref(), Some(rule), "{path}");
    }
    // Not a path of RFC 9112 §3.2.1, but no reason to fall over.
    assert_eq!(find(&host, "*", None, &HeaderMap::new()), None);
}

#[test]
fn query_parameters_are_compared_decoded_and_the_first_counts() {
    let wanted =
        MatchKey { query: vec![("na me".into(), "a&b".into())], ..key(PathKind::Prefix, "") };
    let host = host([entry("query", wanted)]);
    for (query, fits) in [
        (Some("na+me=a%26b"), true),
        (Some("x=1&na%20me=a%26b&na+me=other"), true),
        (Some("na+me=other&na+me=a%26b"), false),
        (Some("na+me=a"), false),
        (Some("na+me"), false),
        (Some("na+me=%ff"), false),
        (Some(""), false),
        (None, false),
    ] {
        let found = find(&host, "/", query, &HeaderMap::new());
        assert_eq!(found.is_some(), fits, "{query:?}");
    }
}

#[test]
fn subprotocols_are_found_in_lists_and_repeated_headers() {
    let wanted =
        MatchKey { subprotocols: vec!["mqtt".into(), "wamp".into()], ..key(PathKind::Prefix, "") };
    let host = host([entry("subprotocol", wanted)]);
    for (offers, fits) in [
        (&["wamp"][..], true),
        (&["a, mqtt"], true),
        (&["a", "b ,\tmqtt"], true),
        (&["MQTT"], false),
        (&["mqttx"], false),
        (&[], false),
    ] {
        let headers = offers.iter().map(|offer| {
            (HeaderName::from_static("sec-websocket-protocol"), HeaderValue::from_static(offer))
        });
        let found = find(&host, "/", None, &headers.collect());
        assert_eq!(found.is_some(), fits, "{offers:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// The indexed search gives what looking at every entry gives.
    #[test]
    fn find_is_the_same_as_looking_at_all(
        keys in prop::collection::vec(any_key(), 0..24),
        path in any_path(),
        query in prop::option::of(prop::sample::select(vec!["", "a=1", "a=2&b=1", "b=1&a=1"])),
        headers in prop::collection::vec((0..2_usize, 0..2_usize), 0..4),
        offers in prop::sample::subsequence(vec!["s", "t"], 0..=2),
    ) {
        let headers: HeaderMap = headers
            .into_iter()
            .map(|(name, value)| header(name, value))
            .chain(offers.iter().map(|offer| {
                (HeaderName::from_static("sec-websocket-protocol"), HeaderValue::from_static(offer))
            }))
            .collect();
        let entries: Vec<_> = keys
            .into_iter()
            .enumerate()
            .map(|(index, key)| entry(&index.to_string(), key))
            .collect();
        let facts = RequestFacts { path: &path, query, headers: &headers };
        let expected = naive(&entries, &facts, &offers);
        let host = host(entries.clone());
        let found = host.find(&facts).map(|rule| rule.name.clone());
        prop_assert_eq!(found, expected);
        prop_assert_eq!(host.entries().count(), entries.len());
    }
}

/// The rule that the specification asks for, found the slow way.
fn naive(entries: &[RouteEntry], request: &RequestFacts<'_>, offers: &[&str]) -> Option<String> {
    type Rank = (bool, usize, usize, usize, bool);
    let mut best: Option<(Rank, &RouteEntry)> = None;
    for entry in entries {
        let key = &entry.key;
        let path_fits = match key.kind {
            PathKind::Exact => request.path == &*key.path,
            PathKind::Prefix => {
                request.path == &*key.path || request.path.starts_with(&format!("{}/", key.path))
            }
        };
        let headers_fit = key
            .headers
            .iter()
            .all(|(name, value)| request.headers.get_all(name).iter().eq(std::iter::once(value)));
        let query_fits = key.query.iter().all(|(name, value)| {
            let wanted = format!("{name}={value}");
            request.query.unwrap_or_default().split('&').any(|pair| pair == wanted)
        });
        let subprotocol_fits = key.subprotocols.is_empty()
            || key.subprotocols.iter().any(|wanted| offers.contains(&wanted.as_str()));
        if !(path_fits && headers_fit && query_fits && subprotocol_fits) {
            continue;
        }
        let rank = (
            key.kind == PathKind::Exact,
            key.path.len(),
            key.headers.len(),
            key.query.len(),
            !key.subprotocols.is_empty(),
        );
        if best.is_none_or(|(other, _)| rank > other) {
            best = Some((rank, entry));
        }
    }
    best.map(|(_, entry)| entry.rule.name.clone())
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "ab", ""]), 1..3)
        .prop_map(|elements| format!("/{}", elements.join("/")))
}

fn any_key() -> impl Strategy<Value = MatchKey> {
    let parts = (
        any::<bool>(),
        any_path(),
        prop::sample::subsequence(vec![0, 1], 0..=2),
        0..2_usize,
        prop::sample::subsequence(vec!["a", "b"], 0..=2),
        prop::sample::subsequence(vec!["s", "t"], 0..=2),
    );
    parts.prop_map(|(exact, path, headers, value, query, subprotocols)| MatchKey {
        kind: if exact { PathKind::Exact } else { PathKind::Prefix },
        path: if exact { path.into() } else { path.trim_end_matches('/').into() },
        headers: headers.into_iter().map(|name| header(name, value)).collect(),
        query: query.into_iter().map(|name| (name.to_owned(), "1".to_owned())).collect(),
        subprotocols: subprotocols.into_iter().map(str::to_owned).collect(),
    })
}

fn header(name: usize, value: usize) -> (HeaderName, HeaderValue) {
    let names = ["x-a", "x-b"];
    (HeaderName::from_static(names[name]), HeaderValue::from_static(["1", "2"][value]))
}

#[test]
fn a_certificate_covers_its_names_and_one_label_of_a_wildcard() {
    let identity = identity(&["chat.example.com", "*.Example.org"]);
    for (hostname, covered) in [
        ("chat.example.com", true),
        ("a.example.org", true),
        ("*.example.org", true),
        ("example.org", false),
        ("a.b.example.org", false),
        ("b.example.com", false),
        ("*.example.com", false),
        ("localhost", false),
    ] {
        assert_eq!(identity.covers(hostname), covered, "{hostname}");
    }
    assert!(identity.not_before < identity.not_after);
}

#[test]
fn identities_are_equal_by_content_and_secret() {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let parse = |name: &str, only_tls13| {
        TlsIdentity::from_pem(object(name), chain.as_bytes(), key.as_bytes(), only_tls13).ok()
    };
    assert!(parse("a", false).is_some());
    assert_eq!(parse("a", false), parse("a", false));
    assert_ne!(parse("a", false), parse("b", false));
    assert_ne!(parse("a", false), parse("a", true));
    assert_ne!(identity(&["a.example"]), identity(&["a.example"]));
    let printed = format!("{:?}", parse("a", false));
    assert!(printed.contains("\"a\"") && !printed.contains("PRIVATE"), "{printed}");
}

#[test]
fn a_pair_that_does_not_belong_together_is_no_identity() {
    let make =
        || rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
    let (one, other) = (make(), make());
    let parse = |chain: &str, key: &str| {
        TlsIdentity::from_pem(object("a"), chain.as_bytes(), key.as_bytes(), false).err()
    };
    let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
    assert_eq!(parse(&chain, &key), None);
    assert_eq!(parse(&chain, &other.signing_key.serialize_pem()), Some(IdentityError::Mismatch));
    assert!(matches!(parse("", &key), Some(IdentityError::Certificate(_))));
    assert!(matches!(parse(&chain, "hello"), Some(IdentityError::Key(_))));
    assert!(matches!(parse(&key, &chain), Some(IdentityError::Certificate(_))));
}

#[test]
fn trust_in_a_backend_is_equal_by_name_and_authorities() {
    let ca = rcgen::generate_simple_self_signed(["ca.example".to_owned()])
        .expect("a certificate")
        .cert
        .pem();
    let verified = |name: &str| BackendTls::verified(name, ca.as_bytes());
    assert_eq!(verified("a.example"), verified("a.example"));
    assert_ne!(verified("a.example"), verified("b.example"));
    assert_ne!(verified("a.example"), BackendTls::unverified("a.example"));
    let fingerprint = |tls: Result<BackendTls, TrustError>| tls.map(|tls| tls.fingerprint);
    assert_eq!(fingerprint(verified("a.example")), fingerprint(verified("a.example")));
    assert_ne!(fingerprint(verified("a.example")), fingerprint(verified("b.example")));
    let unverified = BackendTls::unverified("a.example");
    assert_ne!(fingerprint(verified("a.example")), fingerprint(unverified));
    assert_eq!(verified("not a name"), Err(TrustError::ServerName("not a name".into())));
    for nothing in [&b"hello"[..], b""] {
        assert_eq!(BackendTls::verified("a.example", nothing), Err(TrustError::Empty));
    }
}

#[test]
fn endpoints_stand_in_the_order_in_which_they_are_considered() {
    let leaving = |serving| EndpointState::Terminating { serving };
    let all = [
        endpoint(1, EndpointState::NotReady, true),
        endpoint(2, leaving(false), true),
        endpoint(3, leaving(true), false),
        endpoint(4, EndpointState::Ready, false),
        endpoint(6, EndpointState::Ready, true),
        endpoint(5, EndpointState::Ready, true),
        // Of one address the best counts, wherever it stands.
        endpoint(6, leaving(true), true),
        endpoint(3, EndpointState::NotReady, true),
    ];
    let ports = |endpoints: &[Endpoint]| -> Vec<u16> {
        endpoints.iter().map(|endpoint| endpoint.address.port()).collect()
    };
    let endpoints: Endpoints = all.into_iter().collect();
    assert_eq!(ports(&endpoints), [5, 6, 4, 3, 1, 2]);
    assert_eq!(endpoints, all.into_iter().rev().collect());
    assert_eq!(ports(endpoints.ready()), [5, 6, 4]);
    assert_eq!(ports(endpoints.usable()), [5, 6, 4, 3]);
    let without = |worst: Rank| endpoints.iter().copied().filter(move |it| it.rank() > worst);
    let in_service = |endpoints: Endpoints| ports(endpoints.in_service());
    assert_eq!(in_service(endpoints.clone()), [5, 6]);
    assert_eq!(in_service(without(Rank::Local).collect()), [4]);
    assert_eq!(in_service(without(Rank::Remote).collect()), [3]);
    assert_eq!(in_service(without(Rank::Leaving).collect()), [0; 0]);
    assert!(endpoints.any_ready() && endpoints.any_leaving());
    assert!(!without(Rank::Remote).collect::<Endpoints>().any_ready());
    assert_eq!(endpoints.id(), endpoints.clone().id());
    assert_ne!(endpoints.id(), all.into_iter().collect::<Endpoints>().id());
}

#[test]
fn tables_that_differ_in_the_state_of_an_endpoint_are_not_equal() {
    let of = |state, local| -> Endpoints { [endpoint(1, state, local)].into_iter().collect() };
    let ready = of(EndpointState::Ready, true);
    assert_eq!(ready, of(EndpointState::Ready, true));
    assert_ne!(ready, of(EndpointState::Ready, false));
    assert_ne!(ready, of(EndpointState::NotReady, true));
    let leaving = |serving| of(EndpointState::Terminating { serving }, true);
    assert_ne!(leaving(true), leaving(false));
}

fn endpoint(port: u16, state: EndpointState, local: bool) -> Endpoint {
    Endpoint { address: ([127, 0, 0, 1], port).into(), state, local }
}

fn identity(names: &[&str]) -> TlsIdentity {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = made.signing_key.serialize_pem();
    TlsIdentity::from_pem(object("a"), made.cert.pem().as_bytes(), key.as_bytes(), false)
        .expect("a pair")
}

fn table(patterns: &[&str]) -> RoutingTable {
    RoutingTable::new(patterns.iter().map(|pattern| VirtualHost::new(pattern, None, [])))
}

fn host(entries: impl IntoIterator<Item = RouteEntry>) -> VirtualHost {
    VirtualHost::new("chat.example.com", None, entries)
}

fn find(
    host: &VirtualHost,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Option<String> {
    host.find(&RequestFacts { path, query, headers }).map(|rule| rule.name.clone())
}

fn key(kind: PathKind, path: &str) -> MatchKey {
    MatchKey { kind, path: path.into(), headers: vec![], query: vec![], subprotocols: vec![] }
}

fn entry(name: &str, key: MatchKey) -> RouteEntry {
    let rule = Rule {
        route: object("chat"),
        name: name.to_owned(),
        plaintext: Plaintext::Refuse,
        http: HttpMode::Refuse,
        path_allow: PathAmbiguities::NONE,
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            upgrade: Duration::from_secs(10),
            idle: None,
            ..Timeouts::default()
        },
        keepalive: Keepalive::default(),
        frames: FrameChecks::Strict,
        limits: Limits::default(),
        load_balancing: LoadBalancing::default(),
        connect_attempts: 3,
        drain: Drain::default(),
        subprotocols: Vec::new(),
        backends: Vec::new(),
    };
    RouteEntry { key: key.into(), rule: Arc::new(rule) }
}

fn object(name: &str) -> ObjectRef {
    ObjectRef { namespace: "chat".into(), name: name.into() }
}
