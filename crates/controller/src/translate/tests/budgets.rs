//! Budgets end what a tenant may ask for, for its own routes alone.

use super::*;

/// A route of another namespace than `chat` too.
fn of(namespace: &str, name: &str, created: &str, spec: &Value) -> RouteInput {
    RouteInput::Valid(Arc::new(read(json!({
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "WebSocketRoute",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
        "spec": spec,
    }))))
}

fn accepted(output: &Output, namespace: &str, name: &str) -> bool {
    let object = ObjectRef { namespace: namespace.into(), name: name.into() };
    output.statuses[&object].conditions[0].status
}

/// Hostnames, rules and matches as many as the schema lets a route have.
fn largest(number: usize) -> Value {
    let hostnames: Vec<_> = (0..16).map(|host| format!("h{host}.r{number}.example")).collect();
    let rule = |rule: usize| {
        let matches = (0..16).map(|path| json!({"path": {"value": format!("/{rule}/{path}")}}));
        json!({"matches": matches.collect::<Vec<_>>(), "backendRefs": [{"name": "chat", "port": 8080}]})
    };
    json!({"hostnames": hostnames, "rules": (0..16).map(rule).collect::<Vec<_>>()})
}

#[test]
fn the_hostnames_of_a_route_share_its_matches() {
    let mut inputs = world(&[]);
    inputs.routes = vec![route("a", None, &largest(0)), route("b", None, &largest(1))];
    let table = translate(&inputs, "tidegate").table;
    let hosts = table.hosts();
    assert_eq!(hosts.len(), 32);
    let of_route = |number| hosts.iter().filter(move |host| host.pattern.contains(number));
    for number in ["r0", "r1"] {
        let first = of_route(number).next().expect("it has hosts");
        assert!(of_route(number).all(|host| host.shares_matches(first)));
    }
    assert!(!hosts[0].shares_matches(of_route("r1").next().expect("it has hosts")));
    // What another route adds to one of them is that one's alone.
    let more = json!({"hostnames": ["h3.r0.example"], "rules": [{"matches": [{"path": {"value": "/more"}}],
                      "backendRefs": [{"name": "chat", "port": 8080}]}]});
    inputs.routes.push(route("c", None, &more));
    let table = translate(&inputs, "tidegate").table;
    let host = |name: &str| table.host(name).expect("served");
    assert!(host("h0.r0.example").shares_matches(host("h1.r0.example")));
    assert!(!host("h0.r0.example").shares_matches(host("h3.r0.example")));
    assert_eq!(host("h3.r0.example").entries().count(), 257);
}

#[test]
fn nobody_elses_routes_suffer_from_a_namespace_that_asks_for_everything() {
    let mut inputs = world(&[]);
    for number in 0..40 {
        let created = format!("2026-01-01T00:00:{number:02}Z");
        inputs.routes.push(of("greedy", &format!("g{number}"), &created, &largest(number)));
    }
    let small = json!({"hostnames": ["a.example"], "rules": [{"backendRefs": [{"name": "chat", "port": 8080}]}]});
    inputs.routes.push(of("chat", "late", "2026-02-01T00:00:00Z", &small));
    let output = translate(&inputs, "tidegate");
    assert!(accepted(&output, "chat", "late"));
    let served: Vec<_> = (0..40).map(|n| accepted(&output, "greedy", &format!("g{n}"))).collect();
    // Four times 4,096 matches are all that a namespace may have; the oldest have them.
    assert_eq!(served.iter().filter(|served| **served).count(), 4);
    assert!(served[..4].iter().all(|served| *served));
    let entries: usize = output.table.hosts().iter().map(|host| host.entries().count()).sum();
    assert_eq!(entries, Budgets::default().matches_per_namespace + 1);
}

