//! Files of this machine, read within bounds: what is no file, never ends or never answers must not hold up who reads.

use std::{
    fs::{File, FileType, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

/// The text of a regular file of at most `longest` bytes. Links are followed. A pipe, a socket or a device is an error, at once: it
/// is not opened, and where it has come into the place of a file meanwhile, opening it does not wait.
pub fn read_regular(path: &Path, longest: u64) -> io::Result<String> {
    regular(&std::fs::metadata(path)?)?;
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    if metadata.len() > longest {
        return Err(too_long(longest));
    }
    read_text(file, longest)
}

/// The text of what somebody has named on the command line, at most `longest` bytes: it may be a pipe, as the shell makes it of
/// `<(…)`.
pub fn read_named(path: &Path, longest: u64) -> io::Result<String> {
    if std::fs::metadata(path)?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    read_text(File::open(path)?, longest)
}

/// What `input` holds, at most `longest` bytes.
pub fn read_text(input: impl Read, longest: u64) -> io::Result<String> {
    let mut text = String::new();
    let length = input.take(longest.saturating_add(1)).read_to_string(&mut text)?;
    if length as u64 > longest { Err(too_long(longest)) } else { Ok(text) }
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(io::Error::other(format!("it is {}, not a file", kind(metadata.file_type()))))
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_dir() => "a folder",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "something else",
    }
}

fn too_long(longest: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {} MiB", longest >> 20))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_file_is_read_through_links_and_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, long] = ["file", "link", "long"].map(|name| folder.path().join(name));
        fs::write(&file, "text").unwrap();
        symlink("file", &link).unwrap();
        fs::write(&long, vec![b'a'; MIB as usize + 1]).unwrap();
        assert_eq!(read_regular(&link, MIB).unwrap(), "text");
        assert_eq!(read_regular(&long, MIB).unwrap_err().to_string(), "longer than 1 MiB");
        assert_eq!(read_named(&long, MIB).unwrap_err().to_string(), "longer than 1 MiB");
        assert_eq!(read_regular(&long, MIB + 1).unwrap().len() as u64, MIB + 1);
    }

    /// Each of these would keep a reader waiting, or never end.
    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let [pipe, link, socket] = ["pipe", "link", "socket"].map(|name| folder.path().join(name));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        symlink("/dev/zero", &link).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, what) in [
            (pipe.as_path(), "it is a pipe, not a file"),
            (&link, "it is a device, not a file"),
            (&socket, "it is a socket, not a file"),
            (folder.path(), "it is a folder, not a file"),
        ] {
            assert_eq!(read_regular(path, MIB).unwrap_err().to_string(), what);
        }
    }
}
