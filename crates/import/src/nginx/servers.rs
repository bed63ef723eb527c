//! Servers to routes: hostnames, certificates, and what port 80 does.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_api::Plaintext;

use super::{
    hsts, judge,
    locations::{self, Rules},
    model::{Kind, Scope, Server, is_connection_map},
    parse::Directive,
    upstreams::Upstreams,
};
use crate::{
    Files, Options,
    ir::{Imported, Route, Secret, Tls, is_hostname, label, note, unique},
    notes::{Note, NoteKind},
};

/// Ports of the resource's two kinds of listeners: others are the gateway's to open.
const USUAL_PORTS: [&str; 2] = ["80", "443"];

/// Imports the servers of an `http` block.
pub(super) fn import(http: &[Directive], disk: &dyn Files, options: &Options, into: &mut Imported) {
    let scope = Scope::default().within(http);
    let named = |name: &'static str| http.iter().filter(move |directive| directive.name == name);
    let maps: BTreeSet<_> = named("map")
        .filter(|map| is_connection_map(map))
        .map(|map| map.arg(1).trim_start_matches('$'))
        .collect();
    let looked_at = |directive: &&Directive| hsts::of(directive).is_none();
    into.notes.extend(http.iter().filter(looked_at).filter_map(judge));
    let servers: Vec<_> =
        named("server").map(|server| Server::new(server, &scope, &maps)).collect();
    let mut upstreams = Upstreams::new(http, &options.namespace, &into.services);
    let mut certificates = Certificates { disk, options, names: BTreeMap::new() };

    // Those with TLS first: what a hostname has on port 80 is looked at from there.
    let (tls, plain): (Vec<_>, Vec<_>) = servers.iter().partition(|server| server.tls);
    let mut used = BTreeSet::new();
    let mut routes: Vec<Route> = Vec::new();
    for server in tls.iter().chain(&plain) {
        let webby =
            |location: &super::model::Location<'_>| matches!(location.kind, Kind::WebSocket(_));
        if !server.locations.iter().any(webby) {
            continue;
        }
        used.insert(server.directive.place.clone());
        let Rules { rules, notes } = locations::rules(&server.locations, &mut upstreams);
        let mut route = Route {
            namespace: options.namespace.clone(),
            class: options.class.clone(),
            origin: vec![server.directive.place.clone()],
            plaintext: if server.plain { Plaintext::Allow } else { Plaintext::Refuse },
            rules,
            notes: notes_of(server),
            ..Route::default()
        };
        route.notes.extend(notes);
        route.hostnames = hostnames(server, options, &mut route.notes);
        if server.tls {
            route.tls = certificates.of(server, &route.hostnames, &mut route.notes, into);
        }
        settle(&mut route, &mut routes, server);
        if route.hostnames.is_empty() || route.rules.is_empty() {
            into.notes.append(&mut route.notes);
            into.notes.extend(route.rules.into_iter().flat_map(|rule| rule.notes));
            continue;
        }
        route.name = label(route.hostnames[0].trim_start_matches("*."), "route");
        routes.push(route);
    }
    for server in &plain {
        if !used.contains(&server.directive.place) && server.redirects_to_https() {
            redirect(server, &mut routes);
            used.insert(server.directive.place.clone());
        }
    }
    for server in servers.iter().filter(|server| !used.contains(&server.directive.place)) {
        if refuses_the_rest(server) {
            continue;
        }
        let names = server.names.join(" ");
        let text = if names.is_empty() {
            "server { … }".to_owned()
        } else {
            format!("server {{ server_name {names}; … }}")
        };
        let reason = format!(
            "has no location for WebSockets, and stays where it is (to line {})",
            server.directive.end
        );
        into.note(NoteKind::NoCounterpart, &server.directive.place, &text, reason);
    }
    into.routes.append(&mut routes);
    into.services.append(&mut upstreams.services);
}

/// Whether it is there to refuse hostnames that no other server has, as Tidegate does by itself.
fn refuses_the_rest(server: &Server<'_>) -> bool {
    let refuses = |directive: &Directive| match directive.name.as_str() {
        "return" => matches!(directive.arg(0), "400" | "403" | "404" | "421" | "444"),
        "ssl_reject_handshake" => directive.arg(0) == "on",
        _ => false,
    };
    server.names.iter().all(|name| matches!(*name, "_" | ""))
        && server.locations.is_empty()
        && server.directive.block().iter().any(refuses)
}

