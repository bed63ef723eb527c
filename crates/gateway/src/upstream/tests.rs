use std::{cell::RefCell, collections::VecDeque, rc::Rc, task::Waker};

use proptest::{prelude::*, sample::Index};
use tokio::{io::ReadBuf, task::LocalSet};

use super::*;

/// The answer to the key of [`request`] (RFC 6455 §1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const LIMIT: Duration = Duration::from_secs(10);

/// A backend that answers in pieces, a piece a read, and hangs up after the last.
#[derive(Debug, Default)]
struct Script {
    pieces: VecDeque<Vec<u8>>,
    /// The bytes of the request that it waits for before it answers.
    after: usize,
    /// The bytes of the request that it takes; what happens to more of them.
    takes: usize,
    then: Excess,
    /// Whether it stays silent after its answer, in place of hanging up.
    stays: bool,
    paused: bool,
    written: Rc<RefCell<Vec<u8>>>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Excess {
    #[default]
    Waits,
    Fails,
}

impl Script {
    /// Answers as soon as something of a request has come, and takes all of it.
    fn answering<B: AsRef<[u8]>>(pieces: impl IntoIterator<Item = B>) -> Self {
        let pieces = pieces.into_iter().map(|piece| piece.as_ref().to_vec());
        let pieces = pieces.filter(|piece| !piece.is_empty());
        Self { pieces: pieces.collect(), after: 1, takes: usize::MAX, ..Self::default() }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.written.borrow().len() < self.after {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // Each comes a moment later.
        self.paused = !self.paused;
        if self.paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(piece) = self.pieces.front_mut() else {
            return if self.stays { Poll::Pending } else { Poll::Ready(Ok(())) };
        };
        let rest = piece.split_off(piece.len().min(buf.remaining()));
        buf.put_slice(piece);
        *piece = rest;
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = self.takes - self.written.borrow().len().min(self.takes);
        if room == 0 {
            return match self.then {
                Excess::Waits => Poll::Pending,
                Excess::Fails => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let count = buf.len().min(room);
        self.written.borrow_mut().extend(&buf[..count]);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn request() -> Request<Empty<Bytes>> {
    Request::get("/chat?room=1")
        .header("host", "a.test")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "mqtt")
        .header("cookie", "a=b")
        .header("sec-websocket-protocol", "graphql-ws")
        .header("connection", "Upgrade")
        .body(Empty::new())
        .unwrap()
}

fn switching(lines: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {ACCEPT}\r\n{lines}\r\n"
    )
}

/// What came of an upgrade.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// Headers, and all that is behind them.
    Switched(HeaderMap, Vec<u8>),
    Refused(u16, HeaderMap, Bytes),
    Failed(RefusalReason, String),
}

impl Outcome {
    fn refused(response: Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        Self::Refused(parts.status.as_u16(), parts.headers, body)
    }

    fn failed(refusal: Refusal) -> Self {
        Self::Failed(refusal.reason, refusal.detail.into_owned())
    }

    fn broken_off() -> Self {
        Self::failed(broken_off(io::Error::other("")))
    }
}

/// Runs to the end; time passes only where all wait.
fn run<F: Future>(future: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    LocalSet::new().block_on(&runtime.unwrap(), future)
}

fn ask_for_upgrade(backend: Script) -> Outcome {
    run(async {
        match upgrade(backend, request(), ACCEPT, LIMIT).await {
            Ok(Answer::Switched { headers, mut transport, early }) => {
                let mut behind = early.to_vec();
                transport.read_to_end(&mut behind).await.unwrap();
                Outcome::Switched(headers, behind)
            }
            Ok(Answer::Refused(response)) => Outcome::refused(response),
            Err(refusal) => Outcome::failed(refusal),
        }
    })
}

/// The same by hyper's client alone; of a 101 it does not tell what is behind.
fn ask_by_hyper(backend: Script) -> Outcome {
    run(async {
        let answer = match send(backend, request()).await {
            Err(refusal) => return Outcome::failed(refusal),
            Ok((answer, _task)) if answer.status() != 101 => {
                return collect(answer).await.map_or_else(Outcome::failed, Outcome::refused);
            }
            Ok((answer, _)) => answer,
        };
        let mut headers = answer.into_parts().0.headers;
        let hop = HopByHop::take(&mut headers);
        match check_response(&headers, &hop, ACCEPT, request().headers()) {
            Ok(()) => Outcome::Switched(headers, Vec::new()),
            Err(why) => Outcome::failed(bad_handshake(why)),
        }
    })
}

#[test]
fn the_request_is_written_as_hyper_writes_it_and_once_also_where_hyper_reads_the_answer() {
    let written = |ask: fn(Script) -> Outcome, answer: &str| {
        let backend = Script::answering([answer]);
        let written = Rc::clone(&backend.written);
        ask(backend);
        String::from_utf8(written.take()).unwrap()
    };
    let expected = written(ask_by_hyper, "HTTP/1.1 204\r\n\r\n");
    assert!(expected.starts_with("GET /chat?room=1 HTTP/1.1\r\nhost: a.test\r\n"), "{expected}");
    for answer in [&switching(""), "HTTP/1.1 403 No\r\n\r\n", "HTTP/1.1 204\r\n\r\n", "no"] {
        assert_eq!(written(ask_for_upgrade, answer), expected);
    }
}

#[test]
fn a_101_is_one_whatever_it_says_of_a_body_and_in_http_1_0() {
    let lines = "Content-Length: 5\r\nContent-Length: 6\r\nTransfer-Encoding: gzip, chunked\r\n";
    for answer in [switching(lines), switching("").replace("HTTP/1.1", "HTTP/1.0")] {
        let outcome = ask_for_upgrade(Script::answering([answer.clone() + "behind"]));
        let Outcome::Switched(headers, behind) = outcome else { panic!("{answer}: {outcome:?}") };
        assert_eq!((headers.len(), &behind[..]), (1, &b"behind"[..]), "{headers:?}");
        assert!(matches!(ask_by_hyper(Script::answering([answer])), Outcome::Switched(..)));
    }
}

#[test]
fn who_refuses_before_it_has_taken_the_request_is_heard_and_gets_no_more_of_it() {
    let refusal = ["HTTP/1.1 431 Too Large\r\nContent-Le", "ngth: 2\r\n\r\n", "no"];
    for then in [Excess::Waits, Excess::Fails] {
        let backend =
            Script { after: 10, takes: 10, then, stays: true, ..Script::answering(refusal) };
        let written = Rc::clone(&backend.written);
        let outcome = ask_for_upgrade(backend);
        assert!(matches!(&outcome, Outcome::Refused(431, _, body) if body == "no"), "{outcome:?}");
        assert_eq!(written.borrow().len(), 10);
    }
}

#[test]
fn nothing_is_switched_before_the_backend_has_taken_the_request() {
    let backend = |then| Script { takes: 10, then, ..Script::answering([switching("")]) };
    let outcome = ask_for_upgrade(backend(Excess::Waits));
    assert!(matches!(outcome, Outcome::Failed(RefusalReason::BackendTimeout, _)), "{outcome:?}");
    assert_eq!(ask_for_upgrade(backend(Excess::Fails)), Outcome::broken_off());
}

#[test]
fn who_hangs_up_or_stays_silent_before_its_head_has_ended_is_told_apart() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    for begun in ["", interim, "HTTP/1.1 101 Swi", "HTTP/1.1 403 No\r\nContent-Le"] {
        assert_eq!(ask_for_upgrade(Script::answering([begun])), Outcome::broken_off(), "{begun}");
        let silent = Script { stays: true, ..Script::answering([begun]) };
        let (refusal, took) = run(async {
            let started = Instant::now();
            (upgrade(silent, request(), ACCEPT, LIMIT).await.unwrap_err(), started.elapsed())
        });
        assert_eq!(refusal.reason, RefusalReason::BackendTimeout, "{begun}");
        assert!((LIMIT..LIMIT + Duration::from_millis(10)).contains(&took), "{took:?}");
    }
}

#[test]
fn a_granted_connection_keeps_no_part_of_the_buffer_that_the_head_was_read_into() {
    run(async {
        let backend = Script::answering([switching("") + "frame"]);
        let answer = upgrade(backend, request(), ACCEPT, LIMIT).await;
        let Ok(Answer::Switched { early, .. }) = answer else { panic!("{answer:?}") };
        let early = early.try_into_mut().expect("nobody else has a part of it");
        assert_eq!((&early[..], early.capacity()), (&b"frame"[..], 5));
    });
}

/// Answers of all kinds, sound and not.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let interim = prop::sample::select(vec![
        "",
        "",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.0 199 Own\n\n",
    ]);
    let status = prop::sample::select(vec![
        "HTTP/1.1 101 Switching Protocols",
        "HTTP/1.1 101 Switching Protocols",
        "HTTP/1.1 101 Switching Protocols",
        "HTTP/1.0 101",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 204 No Content",
        "HTTP/1.0 403 Forbidden",
        "HTTP/1.1 401 Unauthorized",
        "HTTP/1.1 099 Low",
        "HTTP/2.0 101 OK",
    ]);
    let line = prop::sample::select(vec![
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "Sec-WebSocket-Protocol: mqtt",
        "Content-Length: 4",
        "Content-Length: 5",
        "Content-Length: +4",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "X-Empty:",
        "X-A: 1\r\n folded",
        "X-A : 1",
        "Set-Cookie: \u{e4}",
    ]);
    let lines = prop_oneof![
        Just(vec![
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        ]),
        prop::collection::vec(line, 0..6),
    ];
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n"]);
    let body = prop::sample::select(vec![
        "",
        "\u{81}\u{4}echo",
        "4\r\necho\r\n0\r\n\r\n",
        "echoHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nowned",
    ]);
    let change = prop::option::weighted(0.3, (any::<Index>(), any::<u8>()));
    (interim, status, lines, end, body, change).prop_map(
        |(interim, status, lines, end, body, change)| {
            let mut text = format!("{interim}{status}{end}");
            for line in lines {
                text = text + line + end;
            }
            let mut bytes = (text + end + body).into_bytes();
            if let Some((at, byte)) = change {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_the_answer_and_however_it_is_cut_the_outcome_is_that_of_hyper_on_the_whole(
        answer in answers(),
        cuts in prop_oneof![
            Just(None),
            prop::collection::vec(any::<Index>(), 0..5).prop_map(Some),
        ],
    ) {
        let mut cuts: Vec<usize> = match cuts {
            None => (0..=answer.len()).collect(),
            Some(cuts) => {
                let inner = cuts.iter().map(|cut| cut.index(answer.len()));
                [0, answer.len()].into_iter().chain(inner).collect()
            }
        };
        cuts.sort_unstable();
        cuts.dedup();
        let pieces = cuts.windows(2).map(|cut| &answer[cut[0]..cut[1]]);
        let outcome = ask_for_upgrade(Script::answering(pieces));
        let by_hyper = ask_by_hyper(Script::answering([&answer]));
        match (outcome, by_hyper) {
            (Outcome::Switched(headers, behind), Outcome::Switched(by_hyper, _)) => {
                prop_assert_eq!(headers, by_hyper);
                prop_assert!(answer.ends_with(&behind));
                let head = answer.strip_suffix(&behind[..]).unwrap_or_default();
                prop_assert!(head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n") || head.ends_with(b"\n\r\n"));
            }
            (outcome, by_hyper) => prop_assert_eq!(outcome, by_hyper),
        }
    }
}
