//! From a WebSocketRoute to its sound parts, with a sentence for each of the others.
//!
//! The CRD refuses most of this at the API server already; but files, and objects stored under an
//! older schema, come here unchecked.

use std::{cmp::Ordering, collections::HashSet, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tidegate_api::{
    Hsts, PathMatch, PathMatchType, Reason, RouteMatch, RouteRule, RouteTls, TlsVersion,
    WebSocketRoute, WebSocketRouteSpec,
};
use tidegate_table::{
    MatchKey, ObjectRef, PathKind,
    path::{PathFault, of_rule},
};

use super::{
    Fault, RouteInput, budget::RouteSize, load_balancing, ownership::Age, policy, status,
    status::Findings,
};

const MAX_BACKENDS: usize = 16;
/// Hostnames and rules of a route, matches of a rule, headers, query parameters and subprotocols of a match.
const MAX_ITEMS: usize = 16;
const MAX_WEIGHT: u32 = 1_000_000;
/// The least that browsers' lists of HSTS hosts take: a year.
const PRELOAD_MIN_AGE: Duration = Duration::from_secs(8760 * 3600);

/// A route with its sound parts.
pub(super) struct CheckedRoute<'a> {
    pub(super) object: ObjectRef,
    pub(super) generation: Option<i64>,
    pub(super) age: Age,
    pub(super) spec: &'a WebSocketRouteSpec,
    /// Why nothing of it can be served.
    pub(super) rejected: Option<String>,
    /// What is wrong with the parts that are left out.
    pub(super) faults: Vec<String>,
    /// Without repeats.
    pub(super) hostnames: Vec<&'a str>,
    pub(super) tls: Option<TlsWanted>,
    pub(super) rules: Vec<CheckedRule<'a>>,
}

/// A sound rule.
pub(super) struct CheckedRule<'a> {
    /// Its index in the spec.
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) spec: &'a RouteRule,
    /// Its matches without repeats, each with its index in the spec.
    pub(super) keys: Vec<(usize, Arc<MatchKey>)>,
}

impl CheckedRoute<'_> {
    /// What its sound parts take of the table.
    pub(super) fn size(&self) -> RouteSize {
        let keys = || self.rules.iter().flat_map(|rule| &rule.keys);
        RouteSize {
            hostnames: self.hostnames.len(),
            matches: keys().count(),
            match_bytes: keys().map(|(_, key)| key.bytes()).sum(),
            backends: self.rules.iter().map(|rule| rule.spec.backend_refs.len()).sum(),
        }
    }
}

/// The certificate that a route asks for.
pub(super) struct TlsWanted {
    pub(super) secret: ObjectRef,
    /// The field that names the Secret.
    pub(super) field: &'static str,
    pub(super) min_version: TlsVersion,
    /// The value of `Strict-Transport-Security`, if there is to be one.
    pub(super) hsts: Option<HeaderValue>,
}

/// Namespace and name of an object.
pub(super) fn object_ref(metadata: &ObjectMeta) -> ObjectRef {
    ObjectRef {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

/// What there is to say about a route that could not be read. Its class cannot be read either, so that
/// every controller says it.
pub(super) fn unreadable(metadata: &ObjectMeta, error: &str) -> Findings {
    let mut findings = Findings::new(metadata.generation);
    let message = format!(
        "The spec cannot be read: {}. Correct it, or delete the route; the fields are those of kubectl explain \
         wsr.spec.",
        error.trim_end_matches('.')
    );
    findings.rejected = Some(Fault { reason: Reason::Invalid, message: status::join([message]) });
    findings
}

/// The readable routes of our class: older before younger, then by namespace and name. Files have no age.
pub(super) fn by_precedence<'a>(routes: &'a [RouteInput], class: &str) -> Vec<&'a WebSocketRoute> {
    let mut ours: Vec<_> = routes
        .iter()
        .filter_map(|route| match route {
            RouteInput::Valid(route) if route.spec.class_name == class => Some(route.as_ref()),
            _ => None,
        })
        .collect();
    ours.sort_by(|a, b| precedence(&a.metadata, &b.metadata));
    ours
}

