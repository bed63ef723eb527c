//! Every metric name and label in one place. Docs, dashboard and alerts are checked against this file.

/// Client connections that are open now. Labels: namespace, route, listener.
pub const CONNECTIONS_OPEN: &str = "tidegate_connections_open";
/// Upgrades granted. Labels: namespace, route, listener.
pub const CONNECTIONS_TOTAL: &str = "tidegate_connections_total";
/// Connections that ended. Labels: namespace, route, cause.
pub const CONNECTIONS_CLOSED_TOTAL: &str = "tidegate_connections_closed_total";
/// Upgrades and other requests not granted. Labels: namespace, route, listener, reason.
pub const UPGRADE_FAILURES_TOTAL: &str = "tidegate_upgrade_failures_total";
/// Close frames, those of the peers and our own. Labels: namespace, route, direction, code.
pub const CLOSE_CODES_TOTAL: &str = "tidegate_close_codes_total";
/// From a Ping of ours to its Pong, seconds. Labels: namespace, route, peer.
pub const PING_RTT_SECONDS: &str = "tidegate_ping_rtt_seconds";
/// From the request's head to the 101, seconds. Labels: namespace, route.
pub const UPGRADE_DURATION_SECONDS: &str = "tidegate_upgrade_duration_seconds";
/// Life of connections, seconds. Labels: namespace, route.
pub const CONNECTION_DURATION_SECONDS: &str = "tidegate_connection_duration_seconds";
/// Payload and frame headers relayed, bytes. Labels: namespace, route, direction.
pub const BYTES_TOTAL: &str = "tidegate_bytes_total";
/// Whole messages relayed. Labels: namespace, route, direction.
pub const MESSAGES_TOTAL: &str = "tidegate_messages_total";
/// Plain HTTP requests forwarded. Labels: namespace, route, code.
pub const HTTP_REQUESTS_TOTAL: &str = "tidegate_http_requests_total";
/// Challenges of ACME that a solver has answered. Labels: code.
pub const ACME_CHALLENGES_TOTAL: &str = "tidegate_acme_challenges_total";
/// Connections to endpoints that are open now. Labels: namespace, route.
pub const BACKEND_CONNECTIONS_OPEN: &str = "tidegate_backend_connections_open";
/// TCP and TLS to an endpoint, seconds. Labels: namespace, route.
pub const BACKEND_CONNECT_DURATION_SECONDS: &str = "tidegate_backend_connect_duration_seconds";
/// Connections to endpoints that failed because no local port was left towards them. Labels: namespace, route.
pub const BACKEND_PORTS_EXHAUSTED_TOTAL: &str = "tidegate_backend_ports_exhausted_total";
/// Attempts to reach an endpoint that failed; another endpoint may have been reached then. Labels: namespace, route.
pub const BACKEND_CONNECT_FAILURES_TOTAL: &str = "tidegate_backend_connect_failures_total";
/// Times that an endpoint was ejected: passed over for a while. Labels: namespace, route.
pub const BACKEND_EJECTIONS_TOTAL: &str = "tidegate_backend_ejections_total";
/// TLS handshakes with clients that failed. Labels: reason.
pub const TLS_HANDSHAKE_FAILURES_TOTAL: &str = "tidegate_tls_handshake_failures_total";
/// TLS handshakes that were done with the self-made certificate. Labels: cause.
pub const TLS_FALLBACK_CERTIFICATE_TOTAL: &str = "tidegate_tls_fallback_certificate_total";
/// Connections without a request now: before it, or kept alive for the next one.
pub const PENDING_CONNECTIONS: &str = "tidegate_pending_connections";
/// Connections without a request that were ended to make room for others. Labels: reason.
pub const PENDING_CONNECTIONS_EVICTED_TOTAL: &str = "tidegate_pending_connections_evicted_total";
/// Connections without a request that ended at the end of their time. Labels: listener.
pub const REQUEST_HEAD_TIMEOUTS_TOTAL: &str = "tidegate_request_head_timeouts_total";
/// Connections that could not be accepted. Labels: listener, reason.
pub const ACCEPT_ERRORS_TOTAL: &str = "tidegate_accept_errors_total";
/// 1 while the gateway is ending its connections.
pub const DRAINING: &str = "tidegate_draining";
/// Number of the table in service; 0 before the first.
pub const TABLE_GENERATION: &str = "tidegate_table_generation";
/// From inputs to a published table, seconds.
pub const TABLE_BUILD_DURATION_SECONDS: &str = "tidegate_table_build_duration_seconds";
/// 1 while what is known of a kind of object is up to date. Labels: kind.
pub const SOURCE_SYNCED: &str = "tidegate_source_synced";
/// 1 while a snapshot serves, because the source has not been read since the start.
pub const SNAPSHOT_SERVING: &str = "tidegate_snapshot_serving";
/// 1 while this process holds the Lease and writes statuses.
pub const LEADER: &str = "tidegate_leader";
/// Statuses written. Labels: result.
pub const STATUS_WRITES_TOTAL: &str = "tidegate_status_writes_total";
/// End of validity of the certificates in the table, seconds since 1970. Labels: namespace, secret.
pub const CERTIFICATE_EXPIRY_TIMESTAMP_SECONDS: &str =
    "tidegate_certificate_expiry_timestamp_seconds";
/// Log lines that were dropped because standard error was not read in time.
pub const LOG_LINES_DROPPED_TOTAL: &str = "tidegate_log_lines_dropped_total";
/// Lines of refusals that were left out of the log, since there were too many.
pub const LOG_REFUSALS_LEFT_OUT_TOTAL: &str = "tidegate_log_refusals_left_out_total";
/// Always 1. Labels: version.
pub const BUILD_INFO: &str = "tidegate_build_info";

/// Namespace of a route.
pub const NAMESPACE: &str = "namespace";
/// Name of a route.
pub const ROUTE: &str = "route";
/// `https` or `http`.
pub const LISTENER: &str = "listener";
/// Why not.
pub const REASON: &str = "reason";
/// Why it ended.
pub const CAUSE: &str = "cause";
/// `client_to_backend` or `backend_to_client`; of Close frames also `gateway_to_client` or `gateway_to_backend`.
pub const DIRECTION: &str = "direction";
/// `client` or `backend`.
pub const PEER: &str = "peer";
/// HTTP status code, or the code of a Close frame.
pub const CODE: &str = "code";
/// Version of the program.
pub const VERSION: &str = "version";
/// Kind of object, as in URLs of the Kubernetes API; `files` for a folder.
pub const KIND: &str = "kind";
/// Name of a Secret.
pub const SECRET: &str = "secret";
/// `success` or `error`.
pub const RESULT: &str = "result";
