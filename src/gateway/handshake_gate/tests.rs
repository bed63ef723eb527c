use std::{cell::RefCell, rc::Rc};

use tokio::task::{LocalSet, spawn_local};

use super::*;

/// Runs something beside what gives turns.
fn run<T>(test: impl AsyncFnOnce(Rc<HandshakeGate>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let gate = Rc::new(HandshakeGate::new());
        let giving = Rc::clone(&gate);
        spawn_local(async move { match giving.give_turns().await {} });
        test(gate).await
    })
}

/// Does a step that takes longer than a turn may.
async fn long_step(gate: &HandshakeGate, priority: Priority) {
    let step = gate.enter(priority).await;
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
                    long_step(&gate, Priority::New).await;
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
    run(async |gate| {
        let done = Rc::new(RefCell::new(Vec::new()));
        let priorities = [Priority::New, Priority::New, Priority::New, Priority::Begun];
        let steps: Vec<_> = priorities
            .map(|priority| {
                let (gate, done) = (Rc::clone(&gate), Rc::clone(&done));
                spawn_local(async move {
                    long_step(&gate, priority).await;
                    done.borrow_mut().push(priority);
                })
            })
            .into();
        for step in steps {
            step.await.unwrap();
        }
        use Priority::{Begun, New};
        assert_eq!(*done.borrow(), [New, Begun, New, New]);
    });
}

#[test]
fn who_leaves_the_queue_or_its_turn_holds_up_nobody() {
    run(async |gate| {
        long_step(&gate, Priority::New).await;
        let wait = || {
            let gate = Rc::clone(&gate);
            spawn_local(async move { drop(gate.enter(Priority::New).await) })
        };
        let tasks: Vec<_> = (0..9).map(|_| wait()).collect();
        yield_now().await;
        // Some while they wait, some perhaps when it is their turn already.
        tasks.iter().step_by(2).for_each(tokio::task::JoinHandle::abort);
        for task in tasks {
            let _ = task.await;
        }
        let last = tokio::time::timeout(Duration::from_secs(10), gate.enter(Priority::New)).await;
        assert!(last.is_ok(), "it is its turn");
    });
}

#[test]
fn without_a_queue_a_step_is_done_at_once() {
    run(async |gate| {
        let mut step = std::pin::pin!(gate.enter(Priority::New));
        let ready = poll_fn(|cx| Poll::Ready(step.as_mut().poll(cx).is_ready())).await;
        assert!(ready);
    });
}
