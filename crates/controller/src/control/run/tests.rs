use std::{collections::VecDeque, sync::Mutex};

use prometheus::Registry;
use tidegate_table::VirtualHost;
use tokio::sync::Notify;

use super::*;
use crate::source::{ObservedRoute, SourceProblem};

/// A source whose changes the test makes. Each table has one host per object called in `hosts`.
#[derive(Clone, Default)]
struct Fake(Arc<State>);

#[derive(Default)]
struct State {
    changes: Mutex<VecDeque<Change>>,
    notice: Notify,
    snapshot: Mutex<Option<SourceState>>,
    observed: Mutex<Observed>,
}

impl Fake {
    fn change(&self, change: Change) {
        self.0.changes.lock().unwrap().push_back(change);
        self.0.notice.notify_one();
    }

    fn set(&self, problems: &[&str]) {
        let problems = problems.iter().map(|text| SourceProblem((*text).to_owned())).collect();
        *self.0.snapshot.lock().unwrap() = Some(SourceState { problems, ..SourceState::default() });
    }
}

impl Source for Fake {
    async fn changed(&mut self) -> Change {
        loop {
            if let Some(change) = self.0.changes.lock().unwrap().pop_front() {
                return change;
            }
            self.0.notice.notified().await;
        }
    }

    fn snapshot(&self) -> Option<SourceState> {
        self.0.snapshot.lock().unwrap().clone()
    }

    fn synced(&self) -> Vec<(&'static str, bool)> {
        vec![("fake", self.0.snapshot.lock().unwrap().is_some())]
    }

    fn faults(&self) -> Vec<String> {
        let synced = self.0.snapshot.lock().unwrap().is_some();
        if synced { Vec::new() } else { vec!["the fake is away".to_owned()] }
    }

    fn observed(&self) -> Observed {
        self.0.observed.lock().unwrap().clone()
    }
}

/// A running loop.
struct Running {
    source: Fake,
    cell: Arc<TableCell>,
    metrics: ControlMetrics,
    statuses: watch::Receiver<Statuses>,
    /// How many tables were built.
    built: Arc<Mutex<u32>>,
    shutdown: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// Starts a loop whose tables have as many hosts as were built before: each differs.
fn start(source: Fake) -> Running {
    let cell = Arc::new(TableCell::default());
    let metrics = ControlMetrics::register(&Registry::new()).unwrap();
    let (sender, statuses) = watch::channel(Statuses::default());
    let (shutdown, stop) = watch::channel(false);
    let built = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&built);
    let translate = move |_: &Inputs| {
        let mut built = counter.lock().unwrap();
        *built += 1;
        let hosts = (0..*built).map(|n| VirtualHost::new(&format!("{n}.example.com"), None, []));
        Output { table: RoutingTable::new(hosts), ..Output::default() }
    };
    let control = ControlLoop::new(
        source.clone(),
        translate,
        Arc::clone(&cell),
        metrics.clone(),
        Some(sender),
    );
    let task = tokio::spawn(control.run(stop));
    Running { source, cell, metrics, statuses, built, shutdown, task }
}