/// When an object was made; files do not tell.
pub(super) fn age(metadata: &ObjectMeta) -> Age {
    Age(metadata.creation_timestamp.as_ref().map(|time| time.0))
}

fn precedence(a: &ObjectMeta, b: &ObjectMeta) -> Ordering {
    age(a)
        .cmp(&age(b))
        .then_with(|| a.namespace.cmp(&b.namespace))
        .then_with(|| a.name.cmp(&b.name))
}

/// Takes a route apart.
pub(super) fn check(route: &WebSocketRoute) -> CheckedRoute<'_> {
    let spec = &route.spec;
    let mut checked = CheckedRoute {
        object: object_ref(&route.metadata),
        generation: route.metadata.generation,
        age: age(&route.metadata),
        spec,
        rejected: None,
        faults: Vec::new(),
        hostnames: Vec::new(),
        tls: None,
        rules: Vec::new(),
    };
    match spec.tls.as_ref().map(|tls| wanted(tls, &checked.object.namespace)).transpose() {
        Ok(tls) => checked.tls = tls,
        Err(message) => checked.rejected = Some(message),
    }
    if let Some(tls) = &mut checked.tls
        && let Some(wanted) = spec.tls.as_ref().and_then(|tls| tls.hsts.as_ref())
    {
        match hsts(wanted) {
            Ok(value) => tls.hsts = Some(value),
            Err(message) => checked.faults.push(message),
        }
    }
    for (field, count) in [("hostnames", spec.hostnames.len()), ("rules", spec.rules.len())] {
        if count > MAX_ITEMS {
            checked.faults.push(format!(
                "spec.{field}: there are {count}, and a route has at most {MAX_ITEMS}. Those after the first {MAX_ITEMS} are \
                 left out; move them to another route."
            ));
        }
    }
    let mut seen = HashSet::new();
    for (index, name) in spec.hostnames.iter().enumerate().take(MAX_ITEMS) {
        match hostname(name) {
            Ok(()) if seen.insert(name) => checked.hostnames.push(name),
            Ok(()) => {}
            Err(what) => checked.faults.push(format!("spec.hostnames[{index}]: {name:?} {what}.")),
        }
    }
    let mut names = HashSet::new();
    for (index, rule) in spec.rules.iter().enumerate().take(MAX_ITEMS) {
        match check_rule(index, rule, &mut names) {
            Ok(rule) => checked.rules.push(rule),
            Err(message) => checked.faults.push(format!("spec.rules[{index}]{message}")),
        }
    }
    if checked.rejected.is_none() && (checked.hostnames.is_empty() || checked.rules.is_empty()) {
        if spec.hostnames.is_empty() {
            checked.faults.push("spec.hostnames: is empty. Name at least one hostname.".into());
        }
        if spec.rules.is_empty() {
            checked.faults.push("spec.rules: is empty. Write at least one rule.".into());
        }
        checked.rejected = Some(status::join(std::mem::take(&mut checked.faults)));
    }
    checked
}

fn wanted(tls: &RouteTls, namespace: &str) -> Result<TlsWanted, String> {
    let (field, secret) = match (&tls.secret_name, &tls.secret_ref) {
        (Some(name), None) => {
            let name = name.clone();
            ("spec.tls.secretName", ObjectRef { namespace: namespace.to_owned(), name })
        }
        (None, Some(reference)) => {
            let namespace = reference.namespace.as_deref().unwrap_or(namespace).to_owned();
            ("spec.tls.secretRef", ObjectRef { namespace, name: reference.name.clone() })
        }
        _ => {
            return Err("spec.tls: set secretName, or secretRef for a Secret of another namespace, but not \
                        both."
                .into());
        }
    };
    Ok(TlsWanted { secret, field, min_version: tls.min_version, hsts: None })
}

