//! What becomes of each annotation of an Ingress: one table for each controller, to which docs/migrating.md is held.

use crate::notes::NoteKind;

/// A program that serves Ingresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// kubernetes/ingress-nginx.
    IngressNginx,
    /// HAProxy Technologies' controller, `haproxy.org/`.
    HaproxyOrg,
    /// The community's, `haproxy-ingress.github.io/`.
    HaproxyIngress,
    /// Traefik.
    Traefik,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::IngressNginx, Self::HaproxyOrg, Self::HaproxyIngress, Self::Traefik];

    /// Before the names of its annotations.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::IngressNginx => "nginx.ingress.kubernetes.io/",
            Self::HaproxyOrg => "haproxy.org/",
            Self::HaproxyIngress => "haproxy-ingress.github.io/",
            Self::Traefik => "traefik.ingress.kubernetes.io/",
        }
    }

    /// What becomes of its annotations, by their names without the prefix.
    pub const fn annotations(self) -> &'static [(&'static str, Meaning)] {
        match self {
            Self::IngressNginx => INGRESS_NGINX,
            Self::HaproxyOrg => HAPROXY_ORG,
            Self::HaproxyIngress => HAPROXY_INGRESS,
            Self::Traefik => TRAEFIK,
        }
    }
}

/// What an annotation means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// `timeouts.idle`.
    Idle,
    /// `timeouts.writeStall`.
    WriteStall,
    /// `timeouts.connect`.
    Connect,
    /// `timeouts.upgrade`.
    Upgrade,
    /// A cookie that binds a client to a pod: `ConsistentHash` by its address.
    Affinity,
    /// A variable of nginx, or a word of HAProxy, to hash by or to balance with.
    HashBy,
    /// How to balance.
    Balance,
    /// What the pods speak.
    Protocol,
    /// Whether the pods speak TLS.
    ServerTls,
    /// Whether port 80 sends to https.
    SslRedirect,
    /// The same, with TLS ended elsewhere.
    ForceSslRedirect,
    /// Whether paths are regular expressions.
    UseRegex,
    /// A path for the pods, which also makes paths regular expressions.
    RewriteTarget,
    /// More hostnames.
    ServerAlias,
    /// Lines of nginx's configuration, which are looked at one by one.
    Snippet,
    /// Traefik's entry points.
    EntryPoints,
    /// Traefik's middlewares.
    Middlewares,
    /// This Ingress is a share or a test of another one.
    Canary,
    /// It asks for what Tidegate does by itself. No note.
    ByItself(&'static str),
    /// It is noted.
    Noted(NoteKind, &'static str),
}

impl Meaning {
    /// For the documentation: what is written of it.
    pub const fn counterpart(self) -> &'static str {
        match self {
            Self::Idle => "`timeouts.idle`",
            Self::WriteStall => "`timeouts.writeStall`",
            Self::Connect => "`timeouts.connect`",
            Self::Upgrade => "`timeouts.upgrade`",
            Self::Affinity => "`ConsistentHash` by `ClientIP`: Tidegate sets no cookies",
            Self::HashBy => "`ConsistentHash` by `ClientIP`, `Header`, `Cookie` or `QueryParam`",
            Self::Balance => "`loadBalancing.policy`",
            Self::Protocol | Self::ServerTls => "`backendRefs[].tls`",
            Self::SslRedirect | Self::ForceSslRedirect => "`plaintext`",
            Self::UseRegex => "paths that are a few literals are written, others noted",
            Self::RewriteTarget => "noted: paths are not rewritten yet",
            Self::ServerAlias => "`hostnames`",
            Self::Snippet => "its lines are looked at as those of nginx.conf",
            Self::EntryPoints => "`plaintext`",
            Self::Middlewares => "noted, one by one",
            Self::Canary => "noted: write a `backendRefs` entry with a `weight`",
            Self::ByItself(what) | Self::Noted(_, what) => what,
        }
    }
}

use Meaning::{
    Affinity, Balance, ByItself, Canary, Connect, EntryPoints, ForceSslRedirect, HashBy, Idle,
    Middlewares, Noted, Protocol, RewriteTarget, ServerAlias, ServerTls, Snippet, SslRedirect,
    Upgrade, UseRegex, WriteStall,
};
use NoteKind::{Differs, NoCounterpart, Open, ToDo};

