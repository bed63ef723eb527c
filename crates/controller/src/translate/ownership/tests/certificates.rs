//! What a guest may change of a hostname that another namespace holds, and what a certificate's validity decides.

use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use serde_json::json;
use tidegate_api::Reason;

use super::{World, certificate, reference, route, secret, served_by, solved_by, with_a, words};
use crate::translate::Output;

/// A guest's route that asks for a certificate and Strict-Transport-Security.
fn guest(world: &mut World, hostname: &str, secret: &str) {
    let (namespace, secret) = secret.split_once('/').unwrap();
    let spec = json!({
        "hostnames": [hostname],
        "tls": {"secretRef": {"namespace": namespace, "name": secret}, "hsts": {"maxAge": "8760h"}},
        "rules": [{
            "matches": [{"path": {"value": "/guest"}}],
            "backendRefs": [{"name": "app", "port": 80}],
        }],
    });
    world.inputs.routes.push(route("b/guest", 9, &spec));
}

fn hsts(output: &Output, hostname: &str) -> Option<String> {
    let value = output.table.host(hostname)?.hsts.as_ref()?;
    Some(value.to_str().unwrap().to_owned())
}

fn conflict(output: &Output) -> String {
    let told = words(output, "b/guest");
    assert!(!format!("{:?}", output.statuses[&reference("b/guest")]).contains("a/"), "{told:?}");
    let conflict = told.into_iter().find(|(reason, _)| *reason == Reason::Conflicted);
    conflict.expect("it is told").1
}

#[test]
fn a_guest_replaces_no_certificate_that_the_owner_shows() {
    let mut world = with_a();
    world.grant("a", "b", None);
    world.route("a/chat", 6, &["chat.shop.test"], None);
    world.secret("b/made", 10, &["chat.shop.test", "pay.bank.test"], false);
    guest(&mut world, "chat.shop.test", "b/made");
    let output = world.translate();
    assert_eq!(served_by(&output.table, "chat.shop.test"), ["a", "b"]);
    assert_eq!(certificate(&output.table, "chat.shop.test").as_deref(), Some("a/wild"));
    assert_eq!(hsts(&output, "chat.shop.test"), None);
    assert!(conflict(&output).contains("spec.tls: under chat.shop.test the certificate is chosen"));
    // Nor where the owner has no exact route: the wildcard's is shown all the same.
    world.without("a/chat");
    let output = world.translate();
    assert_eq!(served_by(&output.table, "chat.shop.test"), ["b"]);
    assert_eq!(certificate(&output.table, "chat.shop.test").as_deref(), Some("a/wild"));
    assert_eq!(hsts(&output, "chat.shop.test"), None);
    // Nor under the owner's own name, also while its Secret is not to be had.
    world.inputs.secrets.remove(&reference("a/pay"));
    world.without("b/guest");
    guest(&mut world, "pay.bank.test", "b/made");
    let output = world.translate();
    assert_eq!(certificate(&output.table, "pay.bank.test"), None);
    assert_eq!(hsts(&output, "pay.bank.test"), None);
}

#[test]
fn a_guest_chooses_a_certificate_where_the_owner_has_none_but_nothing_that_lasts() {
    let mut world = World::new();
    world.route("a/plain", 1, &["plain.test"], None);
    world.grant("a", "b", None);
    world.secret("b/made", 1, &["plain.test"], false);
    guest(&mut world, "plain.test", "b/made");
    let output = world.translate();
    assert_eq!(certificate(&output.table, "plain.test").as_deref(), Some("b/made"));
    assert_eq!(hsts(&output, "plain.test"), None);
    assert!(conflict(&output).contains("only the owner of the hostname decides"));
    // Where the policy shares the name all are equals.
    world.rule("plain.test", &["a", "b"], true);
    let output = world.translate();
    assert_eq!(hsts(&output, "plain.test").as_deref(), Some("max-age=31536000"));
}

#[test]
fn who_lends_a_guest_its_certificate_proves_nothing_for_the_owner_s_name() {
    let mut world = World::new();
    world.route("a/plain", 1, &["plain.test"], None);
    world.grant("a", "b", None);
    world.secret("certs/lent", 1, &["plain.test"], false);
    world.add_grant("certs", "b", "", "Secret", None);
    guest(&mut world, "plain.test", "certs/lent");
    world.solver("certs", "plain.test");
    let table = world.translate().table;
    assert_eq!(certificate(&table, "plain.test").as_deref(), Some("certs/lent"));
    assert_eq!(solved_by(&table, "plain.test"), None);
    // By the owner's word it does.
    world.add_grant("certs", "a", "", "Secret", None);
    world.without("a/plain");
    world.route("a/plain", 1, &["plain.test"], Some("certs/lent"));
    assert_eq!(solved_by(&world.translate().table, "plain.test").as_deref(), Some("certs"));
}

/// The seconds of the first day of a month of 2026.
fn month(month: u8) -> i64 {
    date_time_ymd(2026, month, 1).unix_timestamp()
}

/// A route for `pay.bank.test` with an authority's certificate that is valid from one month to another.
fn proves(world: &mut World, namespace: &str, day: u32, (from, to): (u8, u8)) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["pay.bank.test".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = date_time_ymd(2026, from, 1);
    params.not_after = date_time_ymd(2026, to, 1);
    let chain = params.signed_by(&key, &world.authority).unwrap().pem();
    let name = format!("{namespace}/pay");
    let made = secret(&name, day, &chain, &key.serialize_pem());
    world.inputs.secrets.insert(reference(&name), Arc::new(made));
    world.route(&name, day, &["pay.bank.test"], Some(&name));
}

#[test]
fn a_proof_that_is_valid_comes_before_one_that_has_expired() {
    let mut world = World::new();
    proves(&mut world, "a", 1, (1, 3));
    proves(&mut world, "b", 9, (4, 8));
    world.route("c/older", 1, &["pay.bank.test"], None);
    assert_eq!(world.served_by("pay.bank.test"), ["a"], "without a clock both are valid");
    // Until another's is valid, that it has expired gives nothing away. Each change is a reason to decide anew.
    let owners = [(2, "a", Some(3)), (3, "a", Some(4)), (4, "b", Some(8)), (8, "a", None)];
    for withheld in [false, true] {
        if withheld {
            world.inputs.withheld_keys = world.inputs.secrets.keys().cloned().collect();
        }
        for (now, owner, next) in owners {
            world.inputs.now = Some(month(now));
            let output = world.translate();
            assert_eq!(served_by(&output.table, "pay.bank.test"), [owner], "in month {now}");
            assert_eq!(output.next_change, next.map(month), "in month {now}");
        }
    }
}