/// The value of `Strict-Transport-Security` (RFC 6797 §6.1).
fn hsts(spec: &Hsts) -> Result<HeaderValue, String> {
    let max_age = spec.max_age.get();
    if spec.preload && !(spec.include_subdomains && max_age >= PRELOAD_MIN_AGE) {
        return Err("spec.tls.hsts: preload needs includeSubdomains: true and a maxAge of 8760h (a year) or more: the \
                    browsers' lists take no other hostname. No Strict-Transport-Security is sent."
            .into());
    }
    // Less than a second must not become "forget it".
    let seconds = max_age.as_millis().div_ceil(1000);
    let mut value = format!("max-age={seconds}");
    if spec.include_subdomains {
        value.push_str("; includeSubDomains");
    }
    if spec.preload {
        value.push_str("; preload");
    }
    Ok(HeaderValue::try_from(value).expect("digits and directives are visible ASCII"))
}

/// Whether a hostname can be the name that a client asks for (RFC 1123 §2.1, RFC 6066 §3), or a wildcard for it.
fn hostname(name: &str) -> Result<(), &'static str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("has upper-case letters; write it in lower case");
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Err(
            "is an IP address; clients that dial one send no server name (SNI), so take a name",
        );
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels = name.strip_prefix("*.").unwrap_or(name);
    if name.len() <= 253 && labels.split('.').all(label) {
        Ok(())
    } else {
        Err(
            "is no hostname; write DNS labels, such as chat.example.com, with at most one '*', which stands \
             for the whole leftmost label: *.example.com; no port, no scheme",
        )
    }
}

fn check_rule<'a>(
    index: usize,
    rule: &'a RouteRule,
    names: &mut HashSet<&'a str>,
) -> Result<CheckedRule<'a>, String> {
    if let Some(name) = &rule.name
        && !names.insert(name)
    {
        return Err(format!(".name: {name:?} is the name of an earlier rule too. Rename one."));
    }
    if rule.matches.len() > MAX_ITEMS {
        return Err(format!(
            ".matches: there are {}, and a rule has at most {MAX_ITEMS}. Move the others to another rule.",
            rule.matches.len()
        ));
    }
    let mut keys = Vec::<(usize, Arc<MatchKey>)>::new();
    let every = [RouteMatch::default()];
    let matches = if rule.matches.is_empty() { &every[..] } else { &rule.matches };
    for (index, wanted) in matches.iter().enumerate() {
        let key = match_key(wanted).map_err(|what| format!(".matches[{index}]{what}"))?;
        if keys.iter().all(|(_, other)| **other != key) {
            keys.push((index, Arc::new(key)));
        }
    }
    policy::check(rule)?;
    load_balancing::check(rule)?;
    backend_refs(rule)?;
    let name = rule.name.clone().unwrap_or_else(|| index.to_string());
    Ok(CheckedRule { index, name, spec: rule, keys })
}

fn backend_refs(rule: &RouteRule) -> Result<(), String> {
    let count = rule.backend_refs.len();
    if !(1..=MAX_BACKENDS).contains(&count) {
        return Err(format!(
            ".backendRefs: there are {count}. Name at least one and at most {MAX_BACKENDS}."
        ));
    }
    for (index, backend) in rule.backend_refs.iter().enumerate() {
        if backend.port == 0 {
            return Err(format!(
                ".backendRefs[{index}].port: 0 is no port. Give a number of the Service's ports."
            ));
        }
        if backend.weight > MAX_WEIGHT {
            return Err(format!(
                ".backendRefs[{index}].weight: {} is above {MAX_WEIGHT}. Weights are shares: divide all by the same \
                 number.",
                backend.weight
            ));
        }
    }
    if rule.backend_refs.iter().all(|backend| backend.weight == 0) {
        return Err(".backendRefs: every weight is 0, so that every upgrade would be refused. Give at least one a \
                    weight above 0."
            .into());
    }
    Ok(())
}