#[test]
fn what_is_lost_to_others_is_paid_back() {
    let mut inputs = world(&[]);
    let spec = |host: &str| json!({"hostnames": [host], "rules": [{"backendRefs": [{"name": "chat", "port": 8080}]}]});
    inputs.routes = vec![
        of("other", "first", "2026-01-01T00:00:00Z", &spec("a.example")),
        of("chat", "loser", "2026-01-02T00:00:00Z", &spec("a.example")),
        of("chat", "late", "2026-01-03T00:00:00Z", &spec("b.example")),
    ];
    let budgets = Budgets { matches_per_namespace: 1, ..Budgets::default() };
    let mut translator = Translator::default().with_budgets(budgets);
    let output = translator.translate(&inputs, "tidegate");
    assert!(!accepted(&output, "chat", "loser"));
    assert!(accepted(&output, "chat", "late"));
}

#[test]
fn a_chain_of_more_than_a_handshake_should_cost_is_refused_with_a_condition() {
    let mut inputs = world(&["a"]);
    let sound = inputs.secrets[&object("a")].as_ref().clone();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut secret = sound.clone();
        change(
            &mut secret
                .data
                .as_mut()
                .expect("it has data")
                .get_mut("tls.crt")
                .expect("it has one")
                .0,
        );
        Arc::new(secret)
    };
    let repeated = |times: usize| {
        with(&|chain: &mut Vec<u8>| {
            *chain = chain.repeat(times);
        })
    };
    let long =
        with(&|chain: &mut Vec<u8>| chain.resize(tidegate_table::MAX_CHAIN_BYTES + 1, b'\n'));
    for (secret, part) in [
        (repeated(16), None),
        (repeated(17), Some("tls.crt has 17 certificates, and a chain may have 16")),
        (long, Some("tls.crt has more than 65536 bytes")),
    ] {
        inputs.secrets.insert(object("a"), secret);
        let output = translate(&inputs, "tidegate");
        let status = &output.statuses[&object("a")];
        let resolved = &status.conditions[1];
        match part {
            None => assert!(resolved.status, "{}", resolved.message),
            Some(part) => {
                assert_eq!(
                    (resolved.status, resolved.reason),
                    (false, Reason::InvalidCertificateRef)
                );
                assert!(resolved.message.contains(part), "{}", resolved.message);
                assert!(output.table.host("a.example").expect("served").tls.is_none());
            }
        }
    }
}

#[test]
fn certificates_have_a_budget_too_and_older_routes_keep_theirs() {
    let mut inputs = world(&[]);
    for (number, name) in ["c", "b", "a"].into_iter().enumerate() {
        inputs.secrets.insert(object(name), Arc::new(secret(name)));
        let spec = json!({"hostnames": [format!("{name}.example")], "tls": {"secretName": name},
                          "rules": [{"backendRefs": [{"name": "chat", "port": 8080}]}]});
        inputs.routes.push(route(name, Some(&format!("2026-01-0{}T00:00:00Z", number + 1)), &spec));
    }
    let budgets = Budgets { certificate_bytes_per_namespace: 7_000, ..Budgets::default() };
    let output = Translator::default().with_budgets(budgets).translate(&inputs, "tidegate");
    let has =
        |name: &str| output.table.host(&format!("{name}.example")).expect("served").tls.is_some();
    assert_eq!([has("c"), has("b"), has("a")], [true, true, false]);
    assert_eq!(output.statuses[&object("a")].conditions[1].reason, Reason::BudgetExceeded);
}

