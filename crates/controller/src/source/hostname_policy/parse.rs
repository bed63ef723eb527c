//! From the YAML of a hostname policy to a sound one, or to what is wrong with it, where, and what to write.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde::Deserialize;
use serde_saphyr::Spanned;
use tidegate_api::{HostnameDefault, HostnamePolicy, HostnameRule};

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFault {
    /// Where, counted from 1; `None` for the whole file.
    pub line: Option<u64>,
    /// What, and what to write instead.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    default: Spanned<String>,
    #[serde(default)]
    rules: Vec<WrittenRule>,
    #[serde(default)]
    authorities: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenRule {
    hostnames: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    namespaces: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    namespace_selector: Option<Selector>,
    #[serde(default)]
    shared: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
}

/// Reads a policy. The first thing that is wrong is the answer.
pub fn parse(text: &str) -> Result<HostnamePolicy, PolicyFault> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Err(PolicyFault {
            line: None,
            message: "is empty; write default: Contest or default: Deny, and rules".into(),
        });
    }
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let written: Written = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map(|location| location.line());
        let message = error.to_string();
        // The place is said once.
        let message = match message.rfind(" at line ") {
            Some(end) if line.is_some() => &message[..end],
            _ => &message,
        };
        PolicyFault { line, message: message.to_owned() }
    })?;
    let default = match written.default.value.as_str() {
        "Contest" => HostnameDefault::Contest,
        "Deny" => HostnameDefault::Deny,
        other => {
            return Err(at(
                &written.default,
                format!(
                    "default: {other:?} is neither Contest (a hostname that no rule covers is held by the namespace with the \
                     best evidence) nor Deny (it is held by none)"
                ),
            ));
        }
    };
    let mut seen = HashMap::<String, u64>::new();
    let mut rules = Vec::with_capacity(written.rules.len());
    for rule in written.rules {
        rules.push(check(rule, &mut seen)?);
    }
    let authorities = written.authorities.map(authorities).transpose()?;
    Ok(HostnamePolicy { default, rules, authorities })
}

fn at<T>(place: &Spanned<T>, message: String) -> PolicyFault {
    PolicyFault { line: Some(place.referenced.line()).filter(|line| *line > 0), message }
}

fn check(rule: WrittenRule, seen: &mut HashMap<String, u64>) -> Result<HostnameRule, PolicyFault> {
    if rule.hostnames.value.is_empty() {
        return Err(at(&rule.hostnames, "hostnames: is empty; name at least one".into()));
    }
    if rule.namespaces.is_none() && rule.namespace_selector.is_none() {
        return Err(at(
            &rule.hostnames,
            "the rule says of no namespace that it may claim these hostnames: write namespaces, namespaceSelector or both; \
             namespaces: [] keeps them from all"
                .into(),
        ));
    }
    for pattern in &rule.hostnames.value {
        let name = &pattern.value;
        if !is_pattern(name) {
            return Err(at(
                pattern,
                format!(
                    "{name:?} is no pattern of hostnames: write a name in lower case (shop.example.com), *.shop.example.com for \
                     all names below it, or \"*\" for all names; no port, no scheme"
                ),
            ));
        }
        if let Some(first) = seen.insert(name.clone(), pattern.referenced.line()) {
            return Err(at(
                pattern,
                format!(
                    "{name} stands in line {first} already; a pattern has one rule: put both together"
                ),
            ));
        }
    }
    let mut namespaces = BTreeSet::new();
    for namespace in rule.namespaces.into_iter().flatten() {
        if !is_label(&namespace.value) {
            let message = format!(
                "{:?} is no name of a namespace; for every namespace write namespaceSelector: {{}}",
                namespace.value
            );
            return Err(at(&namespace, message));
        }
        namespaces.insert(namespace.value);
    }
    Ok(HostnameRule {
        hostnames: rule.hostnames.value.into_iter().map(|pattern| pattern.value).collect(),
        namespaces,
        match_labels: rule.namespace_selector.map(|selector| selector.match_labels),
        shared: rule.shared,
    })
}

fn authorities(written: Spanned<String>) -> Result<std::sync::Arc<str>, PolicyFault> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(written.value.as_bytes()) {
        let added = certificate.map_err(|error| error.to_string());
        let added = added.and_then(|it| roots.add(it).map_err(|error| error.to_string()));
        if let Err(error) = added {
            return Err(at(
                &written,
                format!("authorities: has a certificate that cannot be used: {error}"),
            ));
        }
    }
    if roots.is_empty() {
        let message = "authorities: has no certificate; write those of the authorities in PEM, or leave it out";
        return Err(at(&written, message.into()));
    }
    Ok(written.value.into())
}

fn is_pattern(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    text == "*" || name.len() <= 253 && name.split('.').all(is_label)
}

/// A DNS label (RFC 1123 §2.1).
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}
