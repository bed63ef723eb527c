//! Follows the tables, so that the choice of endpoints knows which of them have just become ready.

use std::{collections::HashSet, sync::Arc, time::Instant};

use tokio::task::yield_now;

use super::balance::{EndpointLoad, key};
use crate::table::{Policy, RoutingTable, TableCell};

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
                        load.note_ready(&ready, number, now);
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
    load.note_ready(&ready, number, now);
    load.finish_survey(number, &rotating);
}
