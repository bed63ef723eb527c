//! `tidegate doctor` as people start it, against real listeners that do what boxes do: its verdict, and what it sends to whom.
//! Boxes that need a network of their own are in tests/networks.
#![allow(clippy::unwrap_used, missing_docs)]

mod answers;
mod certificates;
mod gateway;
mod hostile;
mod http2;
mod idle;
#[path = "../cli/program.rs"]
#[allow(dead_code)]
mod program;
mod proxy;
mod server;
mod words;

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use self::program::{run, tidegate};

/// A finished examination.
struct Finding {
    document: Value,
    /// All that was printed.
    text: String,
}

impl Finding {
    /// Code and box of each diagnosis, in their order.
    fn says(&self) -> Vec<(&str, &str)> {
        let diagnoses = self.document["diagnoses"].as_array().unwrap().iter();
        diagnoses.map(|it| (it["code"].as_str().unwrap(), it["box"].as_str().unwrap())).collect()
    }

    /// What the first step of this name saw.
    fn seen(&self, step: &str) -> &Value {
        let steps = self.document["steps"].as_array().unwrap();
        let found = steps.iter().find(|seen| seen["step"] == step);
        &found.unwrap_or_else(|| panic!("no step {step}:\n{}", self.text))["seen"]
    }

    fn steps(&self) -> BTreeSet<&str> {
        let steps = self.document["steps"].as_array().unwrap().iter();
        steps.map(|step| step["step"].as_str().unwrap()).collect()
    }

    fn evidence(&self) -> String {
        self.document["diagnoses"].to_string()
    }
}

/// The command with a short patience.
fn doctor(url: &str, arguments: &[&str]) -> Command {
    let mut command = tidegate();
    command.args(["doctor", "--json", url]).args(arguments).env("TIDEGATE_DOCTOR_TIMEOUT", "2s");
    command
}

/// Runs it, and holds its exit code to what it prints and to what is expected.
#[track_caller]
fn finds(command: &mut Command, exit_code: i32) -> Finding {
    let (code, out, err) = run(command);
    assert_eq!(code, Some(exit_code), "{out}{err}");
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["exit_code"], exit_code);
    assert_eq!(document["version"], 1);
    Finding { document, text: out + &err }
}

/// The same for a URL.
#[track_caller]
fn examine(url: &str, arguments: &[&str], exit_code: i32) -> Finding {
    finds(&mut doctor(url, arguments), exit_code)
}
