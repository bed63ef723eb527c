//! Annotations to settings of rules.

use std::sync::Arc;

use serde_saphyr::Spanned;
use tidegate_api::{APP_PROTOCOL_WSS, Duration, LoadBalancingPolicy, Plaintext};

use super::{
    annotations::{Controller, Meaning, meaning},
    find_service,
    objects::{ForwardingTimeouts, Found, Objects, ServiceBackend},
    usual_plaintext,
};
use crate::{
    ir::{BackendTls, Policy, note},
    nginx::{
        self,
        parse::{Place, parse},
    },
    notes::{Note, NoteKind},
    policy::{HashKey, haproxy_time, nginx_time, traefik_time},
};

/// What the annotations of an Ingress say of all its rules.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) policy: Policy,
    pub(super) backend_tls: Option<BackendTls>,
    pub(super) regex: bool,
    /// The annotation that rewrites paths.
    pub(super) rewrites: Option<(Place, String)>,
    /// More hostnames, each with the place of the annotation.
    pub(super) aliases: Vec<(String, Place)>,
    pub(super) canary: bool,
    pub(super) notes: Vec<Note>,
    /// What an annotation says of port 80.
    plaintext: Option<Plaintext>,
    /// Whether the controller sends to https by default.
    redirects: bool,
}

impl Settings {
    pub(super) fn of(ingress: &Found) -> Self {
        let mut settings = Self::default();
        let metadata = &ingress.object.metadata;
        let annotations = metadata.annotations.as_ref();
        let class = ingress
            .object
            .spec
            .ingress_class_name
            .as_ref()
            .map(|class| class.value.as_str())
            .or_else(|| {
                annotations?.get("kubernetes.io/ingress.class").map(|class| class.value.as_str())
            });
        // Traefik's routers listen on both ports and send nobody on.
        settings.redirects = !class.is_some_and(|class| class.contains("traefik"));
        for (name, value) in annotations.into_iter().flatten() {
            let place = ingress.place(value);
            match meaning(name) {
                Some((controller, _, meaning)) => {
                    settings.take(controller, name, value, meaning, &place);
                }
                None if concerns_traffic(name) => {
                    let reason = "this import does not know the controller of the annotation";
                    settings.notes.push(note(
                        NoteKind::NoCounterpart,
                        &place,
                        &shown(name, value),
                        reason,
                    ));
                }
                None => {}
            }
        }
        settings
    }

    /// `spec.plaintext` for a hostname with or without TLS.
    pub(super) fn plaintext(&self, tls: bool) -> Plaintext {
        match self.plaintext {
            Some(Plaintext::Redirect) if !tls => Plaintext::Allow,
            Some(plaintext) => plaintext,
            None => usual_plaintext(tls, self.redirects),
        }
    }

