//! Certificates made on the spot, and TLS settings around them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tidegate::table::{ObjectRef, TlsIdentity};

/// Signs certificates of servers.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A server's certificate with its key, PEM.
pub struct Certificate {
    pub chain: String,
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own: others do not even look like the issuer of what it signs.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test authority {}", COUNT.fetch_add(1, Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("the provider makes keys");
        let certificate = params.self_signed(&key).expect("the parameters are valid");
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for a name.
    pub fn certify(&self, name: &str) -> Certificate {
        self.certify_all(&[name])
    }

    /// A certificate for several names or addresses.
    pub fn certify_all(&self, names: &[&str]) -> Certificate {
        let key = KeyPair::generate().expect("the provider makes keys");
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let params = CertificateParams::new(names).expect("names are valid");
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are valid");
        Certificate { chain: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Certificate {
    /// As a route's identity, from a Secret of the given name.
    pub fn identity(&self, secret: &str, only_tls13: bool) -> Arc<TlsIdentity> {
        let secret = ObjectRef { namespace: "test".into(), name: secret.into() };
        let identity =
            TlsIdentity::from_pem(secret, self.chain.as_bytes(), self.key.as_bytes(), only_tls13);
        Arc::new(identity.expect("certificate and key belong together"))
    }

    /// The leaf, DER.
    pub fn der(&self) -> Vec<u8> {
        let der = CertificateDer::from_pem_slice(self.chain.as_bytes());
        der.expect("it is PEM").to_vec()
    }
}

/// Settings of a client that trusts one authority, for TLS 1.2 and 1.3.
pub fn client_config(authority: &str) -> Arc<ClientConfig> {
    client(authority, rustls::DEFAULT_VERSIONS)
}

/// Settings of a client that trusts one authority and speaks nothing above TLS 1.2.
pub fn only_tls12(authority: &str) -> Arc<ClientConfig> {
    client(authority, &[&rustls::version::TLS12])
}

fn client(
    authority: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes()).expect("it is PEM");
    roots.add(authority).expect("it is a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("the provider speaks these versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Settings of a backend that speaks TLS.
pub fn server_config(certificate: &Certificate) -> Arc<ServerConfig> {
    let chain = CertificateDer::from_pem_slice(certificate.chain.as_bytes()).expect("it is PEM");
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("it is PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider speaks all versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("certificate and key belong together");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
