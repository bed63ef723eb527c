//! Processes of the cluster, which are seen from here.

use std::{fs, path::Path, process::Command};

/// A process that is stopped until this is dropped: it answers nothing, and refuses nothing either.
pub struct Hanging {
    pid: String,
}

impl Hanging {
    /// Stops the one process of this name that `is_it` knows by its folder in /proc.
    #[track_caller]
    pub fn stop(name: &str, is_it: impl Fn(&Path) -> bool) -> Self {
        let processes = fs::read_dir("/proc").expect("processes can be listed").flatten();
        let found: Vec<_> = processes
            .filter(|process| {
                let comm = fs::read_to_string(process.path().join("comm"));
                comm.is_ok_and(|comm| comm.trim() == name) && is_it(&process.path())
            })
            .map(|process| process.file_name().to_string_lossy().into_owned())
            .collect();
        let [pid] = found.as_slice() else { panic!("expected one process {name}: {found:?}") };
        let hanging = Self { pid: pid.clone() };
        hanging.signal("-STOP");
        hanging
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal} {}", self.pid);
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}
