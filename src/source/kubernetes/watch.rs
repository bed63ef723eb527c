//! One kind, listed and watched for ever.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream, stream::BoxStream};
use kube::{Api, Resource, runtime::watcher};
use serde::de::DeserializeOwned;

use super::{
    Event, Message,
    fault::{Cause, Kind, cause},
};
use crate::{
    source::jittered,
    source::{Backoff, reference},
};

/// The first and the longest pause after an error.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How often it is looked whether a kind was installed that was not.
const MISSING_PAUSE: Duration = Duration::from_secs(5);

type Watch<K> = BoxStream<'static, watcher::Result<watcher::Event<K>>>;

/// Events of a kind, each object reduced by `prepare`, and errors. After an error the kind is listed anew:
/// only a complete list shows that all is well again.
pub(super) fn watch<K, V>(
    api: Api<K>,
    config: watcher::Config,
    kind: &'static Kind,
    prepare: fn(K) -> Option<V>,
    wrap: fn(Event<V>) -> Message,
) -> BoxStream<'static, Message>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    V: Send + 'static,
{
    struct Following<K> {
        watch: Watch<K>,
        backoff: Backoff,
        pause: Option<Duration>,
    }
    let begin = move || -> Watch<K> { watcher(api.clone(), config.clone()).boxed() };
    let following = Following {
        watch: begin(),
        backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
        pause: None,
    };
    stream::unfold((following, begin), move |(mut following, begin)| async move {
        loop {
            if let Some(pause) = following.pause.take() {
                tokio::time::sleep(pause).await;
                following.watch = begin();
            }
            match following.watch.next().await {
                Some(Ok(event)) => {
                    let message = wrap(reduce(event, prepare));
                    return Some((message, (following, begin)));
                }
                Some(Err(error)) => {
                    let cause = cause(&error);
                    following.pause = Some(match cause {
                        Cause::Missing => jittered(MISSING_PAUSE),
                        _ => following.backoff.failed(Instant::now()),
                    });
                    if cause != Cause::Expired {
                        return Some((Message::Failed(kind, error), (following, begin)));
                    }
                }
                // A watcher's stream does not end; if it did, it would be begun anew.
                None => following.pause = Some(following.backoff.failed(Instant::now())),
            }
        }
    })
    .boxed()
}

fn reduce<K: Resource, V>(event: watcher::Event<K>, prepare: fn(K) -> Option<V>) -> Event<V> {
    let kept = |object: K| {
        let name = reference(object.meta());
        (name, prepare(object))
    };
    match event {
        watcher::Event::Apply(object) => watcher::Event::Apply(kept(object)),
        watcher::Event::Delete(object) => watcher::Event::Delete((reference(object.meta()), None)),
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitApply(object) => watcher::Event::InitApply(kept(object)),
        watcher::Event::InitDone => watcher::Event::InitDone,
    }
}
