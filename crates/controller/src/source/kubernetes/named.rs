//! Secrets that routes refer to, each watched by its name alone: then the right to read is one for each Secret, and nothing gives
//! this process the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, channel::oneshot, stream::BoxStream};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, runtime::watcher};
use tidegate_table::ObjectRef;

use super::{
    Event, SECRETS, WatchMessage, everything,
    fault::{Cause, cause, user},
    prune,
    store::Store,
    watch::{self, PAGE_TIMEOUT},
};
use crate::{
    source::Change,
    translate::{SecretsWanted, Unread},
};

/// The type whose content is kept.
const TLS_SECRET: &str = "kubernetes.io/tls";

/// The Secrets that are watched.
pub(super) struct NamedSecrets {
    client: Client,
    secrets: BTreeMap<ObjectRef, Named>,
    /// Those that are too many to be watched.
    beyond: BTreeSet<ObjectRef>,
    /// Whether there was an answer for all of them once.
    begun: bool,
}

/// Those that were read, and why the others were not.
type Known = (BTreeMap<ObjectRef, Arc<Secret>>, BTreeMap<ObjectRef, Unread>);

struct Named {
    store: Store<Arc<Secret>>,
    /// Whether the API server has answered, or could not be reached.
    answered: bool,
    /// As whom we may not read it.
    forbidden: Option<Option<String>>,
    /// Ends its watch when it goes.
    _end: oneshot::Sender<()>,
}

impl NamedSecrets {
    pub(super) fn new(client: Client) -> Self {
        Self { client, secrets: BTreeMap::new(), beyond: BTreeSet::new(), begun: false }
    }

    /// Watches these, and no others. The watches that begin, and whether anything has changed.
    pub(super) fn want(
        &mut self,
        wanted: SecretsWanted,
    ) -> (Vec<BoxStream<'static, WatchMessage>>, bool) {
        let before = self.secrets.len();
        self.secrets.retain(|name, _| wanted.read.contains(name));
        let mut changed = before != self.secrets.len() || self.beyond != wanted.beyond;
        self.beyond = wanted.beyond;
        let mut begun = Vec::new();
        for name in wanted.read {
            if self.secrets.contains_key(&name) {
                continue;
            }
            let (end, ended) = oneshot::channel();
            begun.push(watch(&self.client, &name, ended));
            let named =
                Named { store: Store::default(), answered: false, forbidden: None, _end: end };
            self.secrets.insert(name, named);
            changed = true;
        }
        (begun, changed)
    }

    /// Takes in what a watch says. One that has ended may still say something.
    pub(super) fn apply(&mut self, name: &ObjectRef, event: Event<Arc<Secret>>) -> Option<Change> {
        let named = self.secrets.get_mut(name)?;
        let (change, complete) = named.store.apply(event);
        if complete {
            named.answered = true;
            named.forbidden = None;
        }
        change
    }

    pub(super) fn fail(&mut self, name: &ObjectRef, error: &watcher::Error) -> Option<Change> {
        let named = self.secrets.get_mut(name)?;
        let first = !std::mem::replace(&mut named.answered, true);
        if cause(error) == Cause::Forbidden {
            let change = named.store.forbid();
            let user = Some(user(error));
            let differs = named.forbidden != user;
            named.forbidden = user;
            return Some(if differs { Change::Inputs } else { change });
        }
        named.store.fail();
        Some(if first { Change::Inputs } else { Change::Sync })
    }

    /// Looks whether there is an answer for all: the first table waits for it, later ones do not.
    pub(super) fn begin(&mut self, others_known: bool) {
        self.begun |= others_known && self.secrets.values().all(|named| named.answered);
    }

    /// The Secrets, and why some are not among them.
    pub(super) fn known(&self) -> Option<Known> {
        if !self.begun {
            return None;
        }
        let mut found = BTreeMap::new();
        let mut unread = BTreeMap::new();
        for (name, named) in &self.secrets {
            match named.store.known() {
                Some(_) if named.store.forbidden() => {
                    let user = named.forbidden.clone().flatten();
                    unread.insert(name.clone(), Unread::Forbidden(user));
                }
                Some(objects) => found.extend(objects.clone()),
                None => {
                    unread.insert(name.clone(), Unread::Pending);
                }
            }
        }
        unread.extend(self.beyond.iter().map(|name| (name.clone(), Unread::Beyond)));
        Some((found, unread))
    }

    /// Whether all that may be read is up to date.
    pub(super) fn synced(&self) -> bool {
        self.begun
            && self.secrets.values().all(|named| named.store.synced() || named.store.forbidden())
    }
}

fn watch(
    client: &Client,
    name: &ObjectRef,
    ended: oneshot::Receiver<()>,
) -> BoxStream<'static, WatchMessage> {
    let watch = watch::watch(
        Api::<Secret>::namespaced(client.clone(), &name.namespace),
        everything().fields(&format!("metadata.name={}", name.name)),
        SECRETS,
        PAGE_TIMEOUT,
        |mut secret| {
            prune::secret(&mut secret);
            if secret.type_.as_deref() != Some(TLS_SECRET) {
                // It is refused for its type: its content is nothing to us.
                secret.data = None;
            }
            Some(Arc::new(secret))
        },
        WatchMessage::Secret,
    );
    let name = name.clone();
    let named = watch.map(move |what| match what {
        WatchMessage::Secret(event) => WatchMessage::Named(name.clone(), event),
        WatchMessage::Failed(_, error) => WatchMessage::NamedFailed(name.clone(), error),
        other => other,
    });
    named.take_until(ended).boxed()
}
