//! Which namespaces may claim which hostnames, as whoever runs the gateway writes it (`--hostname-policy`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A hostname policy. No object of Kubernetes: tenants must not be able to write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostnamePolicy {
    /// What holds for hostnames that no rule covers.
    pub default: HostnameDefault,
    /// Of those that cover a hostname the one with the most specific pattern decides.
    pub rules: Vec<HostnameRule>,
    /// Authorities (PEM) whose certificates prove that a namespace controls a hostname, besides the public ones.
    pub authorities: Option<Arc<str>>,
}

/// What holds for hostnames that no rule covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostnameDefault {
    /// Every namespace may claim them; of several the one with the best evidence holds one.
    Contest,
    /// None may.
    Deny,
}

/// Who may claim some hostnames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostnameRule {
    /// Names, `*.parent` for all names below it, `*` for all names.
    pub hostnames: Vec<String>,
    /// Namespaces that may claim them.
    pub namespaces: BTreeSet<String>,
    /// Namespaces with all of these labels may, too: with none, all may.
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Whether all that claim one take part in it. Otherwise one holds it.
    pub shared: bool,
}

impl HostnamePolicy {
    /// Whether the labels of namespaces must be known to judge by it.
    pub fn asks_for_labels(&self) -> bool {
        let labels = self.rules.iter().filter_map(|rule| rule.match_labels.as_ref());
        labels.into_iter().any(|labels| !labels.is_empty())
    }
}
