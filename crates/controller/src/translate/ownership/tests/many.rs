//! Names and routes in numbers that a tenant can reach. Where the work for them grew with their product these would not end in
//! any time that somebody waits for.

use tidegate_api::Reason;

use super::{World, reference, served_by, words};
use crate::translate::Output;

const MANY: usize = 16_000;

fn programmed(output: &Output, route: &str) -> String {
    output.statuses[&reference(route)].conditions[2].message.clone()
}

fn names(count: usize, of: &str) -> Vec<String> {
    (0..count).map(|index| format!("{of}{index}.shop.test")).collect()
}

#[test]
fn names_that_are_kept_from_a_wildcard_are_counted_not_named() {
    let mut world = World::new();
    world.route("a/wild", 1, &["*.shop.test"], None);
    for (index, served) in names(MANY, "served").chunks(16).enumerate() {
        let served: Vec<_> = served.iter().map(String::as_str).collect();
        world.route(&format!("a/r{index}"), 1, &served, None);
    }
    let kept = names(MANY, "kept");
    world.rule(&kept[0], &["c"], false);
    world.policy(|policy| policy.rules[0].hostnames = kept);
    let output = world.translate();
    assert_eq!(output.table.reserved().len(), MANY);
    let told = programmed(&output, "a/wild");
    assert!(told.contains("does not serve 16000 names under it, which are others'"), "{told}");
    assert!(!told.contains("kept"), "{told}");
}

#[test]
fn a_guest_under_a_wildcard_is_told_the_first_names_of_its_own_alone() {
    let mut world = World::new();
    world.grant("a", "b", None);
    world.route("a/wild", 1, &["*.shop.test"], None);
    world.route_at("b/wild", 2, &["*.shop.test"], None, "/b");
    world.rule("kept.shop.test", &["c"], false);
    let own = names(10, "own");
    world.rule(&own[0], &["b"], false);
    world.policy(|policy| policy.rules[1].hostnames = own);
    // Held by b, and broken.
    for name in names(10, "own") {
        let spec = serde_json::json!({"hostnames": [name], "rules": []});
        world.inputs.routes.push(super::route(&format!("b/{}", &name[..4]), 1, &spec));
    }
    let told = programmed(&world.translate(), "b/wild");
    assert!(told.contains("own0.shop.test, "), "{told}");
    assert!(told.contains("own7.shop.test and 2 more: this namespace holds them"), "{told}");
    assert!(told.contains("does not serve 1 name under it, which is another's"), "{told}");
    assert!(!told.contains("kept"), "{told}");
    let told = programmed(&world.translate(), "a/wild");
    assert!(told.contains("11 names") && !told.contains("own"), "{told}");
}

#[test]
fn the_routes_of_a_wildcard_are_looked_at_once_not_for_every_name_below_it() {
    let mut world = World::new();
    world.secret("a/wild", 1, &["*.shop.test"], true);
    world.grant("a", "b", Some("none"));
    for index in 0..MANY {
        world.route(&format!("a/r{index}"), 1, &["*.shop.test"], Some("a/wild"));
    }
    for (index, claimed) in names(MANY, "claimed").chunks(16).enumerate() {
        let claimed: Vec<_> = claimed.iter().map(String::as_str).collect();
        world.route(&format!("b/r{index}"), 1, &claimed, None);
    }
    let output = world.translate();
    assert_eq!(served_by(&output.table, "claimed0.shop.test"), ["a"]);
    assert_eq!(served_by(&output.table, "claimed15999.shop.test"), ["a"]);
    assert_eq!(words(&output, "b/r999")[0].0, Reason::HostnameNotPermitted);
}
