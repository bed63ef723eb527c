//! Locations to rules: those of one server together, for they take requests from each other.

use std::collections::BTreeMap;

use tidegate_api::Duration;

use super::{
    directives, headers, judge,
    model::{Kind, Location, Matcher, Scope, Upgrade},
    parse::{Directive, Place},
    setting,
    targets::Target,
    upstreams::Upstreams,
};
use crate::{
    ir::{Backend, BackendTls, MOST, Match, Policy, Rule, is_hostname, label, note},
    notes::{Note, NoteKind},
    paths::Path,
    policy::nginx_time,
};

/// Longer than this no kernel tries to connect, whatever nginx is told.
const LONGEST_CONNECT: Duration = Duration::from_secs(75);

/// The rules of a server, and what there is to say of locations that are none.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) rules: Vec<Rule>,
    pub(super) notes: Vec<Note>,
}

/// A location that can be a rule.
struct Candidate<'s, 'd> {
    location: &'s Location<'d>,
    paths: Vec<Path>,
    rule: Rule,
}

/// Makes rules of the locations of a server. It has a location for WebSockets: plain ones come along, for a hostname leads to one gateway.
pub(super) fn rules(locations: &[Location<'_>], upstreams: &mut Upstreams<'_>) -> Rules {
    let mut made = Rules::default();
    let mut candidates = Vec::new();
    let mut without = Vec::new();
    for location in locations {
        match candidate(location, upstreams) {
            Ok(candidate) => candidates.push(candidate),
            Err(reason) => without.push((location, reason)),
        }
    }
    claim(&mut candidates);
    // Those with regular expressions whose requests another rule takes to the same backend lose nothing.
    let mut lost = Vec::new();
    for (location, reason) in without {
        let same = match reason {
            Reason::Pattern => whole_with_target(&mut candidates, location, upstreams),
            Reason::Said(_) => None,
        };
        match same {
            Some(rule) => merge_into(location, &mut rule.rule),
            None => lost.push((location, reason)),
        }
    }
    let taken: Vec<_> = candidates
        .iter()
        .flat_map(|candidate| {
            let place = candidate.location.directive;
            candidate.rule.matches.iter().map(move |wanted| (wanted.path.clone(), place))
        })
        .collect();
    for (location, reason) in lost {
        made.notes.extend(left_out(location, &reason, &taken));
    }
    made.rules = candidates
        .into_iter()
        .map(|candidate| candidate.rule)
        .filter(|rule| !rule.matches.is_empty())
        .collect();
    made
}

/// Why a location is no rule.
enum Reason {
    /// Its regular expression is more than a few paths.
    Pattern,
    Said(String),
}

fn candidate<'s, 'd>(
    location: &'s Location<'d>,
    upstreams: &mut Upstreams<'_>,
) -> Result<Candidate<'s, 'd>, Reason> {
    let said = |text: &str| Err(Reason::Said(text.to_owned()));
    let directive = location.directive;
    let upgrade = match location.kind {
        Kind::WebSocket(upgrade) => Some(upgrade),
        Kind::Plain => None,
        Kind::Other => return said(&what_else(directive)),
    };
    let Some(literal) = location.paths() else {
        return match location.matcher {
            Matcher::Regex { .. } => Err(Reason::Pattern),
            _ => said("no request has such a path"),
        };
    };
    let mut rule = Rule { origin: Some(directive.place.clone()), ..Rule::default() };
    rule.name = label(literal.paths.first().map_or("", |path| &path.value), "root");
    let pass = pass(directive);
    let target = Target::parse(pass.arg(0), &location.scope)
        .map_err(|reason| Reason::Said(reason.to_owned()))?;
    let words = directive.words();
    let mut differs =
        |reason: &str| rule.notes.push(note(NoteKind::Differs, &directive.place, &words, reason));
    match upgrade {
        Some(Upgrade { missing: Some(missing), .. }) => {
            differs(&format!("without \"{missing}\" nginx passes no upgrade on; Tidegate does"));
        }
        Some(_) => {}
        None => differs(
            "a plain proxy, which comes along because a hostname leads to one gateway; nginx takes upgrades off here, \
             Tidegate passes them on",
        ),
    }
    let slashless: Vec<_> =
        literal.paths.iter().filter(|path| !path.exact && !path.value.ends_with('/')).collect();
    if literal.within_elements
        && let Some(path) = slashless.first()
    {
        let path = &path.value;
        differs(&format!(
            "nginx takes {path}x here too, Tidegate whole elements: {path} and {path}/…"
        ));
    }
    if matches!(location.matcher, Matcher::Regex { any_case: true, .. }) {
        differs("Tidegate compares paths with regard to case");
    }
    if headers::sent(&location.scope, "host").is_none() {
        let port = target.port.map(|port| format!(":{port}")).unwrap_or_default();
        differs(&format!(
            "nginx sends \"Host: {}{port}\", Tidegate the Host of the client",
            target.host
        ));
    }
    let prefix = match &location.matcher {
        Matcher::Prefix(path) | Matcher::Firm(path) | Matcher::Exact(path) => Some(path),
        Matcher::Regex { .. } | Matcher::Named => None,
    };
    if let Some(uri) = &target.uri
        && Some(uri) != prefix
    {
        rule.notes.push(note(
            NoteKind::NoCounterpart,
            &pass.place,
            &pass.words(),
            directives::REWRITE,
        ));
    }
    rule.policy = times(&location.scope, &mut rule.notes);
    let tls = target.https.then(|| backend_tls(&location.scope, &target, pass, &mut rule.notes));
    let made = upstreams.resolve(&target, &pass.place, &pass.words());
    rule.notes.extend(made.notes.iter().cloned());
    rule.backends = made.apply(tls.as_ref(), &mut rule.policy);
    if rule.backends.is_empty() {
        let reasons: Vec<_> = rule
            .notes
            .iter()
            .filter(|note| note.kind.is_loss())
            .map(|note| note.reason.clone())
            .collect();
        return said(&format!("no backend of it can be reached: {}", reasons.join("; ")));
    }
    if tls.is_some() && rule.backends.iter().any(|backend| is_reference(backend, upstreams)) {
        rule.notes.push(note(
            NoteKind::ToDo,
            &pass.place,
            &pass.words(),
            "the port of the Service needs appProtocol: kubernetes.io/wss",
        ));
    }
    rule.forward = upgrade.is_none_or(|upgrade| upgrade.plain_too);
    rule.notes.extend(directive.block().iter().filter_map(judge));
    Ok(Candidate { location, paths: literal.paths, rule })
}

fn is_reference(backend: &Backend, upstreams: &Upstreams<'_>) -> bool {
    upstreams.services.iter().all(|service| service.name != backend.service)
}

fn pass(location: &Directive) -> &Directive {
    let pass = location.block().iter().find(|directive| directive.name == "proxy_pass");
    // Only proxies come here.
    pass.unwrap_or(location)
}

/// What a location does that is no proxy.
fn what_else(directive: &Directive) -> String {
    let inner = |name: &str| directive.block().iter().find(|inner| inner.name == name);
    if directive.arg(0).starts_with('@') {
        return "Tidegate passes requests on to no other location".to_owned();
    }
    if inner("internal").is_some() {
        return "it is for requests of nginx itself, and is not opened to clients".to_owned();
    }
    if directive.args.iter().any(|word| word.contains("acme-challenge")) {
        return "certificates come from Secrets: cert-manager makes and renews them".to_owned();
    }
    if let Some(answer) = inner("return") {
        return format!("Tidegate answers nothing by itself ({})", answer.words());
    }
    for name in ["fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass"] {
        if let Some(pass) = inner(name) {
            return format!(
                "Tidegate speaks HTTP and WebSocket to backends, no other protocol ({})",
                pass.words()
            );
        }
    }
    if let Some(code) = directive.block().iter().find(|inner| inner.name.contains("_by_lua")) {
        return format!("Tidegate runs no code of configurations ({})", code.words());
    }
    if inner("stub_status").is_some() {
        return "Tidegate's metrics are on its admin port, /metrics".to_owned();
    }
    "Tidegate serves no files".to_owned()
}

/// A note about a location that is no rule, which says where its requests go now.
fn left_out(
    location: &Location<'_>,
    reason: &Reason,
    taken: &[(Path, &Directive)],
) -> Option<Note> {
    let directive = location.directive;
    let (kind, reason) = match reason {
        Reason::Pattern => (
            NoteKind::NoCounterpart,
            "the regular expression is more than a few literal paths: write those that it stands for as Prefix or Exact",
        ),
        Reason::Said(reason) => (NoteKind::NoCounterpart, reason.as_str()),
    };
    let own = location.paths().map(|literal| literal.paths).unwrap_or_default();
    let cover = own.first().and_then(|path| {
        let above = taken.iter().filter(|(other, _)| path.is_below(other) && !other.exact);
        above.max_by_key(|(other, _)| other.value.len())
    });
    // What regular expressions take may be anywhere.
    let whole = || taken.iter().find(|(path, _)| own.is_empty() && path.value == "/");
    let named = matches!(location.matcher, Matcher::Named);
    let text = match cover.or_else(whole) {
        _ if named => reason.to_owned(),
        Some((path, rule)) => format!(
            "{reason}; requests for it now go to the rule for {} ({})",
            path.value, rule.place
        ),
        // Which Tidegate does by itself.
        None if directive.block().iter().any(|inner| inner.words() == "return 404") => return None,
        None => format!("{reason}; requests for it are answered 404"),
    };
    Some(note(kind, &directive.place, &directive.words(), text))
}

/// Gives each path to the location that nginx would give it to.
fn claim(candidates: &mut [Candidate<'_, '_>]) {
    let mut order: Vec<_> = (0..candidates.len()).collect();
    order.sort_by_key(|index| candidates[*index].location.priority());
    // By the path without its last slash, which the resource does not tell apart.
    let mut taken = BTreeMap::<(bool, String), (usize, String)>::new();
    for index in order {
        let Candidate { location, paths, rule } = &mut candidates[index];
        let directive = location.directive;
        for path in std::mem::take(paths) {
            let trimmed = path.value.trim_end_matches('/').to_owned();
            let mut key =
                (path.exact, if path.exact { path.value.clone() } else { trimmed.clone() });
            let mut path = path;
            if let Some((_, other)) = taken.get(&key).cloned()
                && !path.exact
                && other != path.value
                && path.value == trimmed
            {
                // `/ws` beside `/ws/`: what is left for it is `/ws` itself.
                path = Path::exact(trimmed);
                key = (true, path.value.clone());
            }
            if let Some((_, other)) = taken.get(&key) {
                let reason =
                    format!("requests for {} are taken by the location for {other}", path.value);
                rule.notes.push(note(
                    NoteKind::Differs,
                    &directive.place,
                    &directive.words(),
                    reason,
                ));
                continue;
            }
            taken.insert(key, (index, path.value.clone()));
            rule.matches.push(Match { path });
        }
        rule.matches.sort();
    }
    shadowed(candidates);
    bare_stems(candidates);
}

/// `^/live/` does not take `/live`, which the prefix `/live/` does: it is given back to the rule that nginx gives it to. (Of a
/// location for the prefix `/live/` nginx sends `/live` on to `/live/`.)
fn bare_stems(candidates: &mut [Candidate<'_, '_>]) {
    let all: Vec<_> = candidates
        .iter()
        .enumerate()
        .flat_map(|(index, candidate)| {
            let from_regex = matches!(candidate.location.matcher, Matcher::Regex { .. });
            candidate
                .rule
                .matches
                .iter()
                .map(move |wanted| (index, from_regex, wanted.path.clone()))
        })
        .collect();
    for (index, _, path) in all.iter().filter(|(_, from_regex, path)| *from_regex && !path.exact) {
        let Some(stem) = path.value.strip_suffix('/').filter(|stem| !stem.is_empty()) else {
            continue;
        };
        let exact = Path::exact(stem);
        let above = all
            .iter()
            .filter(|(other, from_regex, above)| {
                other != index && !from_regex && !above.exact && exact.is_below(above)
            })
            .max_by_key(|(_, _, above)| above.value.len());
        let told_apart = all.iter().all(|(_, _, other)| *other != exact);
        if let Some((other, ..)) = above
            && told_apart
            && candidates[*other].rule.matches.len() < MOST
        {
            candidates[*other].rule.matches.push(Match { path: exact });
        }
    }
}

/// Where nginx asks regular expressions before longer prefixes, the resource does not.
fn shadowed(candidates: &mut [Candidate<'_, '_>]) {
    let mut found = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let Matcher::Regex { .. } = candidate.location.matcher else { continue };
        let longer =
            candidates.iter().filter(|other| matches!(other.location.matcher, Matcher::Prefix(_)));
        for other in longer {
            let below = |wanted: &Match| {
                candidate
                    .rule
                    .matches
                    .iter()
                    .any(|own| wanted.path != own.path && wanted.path.is_below(&own.path))
            };
            if let Some(wanted) = other.rule.matches.iter().find(|wanted| below(wanted)) {
                found.push((
                    index,
                    wanted.path.value.clone(),
                    other.location.directive.place.clone(),
                ));
            }
        }
    }
    for (index, path, place) in found {
        let Candidate { location, rule, .. } = &mut candidates[index];
        let directive = location.directive;
        let reason = format!(
            "nginx asks this before the location for {path} ({place}); Tidegate takes the longer path"
        );
        rule.notes.push(note(NoteKind::Differs, &directive.place, &directive.words(), reason));
    }
}

