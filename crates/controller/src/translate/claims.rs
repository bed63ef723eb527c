//! From the hostname policy as it is written to who may claim what: selectors become namespaces.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_api::{HostnameDefault, HostnameRule};
use tidegate_table::{ClaimDefault, ClaimRule, Claimants, HostnameClaims, Sharing};

use super::Inputs;

/// The policy of these inputs. Without one everybody may claim everything.
pub(super) fn resolve(inputs: &Inputs) -> HostnameClaims {
    let Some(policy) = &inputs.hostname_policy else { return HostnameClaims::default() };
    let default = match policy.default {
        HostnameDefault::Contest => ClaimDefault::Contest,
        HostnameDefault::Deny => ClaimDefault::Deny,
    };
    let rules = policy.rules.iter().flat_map(|rule| {
        let resolved = resolve_rule(rule, &inputs.namespace_labels);
        rule.hostnames.iter().map(move |pattern| (pattern, resolved.clone()))
    });
    HostnameClaims::new(default, rules)
}

fn resolve_rule(
    rule: &HostnameRule,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
) -> ClaimRule {
    let sharing = match rule.shared {
        true => Sharing::AllTakePart,
        false => Sharing::OneHolds,
    };
    let named = rule.namespaces.iter().map(|name| name.as_str().into());
    let claimants = match &rule.match_labels {
        None => Claimants::Only(named.collect()),
        Some(wanted) if wanted.is_empty() => Claimants::All,
        Some(wanted) => {
            let has = |labels: &BTreeMap<String, String>| {
                wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
            };
            let selected = namespaces.iter().filter(|(_, labels)| has(labels));
            let selected = selected.map(|(name, _)| name.as_str().into());
            Claimants::Only(named.chain(selected).collect::<BTreeSet<_>>())
        }
    };
    ClaimRule { claimants, sharing }
}
