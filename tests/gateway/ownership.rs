//! Names of several namespaces on one gateway: what a connection was opened for, and which certificate it is shown, follows the
//! owner of a name.

use tidegate::gateway::FallbackCertificate;
use tidegate::table::{ObjectRef, RouteEntry, Rule, VirtualHost, WildcardCertificate};

use crate::support::{
    Authority, Backend, Harness, Peer, client_config, prefix, rule, switching, tls_host,
    upgrade_request,
};

fn rule_in(namespace: &str, backend: &Backend) -> Rule {
    let route = ObjectRef { namespace: namespace.into(), name: "route".into() };
    Rule { route, ..rule(&[backend.address()]) }
}

fn entry(namespace: &str, backend: &Backend) -> RouteEntry {
    prefix("", rule_in(namespace, backend))
}

/// `*.shop.test` is of namespace a, with its certificate, and `own.shop.test` of namespace b, without one.
fn hosts(ours: &Backend, theirs: &Backend, authority: &Authority) -> Vec<VirtualHost> {
    let identity = authority.certify("*.shop.test").identity("a", false);
    let wildcard = tls_host("*.shop.test", &identity, rule_in("a", ours));
    let mut exact = VirtualHost::new("own.shop.test", None, [entry("b", theirs)]);
    exact.wildcard_certificate = WildcardCertificate::Withheld;
    vec![wildcard, exact]
}

#[test]
fn a_wildcard_s_certificate_is_not_shown_for_another_namespace_s_name_nor_its_connections_used_for_it()
 {
    let (ours, theirs, authority) = (Backend::bind(), Backend::bind(), Authority::new());
    let fallback = authority.certify("own.shop.test");
    let made = FallbackCertificate::from_pem(fallback.chain.as_bytes(), fallback.key.as_bytes());
    let gateway = Harness::with(hosts(&ours, &theirs, &authority), |settings| {
        settings.fallback = made.unwrap();
    });
    let trust = client_config(&authority.pem);
    // A connection for a name of the owner serves the owner's names, and not the other's (RFC 9110 §7.4).
    let mut client = gateway.tls_client(&trust, "www.shop.test");
    let (head, _) = client.send(upgrade_request("own.shop.test")).answer();
    assert_eq!((head.status(), head.get("tidegate-reason")), (421, Some("misdirected")));
    theirs.assert_untouched();
    client.send(upgrade_request("mail.shop.test"));
    let (_server, _) = ours.answer(switching(""));
    assert_eq!(client.head().status(), 101);
    // By its own name it is shown the fallback.
    let shown = |name| Peer::try_tls(gateway.https, &trust, name).unwrap().1;
    assert_eq!(shown("own.shop.test"), fallback.der());
    assert_ne!(shown("www.shop.test"), fallback.der());
    let mut client = gateway.tls_client(&trust, "own.shop.test");
    client.send(upgrade_request("own.shop.test"));
    let (_server, _) = theirs.answer(switching(""));
    assert_eq!(client.head().status(), 101);
}

/// Two of one namespace, or one that the wildcard's owner admits: as it was.
#[test]
fn a_wildcard_s_certificate_is_shown_for_names_of_its_namespace_and_of_those_that_it_admits() {
    let (ours, theirs, authority) = (Backend::bind(), Backend::bind(), Authority::new());
    let mut hosts = hosts(&ours, &theirs, &authority);
    hosts[1].wildcard_certificate = WildcardCertificate::Shown;
    let gateway = Harness::start(hosts);
    let mut client = gateway.tls_client(&client_config(&authority.pem), "www.shop.test");
    client.send(upgrade_request("own.shop.test"));
    let (_server, _) = theirs.answer(switching(""));
    assert_eq!(client.head().status(), 101);
}
