//! From Secrets to certificates that can be served.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use tidegate_api::{Reason, TlsVersion};
use tidegate_table::{IdentityError, Leaf, MAX_CHAIN_BYTES, ObjectRef, TlsIdentity};

use super::{
    Fault, Inputs,
    budget::Ledger,
    ownership::{Evidence, Testimony},
    proof::Authorities,
    routes::{self, TlsWanted},
    secrets, status,
};

/// The type of Secrets that hold a certificate and its key.
pub(super) const TLS_SECRET: &str = "kubernetes.io/tls";

/// Parsed certificates by Secret and whether only TLS 1.3 is spoken. An entry holds as long as the Secret's
/// content does; it is the content that is compared, as files have no resourceVersion.
#[derive(Debug, Default)]
pub(super) struct CertificateCache {
    entries: HashMap<(ObjectRef, bool), Entry>,
    authorities: Authorities,
}

#[derive(Debug)]
struct Entry {
    secret: Arc<Secret>,
    parsed: Result<Arc<TlsIdentity>, IdentityError>,
    /// Whether it proves its names, once that was asked.
    proof: Option<bool>,
    used: bool,
}

impl CertificateCache {
    /// Drops what no route asked for since the last call.
    pub(super) fn forget_unused(&mut self) {
        self.entries.retain(|_, entry| std::mem::take(&mut entry.used));
    }