    fn take(
        &mut self,
        controller: Controller,
        name: &str,
        value: &Spanned<String>,
        meaning: Meaning,
        place: &Place,
    ) {
        let text = value.value.trim();
        let words = shown(name, value);
        let mut said = |kind, reason: &str| self.notes.push(note(kind, place, &words, reason));
        let on = text == "true" || text == "on" || text == "enabled";
        let mut time = || {
            let read = match controller {
                Controller::IngressNginx => nginx_time(text),
                Controller::HaproxyOrg | Controller::HaproxyIngress => haproxy_time(text),
                Controller::Traefik => traefik_time(text),
            };
            let read = read.filter(|time| time.limit().is_some());
            if read.is_none() {
                said(NoteKind::NoCounterpart, "it is no time that a connection could have");
            }
            read
        };
        match meaning {
            Meaning::ByItself(_) => {}
            Meaning::Noted(kind, reason) => said(kind, reason),
            Meaning::Idle => self.policy.idle = time(),
            Meaning::WriteStall => self.policy.write_stall = time(),
            Meaning::Connect => self.policy.connect = time(),
            Meaning::Upgrade => self.policy.upgrade = time(),
            Meaning::Affinity => {
                if !matches!(text, "" | "false" | "none") {
                    said(
                        NoteKind::Differs,
                        "Tidegate sets no cookies: a client is bound to a pod by its address, or by a cookie of your own (loadBalancing.hashOn)",
                    );
                    self.hash(HashKey::CLIENT_IP);
                }
            }
            Meaning::HashBy | Meaning::Balance => match balancing(text) {
                // What binds a client to a pod comes before how the others are shared out.
                Some(Balancing::Policy(policy)) => {
                    self.policy.balancing = self.policy.balancing.or(Some(policy));
                }
                Some(Balancing::Hash(key)) => self.hash(key),
                None => said(
                    NoteKind::NoCounterpart,
                    "Tidegate knows LeastConnections, RoundRobin and ConsistentHash by the client's address, a header, a cookie or a query parameter",
                ),
            },
            Meaning::Protocol => match text.to_ascii_uppercase().as_str() {
                "HTTPS" | "H1-SSL" | "H2-SSL" => self.backend_tls = Some(BackendTls::default()),
                "HTTP" | "H1" | "AUTO_HTTP" => {}
                _ => said(
                    NoteKind::NoCounterpart,
                    "Tidegate speaks HTTP/1.1 and WebSocket to pods, in clear text or by TLS",
                ),
            },
            Meaning::ServerTls => self.backend_tls = on.then(BackendTls::default),
            Meaning::SslRedirect => {
                self.plaintext = Some(if on { Plaintext::Redirect } else { Plaintext::Allow });
            }
            Meaning::ForceSslRedirect => {
                if on {
                    self.plaintext = Some(Plaintext::Redirect);
                }
            }
            Meaning::UseRegex => self.regex = on,
            Meaning::RewriteTarget => {
                // HAProxy's is no regular expression of paths.
                self.regex |= controller == Controller::IngressNginx;
                self.rewrites = Some((place.clone(), words));
            }
            Meaning::ServerAlias => {
                let names = text.split([',', ' ']).filter(|name| !name.is_empty());
                self.aliases.extend(names.map(|name| (name.to_ascii_lowercase(), place.clone())));
            }
            Meaning::Snippet => self.snippet(name, value, place),
            Meaning::EntryPoints => {
                let points: Vec<_> = text.split(',').map(str::trim).collect();
                if points == ["websecure"] {
                    self.plaintext = Some(Plaintext::Refuse);
                } else if !points.iter().all(|point| matches!(*point, "web" | "websecure")) {
                    said(NoteKind::Differs, "ports are the gateway's, and serve all routes");
                }
            }
            Meaning::Middlewares => {
                for middleware in
                    text.split(',').map(str::trim).filter(|middleware| !middleware.is_empty())
                {
                    let reason = format!(
                        "Tidegate has no middlewares: whatever {middleware} refuses is let in, whatever it changes is not changed"
                    );
                    self.notes.push(note(NoteKind::Open, place, &words, reason));
                }
            }
            Meaning::Canary => {
                // The others say how; this one says that it is one.
                self.canary |= name.ends_with("/canary") && on;
            }
        }
    }

    fn hash(&mut self, key: HashKey) {
        self.policy.balancing = Some(LoadBalancingPolicy::ConsistentHash);
        self.policy.hash_on = Some((key.source, key.name));
    }

    /// The lines of a snippet, as those of nginx.conf.
    fn snippet(&mut self, name: &str, value: &Spanned<String>, place: &Place) {
        let directives = match parse(&Arc::clone(&place.file), &value.value) {
            Ok(directives) => directives,
            Err(error) => {
                let reason = format!("cannot be read: {}", error.message);
                self.notes.push(note(NoteKind::NoCounterpart, place, name, reason));
                return;
            }
        };
        // A block of YAML begins in the line after its sign.
        let block = value.value.contains('\n');
        for directive in &directives {
            let mut said = nginx::judge(directive);
            if said.is_none() && !is_done(&directive.name) {
                let reason =
                    "is not looked at in a snippet: write it as an annotation, or into the route";
                said = Some(note(
                    NoteKind::NoCounterpart,
                    &directive.place,
                    &directive.words(),
                    reason,
                ));
            }
            if let Some(mut said) = said {
                said.place.line = place.line + if block { said.place.line } else { 0 };
                said.text = format!("{}: {}", name.rsplit('/').next().unwrap_or(name), said.text);
                self.notes.push(said);
            }
        }
    }
}

/// Whether nothing is lost by leaving a directive of a snippet out.
fn is_done(name: &str) -> bool {
    use nginx::directives::{Disposition, fate};
    match fate(name) {
        Disposition::ByItself(_) | Disposition::Setting(_) => true,
        Disposition::Written(_) => name == "proxy_set_header",
        Disposition::Noted(..) => false,
    }
}

enum Balancing {
    Policy(LoadBalancingPolicy),
    Hash(HashKey),
}

