use std::{cell::RefCell, sync::Arc};

use prometheus::Registry;
use proptest::prelude::*;
use tidegate_telemetry::GatewayMetrics;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::{PendingLimits, fd_budget::FileBudget, pending::PendingConnections};

/// After how many bytes, one by one, it is ready.
fn ready_after(head: &[u8]) -> Option<usize> {
    let mut scan = Scan::default();
    (1..=head.len()).find(|end| scan.progress(&head[..*end], 100) != Progress::Partial)
}

#[test]
fn a_head_is_ready_with_its_last_byte() {
    for head in [
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\nHost: a.test\n\n",
        "GET / HTTP/1.1\r\nHost: a.test\n\r\n",
        "\r\n\r\n\nGET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        assert_eq!(ready_after(head.as_bytes()), Some(head.len()), "{head:?}");
    }
}

#[test]
fn what_cannot_be_a_head_is_ready_before_its_end() {
    for (head, at) in [
        (&b"\x16\x03\x01\x02"[..], 1),
        (b"GET / HTTP/9.9\r\nHost: a.test\r\n\r\n", 16),
        (b"GET / HTTP/1.1\r\nNo colon\r\nHost: a.test\r\n\r\n", 26),
    ] {
        assert_eq!(ready_after(head), Some(at), "{head:?}");
    }
    let many = format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(200));
    assert!(ready_after(many.as_bytes()).unwrap() < many.len());
}

#[test]
fn what_may_become_a_head_is_waited_for() {
    for head in ["\r\n\r\n\r\n", "GET", "GET / HTTP/1.1\r\nHost: a.test\r\n", "GET /\r"] {
        assert_eq!(ready_after(head.as_bytes()), None, "{head:?}");
    }
}

#[test]
fn no_byte_of_a_head_in_crumbs_is_looked_at_again() {
    let head = format!("GET / HTTP/1.1\r\nX: {}\r\nY", "x".repeat(5000));
    let mut scan = Scan::default();
    for end in 1..=head.len() {
        assert_eq!(scan.progress(&head.as_bytes()[..end], 100), Progress::Partial);
        let left = end - scan.at;
        // An end of a line, and what may be the next one.
        assert!(left <= 2, "{left} bytes at {end}");
    }
}

#[tokio::test]
async fn what_is_due_before_a_wait_is_done_once_for_the_head_and_once_for_its_rest() {
    let metrics = Arc::new(GatewayMetrics::register(&Registry::new()).unwrap());
    let files = Arc::new(FileBudget::new(100, 0, 0));
    let all = PendingConnections::new(PendingLimits::default(), BUFFER, Vec::new(), files, metrics);
    let pending = Arc::new(all).enter([192, 0, 2, 1].into());
    let (mut client, mut transport) = tokio::io::duplex(100);
    let waits = RefCell::new(Vec::new());
    let reading = read(&mut transport, &pending, 0, (BUFFER, 100), |_, awaited| {
        waits.borrow_mut().push(awaited);
    });
    let sending = async {
        for part in ["GET / HTTP/1.1\r\n", "Host: ", "a.test\r\n", "\r\n"] {
            // The reader waits.
            tokio::task::yield_now().await;
            client.write_all(part.as_bytes()).await.unwrap();
        }
    };
    let (head, ()) = tokio::join!(reading, sending);
    assert!(matches!(head.unwrap(), Head::Whole(_)));
    assert_eq!(*waits.borrow(), [Awaited::Head, Awaited::Rest]);
}

proptest! {
    #[test]
    fn what_is_whole_for_the_parser_is_ready_however_it_is_cut(
        lines in prop::collection::vec("[A-Za-z]{1,5}: [ -~]{0,9}", 0..5),
        end in prop::sample::select(&["\r\n", "\n"][..]),
        before in "(\r\n|\n){0,2}",
        cuts in prop::collection::vec(1..9_usize, 1..4),
    ) {
        let lines: String = lines.iter().map(|line| format!("{line}{end}")).collect();
        let head = format!("{before}GET / HTTP/1.1{end}{lines}{end}");
        let (mut scan, mut sizes, mut at) = (Scan::default(), cuts.iter().cycle(), 0);
        let ready = loop {
            at = head.len().min(at + sizes.next().unwrap());
            let ready = scan.progress(&head.as_bytes()[..at], 100) != Progress::Partial;
            let mut space = [httparse::EMPTY_HEADER; 100];
            let parsed = httparse::Request::new(&mut space).parse(&head.as_bytes()[..at]);
            prop_assert!(ready || matches!(parsed, Ok(httparse::Status::Partial)), "{:?}", &head[..at]);
            if ready || at == head.len() {
                break ready;
            }
        };
        prop_assert!(ready);
    }
}