/// The match, normalised.
fn match_key(wanted: &RouteMatch) -> Result<MatchKey, String> {
    for (field, count) in [
        ("headers", wanted.headers.len()),
        ("queryParams", wanted.query_params.len()),
        ("subprotocols", wanted.subprotocols.len()),
    ] {
        if count > MAX_ITEMS {
            return Err(format!(
                ".{field}: there are {count}, and a match has at most {MAX_ITEMS}. Remove some."
            ));
        }
    }
    let (kind, path) =
        path(&wanted.path).map_err(|what| format!(".path: {:?} {what}.", wanted.path.value))?;

    let mut headers = Vec::<(HeaderName, HeaderValue)>::new();
    for (index, header) in wanted.headers.iter().enumerate() {
        let fault = |what: &str| format!(".headers[{index}]: {what}");
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| fault(&format!("{:?} is no name of a header.", header.name)))?;
        let value = HeaderValue::from_str(&header.value)
            .ok()
            .filter(|value| !value.is_empty() && header.value.trim() == header.value)
            .ok_or_else(|| {
                fault(&format!(
                    "{:?} can be no header's value: those are not empty, and have no space around them and no control \
                     characters.",
                    header.value
                ))
            })?;
        if headers.iter().any(|(other, _)| *other == name) {
            return Err(fault(&format!("{name} stands here twice. Each header has one value.")));
        }
        headers.push((name, value));
    }
    headers.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));

    let mut query = Vec::<(String, String)>::new();
    for (index, parameter) in wanted.query_params.iter().enumerate() {
        let fault = |what: &str| format!(".queryParams[{index}]: {what}");
        if parameter.name.is_empty() {
            return Err(fault("the name is empty."));
        }
        if query.iter().any(|(name, _)| *name == parameter.name) {
            let name = &parameter.name;
            return Err(fault(&format!(
                "{name:?} stands here twice. Each parameter has one value."
            )));
        }
        query.push((parameter.name.clone(), parameter.value.clone()));
    }
    query.sort();

    // Subprotocols are tokens, as the names of headers are, but case counts (RFC 6455 §4.1).
    let no_token = |text: &&String| HeaderName::from_bytes(text.as_bytes()).is_err();
    if let Some(bad) = wanted.subprotocols.iter().find(no_token) {
        return Err(format!(
            ".subprotocols: {bad:?} is no subprotocol: one has no spaces and no commas."
        ));
    }
    let mut subprotocols = wanted.subprotocols.clone();
    subprotocols.sort();
    subprotocols.dedup();
    Ok(MatchKey { kind, path: path.into(), headers, query, subprotocols })
}

fn path(path: &PathMatch) -> Result<(PathKind, String), String> {
    let value = path.value.as_str();
    if !value.starts_with('/') {
        return Err("does not begin with '/'".into());
    }
    if value.contains(['?', '#']) {
        return Err("has '?' or '#'; a query is matched by queryParams".into());
    }
    if value.contains("//") || value.split('/').any(|element| matches!(element, "." | "..")) {
        return Err(
            "has '//', '/./' or '/../', which is not a path that a request should have".into()
        );
    }
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has a character that stands percent-encoded in a request; write it so".into());
    }
    let value = of_rule(value).map_err(|fault| match fault {
        // No request could be matched: what each server reads differently has to lead to one rule.
        PathFault::Ambiguous { what, .. } => format!(
            "has {}, which servers read in different ways; write the path up to there",
            what.describe()
        ),
        fault => fault.to_string(),
    })?;
    Ok(match path.kind {
        PathMatchType::Exact => (PathKind::Exact, value),
        PathMatchType::Prefix => {
            let value = value.strip_suffix('/').map(str::to_owned).unwrap_or(value);
            (PathKind::Prefix, value)
        }
    })
}
