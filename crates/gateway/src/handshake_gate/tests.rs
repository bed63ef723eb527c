use std::{cell::RefCell, rc::Rc};

use tokio::task::{LocalSet, spawn_local};

use super::*;

const NEW: Priority = new_of(1);

const fn new_of(client: u8) -> Priority {
    Priority::New(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, client)))
}

/// Long steps in the order in which they are done, asked for in this one.
fn order_of(priorities: &[Priority]) -> Vec<Priority> {
    run(async |gate| {
        let done = Rc::new(RefCell::new(Vec::new()));
        let steps: Vec<_> = priorities
            .iter()
            .map(|&priority| {
                let (gate, done) = (Rc::clone(&gate), Rc::clone(&done));
                spawn_local(async move {
                    long_step(&gate, priority).await;
                    done.borrow_mut().push(priority);
                })
            })
            .collect();
        for step in steps {
            step.await.unwrap();
        }
        done.take()
    })
}

/// Runs something beside what gives turns.
fn run<T>(test: impl AsyncFnOnce(Rc<HandshakeGate>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let gate = Rc::new(HandshakeGate::new());
        let giving = Rc::clone(&gate);
        spawn_local(async move { match giving.give_turns().await {} });
        let taking = Rc::clone(&gate);
        spawn_local(async move { match taking.take_turns_back().await {} });
        test(gate).await
    })
}

/// Does a step that takes longer than a turn may.
async fn long_step(gate: &HandshakeGate, priority: Priority) {
    let step = gate.enter(priority, || {}).await;
    let begun = Instant::now();
    while begun.elapsed() < BUDGET {
        std::hint::spin_loop();
    }
    drop(step);
}

#[test]
fn open_connections_have_their_turn_between_any_two_long_steps() {
    run(async |gate| {
        let done = Rc::new(RefCell::new(Vec::new()));
        let steps: Vec<_> = (0..20)
            .map(|_| {
                let (gate, done) = (Rc::clone(&gate), Rc::clone(&done));
                spawn_local(async move {
                    long_step(&gate, NEW).await;
                    done.borrow_mut().push('h');
                })
            })
            .collect();
        // Ready in each turn of the runtime, as a socket that always has something.
        let (echoes, all) = (Rc::clone(&done), steps.len());
        let echo = spawn_local(async move {
            while echoes.borrow().iter().filter(|what| **what == 'h').count() < all {
                echoes.borrow_mut().push('e');
                yield_now().await;
            }
        });
        for step in steps {
            step.await.unwrap();
        }
        echo.await.unwrap();
        let done: String = done.borrow().iter().collect();
        assert!(!done.contains("hh"), "{done}");
    });
}

#[test]
fn what_was_begun_goes_before_what_is_new() {
    let begun = Priority::Begun;
    assert_eq!(order_of(&[NEW, NEW, NEW, begun]), [NEW, begun, NEW, NEW]);
}

#[test]
fn what_is_new_is_not_kept_out_by_what_was_begun() {
    let asked = [&[NEW, NEW][..], &[Priority::Begun; 3 * BEGUN_IN_A_ROW]].concat();
    let place = order_of(&asked).iter().skip(1).position(|done| *done == NEW);
    assert_eq!(place, Some(BEGUN_IN_A_ROW));
}

#[test]
fn clients_take_turns_with_their_first_steps() {
    let asked = [&[new_of(1); 20][..], &[new_of(2); 2]].concat();
    let done = order_of(&asked);
    assert!(done[..5].iter().filter(|step| **step == new_of(2)).count() == 2, "{done:?}");
}

#[test]
fn who_leaves_the_queue_or_its_turn_holds_up_nobody() {
    run(async |gate| {
        long_step(&gate, NEW).await;
        let wait = || {
            let gate = Rc::clone(&gate);
            spawn_local(async move { drop(gate.enter(NEW, || {}).await) })
        };
        let tasks: Vec<_> = (0..9).map(|_| wait()).collect();
        yield_now().await;
        // Some while they wait, some perhaps when it is their turn already.
        tasks.iter().step_by(2).for_each(tokio::task::JoinHandle::abort);
        for task in tasks {
            let _ = task.await;
        }
        let last = tokio::time::timeout(Duration::from_secs(10), gate.enter(NEW, || {})).await;
        assert!(last.is_ok(), "it is its turn");
    });
}

#[test]
fn without_a_queue_a_step_is_done_at_once() {
    run(async |gate| {
        let mut step = std::pin::pin!(gate.enter(NEW, || {}));
        let ready = poll_fn(|cx| Poll::Ready(step.as_mut().poll(cx).is_ready())).await;
        assert!(ready);
    });
}

#[test]
fn a_turn_that_is_not_taken_goes_to_the_next_one() {
    run(async |gate| {
        long_step(&gate, NEW).await;
        // As a future that a timeout has given up, and that is still there.
        let mut late = std::pin::pin!(gate.enter(NEW, || {}));
        poll_fn(|cx| Poll::Ready(late.as_mut().poll(cx).is_pending())).await;
        let other = tokio::time::timeout(Duration::from_secs(10), gate.enter(NEW, || {})).await;
        drop(other.expect("it gets the turn that nobody took"));
        drop(late.await);
    });
}
