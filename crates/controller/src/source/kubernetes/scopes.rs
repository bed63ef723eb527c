//! What is known of one kind in all the namespaces that are read.

use std::collections::BTreeMap;

use tidegate_table::ObjectRef;

use super::{
    Event,
    store::{Store, Stored},
};
use crate::source::Change;

/// One [`Store`] for each scope: either one for the whole cluster, or one for each namespace. They fail and recover each for
/// itself.
#[derive(Debug)]
pub(super) struct ScopedStores<V>(Vec<Store<V>>);

impl<V: Stored + Clone> ScopedStores<V> {
    pub(super) fn new(scopes: usize) -> Self {
        Self((0..scopes).map(|_| Store::default()).collect())
    }

    /// See [`Store::apply`].
    pub(super) fn apply(&mut self, scope: usize, event: Event<V>) -> (Option<Change>, bool) {
        self.0[scope].apply(event)
    }

    pub(super) fn scope(&mut self, scope: usize) -> &mut Store<V> {
        &mut self.0[scope]
    }

    /// The objects of all scopes, once all have been read.
    pub(super) fn known(&self) -> Option<BTreeMap<ObjectRef, V>> {
        let mut scopes = self.0.iter().map(Store::known);
        let mut all = scopes.next()??.clone();
        for scope in scopes {
            all.extend(scope?.iter().map(|(name, object)| (name.clone(), object.clone())));
        }
        Some(all)
    }

    /// Those that are known by now, scope by scope.
    pub(super) fn each(&self) -> impl Iterator<Item = (&ObjectRef, &V)> {
        self.0.iter().filter_map(Store::known).flatten()
    }

    /// Whether the kind is installed, as far as is known.
    pub(super) fn installed(&self) -> bool {
        self.0.iter().all(Store::installed)
    }

    /// Whether objects may not be read somewhere that have never been.
    pub(super) fn forbidden(&self) -> bool {
        self.0.iter().any(Store::forbidden)
    }

    /// Whether all that is known is up to date.
    pub(super) fn synced(&self) -> bool {
        self.0.iter().all(Store::synced)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Service;
    use kube::runtime::watcher;

    use super::*;

    fn listed(stores: &mut ScopedStores<Arc<Service>>, scope: usize, name: &str) -> Option<Change> {
        let name = ObjectRef { namespace: format!("n{scope}"), name: name.into() };
        stores.apply(scope, watcher::Event::Init);
        let service = Some(Arc::new(Service::default()));
        stores.apply(scope, watcher::Event::InitApply((name, service)));
        stores.apply(scope, watcher::Event::InitDone).0
    }

    #[test]
    fn all_scopes_must_have_been_read_and_one_that_fails_leaves_the_others() {
        let mut stores = ScopedStores::new(2);
        assert_eq!(listed(&mut stores, 0, "a"), Some(Change::Inputs));
        assert!(stores.known().is_none() && !stores.synced());
        assert_eq!(listed(&mut stores, 1, "b"), Some(Change::Inputs));
        let names = |stores: &ScopedStores<_>| -> Vec<_> {
            stores.known().unwrap().into_keys().map(|name| name.to_string()).collect()
        };
        assert_eq!(names(&stores), ["n0/a", "n1/b"]);
        assert!(stores.synced());
        stores.scope(1).fail();
        assert!(!stores.synced());
        assert_eq!(names(&stores), ["n0/a", "n1/b"]);
        assert_eq!(listed(&mut stores, 0, "c"), Some(Change::Inputs));
        assert_eq!(names(&stores), ["n0/c", "n1/b"], "a list replaces its own scope alone");
        assert_eq!(stores.each().count(), 2);
    }
}