const NO_ALLOWLIST: &str = "Tidegate has no allowlists yet: whoever reaches the gateway reaches this; use a NetworkPolicy or a firewall";
const NO_AUTH: &str = "Tidegate asks nobody for credentials yet: the backend has to";
const NO_MTLS: &str = "Tidegate does not ask clients for certificates yet";
const NO_LIMIT: &str = "Tidegate does not limit clients' requests or connections yet; limits.messagesPerSecond limits messages";
const NO_HEADERS: &str = "Tidegate does not change headers";
const NO_CORS: &str = "Tidegate adds no CORS headers: the backend has to";
const NO_REDIRECT: &str = "Tidegate sends clients nowhere but to https";
const NO_HOST: &str =
    "Tidegate passes on the Host that the client sent, and does not change it yet";
const NO_CODE: &str = "Tidegate runs no code of configurations";
const COOKIE: &str = "Tidegate sets no cookies: the client's address is hashed instead";
const BODY: &str =
    "Tidegate does not limit bodies of plain requests; limits.maxMessageBytes limits messages";
const STREAMED: &str = "everything passes as it comes, nothing is buffered";
const RETRIES: &str = "`retry.connectAttempts`: another endpoint before anything was sent";
const READINESS: &str =
    "readiness is Kubernetes' to say; endpoints that cannot be reached are passed over";
const BACKEND_CERTIFICATE: &str = "Tidegate shows backends no certificate yet";
const HSTS: &str = "it holds for a hostname: write it as tls.hsts of the route";

