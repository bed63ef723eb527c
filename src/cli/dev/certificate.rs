//! The certificates of `tidegate dev`: self-made ones, kept so that clients need to be told of them but once, and one that
//! browsers trust, where mkcert has made it.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rcgen::{CertificateParams, DnType, KeyPair};
use tempfile::TempDir;

use crate::table::{ObjectRef, TlsIdentity};

/// Names and addresses that the certificate of the gateway itself is for.
pub(super) const NAMES: [&str; 4] = ["localhost", "*.localhost", "127.0.0.1", "::1"];

/// A certificate is not used when it has less than this left.
const RENEW_BEFORE_DAYS: i64 = 7;
/// How long a certificate is valid: the longest that browsers take.
const VALID_DAYS: i64 = 397;

/// The folder that certificates are kept in. No other `tidegate dev` changes anything in it until this is dropped.
#[derive(Debug)]
pub(super) struct Certificates {
    folder: PathBuf,
    /// Two that start at once would each make one, and one of them serve what is not kept.
    _lock: fs::File,
}

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub(super) struct Certificate {
    /// The file.
    pub(super) path: PathBuf,
    /// What clients are given as their CA.
    pub(super) ca: PathBuf,
    pub(super) chain: String,
    pub(super) key: String,
    pub(super) origin: Origin,
}

/// Who made a certificate.
#[derive(Debug)]
pub(super) enum Origin {
    /// An authority of this machine, by the command that was printed.
    Trusted,
    /// This program.
    SelfMade {
        /// The command that makes one which this machine's browsers trust, where mkcert can.
        mkcert: Option<String>,
    },
}

impl Certificates {
    /// Opens the folder of this user.
    pub(super) fn open() -> Result<Self> {
        let folder = match data_home() {
            Some(home) => home.join("tidegate/dev"),
            // Anybody could have made one of a known name in the folder for temporary files.
            None => private_folder().context("no folder can be made for the certificate")?.keep(),
        };
        let kept = || format!("the certificate cannot be kept in {}", folder.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(kept)?;
        let lock = fs::File::create(folder.join("lock")).with_context(kept)?;
        lock.lock().with_context(kept)?;
        Ok(Self { folder, _lock: lock })
    }

    /// The certificate for these names, the first of which calls it: the trusted one where it is there, else a self-made one.
    pub(super) fn of(&self, names: &[&str]) -> Result<Certificate> {
        let Some(&host) = names.first() else { bail!("a certificate needs a name") };
        let root = mkcert_root().filter(|root| root.is_file());
        let file = |suffix: &str| self.folder.join(format!("{host}{suffix}"));
        let [path, key_path] = ["-trusted.pem", "-trusted-key.pem"].map(file);
        if let Some((chain, key)) = load(&path, &key_path, host) {
            let ca = root.unwrap_or_else(|| path.clone());
            return Ok(Certificate { path, ca, chain, key, origin: Origin::Trusted });
        }
        let mkcert = (root.is_some() && on_path("mkcert")).then(|| {
            // Browsers take no wildcard for all of a top-level domain.
            let names =
                names.iter().copied().filter(|name| !name.starts_with("*.")).collect::<Vec<_>>();
            let [path, key_path, names] = [quoted(&path), quoted(&key_path), names.join(" ")];
            format!("mkcert -cert-file {path} -key-file {key_path} {names}")
        });
        let [path, key_path] = [".pem", "-key.pem"].map(file);
        let (chain, key) = match load(&path, &key_path, host) {
            Some(kept) => kept,
            None => {
                let (chain, key) = make(names)?;
                write_private(&key_path, &key)
                    .and_then(|()| write_private(&path, &chain))
                    .with_context(|| format!("{} cannot be written", path.display()))?;
                (chain, key)
            }
        };
        let ca = path.clone();
        Ok(Certificate { path, ca, chain, key, origin: Origin::SelfMade { mkcert } })
    }
}

impl Certificate {
    /// A Secret of this name with the certificate.
    pub(super) fn secret(&self, name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n  name: {name}\ndata:\n  tls.crt: {}\n  tls.key: {}\n",
            BASE64.encode(&self.chain),
            BASE64.encode(&self.key),
        )
    }
}

/// $XDG_DATA_HOME, or what it is by default.
fn data_home() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))
}

/// mkcert's own certificate, where it keeps it on Linux: what `mkcert -CAROOT` prints.
fn mkcert_root() -> Option<PathBuf> {
    let folder = std::env::var_os("CAROOT").filter(|path| !path.is_empty()).map(PathBuf::from);
    Some(folder.or_else(|| Some(data_home()?.join("mkcert")))?.join("rootCA.pem"))
}

/// Whether there is a program of this name.
fn on_path(name: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(name).is_file())
}

/// A path as a shell takes it for one word.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(&byte) || !byte.is_ascii();
    match text.bytes().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A kept certificate, if it belongs to its key, is for the hostname, and has some days left.
fn load(path: &Path, key_path: &Path, host: &str) -> Option<(String, String)> {
    let chain = fs::read_to_string(path).ok()?;
    let key = fs::read_to_string(key_path).ok()?;
    let name = ObjectRef { namespace: "dev".to_owned(), name: host.to_owned() };
    let identity = TlsIdentity::from_pem(name, chain.as_bytes(), key.as_bytes(), false).ok()?;
    let soon = jiff::Timestamp::now().as_second() + RENEW_BEFORE_DAYS * 86_400;
    (identity.not_after > soon && identity.covers(host)).then_some((chain, key))
}

/// A self-signed certificate, and its key.
fn make(names: &[&str]) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Tidegate development");
    let now = std::time::SystemTime::now();
    let days = |days: i64| Duration::from_secs(days.unsigned_abs() * 86_400);
    params.not_before = (now - days(1)).into();
    params.not_after = (now + days(VALID_DAYS - 1)).into();
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Writes a file that only its owner reads, in one step: another `tidegate dev` may be reading it.
pub(super) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    // Of a name that nobody can guess, and made by us: nothing that lies there already is written to.
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut partial = tempfile::Builder::new()
        .prefix(".tidegate-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    partial.write_all(text.as_bytes())?;
    partial.persist(path)?;
    Ok(())
}

/// A folder of a name that nobody can guess, for its owner alone, which is removed when this is dropped.
pub(super) fn private_folder() -> std::io::Result<TempDir> {
    let only_owner = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new()
        .prefix("tidegate-dev-")
        .rand_bytes(16)
        .permissions(only_owner)
        .tempdir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_the_shell() {
        assert_eq!(quoted(Path::new("/home/me/.local/share")), "/home/me/.local/share");
        assert_eq!(quoted(Path::new("/home/my data/it's")), r"'/home/my data/it'\''s'");
    }

    #[test]
    fn a_certificate_is_used_only_with_its_key_and_for_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let [path, key_path] = ["a.pem", "a-key.pem"].map(|name| folder.path().join(name));
        assert!(load(&path, &key_path, "a.localhost").is_none());
        let (chain, key) = make(&["a.localhost"]).unwrap();
        write_private(&path, &chain).unwrap();
        write_private(&key_path, &key).unwrap();
        assert_eq!(load(&path, &key_path, "a.localhost"), Some((chain, key)));
        assert!(load(&path, &key_path, "b.localhost").is_none());
        write_private(&key_path, &make(&["a.localhost"]).unwrap().1).unwrap();
        assert!(load(&path, &key_path, "a.localhost").is_none());
    }
}