#[test]
fn conditions_stay_small_whatever_a_route_quotes() {
    let long = "v".repeat(4_096);
    let headers: Vec<_> =
        (0..16).map(|n| json!({"name": format!("x-{n}"), "value": long})).collect();
    let rules: Vec<_> = (0..16)
        .map(|rule| {
            let matches: Vec<_> = (0..16)
                .map(|path| json!({"path": {"value": format!("/{rule}/{path}")}, "headers": headers}))
                .collect();
            json!({"matches": matches, "backendRefs": [{"name": "chat", "port": 8080}]})
        })
        .collect();
    let spec = json!({"hostnames": ["a.example"], "rules": rules});
    let mut inputs = world(&[]);
    inputs.routes = vec![route("a", None, &spec), route("b", None, &spec)];
    let budgets = Budgets { match_bytes_per_namespace: usize::MAX, ..Budgets::default() };
    let output = Translator::default().with_budgets(budgets).translate(&inputs, "tidegate");
    let conditions = output.statuses.values().flat_map(|status| &status.conditions);
    let longest = conditions.map(|condition| condition.message.len()).max().expect("some");
    assert!((1_024..10_000).contains(&longest), "{longest}");
    let told: usize = output.problems.iter().map(|problem| problem.message.len()).sum();
    assert!(told < 20_000, "{told}");
    // So much text does not fit a namespace's budget.
    let output = translate(&inputs, "tidegate");
    assert_eq!(output.statuses[&object("a")].conditions[0].reason, Reason::BudgetExceeded);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the budgets: the order of objects means nothing, and no namespace has more than its own.
    #[test]
    fn budgets_hold_and_are_spent_in_order(
        inputs in any_world(), matches in 0..12_usize, host in 0..6_usize, path in 0..3_usize,
    ) {
        let budgets = Budgets {
            matches_per_namespace: matches,
            matches_per_host: host,
            matches_per_path: path,
            ..Budgets::default()
        };
        let translate = |inputs: &Inputs| {
            Translator::default().with_budgets(budgets).translate(inputs, "tidegate")
        };
        let output = translate(&inputs);
        let mut reversed = inputs;
        reversed.routes.reverse();
        prop_assert_eq!(&translate(&reversed), &output);
        let hosts = output.table.hosts();
        let counts: Vec<_> = hosts.iter().map(|host| host.entries().count()).collect();
        prop_assert!(counts.iter().sum::<usize>() <= matches);
        prop_assert!(counts.iter().all(|count| *count <= host));
        prop_assert!(counts.iter().all(|count| *count > 0), "an empty host");
    }
}

/// Looking at addresses is what costs, so they are paid for before.
#[test]
fn addresses_are_paid_for_before_they_are_looked_at() {
    let inputs_of = |addresses: usize| {
        let mut inputs = world(&[]);
        let spec = json!({"hostnames": ["a.example"], "rules": [{"backendRefs": [{"name": "big", "port": 80}]}]});
        inputs.routes.push(of("chat", "a", "2026-01-01T00:00:00Z", &spec));
        let name = ObjectRef { namespace: "chat".into(), name: "big".into() };
        let service = json!({"metadata": {"name": "big", "namespace": "chat"},
                             "spec": {"ports": [{"port": 80}]}});
        inputs.services.insert(name, Arc::new(read(service)));
        // The same ones again and again: as endpoints they are few.
        let endpoint = json!({"addresses": vec!["10.0.0.1"; 100]});
        let slice = json!({
            "metadata": {"name": "big-1", "namespace": "chat", "labels": {"kubernetes.io/service-name": "big"}},
            "addressType": "IPv4",
            "ports": [{"port": 8080}],
            "endpoints": vec![endpoint; addresses / 100],
        });
        inputs.endpoint_slices.push(Arc::new(read(slice)));
        inputs
    };
    let most = Budgets::default().endpoints_per_namespace;
    for (addresses, served) in [(most - most % 100, true), (most + 100 - most % 100, false)] {
        let output = translate(&inputs_of(addresses), "tidegate");
        let object = ObjectRef { namespace: "chat".into(), name: "a".into() };
        let resolved = &output.statuses[&object].conditions[1];
        assert_eq!(resolved.status, served, "{addresses}: {}", resolved.message);
        let budget = resolved.reason == Reason::BudgetExceeded;
        assert_eq!(budget, !served, "{addresses}: {}", resolved.message);
    }
}
