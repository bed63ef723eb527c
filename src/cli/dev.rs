//! `tidegate dev`: the whole program on a laptop, with nothing to prepare.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rcgen::{CertificateParams, DnType, KeyPair};

use super::{
    args::DevArgs,
    echo,
    ports::{self, Found},
    print,
    serve::{Setup, start_log},
};
use crate::{
    api::DEFAULT_CLASS,
    control::{ControlSettings, SourceSettings},
    gateway::{DrainSettings, FallbackCertificate, GatewaySettings, ListenerKind, RequestLimits},
};

/// The sample that is served where no folder was given.
const SAMPLE: &str = include_str!("dev_sample.yaml");

/// Names and addresses that the certificate is for.
const NAMES: [&str; 4] = ["localhost", "*.localhost", "127.0.0.1", "::1"];

/// Nothing in front of a laptop looks at readiness, and whoever types Ctrl-C does not want to wait.
const DRAIN: DrainSettings = DrainSettings {
    delay: Duration::ZERO,
    spread: Duration::ZERO,
    timeout: Duration::from_secs(5),
};

/// A certificate is made anew when it has less than this left.
const RENEW_BEFORE_DAYS: i64 = 7;
/// How long a certificate is valid: the longest that browsers take.
const VALID_DAYS: i64 = 397;

/// Runs `tidegate dev`.
pub(super) fn run(args: &DevArgs) -> Result<()> {
    let log = start_log(&args.log)?;
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let tls = ports::bind_or_next(at(args.tls_port), "TLS_PORT")?;
    let http = ports::bind_or_next(at(args.port), "PORT")?;
    let admin = ports::bind_or_next(at(args.admin_port), "ADMIN_PORT")?;
    let certificate = Certificate::load_or_make(&data_folder())?;
    let sample = match args.dir {
        Some(_) => None,
        None => Some(Sample::start(&certificate)?),
    };
    let folder = match (&args.dir, &sample) {
        (Some(folder), _) => folder.clone(),
        (None, Some(sample)) => sample.folder.clone(),
        (None, None) => unreachable!("without a folder there is a sample"),
    };
    print(&greeting(&folder, sample.is_some(), &certificate, [&tls, &http, &admin]))?;
    let setup = Setup {
        gateway: GatewaySettings {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            trusted_proxies: Vec::new(),
            fallback: FallbackCertificate::from_pem(
                certificate.chain.as_bytes(),
                certificate.key.as_bytes(),
            )
            .map_err(anyhow::Error::msg)?,
            public_https_port: tls.port,
            limits: RequestLimits::default(),
            drain: DRAIN,
        },
        control: ControlSettings {
            source: SourceSettings::Files(folder),
            class: DEFAULT_CLASS.to_owned(),
            zone: None,
            acme_http01: true,
        },
        data: vec![(ListenerKind::Https, tls.listener), (ListenerKind::Http, http.listener)],
        admin: vec![admin.listener],
    };
    setup.run(&log, false)
}

fn greeting(folder: &Path, sample: bool, certificate: &Certificate, ports: [&Found; 3]) -> String {
    let [tls, http, admin] = ports;
    let mut text = format!("Tidegate {}, development mode\n\n", env!("CARGO_PKG_VERSION"));
    for note in ports.iter().filter_map(|found| found.note.as_ref()) {
        text += &format!("  {note}\n");
    }
    if ports.iter().any(|found| found.note.is_some()) {
        text.push('\n');
    }
    let (echoes, plain) = match sample {
        true => ("echoes every message", "the same in clear text"),
        false => ("the routes of the folder below", "in clear text, where a route allows it"),
    };
    let (cert, folder) = (certificate.path.display(), folder.display());
    text += &format!(
        "  wss://localhost:{tls}/    {echoes}\n  ws://localhost:{http}/     {plain}\n  http://localhost:{admin}/   health and metrics\n\n\
         Certificate  {cert}\n             self-made for {names}: give it to clients as their CA\n\
         Manifests    {folder}\n             edit and save: changes are served at once, and no open socket is touched\n",
        tls = tls.port,
        http = http.port,
        admin = admin.port,
        names = NAMES.join(", "),
    );
    if sample {
        text += &format!(
            "\nTry it from another terminal; what you type comes back:\n  npx wscat --ca {cert} --connect wss://localhost:{tls}/\n\
             or look at the handshake alone:\n  curl --http1.1 --include --max-time 2 --cacert {cert} -H 'Connection: Upgrade' -H 'Upgrade: websocket' \\\n    -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' https://localhost:{tls}/\n",
            tls = tls.port,
        );
    }
    text += "\nCtrl-C ends it.\n\n";
    text
}

