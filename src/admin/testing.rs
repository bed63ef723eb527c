//! Tables for the tests of this room.

use std::sync::Arc;

use crate::table::{MatchKey, ObjectRef, PathKind, RouteEntry, RoutingTable, Rule, VirtualHost};

/// Hosts with so many matches each, under `/0`, `/1` and so on.
pub(super) fn table(hosts: &[(&str, usize)]) -> RoutingTable {
    let rule = Arc::new(Rule::with_defaults(ObjectRef::new("n", "r"), "0"));
    RoutingTable::new(hosts.iter().map(|(name, matches)| {
        let entries = (0..*matches).map(|number| RouteEntry {
            key: Arc::new(MatchKey {
                kind: PathKind::Prefix,
                path: format!("/{number}").into(),
                headers: Vec::new(),
                query: Vec::new(),
                subprotocols: Vec::new(),
            }),
            rule: Arc::clone(&rule),
        });
        VirtualHost::new(name, None, entries)
    }))
}
