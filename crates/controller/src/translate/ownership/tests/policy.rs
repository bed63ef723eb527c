//! What the operator's policy decides.

use super::*;

#[test]
fn the_policy_says_who_may_claim_a_name_and_that_it_is_shared() {
    let mut world = with_a();
    world.route("b/admin", 1, &["admin.shop.test"], None);
    world.route_at("c/admin", 2, &["admin.shop.test"], None, "/c");
    world.rule("admin.shop.test", &["b"], false);
    let output = world.translate();
    assert_eq!(served_by(&output.table, "admin.shop.test"), ["b"]);
    assert_eq!(certificate(&output.table, "admin.shop.test"), None, "the wildcard's is another's");
    let told = words(&output, "c/admin");
    assert_eq!(told[0].0, Reason::HostnameNotPermitted);
    assert!(
        told[0].1.contains("hostname policy of this gateway does not let namespace c"),
        "{told:?}"
    );
    world.policy(|policy| policy.rules.clear());
    world.rule("admin.shop.test", &["b", "c"], true);
    assert_eq!(world.served_by("admin.shop.test"), ["b", "c"]);
    world.policy(|policy| policy.rules.clear());
    world.rule("admin.shop.test", &["b", "c"], false);
    assert_eq!(world.served_by("admin.shop.test"), ["b"], "the older holds it");
}

#[test]
fn a_name_that_the_policy_keeps_is_not_served_by_a_wildcard_either() {
    let mut world = with_a();
    world.rule("root.shop.test", &["c"], false);
    world.rule("nobody.shop.test", &[], false);
    world.rule("www.shop.test", &["a"], false);
    for name in ["root.shop.test", "nobody.shop.test", "www.shop.test"] {
        world.solver("a", name);
        world.solver("c", name);
    }
    let output = world.translate();
    assert_eq!(served_by(&output.table, "www.shop.test"), ["a"]);
    assert_eq!(solved_by(&output.table, "www.shop.test").as_deref(), Some("a"));
    for (name, solver) in [("root.shop.test", Some("c")), ("nobody.shop.test", None)] {
        assert!(output.table.host(name).is_none(), "{name}");
        assert_eq!(certificate(&output.table, name), None);
        assert_eq!(solved_by(&output.table, name).as_deref(), solver);
    }
    let programmed = &output.statuses[&reference("a/shop")].conditions[2];
    assert!(programmed.message.contains("does not serve 2 names under it"), "{programmed:?}");
    assert!(!programmed.message.contains("root.shop.test"), "{programmed:?}");
}

#[test]
fn under_a_mandatory_policy_nobody_has_what_no_rule_gives() {
    let mut world = with_a();
    world.policy(|policy| policy.default = HostnameDefault::Deny);
    world.solver("a", "pay.bank.test");
    let output = world.translate();
    assert!(output.table.is_empty());
    assert_eq!(solved_by(&output.table, "pay.bank.test"), None);
    assert_eq!(words(&output, "a/pay")[0].0, Reason::HostnameNotPermitted);
    world.rule("*.bank.test", &["a"], false);
    let output = world.translate();
    assert_eq!(served_by(&output.table, "pay.bank.test"), ["a"]);
    assert_eq!(solved_by(&output.table, "pay.bank.test").as_deref(), Some("a"));
}

#[test]
fn labels_of_namespaces_select_who_may_claim() {
    let mut world = World::new();
    world.policy(|policy| {
        policy.default = HostnameDefault::Deny;
        let match_labels = Some(BTreeMap::from([("stage".to_owned(), "dev".to_owned())]));
        let hostnames = vec!["*".to_owned()];
        let rule = HostnameRule {
            hostnames,
            namespaces: ["c".to_owned()].into(),
            match_labels,
            shared: false,
        };
        policy.rules.push(rule);
    });
    for namespace in ["a", "b", "c"] {
        world.route(&format!("{namespace}/r"), 1, &[&format!("{namespace}.test")], None);
    }
    let labels = |stage: &str| BTreeMap::from([("stage".to_owned(), stage.to_owned())]);
    world.inputs.namespace_labels =
        [("a".to_owned(), labels("dev")), ("b".to_owned(), labels("live"))].into();
    assert_eq!(world.served_by("a.test"), ["a"]);
    assert_eq!(world.served_by("b.test"), [""; 0]);
    assert_eq!(world.served_by("c.test"), ["c"]);
}
