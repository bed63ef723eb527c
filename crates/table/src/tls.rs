//! Certificates and trust, parsed and checked once, when a table is built.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs::Ticketer},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::NoServerSessionStorage,
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, public_key::PublicKey};

use super::ObjectRef;

/// Most certificates of a chain: a server's, and those of authorities up to a root. Clients of the web's authorities get 2 to 4.
pub const MAX_CHAIN_CERTIFICATES: usize = 16;
/// Most bytes of a chain in PEM. It is sent, and held, for each handshake before the client has shown that it wants to go on.
pub const MAX_CHAIN_BYTES: usize = 64 * 1024;
/// Most bytes of a private key in PEM.
pub const MAX_KEY_BYTES: usize = 16 * 1024;
/// Most bits of an RSA key: a signature costs the cube of them, and each handshake takes one.
const MAX_RSA_BITS: usize = 4096;
/// Most certificates of authorities in a bundle.
const MAX_AUTHORITIES: usize = 512;

/// The one provider of cryptography.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

const FROM_1_2: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const FROM_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// What handshakes under an identity are held to, besides its certificate. A connection that was opened under other settings may not
/// go on under these: all of them are compared, so that whatever is added here counts too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The oldest version of TLS that is taken.
    pub min_version: MinVersion,
}

/// The oldest version of TLS that is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// A certificate with its key, ready to serve. Equal if chain, key and settings are.
pub struct TlsIdentity {
    /// The Secret that it came from.
    pub secret: ObjectRef,
    /// Start of the leaf's validity, seconds since 1970.
    pub not_before: i64,
    /// End of the leaf's validity, seconds since 1970.
    pub not_after: i64,
    /// The DNS names of the leaf's subjectAltName, lower case. The subject's common name is none of
    /// them: clients do not look at it (RFC 9525 §2).
    pub names: Box<[Box<str>]>,
    /// What handshakes are done with.
    pub config: Arc<ServerConfig>,
    /// What they are held to.
    pub settings: TlsSettings,
    fingerprint: [u8; 32],
}

/// Why a pair of PEM texts is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No certificate, or a broken one.
    #[error("tls.crt {0}")]
    Certificate(String),
    /// No key, or a broken one.
    #[error("tls.key {0}")]
    Key(String),
    /// More than a handshake should cost.
    #[error("{0}")]
    TooMuch(String),
    /// Both are sound, but not of one another.
    #[error("tls.key does not belong to the first certificate of tls.crt")]
    Mismatch,
}

