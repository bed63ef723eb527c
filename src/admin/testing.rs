//! Tables for the tests of this room.

use std::sync::Arc;

use crate::table::{
    Drain, FrameChecks, HttpMode, Keepalive, Limits, LoadBalancing, MatchKey, ObjectRef,
    PathAmbiguities, PathKind, Plaintext, RouteEntry, RoutingTable, Rule, Timeouts, VirtualHost,
};

/// Hosts with so many matches each, under `/0`, `/1` and so on.
pub(super) fn table(hosts: &[(&str, usize)]) -> RoutingTable {
    let rule = Arc::new(Rule {
        route: ObjectRef { namespace: "n".into(), name: "r".into() },
        name: "0".into(),
        plaintext: Plaintext::Allow,
        http: HttpMode::Refuse,
        path_allow: PathAmbiguities::NONE,
        timeouts: Timeouts::default(),
        keepalive: Keepalive::default(),
        frames: FrameChecks::Strict,
        limits: Limits::default(),
        load_balancing: LoadBalancing::default(),
        connect_attempts: 3,
        drain: Drain::default(),
        subprotocols: Vec::new(),
        backends: Vec::new(),
    });
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
