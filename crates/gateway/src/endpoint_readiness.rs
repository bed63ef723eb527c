//! Follows the tables, so that the choice of endpoints knows which of them have just become ready.

use std::{collections::HashSet, sync::Arc, time::Instant};

use tidegate_table::{Policy, RoutingTable, TableCell};
use tokio::task::yield_now;

use super::balance::{EndpointLoad, key};

/// Endpoints, or backends, that are looked at before others have their turn on this thread.
const PART: usize = 256;

/// Surveys every table that is published, for as long as there is somebody to publish any.
pub(super) async fn follow(table: Arc<TableCell>, load: EndpointLoad) {
    let mut generation = table.subscribe();
    loop {
        if let Some(published) = table.load() {
            survey(&published.table, published.generation, &load).await;
        }
        if generation.changed().await.is_err() {
            return;
        }
    }
}

/// Notes the ready endpoints of one table. A large one has thousands, and many rules may lead to the same.
async fn survey(table: &RoutingTable, number: u64, load: &EndpointLoad) {
    let now = Instant::now();
    let (mut seen, mut rotating) = (HashSet::new(), HashSet::new());
    let mut ready = Vec::new();
    let mut backends = 0;
    for rule in table.rules() {
        for backend in &rule.backends {
            if rule.load_balancing.policy == Policy::RoundRobin {
                rotating.insert(key::of_backend(backend));
            }
            if seen.insert(backend.endpoints.id()) {
                for part in backend.endpoints.ready().chunks(PART) {
                    ready.extend(part.iter().map(|endpoint| endpoint.address));
                    if ready.len() >= PART {
                        load.mark_ready(&ready, number, now);
                        ready.clear();
                        yield_now().await;
                    }
                }
            }
            backends += 1;
            if backends % PART == 0 {
                yield_now().await;
            }
        }
    }
    load.mark_ready(&ready, number, now);
    load.finish_survey(number, &rotating);
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use tidegate_table::{
        Backend, Endpoint, EndpointState, LoadBalancing, MatchKey, ObjectRef, PathKind, RouteEntry,
        Rule, VirtualHost,
    };

    use super::*;
    use crate::balance::PickRequest;

    fn address(number: u16) -> SocketAddr {
        ([127, 0, 0, 1], number).into()
    }

    fn backend(endpoints: impl IntoIterator<Item = Endpoint>) -> Backend {
        Backend {
            service: ObjectRef { namespace: "n".into(), name: "s".into() },
            port: 80,
            weight: 1,
            tls: None,
            endpoints: endpoints.into_iter().collect(),
        }
    }

    /// A table with so many rules for these backends.
    fn table(rules: u16, backends: &[Backend]) -> RoutingTable {
        let entries = (0..rules).map(|number| {
            let key = MatchKey {
                kind: PathKind::Exact,
                path: format!("/{number}").into(),
                headers: vec![],
                query: vec![],
                subprotocols: vec![],
            };
            let mut rule = Rule::with_defaults(ObjectRef::new("n", "r"), &number.to_string());
            rule.backends = backends.to_vec();
            RouteEntry { key: key.into(), rule: Arc::new(rule) }
        });
        RoutingTable::new([VirtualHost::new("a.test", None, entries)])
    }

    #[test]
    fn every_ready_endpoint_of_a_large_table_is_noted_and_no_other() {
        let ready = (1..=1000).map(|number| Endpoint::ready(address(number)));
        let leaving = EndpointState::Terminating { serving: true };
        let old =
            backend(ready.chain([Endpoint { state: leaving, ..Endpoint::ready(address(1001)) }]));
        let late = backend([Endpoint::ready(address(1001))]);
        let load = EndpointLoad::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            survey(&table(600, std::slice::from_ref(&old)), 1, &load).await;
            survey(&table(1, &[old, late]), 2, &load).await;
        });
        let how = LoadBalancing {
            slow_start: Some(Duration::from_secs(3600)),
            ..LoadBalancing::default()
        };
        // Each of the thousand is known from the first table, and the last one is new beside it.
        for number in 1..=1000 {
            let pair = backend([address(number), address(1001)].map(Endpoint::ready));
            let backends = [pair];
            let wanted = PickRequest { backends: &backends, how: &how, key: None, tried: &[] };
            let (_, seat) = load.choose(&wanted, u64::from(number), Instant::now()).unwrap();
            assert_eq!(seat.address(), address(number));
        }
    }
}
