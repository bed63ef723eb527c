//! Processes of the cluster, which are seen from here.

use std::{fs, path::Path, process::Command};

use super::tools::ROOT;

/// The one process of this name that `is_it` knows by its folder in /proc.
#[track_caller]
fn find(name: &str, is_it: impl Fn(&Path) -> bool) -> String {
    let processes = fs::read_dir("/proc").expect("processes can be listed").flatten();
    let found: Vec<_> = processes
        .filter(|process| {
            let comm = fs::read_to_string(process.path().join("comm"));
            comm.is_ok_and(|comm| comm.trim() == name) && is_it(&process.path())
        })
        .map(|process| process.file_name().to_string_lossy().into_owned())
        .collect();
    let [pid] = found.as_slice() else { panic!("expected one process {name}: {found:?}") };
    pid.clone()
}

/// The process of a replica.
#[track_caller]
fn find_replica(pod: &str) -> String {
    find("tidegate", |process| {
        let variables = fs::read(process.join("environ")).unwrap_or_default();
        let name = format!("POD_NAME={pod}");
        variables.split(|byte| *byte == 0).any(|variable| variable == name.as_bytes())
    })
}

fn signal(pid: &str, signal: &str) {
    let status = Command::new("kill").args([signal, pid]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill {signal} {pid}");
}

/// Memory of the process of a replica that is its own alone, in bytes: RssAnon of its /proc/PID/status.
#[track_caller]
pub fn memory_of_replica(pod: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", find_replica(pod)));
    let status = status.expect("it was found there");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.expect("the kernel counts it") * 1024
}

/// Kills the process of a replica, as the kernel does that is out of memory.
#[track_caller]
pub fn kill_replica(pod: &str) {
    signal(&find_replica(pod), "-KILL");
}

/// A process that is stopped until this is dropped: it answers nothing, and refuses nothing either.
pub struct Hanging {
    pid: String,
}

impl Hanging {
    /// Stops the one process of this name.
    #[track_caller]
    pub fn stop(name: &str) -> Self {
        Self::of(find(name, |_| true))
    }

    /// Stops the process of a replica.
    #[track_caller]
    pub fn stop_replica(pod: &str) -> Self {
        Self::of(find_replica(pod))
    }

    fn of(pid: String) -> Self {
        signal(&pid, "-STOP");
        Self { pid }
    }

    /// For a process that others will have ended.
    pub fn forget(mut self) {
        self.pid.clear();
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        if !self.pid.is_empty() {
            signal(&self.pid, "-CONT");
        }
    }
}

/// A part of the cluster that was killed: etcd, kube-apiserver, or a node. It is started again when this is dropped.
pub struct Part {
    name: String,
    stopped: bool,
}

impl Part {
    /// Kills it.
    #[track_caller]
    pub fn stop(name: &str) -> Self {
        part("stop", name).unwrap_or_else(|error| panic!("{error}"));
        Self { name: name.to_owned(), stopped: true }
    }

    /// Starts it again. Returns when the API server is ready; a node takes longer.
    #[track_caller]
    pub fn start(mut self) {
        self.stopped = false;
        part("start", &self.name).unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.stopped
            && let Err(error) = part("start", &self.name)
        {
            eprintln!("{error}");
        }
    }
}

fn part(action: &str, name: &str) -> Result<(), String> {
    let state = std::env::var("TIDEGATE_E2E_STATE");
    let state = state.map_err(|_| "these tests are started by tests/e2e/run".to_owned())?;
    let script = format!("{ROOT}/tests/cluster/part");
    let output = Command::new(&script).args([&state, action, name]).output();
    let output = output.map_err(|error| format!("{script}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            Err(format!("{script} {action} {name}: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }
}