    /// Takes the certificates of these authorities, besides the public ones, for proof of names.
    pub(super) fn trust(&mut self, named: Option<&Arc<str>>) {
        if !self.authorities.are(named.map(AsRef::as_ref)) {
            self.authorities = Authorities::new(named.cloned());
            self.entries.values_mut().for_each(|entry| entry.proof = None);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// The certificates of one translation.
pub(super) struct Certificates<'a> {
    inputs: &'a Inputs,
    cache: &'a mut CertificateCache,
    next_change: Option<i64>,
}

impl<'a> Certificates<'a> {
    pub(super) fn new(inputs: &'a Inputs, cache: &'a mut CertificateCache) -> Self {
        Self { inputs, cache, next_change: None }
    }

    /// The certificate that a route of namespace `from` wants, or what is wrong with its Secret.
    pub(super) fn identity(
        &mut self,
        wanted: &TlsWanted,
        from: &str,
        ledger: &mut Ledger,
    ) -> Result<Arc<TlsIdentity>, Fault> {
        let TlsWanted { secret: name, field, min_version, .. } = wanted;
        let fault = |message| Fault { reason: Reason::InvalidCertificateRef, message };
        let secret = self.inputs.secrets.get(name).ok_or_else(|| {
            if let Some(unread) = secrets::unread(self.inputs, name, field) {
                return unread;
            }
            let condition = secrets::condition(self.inputs);
            fault(format!(
                "{field}: there is no Secret {name} of type {TLS_SECRET}{condition}. Create it (kubectl create secret \
                 tls {} --namespace {} --cert=FILE --key=FILE), or correct the name.",
                name.name, name.namespace
            ))
        })?;
        let kind = secret.type_.as_deref().unwrap_or("Opaque");
        if kind != TLS_SECRET {
            return Err(fault(format!(
                "{field}: Secret {name} is of type {kind}, not {TLS_SECRET}. The type of a Secret cannot be \
                 changed: delete it and create it again (kubectl create secret tls)."
            )));
        }
        let (Some(chain), Some(key)) = (content(secret, "tls.crt"), content(secret, "tls.key"))
        else {
            let missing: Vec<_> = ["tls.crt", "tls.key"]
                .into_iter()
                .filter(|key| content(secret, key).is_none())
                .collect();
            return Err(fault(format!(
                "{field}: Secret {name} has no {}. Put the certificate chain under tls.crt and its private \
                 key under tls.key, both in PEM.",
                status::list(&missing)
            )));
        };
        let only_tls13 = *min_version == TlsVersion::V1_3;
        if chain.0.len() <= MAX_CHAIN_BYTES {
            ledger
                .take_certificate(from, (name, only_tls13), chain.0.len() + key.0.len())
                .map_err(|over| Fault { message: format!("{field}: {}", over.message), ..over })?;
        }
        self.parsed(name, secret, chain, key, only_tls13).map_err(|error| {
            let advice = match error {
                IdentityError::Certificate(_) => {
                    "Put the certificate chain in PEM under tls.crt, the server's certificate first."
                }
                IdentityError::Key(_) => {
                    "Put the private key in PEM (PKCS#8, PKCS#1 or SEC1, not encrypted) under tls.key."
                }
                IdentityError::TooMuch(_) => {
                    "Clients that only begin a handshake make the gateway send and sign with it. Put the server's \
                     certificate and those that clients need to reach a root they know under tls.crt, and nothing else, \
                     and take a key of ECDSA P-256 or of RSA with 2048 bits."
                }
                IdentityError::Mismatch => {
                    "Put the key that the certificate was issued for under tls.key, and the server's \
                     certificate first in tls.crt."
                }
            };
            fault(format!("{field}: in Secret {name}, {error}. {advice}"))
        })
    }

    fn parsed(
        &mut self,
        name: &ObjectRef,
        secret: &Arc<Secret>,
        chain: &ByteString,
        key: &ByteString,
        only_tls13: bool,
    ) -> Result<Arc<TlsIdentity>, IdentityError> {
        let slot = (name.clone(), only_tls13);
        if let Some(entry) = self.cache.entries.get_mut(&slot)
            && (Arc::ptr_eq(&entry.secret, secret)
                || content(&entry.secret, "tls.crt") == Some(chain)
                    && content(&entry.secret, "tls.key") == Some(key))
        {
            entry.used = true;
            return entry.parsed.clone();
        }
        let parsed =
            TlsIdentity::from_pem(name.clone(), &chain.0, &key.0, only_tls13).map(Arc::new);
        let entry =
            Entry { secret: Arc::clone(secret), parsed: parsed.clone(), proof: None, used: true };
        self.cache.entries.insert(slot, entry);
        parsed
    }

    /// What a certificate that a route of `namespace` may use tells of its right to hostnames.
    pub(super) fn testimony(
        &mut self,
        wanted: &TlsWanted,
        namespace: &str,
        ledger: &mut Ledger,
    ) -> Option<Testimony> {
        let (leaf, proven) = if self.inputs.withheld_keys.contains(&wanted.secret) {
            let chain = content(self.inputs.secrets.get(&wanted.secret)?, "tls.crt")?;
            let leaf = Leaf::of_chain(&chain.0)?;
            let proven = self.cache.authorities.issued(&chain.0, leaf.not_before);
            (leaf, proven)
        } else {
            let identity = self.identity(wanted, namespace, ledger).ok()?;
            let slot = (wanted.secret.clone(), wanted.min_version == TlsVersion::V1_3);
            let CertificateCache { entries, authorities } = &mut *self.cache;
            let entry = entries.get_mut(&slot).expect("it was looked up just now");
            let proven = *entry.proof.get_or_insert_with(|| {
                let chain = content(&entry.secret, "tls.crt");
                chain.is_some_and(|chain| authorities.issued(&chain.0, identity.not_before))
            });
            let TlsIdentity { not_before, not_after, ref names, .. } = *identity;
            (Leaf { not_before, not_after, names: names.clone() }, proven)
        };
        // Of the inputs: an entry may be of an older Secret with the same content.
        let age = routes::age(&self.inputs.secrets.get(&wanted.secret)?.metadata);
        let is_own = wanted.secret.namespace == namespace;
        let evidence = match (proven, is_own, self.is_valid(leaf.not_before, leaf.not_after)) {
            (true, true, true) => Evidence::Proven(age),
            (true, false, true) => Evidence::Lent(age),
            (true, true, false) => Evidence::Lapsed(age),
            (true, false, false) => Evidence::LentLapsed(age),
            (false, true, _) => Evidence::Present(age),
            (false, false, _) => return None,
        };
        Some(Testimony { evidence, names: leaf.names.into_iter().collect() })
    }

    /// Whether it is a time of this validity; without a clock it is. When that changes there is something to decide anew.
    fn is_valid(&mut self, not_before: i64, not_after: i64) -> bool {
        let Some(now) = self.inputs.now else { return true };
        for change in [not_before, not_after] {
            if change > now {
                self.next_change = Some(self.next_change.map_or(change, |next| next.min(change)));
            }
        }
        (not_before..not_after).contains(&now)
    }

    /// Why clients may refuse a certificate that can be served.
    pub(super) fn doubts(&mut self, identity: &TlsIdentity, hostnames: &[&str]) -> Vec<String> {
        let mut doubts = Vec::new();
        let secret = &identity.secret;
        let uncovered: Vec<_> =
            hostnames.iter().copied().filter(|hostname| !identity.covers(hostname)).collect();
        if !uncovered.is_empty() {
            let names = match &*identity.names {
                [] => "no DNS name at all".to_owned(),
                names => format!("only {}", status::list(names)),
            };
            doubts.push(format!(
                "The certificate in Secret {secret} does not cover {}: it names {names}, so clients refuse \
                 it. Have one issued for all hostnames of the route.",
                status::list(&uncovered)
            ));
        }
        let Some(now) = self.inputs.now else { return doubts };
        if now >= identity.not_after {
            doubts.push(format!(
                "The certificate in Secret {secret} expired at {}, so clients refuse it. Renew it.",
                moment(identity.not_after)
            ));
        } else if now < identity.not_before {
            doubts.push(format!(
                "The certificate in Secret {secret} is valid only from {} on; clients refuse it until then.",
                moment(identity.not_before)
            ));
        }
        self.is_valid(identity.not_before, identity.not_after);
        doubts
    }

    /// When the first certificate in use begins or ceases to be valid.
    pub(super) fn next_change(&self) -> Option<i64> {
        self.next_change
    }
}

/// Whether a Secret holds a certificate and its key.
pub(super) fn has_key(secret: &Secret) -> bool {
    let (Some(chain), Some(key)) = (content(secret, "tls.crt"), content(secret, "tls.key")) else {
        return false;
    };
    TlsIdentity::from_pem(routes::object_ref(&secret.metadata), &chain.0, &key.0, false).is_ok()
}

/// The value of a key, unless it is empty.
fn content<'a>(secret: &'a Secret, key: &str) -> Option<&'a ByteString> {
    secret.data.as_ref()?.get(key).filter(|value| !value.0.is_empty())
}

fn moment(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s"), |time| time.to_string())
}
