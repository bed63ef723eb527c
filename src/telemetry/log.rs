//! The log: text for people, JSON for machines, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

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

/// Starts logging for the whole process. Fails with a sentence where the filter cannot be read.
pub fn init_log(settings: &LogSettings) -> Result<(), String> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", settings.filter))
        .map_err(|error| format!("log level {:?} cannot be read: {error}", settings.filter))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    }
    .map_err(|error| format!("logging could not be started: {error}"))
}
