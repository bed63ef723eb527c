//! Who may claim which hostname, as whoever runs the gateway has decided it: the resolved hostname policy.

use std::collections::{BTreeSet, HashMap};

/// A hostname policy with every selector resolved. Without rules everybody may claim everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostnameClaims {
    default: ClaimDefault,
    /// By the whole name.
    exact: HashMap<Box<str>, ClaimRule>,
    /// By what follows `*.`; for every name by "".
    below: HashMap<Box<str>, ClaimRule>,
}

/// What holds for names that no rule covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClaimDefault {
    /// Every namespace may claim them.
    #[default]
    Contest,
    /// None may.
    Deny,
}

/// Who may claim the names of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRule {
    /// The namespaces.
    pub claimants: Claimants,
    /// What becomes of those that claim one name.
    pub sharing: Sharing,
}

/// A set of namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimants {
    /// Every one.
    All,
    /// These.
    Only(BTreeSet<Box<str>>),
}

/// What becomes of several namespaces that claim one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One of them holds it.
    OneHolds,
    /// All of them take part.
    AllTakePart,
}

impl HostnameClaims {
    /// A policy of these rules, each with one of its patterns: a name, `*.parent` for every name below `parent`, however
    /// deep, or `*` for every name. Of two rules of one pattern the last counts.
    pub fn new<P: AsRef<str>>(
        default: ClaimDefault,
        rules: impl IntoIterator<Item = (P, ClaimRule)>,
    ) -> Self {
        let mut claims = Self { default, ..Self::default() };
        for (pattern, rule) in rules {
            let pattern = pattern.as_ref();
            match pattern.strip_prefix('*') {
                Some(rest) => claims.below.insert(rest.trim_start_matches('.').into(), rule),
                None => claims.exact.insert(pattern.into(), rule),
            };
        }
        claims
    }

    /// Whether a namespace may claim a hostname, or a wildcard of a route (lower case).
    pub fn permits(&self, pattern: &str, namespace: &str) -> bool {
        match self.rule(pattern) {
            Some(rule) => rule.claimants.contains(namespace),
            None => self.default == ClaimDefault::Contest,
        }
    }

    /// Whether all that claim a hostname take part in it.
    pub fn is_shared(&self, pattern: &str) -> bool {
        self.rule(pattern).is_some_and(|rule| rule.sharing == Sharing::AllTakePart)
    }

    /// The names that have a rule of their own.
    pub fn exact_names(&self) -> impl Iterator<Item = &str> {
        self.exact.keys().map(AsRef::as_ref)
    }

    /// The rule of the most specific pattern.
    fn rule(&self, pattern: &str) -> Option<&ClaimRule> {
        let mut parent = match pattern.strip_prefix("*.") {
            Some(parent) => Some(parent),
            None => {
                if let Some(rule) = self.exact.get(pattern) {
                    return Some(rule);
                }
                parent_of(pattern)
            }
        };
        while let Some(name) = parent {
            if let Some(rule) = self.below.get(name) {
                return Some(rule);
            }
            parent = parent_of(name);
        }
        self.below.get("")
    }
}

fn parent_of(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, parent)| parent)
}

impl Claimants {
    /// Whether a namespace is one of them.
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(namespaces) => namespaces.contains(namespace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(namespace: &str) -> ClaimRule {
        let claimants = Claimants::Only(BTreeSet::from([namespace.into()]));
        ClaimRule { claimants, sharing: Sharing::OneHolds }
    }

    #[test]
    fn without_rules_everybody_may_claim_everything() {
        let claims = HostnameClaims::default();
        assert!(claims.permits("a.test", "a") && claims.permits("*.test", "b"));
        assert!(!claims.is_shared("a.test"));
    }

    #[test]
    fn the_most_specific_pattern_decides_and_a_star_covers_every_depth() {
        let rules = [
            ("*", only("rest")),
            ("*.test", only("top")),
            ("*.shop.test", only("shop")),
            ("admin.shop.test", only("admin")),
        ];
        let claims = HostnameClaims::new(ClaimDefault::Deny, rules);
        for (pattern, namespace) in [
            ("admin.shop.test", "admin"),
            ("a.shop.test", "shop"),
            ("c.b.a.shop.test", "shop"),
            ("*.shop.test", "shop"),
            ("*.a.shop.test", "shop"),
            // The name itself is not below itself.
            ("shop.test", "top"),
            ("*.test", "top"),
            ("test", "rest"),
            ("other.example", "rest"),
            ("xshop.test", "top"),
        ] {
            for other in ["rest", "top", "shop", "admin"] {
                let permitted = claims.permits(pattern, other);
                assert_eq!(permitted, other == namespace, "{pattern} by {other}");
            }
        }
    }

    #[test]
    fn what_no_rule_covers_is_as_the_default_says() {
        for (default, permitted) in [(ClaimDefault::Deny, false), (ClaimDefault::Contest, true)] {
            let claims = HostnameClaims::new(default, [("a.test", only("a"))]);
            assert_eq!(claims.permits("b.test", "b"), permitted);
            assert_eq!(claims.permits("*.test", "b"), permitted);
            assert!(claims.permits("a.test", "a") && !claims.permits("a.test", "b"));
        }
    }
}
