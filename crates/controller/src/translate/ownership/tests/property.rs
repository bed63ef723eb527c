//! Whatever another namespace adds: what is served under a name stays as it was.

use proptest::prelude::*;
use serde_json::json;
use tidegate_table::{RoutingTable, VirtualHost, WildcardCertificate};

use super::{certificate, route, solved_by, with_a};

/// All that a name's clients meet.
fn face(table: &RoutingTable, name: &str) -> (Option<VirtualHost>, Option<String>, Option<String>) {
    // Whose the wildcard above is shows in the certificate.
    let host = table.host(name).map(|host| {
        let mut host = VirtualHost::clone(host);
        host.wildcard_certificate = WildcardCertificate::default();
        host
    });
    (host, certificate(table, name), solved_by(table, name))
}

/// What b may add: routes for its own and A's names, with certificates of any making but an authority's, solvers, and grants in
/// its own namespace.
fn any_addition() -> impl Strategy<Value = Vec<Addition>> {
    let names = || {
        prop::sample::subsequence(
            vec![
                "pay.bank.test",
                "*.bank.test",
                "*.shop.test",
                "admin.shop.test",
                "www.shop.test",
                "shop.test",
                "*.test",
                "own.test",
                "plain.test",
                "*.plain.test",
            ],
            1..4,
        )
    };
    let route = (
        names(),
        prop::sample::select(vec!["/", "/login", "/ws"]),
        any::<bool>(),
        any::<bool>(),
        10..28_u32,
    )
        .prop_map(|(names, path, tls, hsts, day)| Addition::Route {
            names,
            path,
            tls,
            hsts,
            day,
        });
    let secret = (names(), 10..28_u32).prop_map(|(names, day)| Addition::Secret { names, day });
    let solver = names().prop_map(Addition::Solver);
    let grant = prop::sample::select(vec!["a", "b"]).prop_map(Addition::Grant);
    prop::collection::vec(prop_oneof![4 => route, 2 => secret, 1 => solver, 1 => grant], 1..8)
}

#[derive(Clone, Debug)]
enum Addition {
    Route { names: Vec<&'static str>, path: &'static str, tls: bool, hsts: bool, day: u32 },
    Secret { names: Vec<&'static str>, day: u32 },
    Solver(Vec<&'static str>),
    Grant(&'static str),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Matches, certificate, Strict-Transport-Security and solver of A's names: none changes by what b adds.
    #[test]
    fn nothing_that_another_namespace_adds_changes_what_a_name_serves(additions in any_addition()) {
        let mut world = with_a();
        // One name without any certificate, one with a certificate of A's own making.
        world.route("a/plain", 5, &["plain.test"], None);
        world.secret("a/own", 5, &["*.plain.test"], false);
        world.route("a/own", 5, &["*.plain.test"], Some("a/own"));
        world.solver("a", "pay.bank.test");
        let before = world.translate();
        for (index, addition) in additions.into_iter().enumerate() {
            match addition {
                Addition::Route { names, path, tls, hsts, day } => {
                    let mut spec = json!({
                        "hostnames": names, "plaintext": "Allow",
                        "rules": [{
                            "matches": [{"path": {"value": path}}],
                            "backendRefs": [{"name": "app", "port": 80}],
                        }],
                    });
                    if tls {
                        spec["tls"] = json!({"secretName": "made"});
                        if hsts {
                            spec["tls"]["hsts"] = json!({"maxAge": "8760h", "includeSubdomains": true});
                        }
                    }
                    world.inputs.routes.push(route(&format!("b/r{index}"), day, &spec));
                }
                Addition::Secret { names, day } => world.secret("b/made", day, &names, false),
                Addition::Solver(names) => names.iter().for_each(|name| world.solver("b", name)),
                Addition::Grant(from) => world.grant("b", from, None),
            }
        }
        let after = world.translate();
        for name in [
            "pay.bank.test", "www.shop.test", "admin.shop.test", "other.shop.test", "plain.test", "a.plain.test",
        ] {
            prop_assert_eq!(face(&after.table, name), face(&before.table, name), "{}", name);
        }
        for (route, status) in &before.statuses {
            prop_assert_eq!(&after.statuses[route], status);
        }
        for (route, status) in &after.statuses {
            if route.namespace == "b" {
                let text = format!("{status:?}");
                prop_assert!(!text.contains("a/"), "it names what it may not know: {}", text);
            }
        }
    }
}
