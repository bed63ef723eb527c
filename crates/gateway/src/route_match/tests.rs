use http::{HeaderMap, Uri};
use tidegate_table::{
    Drain, FrameChecks, HttpMode, Keepalive, Limits, LoadBalancing, MatchKey, ObjectRef,
    PathAmbiguities, PathKind, RouteEntry, Timeouts, TlsIdentity, VirtualHost,
};

use super::*;

fn rule(plaintext: Plaintext) -> Rule {
    Rule {
        route: ObjectRef { namespace: "n".into(), name: "r".into() },
        name: "0".into(),
        plaintext,
        http: HttpMode::Refuse,
        path_allow: PathAmbiguities::NONE,
        timeouts: Timeouts {
            connect: std::time::Duration::from_secs(1),
            upgrade: std::time::Duration::from_secs(1),
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
    }
}

fn identity(name: &str) -> Arc<TlsIdentity> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let secret = ObjectRef { namespace: "n".into(), name: name.into() };
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    Arc::new(TlsIdentity::from_pem(secret, chain.as_bytes(), key.as_bytes(), false).unwrap())
}

#[test]
fn a_connection_ends_where_the_settings_are_others_now_and_not_where_the_certificate_is() {
    let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identity_of = |only_tls13| {
        let secret = ObjectRef { namespace: "n".into(), name: "a".into() };
        let identity = TlsIdentity::from_pem(secret, chain.as_bytes(), key.as_bytes(), only_tls13);
        Arc::new(identity.unwrap())
    };
    let opened = |identity: Option<Arc<TlsIdentity>>| Arrival::Tls {
        server_name: Some("a.test".to_owned()),
        identity,
    };
    let now = |identity: Option<&Arc<TlsIdentity>>| RoutingTable::new([host("a.test", identity)]);
    let (loose, strict, renewed) = (identity_of(false), identity_of(true), identity("a.test"));
    for (what, arrival, table, ends) in [
        ("as it was", opened(Some(loose.clone())), now(Some(&loose)), false),
        ("renewed", opened(Some(loose.clone())), now(Some(&renewed)), false),
        ("stricter", opened(Some(loose.clone())), now(Some(&strict)), true),
        ("looser", opened(Some(strict.clone())), now(Some(&loose)), true),
        ("self-made, then stricter", opened(None), now(Some(&strict)), true),
        ("self-made, then issued", opened(None), now(Some(&loose)), false),
        ("no TLS any more", opened(Some(strict)), now(None), false),
    ] {
        let refusal = check_host(&table, &arrival, "a.test").err();
        let after = refusal.map(|refusal| (refusal.reason, refusal.after));
        let expected = ends.then_some((RefusalReason::Misdirected, After::Close));
        assert_eq!(after, expected, "{what}");
    }
}

fn host(pattern: &str, tls: Option<&Arc<TlsIdentity>>) -> VirtualHost {
    let key = MatchKey {
        kind: PathKind::Prefix,
        path: "".into(),
        headers: vec![],
        query: vec![],
        subprotocols: vec![],
    };
    VirtualHost::new(
        pattern,
        tls.cloned(),
        [RouteEntry { key: key.into(), rule: Arc::new(rule(Plaintext::Refuse)) }],
    )
}

#[test]
fn a_connection_serves_the_hosts_that_its_certificate_is_used_for_and_no_others() {
    let (one, two) = (identity("one"), identity("two"));
    let table = RoutingTable::new([
        host("a.test", Some(&one)),
        host("*.b.test", Some(&one)),
        host("c.test", Some(&two)),
        host("d.test", None),
        host("e.test", None),
    ]);
    let headers = HeaderMap::new();
    let facts = RequestFacts { path: "/", query: None, headers: &headers };
    let find = |name: Option<&str>, host| {
        let arrival = Arrival::Tls {
            server_name: name.map(str::to_owned),
            identity: name.and_then(|name| table.identity(name).cloned()),
        };
        check_host(&table, &arrival, host)
            .and_then(|()| find_rule(&table, host, &facts))
            .map_err(|refusal| refusal.reason)
    };
    for (name, host) in [
        ("a.test", "a.test"),
        ("a.test", "x.b.test"),
        ("x.b.test", "y.b.test"),
        ("d.test", "d.test"),
    ] {
        assert!(find(Some(name), host).is_ok(), "{name} {host}");
    }
    for (name, host) in [
        (Some("a.test"), "c.test"),
        (Some("a.test"), "d.test"),
        (Some("d.test"), "e.test"),
        (Some("a.test"), "unknown.test"),
        (Some("unknown.test"), "a.test"),
        (None, "a.test"),
        (None, "d.test"),
    ] {
        assert_eq!(find(name, host).unwrap_err(), RefusalReason::Misdirected, "{name:?} {host}");
    }
    assert_eq!(find(Some("gone.test"), "gone.test").unwrap_err(), RefusalReason::NoRoute);
    assert!(check_host(&table, &Arrival::Plain, "c.test").is_ok());
    assert!(find_rule(&table, "c.test", &facts).is_ok());
}

