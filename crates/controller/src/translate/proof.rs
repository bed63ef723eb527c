//! Whether a certificate proves that its holder controls the names in it: whether an authority issued it that looks for that.
//!
//! Anybody can make a certificate for any name; so one that no such authority stands behind proves nothing.

use std::{sync::Arc, time::Duration};

use rustls::{
    RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

/// The authorities whose word counts: the public ones, and those that the hostname policy names.
pub(super) struct Authorities {
    named: Option<Arc<str>>,
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Authorities {
    /// The public ones, as Mozilla lists them, and those in `named` (PEM). What cannot be read of it proves nothing.
    pub(super) fn new(named: Option<Arc<str>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let pem = named.as_deref().unwrap_or_default();
        roots.add_parsable_certificates(
            CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok),
        );
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        Self { named, roots, algorithms }
    }

    /// Whether these are made of the same text.
    pub(super) fn are(&self, named: Option<&str>) -> bool {
        self.named.as_deref() == named
    }

    /// Whether one of them issued the chain (PEM, leaf first). It is judged at `not_before`, when the leaf's validity began: that
    /// a certificate expires must not give its names to others.
    pub(super) fn issued(&self, chain: &[u8], not_before: i64) -> bool {
        let Ok(seconds) = u64::try_from(not_before) else { return false };
        let moment = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let Ok(chain) = chain else { return false };
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        let Ok(leaf) = ParsedCertificate::try_from(leaf) else { return false };
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &self.roots,
            intermediates,
            moment,
            self.algorithms.all,
        )
        .is_ok()
    }
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorities").field("roots", &self.roots.len()).finish_non_exhaustive()
    }
}

impl Default for Authorities {
    fn default() -> Self {
        Self::new(None)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa,
        KeyPair, date_time_ymd,
    };

    use super::*;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn leaf(issuer: &CertifiedIssuer<'static, KeyPair>) -> (String, i64) {
        let mut params = CertificateParams::new(vec!["pay.bank.test".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 1, 2);
        let not_before = params.not_before.unix_timestamp();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, issuer).unwrap().pem(), not_before)
    }

    #[test]
    fn only_a_chain_to_an_authority_is_proof_and_it_stays_one_when_it_expires() {
        let (ours, other) = (authority(), authority());
        let (chain, not_before) = leaf(&ours);
        assert!(!Authorities::default().issued(chain.as_bytes(), not_before));
        let named = Authorities::new(Some(ours.pem().into()));
        // It was valid for a day, long ago.
        assert!(named.issued(chain.as_bytes(), not_before));
        assert!(!Authorities::new(Some(other.pem().into())).issued(chain.as_bytes(), not_before));
        let made = rcgen::generate_simple_self_signed(["pay.bank.test".to_owned()]).unwrap();
        assert!(!named.issued(made.cert.pem().as_bytes(), not_before));
        for broken in
            ["", "no PEM", "-----BEGIN CERTIFICATE-----\neA==\n-----END CERTIFICATE-----\n"]
        {
            assert!(!named.issued(broken.as_bytes(), not_before), "{broken:?}");
        }
        assert!(!named.issued(chain.as_bytes(), -1));
    }

    #[test]
    fn the_public_authorities_count() {
        assert!(Authorities::default().roots.len() > 50);
    }
}
