//! `proxy_set_header`: those that Tidegate sends by itself, and the others.

use super::{model::Scope, parse::Directive};
use crate::{
    ir::note,
    notes::{Note, NoteKind},
};

/// The value that a header of the request to the backend is given, by the nearest level that gives any.
pub(super) fn sent<'d>(scope: &Scope<'d>, name: &str) -> Option<&'d str> {
    let headers = scope.nearest("proxy_set_header");
    let header = headers.iter().rev().find(|header| header.arg(0).eq_ignore_ascii_case(name))?;
    Some(header.arg(1))
}

/// What there is to say about a `proxy_set_header`.
pub(super) fn judge(header: &Directive) -> Option<Note> {
    let name = header.arg(0).to_ascii_lowercase();
    let value = header.arg(1);
    let passes = value == format!("$http_{}", name.replace('-', "_"));
    let done = match name.as_str() {
        "upgrade" | "connection" => true,
        "host" => matches!(
            value,
            "$host" | "$http_host" | "$host:$server_port" | "$host:$proxy_port" | "$host:443"
        ),
        "x-forwarded-for" => matches!(value, "$proxy_add_x_forwarded_for" | "$remote_addr"),
        "x-forwarded-proto" => matches!(value, "$scheme" | "https"),
        "x-forwarded-host" => matches!(value, "$host" | "$http_host" | "$server_name"),
        _ => passes,
    };
    if done || passes {
        return None;
    }
    let (kind, reason) = match name.as_str() {
        "host" => (
            NoteKind::NoCounterpart,
            "Tidegate passes on the Host that the client sent, and does not change it yet",
        ),
        "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" => (
            NoteKind::Differs,
            "Tidegate sends what it sees itself and, from --trusted-proxies, what these say",
        ),
        "x-real-ip" | "x-forwarded-port" | "x-forwarded-server" | "x-forwarded-ssl"
        | "x-scheme" | "forwarded" => (
            NoteKind::NoCounterpart,
            "Tidegate sends X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host: the backend has to read these",
        ),
        _ if value.is_empty() => (
            NoteKind::Open,
            "Tidegate takes no headers off but hop-by-hop ones: the backend sees what clients put there",
        ),
        _ => (NoteKind::NoCounterpart, "Tidegate adds no headers of one's own to requests yet"),
    };
    Some(note(kind, &header.place, &header.words(), reason))
}
