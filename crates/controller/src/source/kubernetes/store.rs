//! What is known of one kind.

use std::{collections::BTreeMap, sync::Arc};

use kube::{Resource, runtime::watcher};
use tidegate_table::ObjectRef;

use super::Event;
use crate::source::Change;

/// Something that is kept, and can tell whether a newer version of it differs.
pub(super) trait Stored: Sized {
    /// The value to keep when `new` takes the place of `self`, and what that changes. Where nothing that
    /// matters does, what `self` shares with others is kept: who compares pointers sees no change.
    fn replace(&self, new: Self) -> (Self, Option<Change>);
}

impl<K> Stored for Arc<K>
where
    K: Resource + PartialEq,
{
    /// Versions that differ in nothing but their resourceVersion are the same: others' writes to what
    /// was stripped away.
    fn replace(&self, mut new: Self) -> (Self, Option<Change>) {
        if let Some(new) = Arc::get_mut(&mut new) {
            let version = new.meta_mut().resource_version.take();
            new.meta_mut().resource_version.clone_from(&self.meta().resource_version);
            if *new == **self {
                return (Self::clone(self), None);
            }
            new.meta_mut().resource_version = version;
        }
        (new, Some(Change::Inputs))
    }
}

/// All objects of one kind, as last heard.
#[derive(Debug)]
pub(super) struct Store<V> {
    objects: BTreeMap<ObjectRef, V>,
    /// Those of a list that is not complete yet.
    incoming: Option<BTreeMap<ObjectRef, V>>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not read yet.
    New,
    /// Read, and followed.
    Synced,
    /// Read, but not followed at the moment.
    Stale,
    /// The cluster does not have this kind.
    NotInstalled,
    /// It may not be read, and never was.
    Forbidden,
}

impl<V> Default for Store<V> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), incoming: None, state: State::New }
    }
}

impl<V: Stored> Store<V> {
    /// Takes an event in. What it changes, and whether a list has become complete with it.
    pub(super) fn apply(&mut self, event: Event<V>) -> (Option<Change>, bool) {
        match event {
            watcher::Event::Init => {
                self.incoming = Some(BTreeMap::new());
                (None, false)
            }
            watcher::Event::InitApply((name, object)) => {
                if let (Some(incoming), Some(object)) = (&mut self.incoming, object) {
                    incoming.insert(name, object);
                }
                (None, false)
            }
            watcher::Event::InitDone => (self.complete(), true),
            watcher::Event::Apply((name, Some(object))) => {
                let (object, change) = match self.objects.get(&name) {
                    Some(old) => old.replace(object),
                    None => (object, Some(Change::Inputs)),
                };
                self.objects.insert(name, object);
                (change, false)
            }
            watcher::Event::Apply((name, None)) | watcher::Event::Delete((name, _)) => {
                (self.objects.remove(&name).map(|_| Change::Inputs), false)
            }
        }
    }

    /// A list is complete: it takes the place of what was known.
    fn complete(&mut self) -> Option<Change> {
        let incoming = self.incoming.take().unwrap_or_default();
        let mut change = Some(Change::Sync);
        if !self.has_been_read() || self.objects.keys().ne(incoming.keys()) {
            change = Some(Change::Inputs);
        }
        let old = std::mem::take(&mut self.objects);
        for (name, object) in incoming {
            let (object, differs) = match old.get(&name) {
                Some(old) => old.replace(object),
                None => (object, Some(Change::Inputs)),
            };
            change = change.max(differs);
            self.objects.insert(name, object);
        }
        self.state = State::Synced;
        change
    }

    /// The kind can no longer be followed.
    pub(super) fn fail(&mut self) {
        self.incoming = None;
        if self.state == State::Synced {
            self.state = State::Stale;
        }
    }

    /// The cluster does not have this kind, which it need not: then there are no objects of it. Those that are known stay
    /// all the same, as those of any kind do: had it been taken away, each would have been told to be deleted.
    pub(super) fn not_installed(&mut self) -> Change {
        if !self.objects.is_empty() {
            self.fail();
            return Change::Sync;
        }
        self.incoming = None;
        let before = std::mem::replace(&mut self.state, State::NotInstalled);
        if before == State::NotInstalled { Change::Sync } else { Change::Inputs }
    }

    /// It may not be read, and nothing is to wait for it: then none of its objects is known.
    pub(super) fn forbid(&mut self) -> Change {
        self.fail();
        if matches!(self.state, State::New | State::NotInstalled) {
            self.state = State::Forbidden;
            return Change::Inputs;
        }
        Change::Sync
    }

    /// The objects, once they have been read.
    pub(super) fn known(&self) -> Option<&BTreeMap<ObjectRef, V>> {
        (self.state != State::New).then_some(&self.objects)
    }

    /// Whether there is nothing in it to lose.
    pub(super) fn is_without_objects(&self) -> bool {
        self.objects.is_empty()
    }

    fn has_been_read(&self) -> bool {
        matches!(self.state, State::Synced | State::Stale)
    }

