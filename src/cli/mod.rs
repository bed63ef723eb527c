//! The command line: arguments as typed, settings as resolved, and the commands themselves.
//!
//! The only room that prints, that ends the process, and that knows all the others.

mod args;
mod check;
mod dev;
mod doctor;
mod echo;
mod import;
mod interfaces;
mod ports;
mod serve;

use std::{io::Write, process::ExitCode, sync::mpsc, time::Duration};

use clap::Parser;

use self::args::{Cli, Command};

/// How long the program's last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the program with the arguments of the process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.command {
        Command::Serve(args) => serve::run(*args),
        Command::Dev(args) => dev::run(&args),
        Command::Check(args) => {
            return check::run(&args).unwrap_or_else(|error| {
                print_error(&format!("tidegate: {error:#}\n"));
                ExitCode::FAILURE
            });
        }
        Command::Doctor(args) => {
            return doctor::run(&args).unwrap_or_else(|error| {
                print_error(&format!("tidegate: {error:#}\n"));
                // As for arguments that make no sense: nothing was found out.
                ExitCode::from(2)
            });
        }
        Command::Import(args) => {
            return import::run(&args).unwrap_or_else(|error| {
                print_error(&format!("tidegate: {error:#}\n"));
                ExitCode::FAILURE
            });
        }
        Command::Crd => print(&crate::api::crd_yaml()).map_err(Into::into),
        Command::EchoBackend(args) => echo::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<clap::Error>() {
            Some(error) => usage(error),
            None => {
                print_error(&format!("tidegate: {error:#}\n"));
                ExitCode::FAILURE
            }
        },
    }
}

/// Says what is wrong with the arguments, or what was asked about them.
fn usage(error: &clap::Error) -> ExitCode {
    // Help and version are "errors" too; clap knows where they go.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
}

/// Writes to standard error. Where nobody reads it the program ends without: a second signal must end it at once.
fn print_error(text: &str) {
    let text = tidegate_core::escape::lines(text).into_owned();
    let (end, ended) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _end = end;
        let _ = std::io::stderr().write_all(text.as_bytes());
    });
    let _ = ended.recv_timeout(LAST_WORDS);
}

/// Writes to standard output. A reader that has left (`| head`) is an error like any other, not a panic.
fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