/// Words of nginx and of HAProxy for balancing.
fn balancing(text: &str) -> Option<Balancing> {
    let in_brackets = |function: &str| {
        let inner = text.strip_prefix(function)?.trim().strip_prefix('(')?.split_once(')')?.0;
        Some(inner.trim().to_owned())
    };
    Some(match text {
        "round_robin" | "roundrobin" | "static-rr" => {
            Balancing::Policy(LoadBalancingPolicy::RoundRobin)
        }
        "leastconn" | "random" => Balancing::Policy(LoadBalancingPolicy::LeastConnections),
        "source" => Balancing::Hash(HashKey::CLIENT_IP),
        _ => {
            if let Some(name) = in_brackets("hdr") {
                Balancing::Hash(HashKey::of_variable(&format!(
                    "$http_{}",
                    name.to_lowercase().replace('-', "_")
                ))?)
            } else if let Some(name) = text.strip_prefix("url_param ") {
                Balancing::Hash(HashKey::of_variable(&format!("$arg_{}", name.trim()))?)
            } else {
                Balancing::Hash(HashKey::of_variable(text)?)
            }
        }
    })
}

/// What Traefik's annotations on a Service, and the Service's own port, say of the rules that lead to it.
pub(super) fn of_service(
    service: &ServiceBackend,
    namespace: &str,
    objects: &Objects,
    policy: &mut Policy,
    tls: &mut Option<BackendTls>,
    notes: &mut Vec<Note>,
) {
    let Some(found) = find_service(&service.name.value, namespace, objects) else { return };
    let mut settings = Settings::default();
    for (name, value) in found.object.metadata.annotations.iter().flatten() {
        let place = found.place(value);
        match meaning(name) {
            Some((Controller::Traefik, "service.serverstransport", meaning)) => {
                match transport(&value.value, objects) {
                    Some(times) => times_of(times, policy),
                    None => settings.take(Controller::Traefik, name, value, meaning, &place),
                }
            }
            Some((controller, _, meaning)) => {
                settings.take(controller, name, value, meaning, &place);
            }
            None => {}
        }
    }
    let own = settings.policy;
    if own.balancing.is_some() {
        (policy.balancing, policy.hash_on) = (own.balancing, own.hash_on);
    }
    policy.idle = own.idle.or(policy.idle);
    *tls = settings.backend_tls.or(tls.take());
    let ports = &found.object.spec.ports;
    let wss = |port: &&super::objects::ServicePort| {
        port.app_protocol.as_deref() == Some(APP_PROTOCOL_WSS)
    };
    let named = ports.iter().find(|port| {
        Some(port.port) == service.port.number
            || (port.name.is_some() && port.name == service.port.name)
    });
    if named.filter(wss).is_some() {
        tls.get_or_insert_default();
    }
    notes.append(&mut settings.notes);
}

/// The times of a ServersTransport that is named as `NAMESPACE-NAME@kubernetescrd`.
fn transport<'o>(name: &str, objects: &'o Objects) -> Option<&'o ForwardingTimeouts> {
    let name = name.strip_suffix("@kubernetescrd")?;
    let found = objects.transports.iter().find(|found| {
        let metadata = &found.object.metadata;
        let namespace = metadata.namespace.as_deref().unwrap_or("default");
        name == format!("{namespace}-{}", metadata.name.value)
    });
    found?.object.spec.forwarding_timeouts.as_ref()
}

fn times_of(times: &ForwardingTimeouts, policy: &mut Policy) {
    let read = |value: &Option<Spanned<serde_json::Value>>| -> Option<Duration> {
        let value = &value.as_ref()?.value;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        traefik_time(&text).filter(|time| time.limit().is_some())
    };
    policy.connect = read(&times.dial_timeout).or(policy.connect);
    policy.upgrade = read(&times.response_header_timeout).or(policy.upgrade);
}

/// Whether an annotation of an unknown program could change what happens to traffic.
fn concerns_traffic(name: &str) -> bool {
    let controllers =
        ["ingress.kubernetes.io/", "nginx.org/", "konghq.com/", "projectcontour.io/", "ambassador"];
    controllers.iter().any(|part| name.contains(part))
}

fn shown(name: &str, value: &Spanned<String>) -> String {
    let value = value.value.trim();
    if value.contains('\n') { format!("{name}: …") } else { format!("{name}: {value}") }
}