/// Those of ingress-nginx (its "Annotations" page).
const INGRESS_NGINX: &[(&str, Meaning)] = &[
    ("proxy-read-timeout", Idle),
    ("proxy-send-timeout", WriteStall),
    ("proxy-connect-timeout", Connect),
    ("affinity", Affinity),
    ("affinity-mode", Noted(Differs, COOKIE)),
    ("affinity-canary-behavior", Noted(Differs, COOKIE)),
    ("session-cookie-name", Noted(Differs, COOKIE)),
    ("session-cookie-path", Noted(Differs, COOKIE)),
    ("session-cookie-expires", Noted(Differs, COOKIE)),
    ("session-cookie-max-age", Noted(Differs, COOKIE)),
    ("session-cookie-samesite", Noted(Differs, COOKIE)),
    ("session-cookie-secure", Noted(Differs, COOKIE)),
    ("session-cookie-hash", Noted(Differs, COOKIE)),
    ("session-cookie-change-on-failure", Noted(Differs, COOKIE)),
    ("upstream-hash-by", HashBy),
    ("upstream-hash-by-subset", Noted(Differs, "Tidegate hashes to one endpoint, not to a few")),
    (
        "upstream-hash-by-subset-size",
        Noted(Differs, "Tidegate hashes to one endpoint, not to a few"),
    ),
    ("load-balance", Balance),
    ("backend-protocol", Protocol),
    (
        "proxy-ssl-secret",
        Noted(
            NoCounterpart,
            "an authority for pods' certificates is written in backendRefs[].tls.caCertificateRef",
        ),
    ),
    (
        "proxy-ssl-verify",
        Noted(
            NoCounterpart,
            "an authority for pods' certificates is written in backendRefs[].tls.caCertificateRef",
        ),
    ),
    (
        "proxy-ssl-name",
        Noted(
            NoCounterpart,
            "the name in pods' certificates is written in backendRefs[].tls.hostname",
        ),
    ),
    ("proxy-ssl-server-name", ByItself("the name is always sent")),
    ("ssl-redirect", SslRedirect),
    ("force-ssl-redirect", ForceSslRedirect),
    ("ssl-passthrough", Noted(NoCounterpart, "Tidegate ends TLS itself")),
    ("ssl-ciphers", ByItself("TLS 1.2 and 1.3 with rustls's suites")),
    ("use-regex", UseRegex),
    ("rewrite-target", RewriteTarget),
    ("app-root", Noted(NoCounterpart, NO_REDIRECT)),
    ("permanent-redirect", Noted(NoCounterpart, NO_REDIRECT)),
    ("permanent-redirect-code", Noted(NoCounterpart, NO_REDIRECT)),
    ("temporal-redirect", Noted(NoCounterpart, NO_REDIRECT)),
    ("from-to-www-redirect", Noted(NoCounterpart, NO_REDIRECT)),
    ("server-alias", ServerAlias),
    ("server-snippet", Snippet),
    ("configuration-snippet", Snippet),
    ("stream-snippet", Noted(NoCounterpart, NO_CODE)),
    ("modsecurity-snippet", Noted(Open, NO_CODE)),
    ("enable-modsecurity", Noted(Open, NO_CODE)),
    ("canary", Canary),
    ("canary-weight", Canary),
    ("canary-weight-total", Canary),
    ("canary-by-header", Canary),
    ("canary-by-header-value", Canary),
    ("canary-by-header-pattern", Canary),
    ("canary-by-cookie", Canary),
    ("whitelist-source-range", Noted(Open, NO_ALLOWLIST)),
    ("allowlist-source-range", Noted(Open, NO_ALLOWLIST)),
    ("denylist-source-range", Noted(Open, NO_ALLOWLIST)),
    ("auth-type", Noted(Open, NO_AUTH)),
    ("auth-secret", Noted(Open, NO_AUTH)),
    ("auth-secret-type", Noted(Open, NO_AUTH)),
    ("auth-realm", Noted(NoCounterpart, NO_AUTH)),
    ("auth-url", Noted(Open, NO_AUTH)),
    ("auth-signin", Noted(NoCounterpart, NO_AUTH)),
    ("auth-method", Noted(NoCounterpart, NO_AUTH)),
    ("auth-response-headers", Noted(NoCounterpart, NO_AUTH)),
    ("auth-snippet", Noted(Open, NO_AUTH)),
    ("auth-cache-key", Noted(NoCounterpart, NO_AUTH)),
    ("enable-global-auth", Noted(Open, NO_AUTH)),
    ("satisfy", Noted(Open, NO_AUTH)),
    ("auth-tls-secret", Noted(Open, NO_MTLS)),
    ("auth-tls-verify-client", Noted(Open, NO_MTLS)),
    ("auth-tls-verify-depth", Noted(NoCounterpart, NO_MTLS)),
    ("auth-tls-error-page", Noted(NoCounterpart, NO_MTLS)),
    ("auth-tls-match-cn", Noted(Open, NO_MTLS)),
    ("auth-tls-pass-certificate-to-upstream", Noted(NoCounterpart, NO_MTLS)),
    ("limit-connections", Noted(NoCounterpart, NO_LIMIT)),
    ("limit-rps", Noted(NoCounterpart, NO_LIMIT)),
    ("limit-rpm", Noted(NoCounterpart, NO_LIMIT)),
    ("limit-burst-multiplier", Noted(NoCounterpart, NO_LIMIT)),
    ("limit-rate", Noted(NoCounterpart, NO_LIMIT)),
    ("limit-rate-after", Noted(NoCounterpart, NO_LIMIT)),
    ("limit-whitelist", Noted(NoCounterpart, NO_LIMIT)),
    ("limit-allowlist", Noted(NoCounterpart, NO_LIMIT)),
    ("proxy-body-size", Noted(NoCounterpart, BODY)),
    ("client-body-buffer-size", ByItself(STREAMED)),
    ("proxy-buffering", ByItself(STREAMED)),
    ("proxy-request-buffering", ByItself(STREAMED)),
    ("proxy-buffer-size", ByItself(STREAMED)),
    ("proxy-buffers-number", ByItself(STREAMED)),
    ("proxy-busy-buffers-size", ByItself(STREAMED)),
    ("proxy-max-temp-file-size", ByItself(STREAMED)),
    ("proxy-http-version", ByItself("HTTP/1.1 to the pods, always")),
    ("proxy-next-upstream", ByItself(RETRIES)),
    ("proxy-next-upstream-tries", ByItself(RETRIES)),
    ("proxy-next-upstream-timeout", ByItself(RETRIES)),
    ("proxy-redirect-from", ByItself("answers pass as the backend wrote them")),
    ("proxy-redirect-to", ByItself("answers pass as the backend wrote them")),
    ("proxy-cookie-path", Noted(NoCounterpart, NO_HEADERS)),
    ("proxy-cookie-domain", Noted(NoCounterpart, NO_HEADERS)),
    ("connection-proxy-header", ByItself("hop-by-hop headers are made by Tidegate")),
    ("custom-headers", Noted(NoCounterpart, NO_HEADERS)),
    ("upstream-vhost", Noted(NoCounterpart, NO_HOST)),
    ("x-forwarded-prefix", Noted(NoCounterpart, NO_HEADERS)),
    ("enable-cors", Noted(NoCounterpart, NO_CORS)),
    ("cors-allow-origin", Noted(NoCounterpart, NO_CORS)),
    ("cors-allow-methods", Noted(NoCounterpart, NO_CORS)),
    ("cors-allow-headers", Noted(NoCounterpart, NO_CORS)),
    ("cors-expose-headers", Noted(NoCounterpart, NO_CORS)),
    ("cors-allow-credentials", Noted(NoCounterpart, NO_CORS)),
    ("cors-max-age", Noted(NoCounterpart, NO_CORS)),
    (
        "default-backend",
        Noted(NoCounterpart, "without a ready endpoint Tidegate answers 503 itself"),
    ),
    ("custom-http-errors", Noted(NoCounterpart, "answers of backends pass as they are")),
    ("service-upstream", Noted(Differs, "Tidegate goes to the pods, not to the Service's address")),
    ("preserve-trailing-slash", ByItself("paths pass as they are")),
    ("enable-access-log", ByItself("`--log-level`")),
    ("enable-rewrite-log", ByItself("`--log-level`")),
    ("mirror-target", Noted(NoCounterpart, "Tidegate sends requests to one backend")),
    ("mirror-request-body", Noted(NoCounterpart, "Tidegate sends requests to one backend")),
    ("mirror-host", Noted(NoCounterpart, "Tidegate sends requests to one backend")),
    ("enable-opentelemetry", Noted(NoCounterpart, "Tidegate sends no traces")),
    ("enable-opentracing", Noted(NoCounterpart, "Tidegate sends no traces")),
];