impl Running {
    /// Lets that much (paused) time pass.
    async fn pass(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    fn built(&self) -> u32 {
        *self.built.lock().unwrap()
    }

    fn generation(&self) -> u64 {
        self.cell.load().map_or(0, |published| published.generation)
    }
}

#[tokio::test(start_paused = true)]
async fn no_table_before_the_source_has_read_all() {
    let running = start(Fake::default());
    running.pass(5_000).await;
    assert_eq!((running.built(), running.generation()), (0, 0));
    assert_eq!(running.metrics.source_synced.with_label_values(&["fake"]).get(), 0);
    assert_eq!(running.metrics.source_faults.list(), ["the fake is away"]);
    running.source.set(&[]);
    running.source.change(Change::Inputs);
    running.pass(60).await;
    assert!(running.metrics.source_faults.list().is_empty());
    assert_eq!((running.built(), running.generation()), (1, 1));
    assert_eq!(running.metrics.table_generation.get(), 1);
    assert_eq!(running.metrics.source_synced.with_label_values(&["fake"]).get(), 1);
    running.shutdown.send_replace(true);
    running.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_has_read_all_gets_a_table_without_a_change() {
    let source = Fake::default();
    source.set(&[]);
    let running = start(source);
    running.pass(60).await;
    assert_eq!(running.generation(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_changes_make_one_table_and_a_stream_of_them_one_every_half_second() {
    let source = Fake::default();
    source.set(&[]);
    let running = start(source);
    running.pass(100).await;
    assert_eq!(running.built(), 1);
    for _ in 0..10 {
        running.source.change(Change::Inputs);
        running.pass(10).await;
    }
    running.pass(60).await;
    assert_eq!(running.built(), 2, "ten changes within the quiet time are one");
    for _ in 0..100 {
        running.source.change(Change::Inputs);
        running.pass(20).await;
    }
    running.pass(60).await;
    // Two seconds without 50 ms of quiet: a table each 500 ms, and the last.
    assert!((6..=7).contains(&running.built()), "{}", running.built());
}

#[tokio::test(start_paused = true)]
async fn a_stored_status_builds_no_table_but_reaches_the_writer() {
    let source = Fake::default();
    source.set(&[]);
    let mut running = start(source);
    running.pass(100).await;
    running.statuses.mark_unchanged();
    let name = ObjectRef { namespace: "n".into(), name: "r".into() };
    let route = Arc::new(ObservedRoute::default());
    running.source.0.observed.lock().unwrap().insert(name.clone(), route);
    running.source.change(Change::Status);
    running.pass(100).await;
    assert_eq!(running.built(), 1);
    assert!(running.statuses.has_changed().unwrap());
    assert!(running.statuses.borrow().observed.contains_key(&name));
}

#[tokio::test(start_paused = true)]
async fn what_only_concerns_the_source_changes_nothing() {
    let source = Fake::default();
    source.set(&[]);
    let mut running = start(source);
    running.pass(100).await;
    running.statuses.mark_unchanged();
    running.source.change(Change::Sync);
    running.pass(1_000).await;
    assert_eq!(running.built(), 1);
    assert!(!running.statuses.has_changed().unwrap());
}

#[test]
fn problems_are_told_once_and_again_after_they_were_gone() {
    let metrics = ControlMetrics::register(&Registry::new()).unwrap();
    let translate = |_: &Inputs| Output::default();
    let mut control = ControlLoop::new(Fake::default(), translate, Arc::default(), metrics, None);
    let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(control.tell(set(&["a", "b"])), (2, 0));
    assert_eq!(control.tell(set(&["a", "b"])), (0, 0));
    assert_eq!(control.tell(set(&["b", "c"])), (1, 1));
    assert_eq!(control.tell(set(&["a", "b"])), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_time_alone_changes_is_translated_again_in_time() {
    let source = Fake::default();
    source.set(&[]);
    let (_shutdown, stop) = watch::channel(false);
    let built = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&built);
    let translate = move |inputs: &Inputs| {
        *counter.lock().unwrap() += 1;
        let next_change = inputs.now.map(|now| now + 60);
        Output { next_change, ..Output::default() }
    };
    let metrics = ControlMetrics::register(&Registry::new()).unwrap();
    let control = ControlLoop::new(source, translate, Arc::default(), metrics, None);
    let task = tokio::spawn(control.run(stop));
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(*built.lock().unwrap(), 1);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(*built.lock().unwrap(), 2);
    task.abort();
}

#[test]
fn time_is_neither_waited_for_too_long_nor_too_briefly() {
    let seconds = |then| wait(1_000, then).as_secs();
    assert_eq!(
        [seconds(900), seconds(1_000), seconds(1_100), seconds(i64::MAX)],
        [1, 1, 100, 3600]
    );
}
