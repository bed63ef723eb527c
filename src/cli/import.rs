//! `tidegate import`: reads files, has `import` make manifests of them, and writes these and the notes.

use std::{
    cell::Cell,
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use tidegate_core::escape;

use super::{args::ImportArgs, print, print_error};
use crate::{
    import::{Files, Imported, NoteKind, Options, Source, fits, import, yaml},
    untrusted::files,
};

/// The exit code of `--strict` where something has no counterpart.
const LOST: u8 = 3;
/// Longer files are not read: a configuration was meant.
const LONGEST: u64 = 16 << 20;
/// The most files that one pattern of an include may stand for.
const MOST_FITTING: usize = 2_000;
/// The most entries of folders that all patterns go through.
const MOST_ENTRIES: usize = 100_000;

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
    let mut imported = import(&sources, &Disk::default(), &options);
    unreadable.append(&mut imported.unreadable);
    imported.unreadable = unreadable;
    match &args.output {
        Some(folder) => write_folder(folder, &imported)?,
        None => print(&yaml::all(&imported))?,
    }
    print_error(&report(&imported));
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
        let _ = writeln!(text, "error: {}", escape::value(error));
    }
    let notes = imported.all_notes();
    for note in &notes {
        let _ = writeln!(text, "{}", escape::value(&note.to_string()));
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

/// A file that was named, which may be a pipe of the shell, or standard input.
fn read(path: &Path) -> std::io::Result<String> {
    if path == Path::new("-") {
        return files::read_text(std::io::stdin().lock(), LONGEST);
    }
    match files::read_named(path, LONGEST) {
        Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => {
            Err(std::io::Error::other("it is a folder: name the files, such as nginx.conf"))
        }
        read => read,
    }
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

/// Included files and certificates, from the disk: regular files alone, whoever has written the configuration.
#[derive(Default)]
struct Disk {
    /// Entries of folders that patterns have gone through.
    entries: Cell<usize>,
}

impl Files for Disk {
    fn read(&self, path: &str) -> Result<String, String> {
        files::read_regular(Path::new(path), LONGEST).map_err(|error| error.to_string())
    }

    fn exists(&self, path: &str) -> bool {
        fs::metadata(path).is_ok()
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
                next.extend(self.fitting(&folder, element)?);
            }
            found = next;
        }
        found.retain(|path| fs::metadata(path).is_ok_and(|metadata| !metadata.is_dir()));
        if found.len() > MOST_FITTING {
            return Err(format!("more than {MOST_FITTING} files fit; name them more closely"));
        }
        Ok(found.into_iter().map(|path| path.display().to_string()).collect())
    }
}

impl Disk {
    /// What fits one element of a pattern in a folder, in order.
    fn fitting(&self, folder: &Path, element: &str) -> Result<Vec<PathBuf>, String> {
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let mut names = Vec::new();
        // A file, or a folder of others.
        let Ok(entries) = fs::read_dir(here) else { return Ok(Vec::new()) };
        for entry in entries {
            self.entries.set(self.entries.get() + 1);
            if self.entries.get() > MOST_ENTRIES {
                return Err(format!(
                    "patterns go through more than {MOST_ENTRIES} files and folders; name them more closely"
                ));
            }
            let name = entry.ok().and_then(|entry| entry.file_name().into_string().ok());
            names.extend(name.filter(|name| fits(element, name)));
        }
        names.sort();
        Ok(names.into_iter().map(|name| folder.join(name)).collect())
    }
}