/// Those of HAProxy Technologies' controller.
const HAPROXY_ORG: &[(&str, Meaning)] = &[
    ("timeout-tunnel", Idle),
    ("timeout-connect", Connect),
    ("timeout-server", Upgrade),
    ("timeout-client", ByItself("`timeouts.idle`, which timeout-tunnel is for open WebSockets")),
    ("timeout-http-request", ByItself("everything before the upgrade has a deadline")),
    ("timeout-http-keep-alive", ByItself("a client's connection without a request has a deadline")),
    (
        "timeout-queue",
        Noted(
            NoCounterpart,
            "an upgrade does not wait for an endpoint: it is refused with Retry-After",
        ),
    ),
    ("timeout-check", ByItself(READINESS)),
    ("timeout-client-fin", ByItself("`timeouts.close`")),
    ("timeout-server-fin", ByItself("`timeouts.close`")),
    ("load-balance", HashBy),
    ("cookie-persistence", Affinity),
    ("cookie-persistence-no-dynamic", Affinity),
    ("ssl-redirect", SslRedirect),
    ("ssl-redirect-code", Noted(Differs, "Tidegate redirects with 308")),
    ("ssl-redirect-port", ByItself("`--public-https-port`")),
    ("ssl-passthrough", Noted(NoCounterpart, "Tidegate ends TLS itself")),
    ("server-ssl", ServerTls),
    (
        "server-ca",
        Noted(
            NoCounterpart,
            "an authority for pods' certificates is written in backendRefs[].tls.caCertificateRef",
        ),
    ),
    ("server-crt", Noted(NoCounterpart, BACKEND_CERTIFICATE)),
    ("server-proto", Protocol),
    ("path-rewrite", RewriteTarget),
    ("allow-list", Noted(Open, NO_ALLOWLIST)),
    ("deny-list", Noted(Open, NO_ALLOWLIST)),
    ("whitelist", Noted(Open, NO_ALLOWLIST)),
    ("blacklist", Noted(Open, NO_ALLOWLIST)),
    ("auth-type", Noted(Open, NO_AUTH)),
    ("auth-secret", Noted(Open, NO_AUTH)),
    ("auth-realm", Noted(NoCounterpart, NO_AUTH)),
    ("client-ca", Noted(Open, NO_MTLS)),
    ("client-strict-sni", ByItself("names that no route has are answered 421 or 404")),
    ("rate-limit-requests", Noted(NoCounterpart, NO_LIMIT)),
    ("rate-limit-period", Noted(NoCounterpart, NO_LIMIT)),
    ("rate-limit-size", Noted(NoCounterpart, NO_LIMIT)),
    ("rate-limit-status-code", Noted(NoCounterpart, NO_LIMIT)),
    ("request-set-header", Noted(NoCounterpart, NO_HEADERS)),
    ("response-set-header", Noted(NoCounterpart, NO_HEADERS)),
    (
        "request-capture",
        Noted(NoCounterpart, "the log has what docs/refusals.md and README.md say"),
    ),
    ("request-redirect", Noted(NoCounterpart, NO_REDIRECT)),
    ("set-host", Noted(NoCounterpart, NO_HOST)),
    ("src-ip-header", ByItself("`--trusted-proxies`")),
    ("forwarded-for", ByItself("`X-Forwarded-For` is always sent")),
    ("check", ByItself(READINESS)),
    ("check-http", ByItself(READINESS)),
    ("check-interval", ByItself(READINESS)),
    (
        "pod-maxconn",
        Noted(NoCounterpart, "Tidegate does not limit the connections to an endpoint yet"),
    ),
    ("scale-server-slots", ByItself("endpoints come and go without limit")),
    (
        "send-proxy-protocol",
        Noted(NoCounterpart, "Tidegate does not speak the PROXY protocol to backends"),
    ),
    ("backend-config-snippet", Noted(NoCounterpart, NO_CODE)),
    ("frontend-config-snippet", Noted(NoCounterpart, NO_CODE)),
    ("cors-enable", Noted(NoCounterpart, NO_CORS)),
    ("cors-allow-origin", Noted(NoCounterpart, NO_CORS)),
    ("route-acl", Noted(NoCounterpart, NO_CODE)),
    ("standalone-backend", ByItself("each rule has its own settings")),
];

