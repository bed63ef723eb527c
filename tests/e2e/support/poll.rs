//! Waiting: always for a condition, never for a time.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Tries until `attempt` succeeds. Panics with what it said last when `seconds` are over.
#[track_caller]
pub fn eventually<T>(
    what: &str,
    seconds: u64,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> T {
    let begin = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(last) if begin.elapsed() >= Duration::from_secs(seconds) => {
                panic!("waited {seconds} s in vain: {what}; at last: {last}");
            }
            Err(_) => pause(),
        }
    }
}

/// For what shall happen at a certain rate.
#[expect(clippy::disallowed_methods, reason = "a rate needs the time")]
pub fn wait_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

#[expect(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// For use in [`eventually`]: equality as a result.
pub fn expect_eq<T: PartialEq<U> + Debug, U: Debug>(is: &T, wanted: &U) -> Result<(), String> {
    if is == wanted { Ok(()) } else { Err(format!("expected {wanted:?}, found {is:?}")) }
}
