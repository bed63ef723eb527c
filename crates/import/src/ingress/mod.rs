//! Kubernetes Ingresses with the annotations of ingress-nginx, of two controllers for HAProxy, and of Traefik.
//!
//! An Ingress does not say which of its paths are for WebSockets, and its controllers pass upgrades on at all of them. So every
//! path becomes a rule with `http: Forward`.

pub mod annotations;
mod objects;
mod settings;

use std::collections::{BTreeMap, BTreeSet};

use tidegate_api::Plaintext;

use self::{
    objects::{Found, IngressPath, IngressTls, Objects, ServiceBackend},
    settings::Settings,
};
use super::{
    Options, Source,
    ir::{Backend, Imported, Match, Route, Rule, Tls, is_hostname, label, note},
    notes::{Note, NoteKind},
    paths::{self, Path},
};
use crate::nginx::parse::Place;

/// Imports the Ingresses of all manifests. Services among them tell the numbers of their ports.
pub fn import(manifests: &[&Source], options: &Options, into: &mut Imported) {
    let mut objects = Objects::default();
    for Source { name, text } in manifests {
        objects.add(name, text);
    }
    into.unreadable.append(&mut objects.errors);
    // One Ingress after another may have paths for one hostname: those of one namespace and hostname stand together.
    let mut routes: Vec<Route> = Vec::new();
    for ingress in &objects.ingresses {
        one(ingress, &objects, options, &mut routes, into);
    }
    for route in &mut routes {
        claim(route);
    }
    routes.retain(|route| !route.rules.is_empty());
    tell_of_sharing(&mut routes);
    into.routes.append(&mut routes);
}

/// Ingresses of several namespaces may have paths for one hostname, which one namespace holds here.
fn tell_of_sharing(routes: &mut [Route]) {
    let mut claimed = BTreeMap::<String, BTreeSet<String>>::new();
    for route in routes.iter() {
        for hostname in &route.hostnames {
            claimed.entry(hostname.clone()).or_default().insert(route.namespace.clone());
        }
    }
    for route in routes {
        let other = |pattern: &str| {
            claimed.get(pattern).is_some_and(|by| by.iter().any(|by| *by != route.namespace))
        };
        let shared: Vec<_> = route
            .hostnames
            .iter()
            .filter(|hostname| {
                let parent = hostname.split_once('.').map(|(_, parent)| format!("*.{parent}"));
                other(hostname) || parent.is_some_and(|wildcard| other(&wildcard))
            })
            .cloned()
            .collect();
        for hostname in shared {
            let reason = "an Ingress of another namespace has this hostname, or the wildcard that covers it, and one namespace \
                          holds it here: the owner shares it by a ReferenceGrant from WebSocketRoute to WebSocketRoute, or the \
                          hostname policy does";
            route.notes.push(note(NoteKind::ToDo, &route.origin[0], &hostname, reason));
        }
    }
}

fn one(
    ingress: &Found,
    objects: &Objects,
    options: &Options,
    routes: &mut Vec<Route>,
    into: &mut Imported,
) {
    let metadata = &ingress.object.metadata;
    let spec = &ingress.object.spec;
    let namespace = metadata.namespace.as_ref().unwrap_or(&options.namespace);
    let origin = ingress.origin();
    let mut settings = Settings::of(ingress);
    if settings.canary {
        let text = format!("Ingress {}", metadata.name.value);
        into.notes.append(&mut settings.notes);
        let reason = "is a canary of another one and is left out: write its Service there as a second entry of backendRefs, with a weight";
        into.note(NoteKind::NoCounterpart, &origin, &text, reason);
        return;
    }
    if let Some(backend) = &spec.default_backend {
        let place = ingress.place(backend);
        let reason = "hostnames and paths that no rule has are answered 404: write a rule for /";
        into.note(NoteKind::NoCounterpart, &place, "defaultBackend", reason);
    }
    let mut notes = std::mem::take(&mut settings.notes);
    if !spec.rules.is_empty() {
        notes.push(note(
            NoteKind::Differs,
            &origin,
            &format!("Ingress {}", metadata.name.value),
            "does not say which paths are WebSockets': all have http: Forward; take it out where plain requests have no business",
        ));
    }
    for rule in &spec.rules {
        let own: Vec<_> = match rule.host.as_ref().filter(|host| !host.value.is_empty()) {
            Some(host) => vec![(host.value.clone(), ingress.place(host))],
            None => options.hostnames.iter().map(|name| (name.clone(), origin.clone())).collect(),
        };
        if own.is_empty() {
            let reason = "a route needs a hostname, and the rule has none: name it with --hostname";
            into.note(NoteKind::NoCounterpart, &origin, "a rule without host", reason);
            continue;
        }
        let mut rules = Vec::new();
        for path in rule.http.iter().flat_map(|http| &http.paths) {
            rules.extend(rule_of(ingress, path, namespace, &settings, objects, into));
        }
        for (hostname, place) in own {
            let tls = tls_of(&spec.tls, &hostname);
            let secret = tls.and_then(|tls| tls.secret_name.clone());
            if let Some(tls) = tls
                && secret.is_none()
            {
                let place =
                    tls.hosts.first().map_or_else(|| place.clone(), |host| ingress.place(host));
                let reason = "the controller's own certificate is shown where the Ingress names none; a route without one \
                              shows a self-made one: name it in tls.secretName";
                notes.push(note(NoteKind::ToDo, &place, &format!("tls for {hostname}"), reason));
            }
            // Other names of the first host, with all that it has.
            let aliases = if rule.host.is_some() {
                std::mem::take(&mut settings.aliases)
            } else {
                Vec::new()
            };
            let mut hostnames = Vec::new();
            for (hostname, place) in std::iter::once((hostname, place)).chain(aliases) {
                if is_hostname(&hostname) {
                    hostnames.push(hostname);
                } else {
                    let reason =
                        "is no hostname of a route, which is a name with \"*.\" in front at most";
                    into.note(NoteKind::NoCounterpart, &place, &hostname, reason);
                }
            }
            let Some(first) = hostnames.first() else { continue };
            let route = Route {
                name: label(first.trim_start_matches("*."), "route"),
                namespace: namespace.clone(),
                class: options.class.clone(),
                tls: secret.map(|secret| Tls { secret, only_1_3: false, hsts: None }),
                plaintext: settings.plaintext(tls.is_some()),
                rules: rules.clone(),
                origin: vec![origin.clone()],
                notes: std::mem::take(&mut notes),
                hostnames,
            };
            add(routes, route);
        }
    }
    into.notes.append(&mut notes);
}

