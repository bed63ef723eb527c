#![allow(clippy::unwrap_used)]

use std::{collections::VecDeque, time::Instant};

use super::*;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// An output whose every write waits until it is told what becomes of it.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    /// What each write was given.
    writes: Vec<Vec<u8>>,
    answers: VecDeque<Answer>,
    /// From now on everything is taken.
    open: bool,
}

enum Answer {
    /// At most so many bytes are taken.
    Take(usize),
    Fail(ErrorKind),
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.0.lock().unwrap();
        state.writes.push(bytes.to_vec());
        self.0.1.notify_all();
        let mut state =
            self.0.1.wait_while(state, |state| !state.open && state.answers.is_empty()).unwrap();
        match state.answers.pop_front().unwrap_or(Answer::Take(usize::MAX)) {
            Answer::Take(most) => Ok(bytes.len().min(most)),
            Answer::Fail(kind) => Err(kind.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Gate {
    fn answer(&self, answer: Answer) {
        self.0.0.lock().unwrap().answers.push_back(answer);
        self.0.1.notify_all();
    }

    fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }

    /// Waits for so many writes; what each was given.
    fn writes(&self, count: usize) -> Vec<Vec<u8>> {
        let state = self.0.0.lock().unwrap();
        let wait = |state: &mut State| state.writes.len() < count;
        let (state, timeout) = self.0.1.wait_timeout_while(state, DEADLINE, wait).unwrap();
        assert!(!timeout.timed_out(), "{} of {count} writes", state.writes.len());
        state.writes.clone()
    }
}

/// A log whose thread is held up in the write of a first line.
fn held_up(limit: usize) -> (Gate, Arc<LineBuffer>, LogThread) {
    let gate = Gate::default();
    let (buffer, thread) = spawn_with(gate.clone(), limit, Escape::Text).unwrap();
    buffer.append(b"first\n");
    gate.writes(1);
    (gate, buffer, thread)
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::yield_now();
    }
}

#[test]
fn a_lone_line_is_written_without_waiting_for_more_or_for_the_end() {
    let (gate, buffer, thread) = held_up(WAITING_BYTES);
    assert_eq!(gate.writes(1), [b"first\n"]);
    gate.open();
    until("it never slept again", || buffer.lock().asleep);
    buffer.append(b"second\n");
    assert_eq!(gate.writes(2)[1], b"second\n");
    drop(thread);
    assert_eq!(buffer.dropped(), 0);
}

#[test]
fn what_came_during_a_write_is_written_in_one() {
    let (gate, buffer, thread) = held_up(WAITING_BYTES);
    let lines: Vec<_> = (0..1000).map(|line| format!("line {line}\n")).collect();
    for line in &lines {
        buffer.append(line.as_bytes());
    }
    gate.open();
    drop(thread);
    let writes = gate.writes(2);
    assert_eq!(writes.len(), 2);
    assert_eq!(String::from_utf8_lossy(&writes[1]), lines.concat());
}

#[test]
fn lines_of_many_threads_arrive_whole_and_in_the_order_of_each() {
    const THREADS: usize = 8;
    const LINES: usize = 2000;
    let gate = Gate::default();
    gate.open();
    let (buffer, log) = spawn_with(gate.clone(), WAITING_BYTES, Escape::Text).unwrap();
    thread::scope(|scope| {
        for writer in 0..THREADS {
            let buffer = &buffer;
            scope.spawn(move || {
                for line in 0..LINES {
                    let rest = "x".repeat(line % 50);
                    writeln!(io::LineWriter::new(&**buffer), "{writer} {line} {rest}.").unwrap();
                }
            });
        }
    });
    drop(log);
    let text = String::from_utf8(gate.writes(1).concat()).unwrap();
    let mut next = [0; THREADS];
    for line in text.lines() {
        let mut words = line.split(' ');
        let writer: usize = words.next().unwrap().parse().unwrap();
        let number: usize = words.next().unwrap().parse().unwrap();
        assert_eq!(number, next[writer], "{line}");
        assert_eq!(words.next().unwrap(), format!("{}.", "x".repeat(number % 50)));
        next[writer] += 1;
    }
    assert_eq!((next, buffer.dropped()), ([LINES; THREADS], 0));
}

#[test]
fn a_line_without_room_is_dropped_whole_and_counted_and_nobody_waits() {
    let (gate, buffer, thread) = held_up(20);
    buffer.append(b"123456789\n");
    buffer.append(b"too long for what is left\n");
    buffer.append(b"987654321\n");
    buffer.append(b"\n");
    assert_eq!(buffer.dropped(), 2);
    gate.open();
    drop(thread);
    assert_eq!(gate.writes(2)[1], b"123456789\n987654321\n");
}

#[test]
fn room_comes_back_with_a_reader() {
    let (gate, buffer, thread) = held_up(10);
    buffer.append(b"123456789\n");
    buffer.append(b"dropped\n");
    gate.answer(Answer::Take(usize::MAX));
    gate.writes(2);
    buffer.append(b"taken\n");
    gate.open();
    drop(thread);
    assert_eq!(gate.writes(3)[2], b"taken\n");
    assert_eq!(buffer.dropped(), 1);
}

#[test]
fn the_end_writes_what_is_left_and_later_lines_are_counted() {
    let (gate, buffer, thread) = held_up(WAITING_BYTES);
    buffer.append(b"last\n");
    gate.open();
    drop(thread);
    assert_eq!(gate.writes(2)[1], b"last\n");
    buffer.append(b"late\n");
    assert_eq!((gate.writes(2).len(), buffer.dropped()), (2, 1));
}

#[test]
fn the_end_does_not_wait_for_a_reader_that_never_comes() {
    let (gate, _buffer, thread) = held_up(WAITING_BYTES);
    let begin = Instant::now();
    drop(thread);
    assert!(begin.elapsed() < 5 * FLUSH_TIMEOUT, "{:?}", begin.elapsed());
    gate.open();
}

#[test]
fn a_line_that_is_taken_in_pieces_is_still_whole() {
    let (gate, buffer, thread) = held_up(WAITING_BYTES);
    buffer.append(b"last\n");
    for answer in [
        Answer::Take(2),
        Answer::Fail(ErrorKind::Interrupted),
        Answer::Fail(ErrorKind::WouldBlock),
        Answer::Take(1),
    ] {
        gate.answer(answer);
    }
    gate.open();
    drop(thread);
    let rests: [&[u8]; 6] = [b"first\n", b"rst\n", b"rst\n", b"rst\n", b"st\n", b"last\n"];
    assert_eq!(gate.writes(6), rests);
    assert_eq!(buffer.dropped(), 0);
}

#[test]
fn lines_that_meet_an_error_are_counted_and_the_next_are_written() {
    let (gate, buffer, thread) = held_up(WAITING_BYTES);
    buffer.append(b"one\n");
    buffer.append(b"two\n");
    buffer.append(b"three\n");
    gate.answer(Answer::Take(usize::MAX));
    gate.answer(Answer::Take(5));
    gate.answer(Answer::Fail(ErrorKind::BrokenPipe));
    until("the lost lines were never counted", || buffer.dropped() == 2);
    buffer.append(b"four\n");
    gate.open();
    drop(thread);
    assert_eq!(gate.writes(4)[3], b"four\n");
    assert_eq!(buffer.dropped(), 2);
}

#[test]
fn a_burst_does_not_stay_in_memory() {
    let (gate, buffer, thread) = held_up(WAITING_BYTES);
    let line = [b"x".repeat(99), b"\n".to_vec()].concat();
    // Both buffers in turn.
    for round in 2..4 {
        until("there was no room", || {
            buffer.append(&line);
            buffer.lock().lines.len() > WAITING_BYTES / 2
        });
        gate.answer(Answer::Take(usize::MAX));
        assert!(gate.writes(round)[round - 1].len() > WAITING_BYTES / 2);
    }
    gate.open();
    until("it never slept again", || buffer.lock().asleep);
    assert!(buffer.lock().lines.capacity() <= KEPT_BYTES);
    // Sent through once more, the other one is seen too.
    buffer.append(&line);
    until("it never slept again", || buffer.lock().asleep && buffer.lock().lines.is_empty());
    assert!(buffer.lock().lines.capacity() <= KEPT_BYTES);
    drop(thread);
}