impl TlsIdentity {
    /// Parses `tls.crt` (PEM, leaf first) and `tls.key` (PEM: PKCS#8, PKCS#1 or SEC1).
    pub fn from_pem(
        secret: ObjectRef,
        chain: &[u8],
        key: &[u8],
        only_tls13: bool,
    ) -> Result<Self, IdentityError> {
        if chain.len() > MAX_CHAIN_BYTES {
            return Err(IdentityError::TooMuch(format!(
                "tls.crt has more than {MAX_CHAIN_BYTES} bytes, the most of a chain"
            )));
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(IdentityError::TooMuch(format!(
                "tls.key has more than {MAX_KEY_BYTES} bytes, the most of a key"
            )));
        }
        let certificates = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| IdentityError::Certificate(format!("is not PEM: {error}")))?;
        if certificates.len() > MAX_CHAIN_CERTIFICATES {
            return Err(IdentityError::TooMuch(format!(
                "tls.crt has {} certificates, and a chain may have {MAX_CHAIN_CERTIFICATES}",
                certificates.len()
            )));
        }
        let leaf = certificates.first().ok_or_else(|| {
            IdentityError::Certificate("holds no PEM block \"CERTIFICATE\"".into())
        })?;
        let leaf = x509_parser::parse_x509_certificate(leaf)
            .map_err(|_| {
                IdentityError::Certificate("does not begin with an X.509 certificate".into())
            })?
            .1;
        let not_before = leaf.validity().not_before.timestamp();
        let not_after = leaf.validity().not_after.timestamp();
        let names = dns_names(&leaf);
        if let Ok(PublicKey::RSA(key)) = leaf.public_key().parsed()
            && key.key_size() > MAX_RSA_BITS
        {
            return Err(IdentityError::TooMuch(format!(
                "the key is of RSA with {} bits, and may have {MAX_RSA_BITS}",
                key.key_size()
            )));
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| IdentityError::Key(format!("holds no private key in PEM: {error}")))?;
        let fingerprint = certificates
            .iter()
            .fold(Sha256::new(), |hash, part| hash.chain_update(part))
            .chain_update(key.secret_der())
            .chain_update([u8::from(only_tls13)])
            .finalize()
            .into();
        let certified =
            CertifiedKey::from_der(certificates, key, &PROVIDER).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => IdentityError::Mismatch,
                rustls::Error::InvalidCertificate(error) => {
                    IdentityError::Certificate(format!("is not usable: {error:?}"))
                }
                error => IdentityError::Key(format!("is not usable: {error}")),
            })?;
        let config = server_config(certified, only_tls13);
        let config = Arc::new(config);
        let min_version = if only_tls13 { MinVersion::V1_3 } else { MinVersion::V1_2 };
        let settings = TlsSettings { min_version };
        Ok(Self { secret, not_before, not_after, names, config, settings, fingerprint })
    }

    /// Whether the leaf names `hostname`, or, for `*.example.com`, every name under it. Both in lower case.
    pub fn covers(&self, hostname: &str) -> bool {
        covers(&self.names, hostname)
    }
}

fn covers(names: &[Box<str>], hostname: &str) -> bool {
    let parent = hostname.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|name| {
        name.as_ref() == hostname
            || parent.is_some_and(|parent| name.strip_prefix("*.") == Some(parent))
    })
}

/// What a certificate says of itself, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Start of its validity, seconds since 1970.
    pub not_before: i64,
    /// End of its validity, seconds since 1970.
    pub not_after: i64,
    /// Its DNS names, as [`TlsIdentity::names`].
    pub names: Box<[Box<str>]>,
}

impl Leaf {
    /// The first certificate of `chain` (PEM).
    pub fn of_chain(chain: &[u8]) -> Option<Self> {
        let leaf = CertificateDer::pem_slice_iter(chain).next()?.ok()?;
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).ok()?;
        let validity = leaf.validity();
        Some(Self {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            names: dns_names(&leaf),
        })
    }
}

fn dns_names(leaf: &X509Certificate<'_>) -> Box<[Box<str>]> {
    // An extension that cannot be read is refused by rustls later on.
    let Ok(Some(extension)) = leaf.subject_alternative_name() else { return Box::default() };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
            _ => None,
        })
        .collect()
}

/// A server's settings around one certificate. HTTP/1.1 is all that ALPN offers.
fn server_config(certified: CertifiedKey, only_tls13: bool) -> ServerConfig {
    let versions = if only_tls13 { FROM_1_3 } else { FROM_1_2 };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions)
        .expect("the provider supports TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    resume_by_tickets(&mut config);
    config
}

/// Lets clients resume by tickets (RFC 8446 §4.6.1, RFC 5077): the keys change every 6 hours, and a ticket is good for 12 hours
/// at most.
///
/// Each identity has keys of its own. A ticket is bound by rustls to the server name, the cipher suite and with it the
/// version, but not to a certificate or to how clients are authenticated; keys that are shared would let a
/// session go on under settings that it was not begun with. So a renewed certificate, or another setting, costs its clients
/// one full handshake.
fn resume_by_tickets(config: &mut ServerConfig) {
    match Ticketer::new() {
        Ok(ticketer) => config.ticketer = ticketer,
        Err(error) => tracing::warn!(%error, "no keys for session tickets; clients cannot resume"),
    }
    // Sessions are kept by the clients alone, for a session of TLS 1.2 without a ticket would be kept here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // A WebSocket client comes back with one connection, and gets a new ticket with each. Every further one costs CPU.
    config.send_tls13_tickets = 1;
}

