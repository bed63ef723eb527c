//! One kind, listed and watched for ever.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream, stream::BoxStream};
use kube::{Api, Resource, runtime::watcher};
use serde::de::DeserializeOwned;

use super::{
    Event, WatchMessage,
    fault::{Cause, Kind, asked_pause, cause},
};
use crate::{
    source::jittered,
    source::{Backoff, reference},
};

/// The first and the longest pause after an error.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How long a page of a list may take: longer, and the API server is as good as away.
pub(super) const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether a kind was installed that was not.
const MISSING_PAUSE: Duration = Duration::from_secs(5);

type Watch<K> = BoxStream<'static, watcher::Result<watcher::Event<K>>>;

/// Events of a kind, each object reduced by `prepare`, and errors. After an error the kind is listed anew:
/// only a complete list shows that all is well again.
pub(super) fn watch<K, V>(
    api: Api<K>,
    config: watcher::Config,
    kind: &'static Kind,
    page_timeout: Duration,
    prepare: fn(K) -> Option<V>,
    wrap: fn(Event<V>) -> WatchMessage,
) -> BoxStream<'static, WatchMessage>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    V: Send + 'static,
{
    struct Following<K> {
        watch: Watch<K>,
        /// A list has begun and is not complete.
        listing: bool,
        backoff: Backoff,
        pause: Option<Duration>,
    }
    let begin = move || -> Watch<K> { watcher(api.clone(), config.clone()).boxed() };
    let following = Following {
        watch: begin(),
        listing: true,
        backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
        pause: None,
    };
    stream::unfold((following, begin), move |(mut following, begin)| async move {
        loop {
            if let Some(pause) = following.pause.take() {
                tokio::time::sleep(pause).await;
                following.watch = begin();
                following.listing = true;
            }
            // A watch may be silent for long, and knows itself when for too long; a list may not.
            let patience = if following.listing { page_timeout } else { Duration::MAX };
            let next = tokio::time::timeout(patience, following.watch.next()).await;
            match next.unwrap_or_else(|_| Some(Err(no_answer(patience)))) {
                Some(Ok(event)) => {
                    match event {
                        watcher::Event::Init => following.listing = true,
                        watcher::Event::InitDone => following.listing = false,
                        _ => {}
                    }
                    let message = wrap(reduce(event, prepare));
                    return Some((message, (following, begin)));
                }
                Some(Err(error)) => {
                    let cause = cause(&error);
                    following.pause = Some(match cause {
                        Cause::Missing => jittered(MISSING_PAUSE),
                        _ => following.backoff.failed(Instant::now()).max(asked_pause(&error)),
                    });
                    if cause != Cause::Expired {
                        return Some((WatchMessage::Failed(kind, error), (following, begin)));
                    }
                }
                // A watcher's stream does not end; if it did, it would be begun anew.
                None => following.pause = Some(following.backoff.failed(Instant::now())),
            }
        }
    })
    .boxed()
}

fn no_answer(patience: Duration) -> watcher::Error {
    let text = format!("a list did not come within {} s", patience.as_secs());
    let error = std::io::Error::new(std::io::ErrorKind::TimedOut, text);
    watcher::Error::InitialListFailed(kube::Error::Service(error.into()))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Service;
    use kube::{Client, Config};

    use super::*;

    const SERVICES: &Kind = &Kind { plural: "services", group: "", title: "Services" };

    /// Takes connections and never says a word.
    #[tokio::test]
    async fn a_list_that_does_not_come_is_a_fault() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
        let mut messages = watch(
            Api::<Service>::all(client),
            watcher::Config::default(),
            SERVICES,
            Duration::from_millis(50),
            |service| Some(Arc::new(service)),
            WatchMessage::Service,
        );
        assert!(matches!(messages.next().await, Some(WatchMessage::Service(watcher::Event::Init))));
        let Some(WatchMessage::Failed(_, error)) = messages.next().await else {
            panic!("the list never comes");
        };
        assert_eq!(cause(&error), Cause::Unreachable);
        assert!(matches!(messages.next().await, Some(WatchMessage::Service(watcher::Event::Init))));
    }
}