/// Those of the community's controller.
const HAPROXY_INGRESS: &[(&str, Meaning)] = &[
    ("timeout-tunnel", Idle),
    ("timeout-connect", Connect),
    ("timeout-server", Upgrade),
    ("timeout-client", ByItself("`timeouts.idle`, which timeout-tunnel is for open WebSockets")),
    ("timeout-http-request", ByItself("everything before the upgrade has a deadline")),
    ("timeout-keep-alive", ByItself("a client's connection without a request has a deadline")),
    (
        "timeout-queue",
        Noted(
            NoCounterpart,
            "an upgrade does not wait for an endpoint: it is refused with Retry-After",
        ),
    ),
    ("timeout-client-fin", ByItself("`timeouts.close`")),
    ("timeout-server-fin", ByItself("`timeouts.close`")),
    ("balance-algorithm", HashBy),
    ("affinity", Affinity),
    ("session-cookie-name", Noted(Differs, COOKIE)),
    ("session-cookie-strategy", Noted(Differs, COOKIE)),
    ("backend-protocol", Protocol),
    ("secure-backends", ServerTls),
    (
        "secure-verify-ca-secret",
        Noted(
            NoCounterpart,
            "an authority for pods' certificates is written in backendRefs[].tls.caCertificateRef",
        ),
    ),
    ("secure-crt-secret", Noted(NoCounterpart, BACKEND_CERTIFICATE)),
    ("ssl-redirect", SslRedirect),
    ("ssl-redirect-code", Noted(Differs, "Tidegate redirects with 308")),
    ("ssl-passthrough", Noted(NoCounterpart, "Tidegate ends TLS itself")),
    ("rewrite-target", RewriteTarget),
    ("app-root", Noted(NoCounterpart, NO_REDIRECT)),
    ("path-type", Noted(Differs, "the path is taken as pathType says")),
    ("server-alias", ServerAlias),
    ("server-alias-regex", Noted(NoCounterpart, "hostnames are no regular expressions")),
    ("allowlist-source-range", Noted(Open, NO_ALLOWLIST)),
    ("denylist-source-range", Noted(Open, NO_ALLOWLIST)),
    ("whitelist-source-range", Noted(Open, NO_ALLOWLIST)),
    ("auth-type", Noted(Open, NO_AUTH)),
    ("auth-secret", Noted(Open, NO_AUTH)),
    ("auth-realm", Noted(NoCounterpart, NO_AUTH)),
    ("auth-url", Noted(Open, NO_AUTH)),
    ("oauth", Noted(Open, NO_AUTH)),
    ("auth-tls-secret", Noted(Open, NO_MTLS)),
    ("auth-tls-verify-client", Noted(Open, NO_MTLS)),
    ("limit-connections", Noted(NoCounterpart, NO_LIMIT)),
    ("limit-rps", Noted(NoCounterpart, NO_LIMIT)),
    ("limit-whitelist", Noted(NoCounterpart, NO_LIMIT)),
    (
        "maxconn-server",
        Noted(NoCounterpart, "Tidegate does not limit the connections to an endpoint yet"),
    ),
    ("proxy-body-size", Noted(NoCounterpart, BODY)),
    ("headers", Noted(NoCounterpart, NO_HEADERS)),
    ("hsts", Noted(ToDo, HSTS)),
    ("hsts-max-age", Noted(ToDo, HSTS)),
    ("hsts-include-subdomains", Noted(ToDo, HSTS)),
    ("hsts-preload", Noted(ToDo, HSTS)),
    ("cors-enable", Noted(NoCounterpart, NO_CORS)),
    ("config-backend", Noted(NoCounterpart, NO_CODE)),
    ("forwardfor", ByItself("`X-Forwarded-For` is always sent")),
    ("health-check-uri", ByItself(READINESS)),
    ("blue-green-deploy", Noted(NoCounterpart, "weights stand in backendRefs")),
];

