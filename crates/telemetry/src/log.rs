//! The log: text for people, JSON for machines, on standard error.

mod escape;
mod writer;

use std::{io::IsTerminal, sync::Arc};

use prometheus::{
    IntCounter, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tracing_subscriber::{EnvFilter, fmt};

pub use self::escape::bounded;
use self::{
    escape::Escape,
    writer::{LineBuffer, LogThread},
};
use super::names::LOG_LINES_DROPPED_TOTAL;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line each.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Text or JSON.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,tidegate::access=off`.
    pub filter: String,
}

/// Silent unless asked for: these log each failed request, where the control plane says once what it means.
const QUIET: &str = "kube_client=off,kube_runtime=off";

/// The running log. Dropped at the very end it writes what is left, within a second: lines that are not taken by then, and those
/// that come later, are lost.
#[must_use]
pub struct Log {
    lines: Arc<LineBuffer>,
    _thread: LogThread,
}

impl Log {
    /// Counts the lines that nobody took in time.
    pub fn dropped_lines(&self) -> DroppedLines {
        let counter = DroppedLines::counter();
        let desc = counter.desc().into_iter().cloned().collect();
        DroppedLines { desc, lines: Arc::clone(&self.lines) }
    }
}

/// The metric of log lines that were dropped.
pub struct DroppedLines {
    desc: Vec<Desc>,
    lines: Arc<LineBuffer>,
}

impl DroppedLines {
    fn counter() -> IntCounter {
        let help = "Log lines that were dropped because nobody took them in time.";
        IntCounter::with_opts(Opts::new(LOG_LINES_DROPPED_TOTAL, help))
            .expect("a constant name is valid")
    }
}

impl Collector for DroppedLines {
    fn desc(&self) -> Vec<&Desc> {
        self.desc.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counter = Self::counter();
        counter.inc_by(self.lines.dropped());
        counter.collect()
    }
}

/// Starts logging for the whole process. Lines are written by a thread of their own, and dropped where standard error is not
/// read: no connection waits for the log. Fails with a sentence where the filter cannot be read.
pub fn init_log(settings: &LogSettings) -> Result<Log, String> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", settings.filter))
        .map_err(|error| format!("log level {:?} cannot be read: {error}", settings.filter))?;
    let coloured = std::io::stderr().is_terminal();
    let escape = match settings.format {
        LogFormat::Json => Escape::Json,
        LogFormat::Text if coloured => Escape::ColouredText,
        LogFormat::Text => Escape::Text,
    };
    let (lines, thread) = writer::spawn(std::io::stderr(), escape)
        .map_err(|error| format!("the log's thread could not be started: {error}"))?;
    let log = Log { lines: Arc::clone(&lines), _thread: thread };
    let builder = fmt().with_env_filter(filter).with_writer(lines);
    match settings.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        LogFormat::Text => builder.with_ansi(coloured).try_init(),
    }
    .map_err(|error| format!("logging could not be started: {error}"))?;
    Ok(log)
}