/// What there is to say about the server's own directives.
fn notes_of(server: &Server<'_>) -> Vec<Note> {
    let mut notes = Vec::new();
    for directive in server.directive.block() {
        match directive.name.as_str() {
            "listen" => notes.extend(listen(directive)),
            // To https: looked at for port 80.
            "if" | "return" | "rewrite" if server.plain && server.redirects_to_https() => {}
            "root" | "index" => {}
            // Over clear text browsers do not heed it.
            "add_header" if hsts::of(directive).is_some() => {}
            "ssl_protocols" => {
                if directive
                    .args
                    .iter()
                    .any(|version| matches!(version.as_str(), "SSLv3" | "TLSv1" | "TLSv1.1"))
                {
                    let reason = "Tidegate speaks TLS 1.2 and 1.3";
                    notes.push(note(
                        NoteKind::Differs,
                        &directive.place,
                        &directive.words(),
                        reason,
                    ));
                }
            }
            _ => notes.extend(judge(directive)),
        }
    }
    notes
}

fn listen(directive: &Directive) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut noted =
        |kind, reason: &str| notes.push(note(kind, &directive.place, &directive.words(), reason));
    let address = directive.arg(0);
    let port =
        address.rsplit(':').next().filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    if address.starts_with("unix:") {
        noted(NoteKind::NoCounterpart, "Tidegate listens on TCP");
    } else if port.is_some_and(|port| !USUAL_PORTS.contains(&port)) {
        noted(
            NoteKind::Differs,
            "ports are the gateway's, and serve all routes: --https-listen, --http-listen, or the Service of the chart",
        );
    }
    for parameter in directive.args.iter().skip(1) {
        match parameter.as_str() {
            "proxy_protocol" => {
                noted(NoteKind::NoCounterpart, "Tidegate does not read the PROXY protocol yet");
            }
            "default_server" | "default" => {
                noted(
                    NoteKind::Differs,
                    "hostnames that no route has are answered 404, not by a default",
                );
            }
            "http2" | "quic" | "spdy" => noted(
                NoteKind::Differs,
                "Tidegate speaks HTTP/1.1 to clients, as WebSockets do where nginx serves them",
            ),
            // ssl, and options of the socket.
            _ => {}
        }
    }
    notes
}

/// The hostnames of a server, as the resource has them.
fn hostnames(server: &Server<'_>, options: &Options, notes: &mut Vec<Note>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let directive =
        server.directive.block().iter().find(|directive| directive.name == "server_name");
    let directive = directive.unwrap_or(server.directive);
    let mut noted =
        |kind, text: &str, reason: &str| notes.push(note(kind, &directive.place, text, reason));
    let mut nameless = server.names.is_empty();
    for name in &server.names {
        let lower = name.to_ascii_lowercase();
        let wildcard = lower.starts_with("*.") || lower.starts_with('.');
        if matches!(lower.as_str(), "_" | "") {
            nameless = true;
            continue;
        }
        if lower.starts_with('~') {
            noted(
                NoteKind::NoCounterpart,
                name,
                "hostnames are no regular expressions: name each, or \"*.\" and a domain",
            );
            continue;
        }
        let names = match lower.strip_prefix('.') {
            Some(domain) => vec![domain.to_owned(), format!("*.{domain}")],
            None => vec![lower],
        };
        if !names.iter().all(|name| is_hostname(name)) {
            noted(
                NoteKind::NoCounterpart,
                name,
                "a hostname of a route is a name, with \"*.\" in front at most: no address, no star elsewhere",
            );
            continue;
        }
        if wildcard {
            noted(
                NoteKind::Differs,
                name,
                "\"*.\" stands for one label here, in nginx for several",
            );
        }
        found.extend(names);
    }
    if nameless && found.is_empty() {
        if options.hostnames.is_empty() {
            noted(
                NoteKind::NoCounterpart,
                &directive.words(),
                "a route needs a hostname, and the server has none: name it with --hostname",
            );
        }
        found.extend(options.hostnames.iter().cloned());
    }
    let mut seen = BTreeSet::new();
    found.retain(|name| seen.insert(name.clone()));
    found
}