/// Where the certificate is kept, so that a client needs to be told of it but once.
fn data_folder() -> PathBuf {
    let home = std::env::var_os("XDG_DATA_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(|| {
            let home = std::env::var_os("HOME").filter(|path| !path.is_empty())?;
            Some(PathBuf::from(home).join(".local/share"))
        });
    home.unwrap_or_else(std::env::temp_dir).join("tidegate/dev")
}

/// The self-made certificate.
struct Certificate {
    path: PathBuf,
    chain: String,
    key: String,
}

impl Certificate {
    fn load_or_make(folder: &Path) -> Result<Self> {
        let kept = || format!("the certificate cannot be kept in {}", folder.display());
        fs::create_dir_all(folder).with_context(kept)?;
        // Two that start at once would each make one, and one of them serve what is not kept. Held until this is dropped.
        let lock = fs::File::create(folder.join("lock")).with_context(kept)?;
        lock.lock().with_context(kept)?;
        let path = folder.join("localhost.pem");
        let key_path = folder.join("localhost-key.pem");
        if let (Ok(chain), Ok(key)) = (fs::read_to_string(&path), fs::read_to_string(&key_path))
            && still_good(&chain, &key)
        {
            return Ok(Self { path, chain, key });
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
        params.distinguished_name.push(DnType::CommonName, "Tidegate development");
        let now = std::time::SystemTime::now();
        let days = |days: i64| Duration::from_secs(days.unsigned_abs() * 86_400);
        params.not_before = (now - days(1)).into();
        params.not_after = (now + days(VALID_DAYS - 1)).into();
        let chain = params.self_signed(&key)?.pem();
        let key = key.serialize_pem();
        write_private(&key_path, &key)
            .and_then(|()| write_private(&path, &chain))
            .with_context(kept)?;
        Ok(Self { path, chain, key })
    }
}

/// Whether a kept certificate belongs to its key and has some days left.
fn still_good(chain: &str, key: &str) -> bool {
    let soon = jiff::Timestamp::now().as_second() + RENEW_BEFORE_DAYS * 86_400;
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(chain.as_bytes()) else { return false };
    pem.parse_x509().is_ok_and(|certificate| certificate.validity().not_after.timestamp() > soon)
        && FallbackCertificate::from_pem(chain.as_bytes(), key.as_bytes()).is_ok()
}

/// Writes a file that only its owner reads, in one step: another `tidegate dev` may be reading it.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)?
        .write_all(text.as_bytes())?;
    fs::rename(&partial, path)
}

/// The sample: a folder of manifests, removed at the end, and the echo backend that they lead to.
struct Sample {
    folder: PathBuf,
}

impl Sample {
    fn start(certificate: &Certificate) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("echo".into()).spawn(move || {
            if let Err(error) = runtime.block_on(echo::serve(listener, None)) {
                tracing::error!("the echo backend ended: {error:#}");
            }
        })?;
        let folder = std::env::temp_dir().join(format!("tidegate-dev-{}", std::process::id()));
        let text = SAMPLE
            .replace("ECHO_PORT", &port.to_string())
            .replace("TLS_CERTIFICATE", &BASE64.encode(&certificate.chain))
            .replace("TLS_KEY", &BASE64.encode(&certificate.key));
        fs::create_dir_all(&folder)
            .and_then(|()| write_private(&folder.join("sample.yaml"), &text))
            .with_context(|| format!("the sample cannot be written to {}", folder.display()))?;
        Ok(Self { folder })
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
