//! `tidegate import`: reads files, has `import` make manifests of them, and writes these and the notes.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};

use super::{args::ImportArgs, last_words, print};
use crate::import::{Files, Imported, NoteKind, Options, Source, fits, import, yaml};

/// The exit code of `--strict` where something has no counterpart.
const LOST: u8 = 3;
/// Longer files are not read: a configuration was meant.
const LONGEST: u64 = 16 << 20;

/// Runs `tidegate import`. The exit code is 0, 1 if something could not be read or nothing came of it, 3 with `--strict` if something has
/// no counterpart.
pub(super) fn run(args: &ImportArgs) -> Result<ExitCode> {
    let options = Options {
        namespace: args.namespace.clone(),
        class: args.class.clone(),
        hostnames: args.hostname.clone(),
        secrets: args.secrets,
    };
    let (mut sources, mut unreadable) = (Vec::new(), Vec::new());
    for path in &args.files {
        let name = path.display().to_string();
        match read(path) {
            Ok(text) => sources.push(Source { name, text }),
            Err(error) => unreadable.push(format!("{name}: cannot be read: {error}")),
        }
    }
    let mut imported = import(&sources, &Disk, &options);
    unreadable.append(&mut imported.unreadable);
    imported.unreadable = unreadable;
    match &args.output {
        Some(folder) => write_folder(folder, &imported)?,
        None => print(&yaml::all(&imported))?,
    }
    last_words(report(&imported));
    Ok(if !imported.unreadable.is_empty() || imported.routes.is_empty() {
        ExitCode::FAILURE
    } else if args.strict && imported.has_losses() {
        ExitCode::from(LOST)
    } else {
        ExitCode::SUCCESS
    })
}

/// What is said on standard error: each note on a line, then what came of it all.
fn report(imported: &Imported) -> String {
    let mut text = String::new();
    for error in &imported.unreadable {
        let _ = writeln!(text, "error: {error}");
    }
    let notes = imported.all_notes();
    for note in &notes {
        let _ = writeln!(text, "{note}");
    }
    let count = |kind| notes.iter().filter(|note| note.kind == kind).count();
    let counts: Vec<_> = NoteKind::ALL
        .iter()
        .filter(|kind| count(**kind) > 0)
        .map(|kind| format!("{} {}", count(*kind), kind.as_str()))
        .collect();
    let Imported { routes, services, secrets, .. } = imported;
    let _ = writeln!(
        text,
        "imported: {}, {}, {}{}",
        several(routes.len(), "WebSocketRoute"),
        several(services.len(), "Service"),
        several(secrets.len(), "Secret"),
        if counts.is_empty() { String::new() } else { format!("; notes: {}", counts.join(", ")) },
    );
    text
}

fn several(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let length = if path == Path::new("-") {
        std::io::stdin().lock().take(LONGEST + 1).read_to_string(&mut text)?
    } else if fs::metadata(path)?.is_dir() {
        return Err(std::io::Error::other("it is a folder: name the files, such as nginx.conf"));
    } else {
        fs::File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?
    };
    if length as u64 > LONGEST {
        return Err(std::io::Error::other(format!("longer than {} MiB", LONGEST >> 20)));
    }
    Ok(text)
}

/// Writes a file for each sort of object that there is. Nothing is written over.
fn write_folder(folder: &Path, imported: &Imported) -> Result<()> {
    let files = [
        ("routes.yaml", yaml::routes(imported), 0o644),
        ("services.yaml", yaml::services(imported), 0o644),
        // Private keys.
        ("secrets.yaml", yaml::secrets(imported), 0o600),
    ];
    let files: Vec<_> = files
        .into_iter()
        .filter(|(_, text, _)| !text.is_empty())
        .map(|(name, text, mode)| (folder.join(name), text, mode))
        .collect();
    if let Some((there, ..)) = files.iter().find(|(path, ..)| path.exists()) {
        bail!(
            "{} is there already: name another folder with --output, or take it away",
            there.display()
        );
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (path, text, mode) in files {
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Included files and certificates, from the disk.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &str) -> Result<String, String> {
        read(Path::new(path)).map_err(|error| error.to_string())
    }

    fn list(&self, pattern: &str) -> Result<Vec<String>, String> {
        let (root, rest) = match pattern.strip_prefix('/') {
            Some(rest) => (PathBuf::from("/"), rest),
            None => (PathBuf::new(), pattern),
        };
        let mut found = vec![root];
        for element in rest.split('/').filter(|element| !element.is_empty()) {
            let mut next = Vec::new();
            for folder in found {
                if !element.contains(['*', '?', '[']) {
                    next.push(folder.join(element));
                    continue;
                }
                let here = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
                let Ok(entries) = fs::read_dir(here) else { continue };
                let mut names: Vec<_> = entries
                    .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                    .filter(|name| fits(element, name))
                    .collect();
                names.sort();
                next.extend(names.into_iter().map(|name| folder.join(name)));
            }
            found = next;
        }
        found.retain(|path| path.exists());
        Ok(found.into_iter().map(|path| path.display().to_string()).collect())
    }
}