/// Takes away the hostnames that earlier servers have, and lets those serve clear text where both do the same.
fn settle(route: &mut Route, earlier: &mut [Route], server: &Server<'_>) {
    for other in earlier {
        let shared: BTreeSet<_> =
            other.hostnames.iter().filter(|name| route.hostnames.contains(name)).cloned().collect();
        if shared.is_empty() {
            continue;
        }
        route.hostnames.retain(|name| !shared.contains(name));
        let same = |a: &Route, b: &Route| {
            let parts = |route: &Route| -> Vec<_> {
                let rules = route.rules.iter();
                rules
                    .map(|rule| (rule.matches.clone(), rule.backends.clone(), rule.forward))
                    .collect()
            };
            parts(a) == parts(b)
        };
        if other.tls.is_some() && !server.tls && same(other, route) {
            other.plaintext = Plaintext::Allow;
            other.origin.push(server.directive.place.clone());
            continue;
        }
        let names: Vec<_> = shared.into_iter().collect();
        let (names, first) = (names.join(" "), other.origin.first().cloned());
        let first = first.map(|place| place.to_string()).unwrap_or_default();
        let reason = format!(
            "a hostname has the same rules at every port: those of the server at {first} are written"
        );
        let text = format!("server {{ server_name {names}; … }}");
        route.notes.push(note(NoteKind::NoCounterpart, &server.directive.place, &text, reason));
    }
}

/// A server that sends clients of port 80 to https.
fn redirect(server: &Server<'_>, routes: &mut [Route]) {
    let all = server.names.iter().all(|name| matches!(*name, "_" | ""));
    let fits = |wanted: &str| {
        server.names.iter().any(|name| {
            let name = name.to_ascii_lowercase();
            let domain = name.strip_prefix('.');
            name == wanted
                || domain.is_some_and(|domain| {
                    wanted == domain || wanted.strip_prefix("*.") == Some(domain)
                })
                || name.strip_prefix("*.").is_some_and(|domain| {
                    wanted.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
                })
        })
    };
    for route in routes
        .iter_mut()
        .filter(|route| route.tls.is_some() && route.plaintext == Plaintext::Refuse)
    {
        if all || route.hostnames.iter().any(|name| fits(name)) {
            route.plaintext = Plaintext::Redirect;
            route.origin.push(server.directive.place.clone());
        }
    }
}

/// The Secrets that certificates go to, by the file of the certificate.
struct Certificates<'a> {
    disk: &'a dyn Files,
    options: &'a Options,
    names: BTreeMap<String, String>,
}

impl Certificates<'_> {
    fn of(
        &mut self,
        server: &Server<'_>,
        hostnames: &[String],
        notes: &mut Vec<Note>,
        into: &mut Imported,
    ) -> Option<Tls> {
        let files = server.scope.nearest("ssl_certificate");
        let keys = server.scope.nearest("ssl_certificate_key");
        let (file, key) = (files.first()?, keys.first()?);
        for other in files.iter().skip(1) {
            let reason = "a route has one certificate: the first is taken";
            notes.push(note(NoteKind::NoCounterpart, &other.place, &other.words(), reason));
        }
        let (path, key_path) = (file.arg(0), key.arg(0));
        if path.contains('$') || path.starts_with("data:") {
            let reason = "a certificate comes from a Secret: name it in tls.secretName";
            notes.push(note(NoteKind::NoCounterpart, &file.place, &file.words(), reason));
            return None;
        }
        let versions = server.scope.nearest("ssl_protocols");
        let versions =
            versions.last().map(|directive| directive.args.as_slice()).unwrap_or_default();
        let only_1_3 = !versions.is_empty() && versions.iter().all(|version| version == "TLSv1.3");
        let hsts = hsts::at(&server.scope);
        if let Some(name) = self.names.get(path) {
            return Some(Tls { secret: name.clone(), only_1_3, hsts });
        }
        let host = hostnames.first().map_or("", |name| name.trim_start_matches("*."));
        let wanted = format!("{}-tls", label(host, "route"));
        let namespace = &self.options.namespace;
        let secret = unique(&wanted, |name| {
            !self.names.values().any(|other| other == name)
                && !into
                    .routes
                    .iter()
                    .any(|route| route.tls.as_ref().is_some_and(|tls| tls.secret == name))
        });
        self.names.insert(path.to_owned(), secret.clone());
        let by_hand = format!(
            "has to be in Secret {secret}: kubectl create secret tls {secret} --namespace {namespace} --cert {path} --key {key_path}"
        );
        if self.options.secrets {
            match (self.disk.read(path), self.disk.read(key_path)) {
                (Ok(certificate), Ok(key)) => {
                    let (name, namespace) = (secret.clone(), namespace.clone());
                    into.secrets.push(Secret { name, namespace, certificate, key });
                }
                (Err(error), _) => into.unreadable.push(format!("{path}: cannot be read: {error}")),
                (_, Err(error)) => {
                    into.unreadable.push(format!("{key_path}: cannot be read: {error}"));
                }
            }
        } else {
            notes.push(note(NoteKind::ToDo, &file.place, &file.words(), by_hand));
        }
        Some(Tls { secret, only_1_3, hsts })
    }
}