/// Puts a route with what there is of its hostname.
fn add(routes: &mut Vec<Route>, mut route: Route) {
    let place = route.origin[0].clone();
    let text = || format!("Ingress for {}", route.hostnames[0]);
    if let Some(other) = routes.iter_mut().find(|other| {
        other.namespace == route.namespace && other.hostnames.first() == route.hostnames.first()
    }) {
        if other.tls.is_some() && route.tls.is_some() && other.tls != route.tls {
            let reason = "a hostname has one certificate: that of the first Ingress is taken";
            other.notes.push(note(NoteKind::Differs, &place, &text(), reason));
        }
        if other.plaintext != route.plaintext {
            let reason = "a hostname is told the same on port 80 everywhere: what the first Ingress says is taken";
            other.notes.push(note(NoteKind::Differs, &place, &text(), reason));
        }
        other.tls = other.tls.take().or(route.tls.take());
        if !other.origin.contains(&place) {
            other.origin.push(place);
        }
        other.notes.append(&mut route.notes);
        other.rules.append(&mut route.rules);
        return;
    }
    routes.push(route);
}

/// Gives each path of a route to the first that has it.
fn claim(route: &mut Route) {
    let mut taken = BTreeMap::<(bool, String), Option<Place>>::new();
    for rule in &mut route.rules {
        let origin = rule.origin.clone();
        let mut notes = Vec::new();
        rule.matches.retain(|wanted| {
            let path = &wanted.path;
            let value =
                if path.exact { path.value.as_str() } else { path.value.trim_end_matches('/') };
            match taken.get(&(path.exact, value.to_owned())) {
                None => {
                    taken.insert((path.exact, value.to_owned()), origin.clone());
                    true
                }
                Some(earlier) => {
                    let earlier = earlier.as_ref().map(ToString::to_string).unwrap_or_default();
                    if let Some(place) = &origin {
                        let reason = format!("the rule at {earlier} takes these requests");
                        notes.push(note(
                            NoteKind::NoCounterpart,
                            place,
                            &format!("path {}", path.value),
                            reason,
                        ));
                    }
                    false
                }
            }
        });
        route.notes.append(&mut notes);
    }
    route.rules.retain(|rule| !rule.matches.is_empty());
}

/// The entry that has the certificate of a hostname.
fn tls_of<'i>(entries: &'i [IngressTls], hostname: &str) -> Option<&'i IngressTls> {
    let covers = |host: &str| {
        host == hostname
            || host.strip_prefix("*.").is_some_and(|domain| {
                hostname.split_once('.').is_some_and(|(_, rest)| rest == domain)
            })
    };
    let exact = entries.iter().find(|entry| entry.hosts.iter().any(|host| host.value == hostname));
    let any = || {
        entries.iter().find(|entry| {
            entry.hosts.is_empty() || entry.hosts.iter().any(|host| covers(&host.value))
        })
    };
    exact.or_else(any)
}