/// The rule for everything, if it leads to the same backends as this location.
fn whole_with_target<'c, 's, 'd>(
    candidates: &'c mut [Candidate<'s, 'd>],
    location: &Location<'_>,
    upstreams: &mut Upstreams<'_>,
) -> Option<&'c mut Candidate<'s, 'd>> {
    let pass = pass(location.directive);
    let target = Target::parse(pass.arg(0), &location.scope).ok()?;
    let made = upstreams.resolve(&target, &pass.place, &pass.words());
    let same = |rule: &Rule| {
        rule.backends.len() == made.backends.len()
            && rule
                .backends
                .iter()
                .zip(&made.backends)
                .all(|(a, b)| a.service == b.service && a.port == b.port)
    };
    candidates.iter_mut().find(|other| {
        other.rule.matches.iter().any(|own| own.path == Path::prefix("/")) && same(&other.rule)
    })
}

/// A location by a regular expression goes into the rule that takes its requests anyway.
fn merge_into(location: &Location<'_>, rule: &mut Rule) {
    let directive = location.directive;
    let mut unheard = Vec::new();
    let own = times(&location.scope, &mut unheard);
    // One rule has one time: the longer serves both.
    rule.policy.idle = rule.policy.idle.max(own.idle);
    rule.policy.write_stall = rule.policy.write_stall.max(own.write_stall);
    rule.notes.push(note(
        NoteKind::Differs,
        &directive.place,
        &directive.words(),
        "the regular expression is not written: its requests reach the same backend by the rule for /, which passes upgrades on",
    ));
    rule.notes.extend(directive.block().iter().filter_map(judge));
}