/// Those of Traefik, on Ingresses (`router.…`) and on Services (`service.…`).
const TRAEFIK: &[(&str, Meaning)] = &[
    ("router.entrypoints", EntryPoints),
    ("router.middlewares", Middlewares),
    ("router.priority", Noted(Differs, "the most specific match wins, whatever its priority")),
    ("router.pathmatcher", Noted(Differs, "the path is taken as pathType says")),
    ("router.rulesyntax", ByItself("only for rules as text")),
    ("router.tls", ByItself("a route with a certificate is served on the port for TLS")),
    (
        "router.tls.certresolver",
        Noted(NoCounterpart, "certificates come from Secrets: cert-manager makes and renews them"),
    ),
    ("router.tls.options", Noted(NoCounterpart, "tls.minVersion is what there is to choose")),
    ("service.serversscheme", Protocol),
    (
        "service.serverstransport",
        Noted(
            NoCounterpart,
            "its dialTimeout is timeouts.connect, its responseHeaderTimeout timeouts.upgrade: the ServersTransport is not among the files",
        ),
    ),
    ("service.sticky.cookie", Affinity),
    ("service.sticky.cookie.name", Noted(Differs, COOKIE)),
    ("service.sticky.cookie.secure", Noted(Differs, COOKIE)),
    ("service.sticky.cookie.samesite", Noted(Differs, COOKIE)),
    ("service.sticky.cookie.httponly", Noted(Differs, COOKIE)),
    ("service.passhostheader", ByItself("the Host is the client's own")),
    ("service.nativelb", Noted(Differs, "Tidegate goes to the pods, not to the Service's address")),
];

/// The controller of an annotation, its name there, and what becomes of it. `None` for annotations of others.
pub fn meaning(annotation: &str) -> Option<(Controller, &str, Meaning)> {
    Controller::ALL.into_iter().find_map(|controller| {
        let name = annotation.strip_prefix(controller.prefix())?;
        let known = controller.annotations().iter().find(|(known, _)| *known == name);
        let unknown = Noted(NoCounterpart, "this import does not know the annotation");
        Some((controller, name, known.map_or(unknown, |(_, meaning)| *meaning)))
    })
}