fn in_clear_text(uri: &Uri) -> RequestTarget<'_> {
    RequestTarget {
        secure: false,
        claims_tls: false,
        websocket: true,
        host: "a.test",
        uri,
        https_port: 443,
    }
}

#[test]
fn clear_text_is_served_redirected_or_refused_as_the_route_says() {
    let uri: Uri = "/ws?room=1".parse().unwrap();
    let asked = in_clear_text(&uri);
    assert!(check_plaintext(Plaintext::Allow, &asked).is_ok());
    assert!(check_plaintext(Plaintext::Refuse, &RequestTarget { secure: true, ..asked }).is_ok());
    let refused = check_plaintext(Plaintext::Refuse, &asked).unwrap_err();
    assert!(refused.location.is_none());
    assert!(!refused.detail.contains("a.test"), "it goes into the log: {}", refused.detail);
    let advice = refused.advice.unwrap();
    assert!(advice.contains("connect to wss://a.test/ws in"), "{advice}");
    assert!(advice.contains("new WebSocket(\"wss://a.test/ws\")"), "{advice}");
    assert!(advice.contains("plaintext: Allow"), "{advice}");
}

#[test]
fn a_redirect_leads_websocket_clients_to_wss_and_others_to_https() {
    let uri: Uri = "/ws?room=1".parse().unwrap();
    let asked = RequestTarget { https_port: 8443, ..in_clear_text(&uri) };
    let location = |asked| check_plaintext(Plaintext::Redirect, &asked).unwrap_err().location;
    assert_eq!(location(asked).unwrap(), "wss://a.test:8443/ws?room=1");
    let plain = RequestTarget { websocket: false, ..asked };
    assert_eq!(location(plain).unwrap(), "https://a.test:8443/ws?room=1");
}

#[test]
fn who_comes_by_tls_through_a_proxy_that_is_not_trusted_is_not_redirected_to_where_it_is() {
    let uri: Uri = "/ws".parse().unwrap();
    let asked = RequestTarget { claims_tls: true, ..in_clear_text(&uri) };
    for policy in [Plaintext::Refuse, Plaintext::Redirect] {
        let refused = check_plaintext(policy, &asked).unwrap_err();
        assert!(refused.location.is_none());
        assert!(refused.detail.contains("not trusted"), "{}", refused.detail);
        assert!(refused.advice.unwrap().contains("--trusted-proxies"));
    }
    assert!(check_plaintext(Plaintext::Allow, &asked).is_ok());
}

#[test]
fn a_client_without_the_right_subprotocol_is_told_which_are_served() {
    let entry = |subprotocol: &str, headers| RouteEntry {
        key: Arc::new(MatchKey {
            kind: PathKind::Prefix,
            path: "/rt".into(),
            headers,
            query: vec![],
            subprotocols: vec![subprotocol.into()],
        }),
        rule: Arc::new(rule(Plaintext::Allow)),
    };
    let tenant = vec![(header::HeaderName::from_static("x-tenant"), HeaderValue::from_static("a"))];
    let entries = [entry("mqtt", vec![]), entry("graphql-ws", vec![]), entry("wamp", tenant)];
    let table = RoutingTable::new([VirtualHost::new("a.test", None, entries)]);
    let refuse = |path, offer: Option<&'static str>| {
        let offer = offer.map(|offer| (header::SEC_WEBSOCKET_PROTOCOL, offer.parse().unwrap()));
        let headers: HeaderMap = offer.into_iter().collect();
        let request = RequestFacts { path, query: None, headers: &headers };
        find_rule(&table, "a.test", &request).map_err(|refusal| refusal.detail)
    };
    assert!(refuse("/rt/1", Some("mqtt")).is_ok());
    let served = "This path is served to WebSocket clients that offer one of these subprotocols \
                  (Sec-WebSocket-Protocol): graphql-ws, mqtt. This one offers";
    assert_eq!(refuse("/rt/1", None).unwrap_err(), format!("{served} none."));
    // What was offered may be a secret: it is not in the answer, and so not in the log.
    assert_eq!(refuse("/rt/1", Some("token.s3cret")).unwrap_err(), format!("{served} others."));
    assert!(!refuse("/elsewhere", Some("wamp")).unwrap_err().contains("subprotocol"));
}