impl PartialEq for TlsIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.secret == other.secret
    }
}

impl fmt::Debug for TlsIdentity {
    /// Names the Secret; no part of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("secret", &self.secret)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// How TLS is done with the pods of a backend. Equal if name and trust are.
pub struct BackendTls {
    /// The name sent as SNI and looked for in the certificate.
    pub server_name: ServerName<'static>,
    /// Whom to trust.
    pub verification: Verification,
    /// What handshakes are done with.
    pub config: Arc<ClientConfig>,
    /// The same where name and trust are, and else another: a name for them that is quick to compare.
    pub fingerprint: u64,
}

/// Whose certificates a backend may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Those signed by these authorities (DER), for the backend's name.
    Authorities(Vec<CertificateDer<'static>>),
    /// Any at all, as the route's author explicitly chose.
    Skip,
}

/// Why a backend's TLS cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// `ca.crt` is not PEM.
    #[error("ca.crt is not PEM: {0}")]
    Pem(String),
    /// It holds so many certificates.
    #[error("ca.crt holds {0} certificates, and may hold {MAX_AUTHORITIES}")]
    TooMany(usize),
    /// One of its certificates cannot be trusted.
    #[error("ca.crt holds an unusable certificate: {0}")]
    Certificate(String),
    /// It holds no certificate.
    #[error("ca.crt holds no PEM block \"CERTIFICATE\"")]
    Empty,
    /// The name to look for in certificates is none.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
}

impl BackendTls {
    /// TLS to a backend called `server_name` whose certificate is signed by an authority of `ca` (PEM).
    pub fn verified(server_name: &str, ca: &[u8]) -> Result<Self, TrustError> {
        let authorities = CertificateDer::pem_slice_iter(ca)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TrustError::Pem(error.to_string()))?;
        if authorities.len() > MAX_AUTHORITIES {
            return Err(TrustError::TooMany(authorities.len()));
        }
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots
                .add(authority.clone())
                .map_err(|error| TrustError::Certificate(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(TrustError::Empty);
        }
        let config = client_builder().with_root_certificates(roots).with_no_client_auth();
        Self::new(server_name, Verification::Authorities(authorities), config)
    }

    /// TLS to a backend whose certificate is not looked at.
    #[expect(clippy::disallowed_methods, reason = "this is insecureSkipVerify")]
    pub fn unverified(server_name: &str) -> Result<Self, TrustError> {
        let config = client_builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny))
            .with_no_client_auth();
        Self::new(server_name, Verification::Skip, config)
    }

    fn new(
        server_name: &str,
        verification: Verification,
        mut config: ClientConfig,
    ) -> Result<Self, TrustError> {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut hash = Sha256::new().chain_update(server_name).chain_update([0]);
        if let Verification::Authorities(authorities) = &verification {
            for authority in authorities {
                hash.update(Sha256::digest(authority));
            }
        }
        let digest: [u8; 32] = hash.finalize().into();
        let fingerprint = u64::from_be_bytes(std::array::from_fn(|index| digest[index]));
        let server_name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| TrustError::ServerName(server_name.to_owned()))?;
        Ok(Self { server_name, verification, config: Arc::new(config), fingerprint })
    }
}

/// Sessions with backends are resumed as rustls does by default: from a memory of 256 servers for each `BackendTls`, which spares
/// both sides the certificates.
fn client_builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(FROM_1_2)
        .expect("the provider supports TLS 1.2 and 1.3")
}

impl PartialEq for BackendTls {
    fn eq(&self, other: &Self) -> bool {
        self.server_name == other.server_name && self.verification == other.verification
    }
}

impl fmt::Debug for BackendTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendTls")
            .field("server_name", &self.server_name)
            .field("skip_verify", &(self.verification == Verification::Skip))
            .finish_non_exhaustive()
    }
}

/// Accepts any certificate, but still checks that the peer holds its key.
#[derive(Debug)]
struct AcceptAny;

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
