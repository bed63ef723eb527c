//! What a table says about connections that were opened by an earlier one. Pure.

use std::{collections::HashMap, net::SocketAddr};

use tidegate_table::{EndpointState, ObjectRef, OnChange, RoutingTable, Rule, VirtualHost};

use crate::{close::CloseCause, registry::Origin};

/// The rules that a table serves, by hostname, route and name. A host is gone through when it is first asked for.
pub(super) struct Served<'t> {
    table: &'t RoutingTable,
    hosts: HashMap<*const VirtualHost, HashMap<(&'t ObjectRef, &'t str), &'t Rule>>,
}

impl<'t> Served<'t> {
    /// Those of `table`.
    pub(super) fn new(table: &'t RoutingTable) -> Self {
        Self { table, hosts: HashMap::new() }
    }

    /// The rule that an origin's has become: the one of its name, of its route, under its hostname, or under the wildcard that
    /// covers that.
    fn rule(&mut self, origin: &Origin) -> Option<&'t Rule> {
        let host = self.table.host(&origin.hostname)?;
        let rules = self.hosts.entry(std::ptr::from_ref(&**host)).or_insert_with(|| {
            let named = |rule: &'t Rule| ((&rule.route, rule.name.as_str()), rule);
            host.entries().map(|entry| named(&entry.rule)).collect()
        });
        rules.get(&(&origin.rule.route, origin.rule.name.as_str())).copied()
    }

    /// For what cause the connections of `origin` are to be ended, if at all. `before` is what was said about them by the
    /// table before.
    pub(super) fn judge(
        &mut self,
        origin: &Origin,
        before: Option<CloseCause>,
    ) -> Option<CloseCause> {
        let drain = origin.rule.drain;
        // An endpoint that was terminating does not come back by being listed no longer.
        let terminating = before.filter(|cause| *cause == CloseCause::EndpointTerminating);
        let Some(rule) = self.rule(origin) else {
            return match drain.on_route_removed {
                OnChange::Close => before.or(Some(CloseCause::RouteRemoved)),
                OnChange::Keep => terminating,
            };
        };
        let close = drain.on_endpoint_terminating == OnChange::Close && has_room(rule);
        match state(rule, origin.endpoint) {
            Some(state) if state.is_terminating() && close => Some(CloseCause::EndpointTerminating),
            None if close => terminating,
            _ => None,
        }
    }
}

/// Whether clients that are told to go would find another endpoint.
fn has_room(rule: &Rule) -> bool {
    rule.backends.iter().any(|backend| backend.weight > 0 && backend.endpoints.any_ready())
}

/// What the rule's backends say about an endpoint, if they list it. Where two list it, being ready goes first.
fn state(rule: &Rule, endpoint: SocketAddr) -> Option<EndpointState> {
    let listed = rule.backends.iter().filter_map(|backend| backend.endpoints.at(endpoint));
    listed.min_by_key(|endpoint| endpoint.rank()).map(|endpoint| endpoint.state)
}

#[cfg(test)]
mod tests;
