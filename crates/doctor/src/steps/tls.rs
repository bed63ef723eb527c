//! The TLS handshake: goes on whatever the certificate is, and tells everything about it.
//!
//! What is wrong with a certificate is judged after the handshake, fault by fault: a library that verifies stops at the
//! first one, and "expired" may hide that it is another's.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{BoxedWire, NO_ANCHOR, io_kind, outcome_of};
use crate::{
    Settings,
    seen::{Anchor, CertificateSeen, Outcome, TlsSeen},
};

/// What handshakes need, read once.
pub(super) struct TlsClient {
    provider: Arc<CryptoProvider>,
    public: RootCertStore,
    system: RootCertStore,
    given: RootCertStore,
}

impl TlsClient {
    pub(super) fn new(settings: &Settings) -> Self {
        let public = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let mut system = RootCertStore::empty();
        // Also from SSL_CERT_FILE and SSL_CERT_DIR. A machine without a store trusts nobody in particular.
        system.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let mut given = RootCertStore::empty();
        given.add_parsable_certificates(settings.trust.given.iter().cloned());
        Self { provider: Arc::new(aws_lc_rs::default_provider()), public, system, given }
    }

    /// One handshake. The stream is there also where the certificate is not to be trusted.
    pub(super) async fn handshake(
        &self,
        wire: BoxedWire,
        alpn: &[&str],
        settings: &Settings,
    ) -> (TlsSeen, Option<TlsStream<BoxedWire>>) {
        let mut seen = TlsSeen {
            outcome: Outcome::Done,
            error: None,
            version: None,
            alpn: None,
            chain: Vec::new(),
            names: Vec::new(),
            anchor: NO_ANCHOR,
            name_fits: false,
            out_of_date: None,
            issuer_expected: None,
            pinned: None,
        };
        let Ok(name) = ServerName::try_from(settings.target.host.clone()) else {
            seen.outcome = Outcome::Failed;
            seen.error = Some("the host is no name that a certificate could be for".to_owned());
            return (seen, None);
        };
        let recorder = Arc::new(Recorder::new(&self.provider));
        let stream = match self.connect(wire, alpn, &name, &recorder, settings.patience).await {
            Ok(stream) => {
                let (_, session) = stream.get_ref();
                seen.version = session.protocol_version().map(|version| format!("{version:?}"));
                let alpn = session.alpn_protocol();
                seen.alpn = alpn.map(|alpn| String::from_utf8_lossy(alpn).into_owned());
                Some(stream)
            }
            Err((outcome, error)) => {
                seen.outcome = outcome;
                seen.error = Some(error);
                None
            }
        };
        self.judge(&mut seen, &recorder.chain(), &name, settings);
        (seen, stream)
    }

    async fn connect(
        &self,
        wire: BoxedWire,
        alpn: &[&str],
        name: &ServerName<'static>,
        recorder: &Arc<Recorder>,
        patience: Duration,
    ) -> Result<TlsStream<BoxedWire>, (Outcome, String)> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions")
            .dangerous();
        #[expect(
            clippy::disallowed_methods,
            reason = "verified after the handshake, fault by fault; what is secret is sent only then"
        )]
        let builder = builder.with_custom_certificate_verifier(Arc::clone(recorder) as _);
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let handshake = TlsConnector::from(Arc::new(config)).connect(name.clone(), wire);
        match timeout(patience, handshake).await {
            Err(_) => Err((Outcome::Silent, format!("no answer within {patience:?}"))),
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                let outcome = match inner {
                    Some(rustls::Error::InvalidMessage(_)) => Outcome::Garbled,
                    Some(_) => Outcome::Failed,
                    None if io_kind(&error).is_some() => outcome_of(&error),
                    None => Outcome::Failed,
                };
                Err((outcome, error.to_string()))
            }
        }
    }

    /// Everything about the chain that was sent.
    fn judge(
        &self,
        seen: &mut TlsSeen,
        chain: &[CertificateDer<'static>],
        name: &ServerName<'_>,
        settings: &Settings,
    ) {
        seen.chain = chain.iter().filter_map(describe).collect();
        let Some(leaf) = chain.first() else { return };
        seen.names = names_of(leaf);
        let Ok(parsed) = ParsedCertificate::try_from(leaf) else {
            seen.error.get_or_insert_with(|| "the certificate cannot be read".to_owned());
            return;
        };
        seen.name_fits = verify_server_name(&parsed, name).is_ok();
        let now = UnixTime::now();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        seen.out_of_date = seen.chain.first().and_then(|leaf| {
            if seconds > leaf.not_after {
                Some(format!("it was valid until {}", date(leaf.not_after)))
            } else if seconds < leaf.not_before {
                Some(format!("it is valid from {} on", date(leaf.not_before)))
            } else {
                None
            }
        });
        // Who vouches for it does not depend on whether it is over.
        let within = match (&seen.out_of_date, seen.chain.first()) {
            (Some(_), Some(leaf)) => u64::try_from(leaf.not_after)
                .map_or(now, |end| UnixTime::since_unix_epoch(Duration::from_secs(end))),
            _ => now,
        };
        let vouches = |roots: &RootCertStore| {
            let algorithms = self.provider.signature_verification_algorithms.all;
            let rest = chain.get(1..).unwrap_or_default();
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, rest, within, algorithms)
                .is_ok()
        };
        seen.anchor = if vouches(&self.given) || settings.trust.given.contains(leaf) {
            Anchor::Given
        } else if vouches(&self.public) {
            Anchor::Public
        } else if vouches(&self.system) {
            Anchor::System
        } else {
            Anchor::Nobody
        };
        if let Some(wanted) = &settings.trust.expect_issuer {
            let wanted = wanted.to_lowercase();
            let has = |seen: &CertificateSeen| seen.issuer.to_lowercase().contains(&wanted);
            seen.issuer_expected = Some(seen.chain.iter().any(has));
        }
        if let Some(pin) = settings.trust.pin {
            let has = |der: &CertificateDer<'_>| Sha256::digest(der)[..] == pin;
            seen.pinned = Some(chain.iter().any(has));
        }
    }
}

/// Takes note of the chain, and lets the handshake go on. That the peer has the key is verified all the same.
#[derive(Debug)]
struct Recorder {
    chain: Mutex<Vec<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

impl Recorder {
    fn new(provider: &Arc<CryptoProvider>) -> Self {
        Self { chain: Mutex::default(), provider: Arc::clone(provider) }
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.lock().map(|chain| chain.clone()).unwrap_or_default()
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Ok(mut chain) = self.chain.lock() {
            let all = std::iter::once(leaf).chain(others);
            *chain = all.map(|der| der.clone().into_owned()).collect();
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, leaf, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn describe(der: &CertificateDer<'_>) -> Option<CertificateSeen> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let digest = Sha256::digest(der);
    Some(CertificateSeen {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

fn names_of(der: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

/// A day, as people write it in tickets.
fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| seconds.to_string(), |time| time.strftime("%Y-%m-%d").to_string())
}