    /// Whether the cluster has this kind, as far as is known.
    pub(super) fn installed(&self) -> bool {
        self.state != State::NotInstalled
    }

    /// Whether it may not be read, and never was.
    pub(super) fn forbidden(&self) -> bool {
        self.state == State::Forbidden
    }

    /// Whether what is known is up to date. That a kind is not installed can be, too.
    pub(super) fn synced(&self) -> bool {
        matches!(self.state, State::Synced | State::NotInstalled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Service;

    fn service(name: &str, version: &str, ip: &str) -> (ObjectRef, Option<Arc<Service>>) {
        let value = serde_json::json!({
            "metadata": { "name": name, "namespace": "n", "resourceVersion": version },
            "spec": { "clusterIP": ip },
        });
        let service: Service = serde_json::from_value(value).unwrap();
        (ObjectRef { namespace: "n".into(), name: name.into() }, Some(Arc::new(service)))
    }

    fn synced_with_one() -> Store<Arc<Service>> {
        let mut store = Store::default();
        store.apply(watcher::Event::Init);
        store.apply(watcher::Event::InitApply(service("a", "1", "10.0.0.1")));
        assert!(store.known().is_none(), "nothing is known before a list is complete");
        assert_eq!(store.apply(watcher::Event::InitDone), (Some(Change::Inputs), true));
        store
    }

    #[test]
    fn an_empty_first_list_is_a_change() {
        let mut store = Store::<Arc<Service>>::default();
        store.apply(watcher::Event::Init);
        assert_eq!(store.apply(watcher::Event::InitDone), (Some(Change::Inputs), true));
    }

    #[test]
    fn a_version_that_differs_in_nothing_changes_nothing() {
        let mut store = synced_with_one();
        let before = Arc::as_ptr(store.known().unwrap().values().next().unwrap());
        let applied = store.apply(watcher::Event::Apply(service("a", "2", "10.0.0.1")));
        assert_eq!(applied, (None, false));
        assert_eq!(Arc::as_ptr(store.known().unwrap().values().next().unwrap()), before);
        let applied = store.apply(watcher::Event::Apply(service("a", "3", "10.0.0.2")));
        assert_eq!(applied, (Some(Change::Inputs), false));
    }

    #[test]
    fn a_second_list_changes_only_what_differs() {
        let mut store = synced_with_one();
        store.fail();
        assert!(!store.synced() && store.known().is_some(), "what was known stays");
        store.apply(watcher::Event::Init);
        store.apply(watcher::Event::InitApply(service("a", "9", "10.0.0.1")));
        assert_eq!(store.apply(watcher::Event::InitDone), (Some(Change::Sync), true));
        store.apply(watcher::Event::Init);
        assert_eq!(store.known().unwrap().len(), 1, "a list that is not complete hides nothing");
        assert_eq!(store.apply(watcher::Event::InitDone), (Some(Change::Inputs), true));
        assert!(store.known().unwrap().is_empty());
    }

    #[test]
    fn a_kind_may_come_and_go() {
        let mut store = synced_with_one();
        let (name, _) = service("a", "2", "10.0.0.1");
        store.apply(watcher::Event::Delete((name, None)));
        assert_eq!(store.not_installed(), Change::Inputs);
        assert_eq!(store.not_installed(), Change::Sync);
        assert!(store.synced() && !store.installed() && store.known().unwrap().is_empty());
        store.apply(watcher::Event::Init);
        assert_eq!(store.apply(watcher::Event::InitDone), (Some(Change::Inputs), true));
        assert!(store.installed());
    }

    /// An API server that is just starting may know no kinds yet.
    #[test]
    fn a_kind_that_seems_gone_takes_no_object_along() {
        let mut store = synced_with_one();
        assert_eq!(store.not_installed(), Change::Sync);
        assert!(!store.synced() && store.installed() && store.known().unwrap().len() == 1);
    }

    #[test]
    fn nothing_waits_for_what_may_not_be_read_and_what_was_read_stays() {
        let mut store = Store::<Arc<Service>>::default();
        assert_eq!(store.forbid(), Change::Inputs);
        assert_eq!(store.forbid(), Change::Sync);
        assert!(store.forbidden() && !store.synced() && store.known().unwrap().is_empty());
        store.apply(watcher::Event::Init);
        assert_eq!(store.apply(watcher::Event::InitDone), (Some(Change::Inputs), true));
        assert!(!store.forbidden());
        let mut store = synced_with_one();
        assert_eq!(store.forbid(), Change::Sync);
        assert!(!store.forbidden() && !store.synced() && store.known().unwrap().len() == 1);
    }

    #[test]
    fn an_object_that_no_longer_concerns_us_is_dropped() {
        let mut store = synced_with_one();
        let (name, _) = service("a", "2", "10.0.0.1");
        let applied = store.apply(watcher::Event::Apply((name.clone(), None)));
        assert_eq!(applied, (Some(Change::Inputs), false));
        assert_eq!(store.apply(watcher::Event::Apply((name, None))), (None, false));
    }
}