/// The times that are set at a place or around it.
fn times(scope: &Scope<'_>, notes: &mut Vec<Note>) -> Policy {
    let mut time = |name: &str| {
        let directive = setting(scope, name)?;
        let read = nginx_time(&directive.args.join(" ")).filter(|time| time.limit().is_some());
        if read.is_none() {
            let reason = "it is no time that a connection could have";
            notes.push(note(NoteKind::NoCounterpart, &directive.place, &directive.words(), reason));
        }
        read
    };
    Policy {
        idle: time("proxy_read_timeout"),
        write_stall: time("proxy_send_timeout"),
        connect: time("proxy_connect_timeout").map(|time| time.min(LONGEST_CONNECT)),
        ..Policy::default()
    }
}

fn backend_tls(
    scope: &Scope<'_>,
    target: &Target,
    pass: &Directive,
    notes: &mut Vec<Note>,
) -> BackendTls {
    let on = |name: &str| setting(scope, name).is_some_and(|directive| directive.arg(0) == "on");
    let name =
        setting(scope, "proxy_ssl_name").map(|name| name.arg(0)).filter(|name| !name.contains('$'));
    let mut hostname = name.filter(|name| is_hostname(name)).map(str::to_owned);
    let said = |kind, place: &Place, text: &str, reason: String| note(kind, place, text, reason);
    let authority = match setting(scope, "proxy_ssl_trusted_certificate") {
        Some(file) if on("proxy_ssl_verify") => {
            let path = file.arg(0);
            let base = path.rsplit('/').next().unwrap_or(path);
            let stem = base.rsplit_once('.').map_or(base, |(stem, _)| stem);
            let name = label(stem, "backend-ca");
            let reason = format!(
                "has to be ConfigMap {name} with key ca.crt: kubectl create configmap {name} --from-file=ca.crt={path}"
            );
            notes.push(said(NoteKind::ToDo, &file.place, &file.words(), reason));
            // nginx expects the host that stands in proxy_pass.
            hostname = hostname.or_else(|| is_hostname(&target.host).then(|| target.host.clone()));
            Some(("ConfigMap", name))
        }
        _ => {
            let reason = "nginx does not verify the backend's certificate here, and so it is written: \
                          insecureSkipVerify; better name its authority in caCertificateRef";
            notes.push(said(NoteKind::ToDo, &pass.place, &pass.words(), reason.to_owned()));
            None
        }
    };
    BackendTls { authority, hostname }
}
