//! Peers that send more than the other side takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use socket2::SockRef;

use super::{Peer, eventually};

/// Sends a frame so many times on a thread of its own, then ends; the number of those sent so far.
pub fn send_all(mut from: Peer, frame: Vec<u8>, frames: usize) -> Arc<AtomicUsize> {
    SockRef::from(&from.socket)
        .set_send_buffer_size(64 * 1024)
        .expect("a TCP socket has the option");
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    std::thread::spawn(move || {
        for _ in 0..frames {
            from.send(&frame);
            count.fetch_add(1, Relaxed);
        }
        from.finish();
        from.rest();
    });
    sent
}

/// Waits until the sender makes no more progress: it has not for 100 ms.
pub fn await_standstill(sent: &AtomicUsize) {
    let (mut last, mut since) = (usize::MAX, Instant::now());
    eventually("the sender is held up", || {
        let now = sent.load(Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(100)
    });
}