fn rule_of(
    ingress: &Found,
    path: &IngressPath,
    namespace: &str,
    settings: &Settings,
    objects: &Objects,
    into: &mut Imported,
) -> Option<Rule> {
    let value = path
        .path
        .as_ref()
        .map_or("/", |path| if path.value.is_empty() { "/" } else { &path.value });
    let place = path.path.as_ref().map_or_else(|| ingress.origin(), |path| ingress.place(path));
    let text = format!("path {value}");
    let mut notes = Vec::new();
    let Some(matches) = matches(value, &path.path_type.value, settings, &place, &mut notes) else {
        let reason = "the regular expression is more than a few literal paths: write those that it stands for as Prefix or Exact";
        into.note(NoteKind::NoCounterpart, &place, &text, reason);
        return None;
    };
    let Some(service) = &path.backend.service else {
        into.note(NoteKind::NoCounterpart, &place, &text, "leads to no Service");
        return None;
    };
    let Some(port) = port_of(service, namespace, objects) else {
        let reason = format!(
            "names port {:?} of Service {}, which is not among the files: import it together with the Services (kubectl get ingress,service -o yaml)",
            service.port.name.as_deref().unwrap_or_default(),
            service.name.value
        );
        into.note(NoteKind::NoCounterpart, &ingress.place(&service.name), &text, reason);
        return None;
    };
    let mut policy = settings.policy.clone();
    let mut tls = settings.backend_tls.clone();
    settings::of_service(service, namespace, objects, &mut policy, &mut tls, &mut notes);
    if let Some(place) = &settings.rewrites {
        notes.push(note(
            NoteKind::NoCounterpart,
            &place.0,
            &place.1,
            "Tidegate does not rewrite paths yet: the backend sees the client's own",
        ));
    }
    if tls.is_some() {
        notes.push(note(
            NoteKind::ToDo,
            &ingress.place(&service.name),
            &format!("service {}", service.name.value),
            "its port needs appProtocol: kubernetes.io/wss; pods' certificates are not verified (insecureSkipVerify), as in the source: better name their authority in caCertificateRef",
        ));
    }
    Some(Rule {
        name: label(matches.first().map_or("", |wanted| &wanted.path.value), "root"),
        matches,
        backends: vec![Backend { service: service.name.value.clone(), port, weight: 1, tls }],
        policy,
        forward: true,
        origin: Some(place),
        notes,
    })
}

fn matches(
    value: &str,
    kind: &str,
    settings: &Settings,
    place: &Place,
    notes: &mut Vec<Note>,
) -> Option<Vec<Match>> {
    let text = format!("path {value}");
    if settings.regex && kind != "Exact" {
        let literal = paths::literal(&format!("^{}", value.trim_start_matches('^')))?;
        if literal.within_elements
            && let Some(path) = literal.paths.iter().find(|path| !path.exact)
        {
            let reason = format!(
                "the regular expression takes {0}x too, Tidegate whole elements: {0} and {0}/…",
                path.value
            );
            notes.push(note(NoteKind::Differs, place, &text, reason));
        }
        return Some(literal.paths.into_iter().map(|path| Match { path }).collect());
    }
    let encoded = paths::encode(value)?;
    let path = if kind == "Exact" { Path::exact(encoded) } else { Path::prefix(encoded) };
    if kind == "ImplementationSpecific" && !value.ends_with('/') {
        let reason = format!(
            "the controller may take {value}x too, Tidegate whole elements: {value} and {value}/…"
        );
        notes.push(note(NoteKind::Differs, place, &text, reason));
    }
    Some(vec![Match { path }])
}

fn port_of(service: &ServiceBackend, namespace: &str, objects: &Objects) -> Option<u16> {
    if let Some(number) = service.port.number {
        return (number > 0).then_some(number);
    }
    let found = find_service(&service.name.value, namespace, objects)?;
    let name = service.port.name.as_ref()?;
    found
        .object
        .spec
        .ports
        .iter()
        .find(|port| port.name.as_ref() == Some(name))
        .map(|port| port.port)
}

/// A Service among the files.
fn find_service<'o>(name: &str, namespace: &str, objects: &'o Objects) -> Option<&'o Found> {
    objects.services.iter().find(|found| {
        let metadata = &found.object.metadata;
        metadata.name.value == name
            && metadata.namespace.as_deref().unwrap_or(namespace) == namespace
    })
}

/// What clear text meets where nothing says otherwise.
const fn usual_plaintext(tls: bool, redirects: bool) -> Plaintext {
    match (tls, redirects) {
        // Without a certificate there is nowhere to send to.
        (false, _) | (true, false) => Plaintext::Allow,
        (true, true) => Plaintext::Redirect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostname_of_several_namespaces_is_noted_where_it_is_another_s_too() {
        let route = |namespace: &str, hostnames: &[&str]| Route {
            namespace: namespace.into(),
            hostnames: hostnames.iter().map(|&name| name.to_owned()).collect(),
            origin: vec![Place { file: "a.yaml".into(), line: 1 }],
            ..Route::default()
        };
        let mut routes = [
            route("a", &["*.shop.test", "own.test"]),
            route("a", &["www.shop.test"]),
            route("b", &["admin.shop.test", "both.test"]),
            route("c", &["both.test"]),
        ];
        tell_of_sharing(&mut routes);
        let told =
            routes.map(|route| route.notes.into_iter().map(|note| note.text).collect::<Vec<_>>());
        let none: Vec<String> = Vec::new();
        let both = vec!["both.test".to_owned()];
        assert_eq!(
            told,
            [none.clone(), none, vec!["admin.shop.test".into(), "both.test".into()], both]
        );
    }
}
