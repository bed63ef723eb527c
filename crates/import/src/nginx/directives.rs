//! What becomes of each directive of nginx that is not part of the shape (servers, locations, upstreams): one table, to which
//! docs/migrating.md is held.

use crate::notes::NoteKind;

/// What becomes of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It has a counterpart, which the import writes; [`super::routes`] and [`super::upstreams`] look at it.
    Written(&'static str),
    /// Tidegate does it by itself, or it is about nginx alone. No note.
    ByItself(&'static str),
    /// A setting of the gateway, not of a route. No note.
    Setting(&'static str),
    /// It is noted.
    Noted(NoteKind, &'static str),
}

use Disposition::{ByItself, Noted, Setting, Written};
use NoteKind::{Differs, NoCounterpart, Open};

const NO_ALLOWLIST: &str = "Tidegate has no allowlists yet: whoever reaches the gateway reaches this; use a NetworkPolicy or a firewall";
const NO_AUTH: &str = "Tidegate asks nobody for credentials yet: the backend has to";
const NO_MTLS: &str = "Tidegate does not ask clients for certificates yet";
const NO_RATE_LIMIT: &str = "Tidegate does not limit clients' requests or connections yet; limits.messagesPerSecond limits messages";
const NO_HEADERS: &str = "Tidegate does not change headers of answers";
const NO_REWRITE: &str = "Tidegate does not rewrite paths yet: the backend sees the client's own";
const NO_CODE: &str = "Tidegate runs no code of configurations";
const NO_FILES: &str = "Tidegate serves no files";
const NO_CACHE: &str = "Tidegate keeps no answers";
const OTHER_PROTOCOL: &str = "Tidegate speaks HTTP and WebSocket to backends, no other protocol";
const NO_COMPRESSION: &str =
    "Tidegate compresses no HTTP answers; permessage-deflate is between the peers";
const OWN_PROCESS: &str = "about nginx's own process or sockets";
const TUNED: &str = "Tidegate sets its sockets by itself";
const STREAMED: &str = "Tidegate passes everything on as it comes, and buffers nothing";
const LOG: &str = "`--log-format`, `--log-level`; one line for each connection and refusal";
const TLS_SAFE: &str = "TLS 1.2 and 1.3 with rustls's suites, tickets for resumption";

/// All directives that are known, by name.
pub const DIRECTIVES: &[(&str, Disposition)] = &[
    // The shape.
    ("http", Written("its servers")),
    ("server", Written("hostnames and rules of a WebSocketRoute; in `upstream` an endpoint")),
    ("location", Written("a rule, or a note")),
    ("upstream", Written("a Service with EndpointSlices, or `backendRefs`")),
    (
        "map",
        Written("recognised where it makes `Connection` from `$http_upgrade`; others are noted"),
    ),
    ("include", Written("read; patterns too")),
    (
        "listen",
        Written("TLS or `plaintext`; ports are the gateway's (`--https-listen`, `--http-listen`)"),
    ),
    ("server_name", Written("`hostnames`")),
    ("proxy_pass", Written("`backendRefs`; the scheme https is `tls` of these")),
    ("return", Written("to https: `plaintext: Redirect`; others are noted")),
    ("rewrite", Written("to https: `plaintext: Redirect`; others are noted")),
    ("if", Written("certbot's redirect to https: `plaintext: Redirect`; others are noted")),
    ("set", Written("put in where `proxy_pass` uses it; others are noted")),
    ("ssl_certificate", Written("`tls.secretName`; the Secret with `--secrets`")),
    ("ssl_certificate_key", Written("the Secret with `--secrets`")),
    ("ssl_protocols", Written("`tls.minVersion`; TLS 1.2 at least")),
    ("proxy_read_timeout", Written("`timeouts.idle`")),
    ("proxy_send_timeout", Written("`timeouts.writeStall`")),
    ("proxy_connect_timeout", Written("`timeouts.connect`")),
    (
        "proxy_ssl_verify",
        Written(
            "`backendRefs[].tls`: `caCertificateRef` where it is on, else `insecureSkipVerify`",
        ),
    ),
    ("proxy_ssl_trusted_certificate", Written("`backendRefs[].tls.caCertificateRef`")),
    ("proxy_ssl_name", Written("`backendRefs[].tls.hostname`")),
    ("proxy_set_header", Written("the classic ones Tidegate does by itself; others are noted")),
    ("least_conn", Written("`loadBalancing.policy: LeastConnections`")),
    ("ip_hash", Written("`ConsistentHash` by `ClientIP`")),
    ("hash", Written("`ConsistentHash` by `ClientIP`, `Header`, `Cookie` or `QueryParam`")),
    ("random", Written("`LeastConnections`, which draws two of many endpoints at random")),
    // What Tidegate does by itself.
    ("proxy_http_version", ByItself("HTTP/1.1 to backends, always")),
    ("proxy_buffering", ByItself(STREAMED)),
    ("proxy_request_buffering", ByItself(STREAMED)),
    ("proxy_buffers", ByItself(STREAMED)),
    ("proxy_buffer_size", ByItself(STREAMED)),
    ("proxy_busy_buffers_size", ByItself(STREAMED)),
    ("proxy_max_temp_file_size", ByItself(STREAMED)),
    ("client_body_buffer_size", ByItself(STREAMED)),
    ("proxy_socket_keepalive", ByItself(TUNED)),
    (
        "proxy_redirect",
        ByItself("answers pass as the backend wrote them, and the Host is the client's own"),
    ),
    ("proxy_ssl_server_name", ByItself("the name is always sent")),
    ("proxy_ssl_session_reuse", ByItself("sessions are resumed")),
    ("proxy_ssl_protocols", ByItself(TLS_SAFE)),
    (
        "proxy_next_upstream",
        ByItself("`retry.connectAttempts`: another endpoint before anything was sent"),
    ),
    ("proxy_next_upstream_tries", ByItself("`retry.connectAttempts`, 3")),
    ("proxy_next_upstream_timeout", ByItself("`timeouts.connect` is for all attempts together")),
    ("proxy_ignore_client_abort", ByItself("the end of one side is told to the other")),
    ("ssl", ByItself("TLS is what comes on the port for it")),
    ("ssl_ciphers", ByItself(TLS_SAFE)),
    ("ssl_conf_command", ByItself(TLS_SAFE)),
    ("ssl_prefer_server_ciphers", ByItself(TLS_SAFE)),
    ("ssl_ecdh_curve", ByItself(TLS_SAFE)),
    ("ssl_dhparam", ByItself(TLS_SAFE)),
    ("ssl_session_cache", ByItself(TLS_SAFE)),
    ("ssl_session_timeout", ByItself(TLS_SAFE)),
    ("ssl_session_tickets", ByItself(TLS_SAFE)),
    ("ssl_reject_handshake", ByItself("names that no route has are answered 421 or 404")),
    ("keepalive", ByItself("a connection to a backend belongs to one client")),
    ("keepalive_requests", ByItself(OWN_PROCESS)),
    (
        "keepalive_timeout",
        ByItself("a client's connection without a request is closed by a deadline of its own"),
    ),
    ("zone", ByItself("counts are kept by endpoint, in one process")),
    ("resolver", ByItself("Services and EndpointSlices take the place of names")),
    ("resolver_timeout", ByItself("Services and EndpointSlices take the place of names")),
    ("tcp_nodelay", ByItself(TUNED)),
    ("tcp_nopush", ByItself(TUNED)),
    ("sendfile", ByItself(TUNED)),
    ("send_timeout", ByItself("`timeouts.writeStall`, 30s")),
    ("reset_timedout_connection", ByItself("a peer that takes nothing is reset")),
    ("client_header_timeout", ByItself("everything before the upgrade has a deadline")),
    ("client_body_timeout", ByItself("everything before the upgrade has a deadline")),
    ("client_header_buffer_size", ByItself("requests have a budget of bytes")),
    ("large_client_header_buffers", ByItself("requests have a budget of bytes")),
    ("underscores_in_headers", ByItself("headers pass with them")),
    ("server_tokens", ByItself("no version is told")),
    ("chunked_transfer_encoding", ByItself(STREAMED)),
    ("default_type", ByItself("only for files")),
    ("types", ByItself("only for files")),
    ("types_hash_max_size", ByItself("only for files")),
    ("types_hash_bucket_size", ByItself("only for files")),
    ("charset", ByItself("only for files")),
    ("index", ByItself("only for files")),
    ("log_not_found", ByItself("only for files")),
    ("open_file_cache", ByItself("only for files")),
    ("server_names_hash_bucket_size", ByItself(OWN_PROCESS)),
    ("server_names_hash_max_size", ByItself(OWN_PROCESS)),
    ("variables_hash_max_size", ByItself(OWN_PROCESS)),
    ("variables_hash_bucket_size", ByItself(OWN_PROCESS)),
    ("map_hash_max_size", ByItself(OWN_PROCESS)),
    ("map_hash_bucket_size", ByItself(OWN_PROCESS)),
    ("proxy_headers_hash_max_size", ByItself(OWN_PROCESS)),
    ("proxy_headers_hash_bucket_size", ByItself(OWN_PROCESS)),
    ("events", ByItself(OWN_PROCESS)),
    ("user", ByItself(OWN_PROCESS)),
    ("pid", ByItself(OWN_PROCESS)),
    ("daemon", ByItself(OWN_PROCESS)),
    ("master_process", ByItself(OWN_PROCESS)),
    ("pcre_jit", ByItself(OWN_PROCESS)),
    ("lock_file", ByItself(OWN_PROCESS)),
    ("worker_cpu_affinity", ByItself(OWN_PROCESS)),
    ("worker_priority", ByItself(OWN_PROCESS)),
    ("timer_resolution", ByItself(OWN_PROCESS)),
    // Settings of the gateway.
    ("worker_processes", Setting("`--workers`")),
    ("worker_connections", Setting("the limit on open files")),
    ("worker_rlimit_nofile", Setting("the limit on open files; Tidegate raises its own")),
    ("worker_shutdown_timeout", Setting("`--drain-timeout`")),
    ("access_log", Setting(LOG)),
    ("error_log", Setting(LOG)),
    ("log_format", Setting(LOG)),
    ("log_subrequest", Setting(LOG)),
    ("set_real_ip_from", Setting("`--trusted-proxies`")),
    ("real_ip_header", Setting("`--trusted-proxies`: `X-Forwarded-For`")),
    ("real_ip_recursive", Setting("`--trusted-proxies`: always so")),
    // What is not there.
    ("allow", Noted(Open, NO_ALLOWLIST)),
    ("deny", Noted(Open, NO_ALLOWLIST)),
    ("satisfy", Noted(Open, NO_AUTH)),
    ("auth_basic", Noted(Open, NO_AUTH)),
    ("auth_basic_user_file", Noted(Open, NO_AUTH)),
    ("auth_request", Noted(Open, NO_AUTH)),
    ("auth_request_set", Noted(NoCounterpart, NO_AUTH)),
    ("auth_jwt", Noted(Open, NO_AUTH)),
    ("auth_jwt_key_file", Noted(Open, NO_AUTH)),
    ("secure_link", Noted(Open, NO_AUTH)),
    ("secure_link_md5", Noted(Open, NO_AUTH)),
    (
        "valid_referers",
        Noted(Open, "Tidegate does not look at Referer or Origin yet: the backend has to"),
    ),
    ("internal", Noted(Open, "every path that a rule matches can be asked for by clients")),
    ("limit_except", Noted(Open, "a rule takes every method")),
    ("ssl_verify_client", Noted(Open, NO_MTLS)),
    ("ssl_client_certificate", Noted(Open, NO_MTLS)),
    ("ssl_verify_depth", Noted(NoCounterpart, NO_MTLS)),
    ("ssl_crl", Noted(Open, NO_MTLS)),
    ("limit_req", Noted(NoCounterpart, NO_RATE_LIMIT)),
    ("limit_req_zone", Noted(NoCounterpart, NO_RATE_LIMIT)),
    ("limit_req_status", Noted(NoCounterpart, NO_RATE_LIMIT)),
    ("limit_req_log_level", Noted(NoCounterpart, NO_RATE_LIMIT)),
    ("limit_conn", Noted(NoCounterpart, NO_RATE_LIMIT)),
    ("limit_conn_zone", Noted(NoCounterpart, NO_RATE_LIMIT)),
    ("limit_conn_status", Noted(NoCounterpart, NO_RATE_LIMIT)),
    (
        "limit_rate",
        Noted(
            NoCounterpart,
            "Tidegate does not slow down bytes; limits.messagesPerSecond slows down messages",
        ),
    ),
    (
        "limit_rate_after",
        Noted(
            NoCounterpart,
            "Tidegate does not slow down bytes; limits.messagesPerSecond slows down messages",
        ),
    ),
    (
        "client_max_body_size",
        Noted(
            NoCounterpart,
            "Tidegate does not limit bodies of plain requests; limits.maxMessageBytes limits messages",
        ),
    ),
    (
        "add_header",
        Noted(
            NoCounterpart,
            "Tidegate does not change headers of answers, but for Strict-Transport-Security: tls.hsts",
        ),
    ),
    ("more_set_headers", Noted(NoCounterpart, NO_HEADERS)),
    ("proxy_hide_header", Noted(NoCounterpart, NO_HEADERS)),
    ("proxy_pass_header", Noted(NoCounterpart, NO_HEADERS)),
    ("proxy_ignore_headers", Noted(NoCounterpart, NO_HEADERS)),
    ("proxy_cookie_path", Noted(NoCounterpart, NO_HEADERS)),
    ("proxy_cookie_domain", Noted(NoCounterpart, NO_HEADERS)),
    ("proxy_cookie_flags", Noted(NoCounterpart, NO_HEADERS)),
    (
        "proxy_pass_request_headers",
        Noted(NoCounterpart, "headers always pass, but for hop-by-hop ones"),
    ),
    ("proxy_pass_request_body", Noted(NoCounterpart, "bodies always pass")),
    ("proxy_method", Noted(NoCounterpart, "the method is the client's own")),
    ("proxy_set_body", Noted(NoCounterpart, "the body is the client's own")),
    ("expires", Noted(NoCounterpart, NO_HEADERS)),
    ("etag", Noted(NoCounterpart, NO_HEADERS)),
    (
        "error_page",
        Noted(
            NoCounterpart,
            "Tidegate's own refusals are sentences (docs/refusals.md); answers of backends pass as they are",
        ),
    ),
    ("proxy_intercept_errors", Noted(NoCounterpart, "answers of backends pass as they are")),
    ("proxy_cache", Noted(NoCounterpart, NO_CACHE)),
    ("proxy_cache_path", Noted(NoCounterpart, NO_CACHE)),
    ("proxy_cache_valid", Noted(NoCounterpart, NO_CACHE)),
    ("proxy_cache_bypass", Noted(NoCounterpart, NO_CACHE)),
    ("proxy_no_cache", Noted(NoCounterpart, NO_CACHE)),
    ("proxy_cache_key", Noted(NoCounterpart, NO_CACHE)),
    (
        "proxy_bind",
        Noted(NoCounterpart, "the source address towards backends is the system's to choose"),
    ),
    ("proxy_ssl_certificate", Noted(NoCounterpart, "Tidegate shows backends no certificate yet")),
    (
        "proxy_ssl_certificate_key",
        Noted(NoCounterpart, "Tidegate shows backends no certificate yet"),
    ),
    ("proxy_ssl_ciphers", Noted(Differs, TLS_SAFE)),
    ("proxy_ssl_verify_depth", Noted(Differs, "chains are as long as they are")),
    ("proxy_limit_rate", Noted(NoCounterpart, "Tidegate does not slow down bytes")),
    (
        "proxy_protocol",
        Noted(NoCounterpart, "Tidegate does not speak the PROXY protocol to backends"),
    ),
    (
        "proxy_protocol_timeout",
        Noted(NoCounterpart, "Tidegate does not read the PROXY protocol yet"),
    ),
    ("mirror", Noted(NoCounterpart, "Tidegate sends requests to one backend")),
    ("sub_filter", Noted(NoCounterpart, "Tidegate does not change bodies")),
    ("ssl_stapling", Noted(NoCounterpart, "Tidegate staples no OCSP answers")),
    ("ssl_stapling_verify", Noted(NoCounterpart, "Tidegate staples no OCSP answers")),
    ("ssl_trusted_certificate", Noted(NoCounterpart, "Tidegate staples no OCSP answers")),
    ("ssl_early_data", Noted(NoCounterpart, "Tidegate takes no early data")),
    (
        "http2",
        Noted(
            Differs,
            "Tidegate speaks HTTP/1.1 to clients, as WebSockets do where nginx serves them",
        ),
    ),
    (
        "http3",
        Noted(
            Differs,
            "Tidegate speaks HTTP/1.1 to clients, as WebSockets do where nginx serves them",
        ),
    ),
    ("gzip", Noted(NoCounterpart, NO_COMPRESSION)),
    ("gzip_types", Noted(NoCounterpart, NO_COMPRESSION)),
    ("gzip_vary", Noted(NoCounterpart, NO_COMPRESSION)),
    ("gzip_proxied", Noted(NoCounterpart, NO_COMPRESSION)),
    ("gzip_comp_level", Noted(NoCounterpart, NO_COMPRESSION)),
    ("gzip_min_length", Noted(NoCounterpart, NO_COMPRESSION)),
    ("gzip_buffers", Noted(NoCounterpart, NO_COMPRESSION)),
    ("gzip_http_version", Noted(NoCounterpart, NO_COMPRESSION)),
    ("gzip_disable", Noted(NoCounterpart, NO_COMPRESSION)),
    ("brotli", Noted(NoCounterpart, NO_COMPRESSION)),
    ("root", Noted(NoCounterpart, NO_FILES)),
    ("alias", Noted(NoCounterpart, NO_FILES)),
    ("try_files", Noted(NoCounterpart, NO_FILES)),
    ("autoindex", Noted(NoCounterpart, NO_FILES)),
    ("fastcgi_pass", Noted(NoCounterpart, OTHER_PROTOCOL)),
    ("fastcgi_param", Noted(NoCounterpart, OTHER_PROTOCOL)),
    ("uwsgi_pass", Noted(NoCounterpart, OTHER_PROTOCOL)),
    ("scgi_pass", Noted(NoCounterpart, OTHER_PROTOCOL)),
    ("grpc_pass", Noted(NoCounterpart, OTHER_PROTOCOL)),
    ("memcached_pass", Noted(NoCounterpart, OTHER_PROTOCOL)),
    ("stub_status", Noted(NoCounterpart, "Tidegate's metrics are on its admin port, /metrics")),
    (
        "merge_slashes",
        Noted(
            Differs,
            "Tidegate refuses a path with `//`, unless the rule accepts it with `path.allow: [DoubleSlash]`, and never merges them",
        ),
    ),
    ("absolute_redirect", Noted(Differs, "redirects name the whole URL")),
    ("port_in_redirect", Noted(Differs, "redirects name the port of `--public-https-port`")),
    (
        "server_name_in_redirect",
        Noted(Differs, "redirects name the host that the client asked for"),
    ),
    ("geo", Noted(NoCounterpart, NO_CODE)),
    ("geoip2", Noted(NoCounterpart, NO_CODE)),
    ("split_clients", Noted(NoCounterpart, "weights of backendRefs share out connections")),
    ("break", Noted(NoCounterpart, NO_REWRITE)),
    ("perl", Noted(NoCounterpart, NO_CODE)),
    ("js_import", Noted(NoCounterpart, NO_CODE)),
    ("load_module", Noted(NoCounterpart, "Tidegate has no modules")),
    ("stream", Noted(NoCounterpart, "Tidegate serves WebSockets and HTTP, not TCP or UDP as such")),
    ("mail", Noted(NoCounterpart, "Tidegate serves WebSockets and HTTP, not mail")),
    // Of upstreams.
    (
        "sticky",
        Noted(Differs, "Tidegate sets no cookies; clients are hashed by their address instead"),
    ),
    ("least_time", Noted(Differs, "Tidegate goes by connections, not by times")),
    ("fair", Noted(Differs, "Tidegate goes by connections, not by times")),
    (
        "queue",
        Noted(
            NoCounterpart,
            "an upgrade does not wait for an endpoint: it is refused with Retry-After",
        ),
    ),
    (
        "check",
        Noted(
            Differs,
            "Tidegate has no health checks of its own: endpoints that cannot be reached are passed over, and readiness is Kubernetes' to say",
        ),
    ),
    (
        "health_check",
        Noted(
            Differs,
            "Tidegate has no health checks of its own: endpoints that cannot be reached are passed over, and readiness is Kubernetes' to say",
        ),
    ),
];

/// Whether it is a directive of nginx's own, or of a module that many use.
pub fn is_known(name: &str) -> bool {
    DIRECTIVES.iter().any(|(known, _)| *known == name) || name.contains("_by_lua")
}

/// What becomes of a directive, by its name.
pub fn fate(name: &str) -> Disposition {
    if let Some((_, fate)) = DIRECTIVES.iter().find(|(known, _)| *known == name) {
        return *fate;
    }
    if name.ends_with("_by_lua_block")
        || name.ends_with("_by_lua_file")
        || name.ends_with("_by_lua")
    {
        // Code in the access phase is there to refuse somebody.
        let kind = if name.starts_with("access_") { Open } else { NoCounterpart };
        return Noted(kind, NO_CODE);
    }
    Noted(NoCounterpart, "this import does not know the directive")
}

/// Why the path of `proxy_pass` is noted.
pub(super) const REWRITE: &str = NO_REWRITE;
