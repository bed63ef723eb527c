//! nginx's configuration: text, tree, servers with their locations, and what routes come of them.

pub mod directives;
mod headers;
mod hsts;
mod load;
mod locations;
mod model;
pub mod parse;
mod servers;
mod targets;
mod upstreams;

use self::{
    directives::{Disposition, fate},
    model::Scope,
    parse::Directive,
};
use super::{
    Files, Options,
    ir::{Imported, note},
    notes::{Note, NoteKind},
};

/// Imports the configuration whose main file is `main`. Certificates are read from `disk`.
pub fn import(
    main: &str,
    files: &dyn Files,
    disk: &dyn Files,
    options: &Options,
    into: &mut Imported,
) {
    let directives = load::load(main, files, into);
    // A file of sites-enabled is what stands within `http`.
    let mut in_http: Vec<&[Directive]> = Vec::new();
    let bare: Vec<Directive>;
    let shape =
        |directive: &Directive| matches!(directive.name.as_str(), "server" | "upstream" | "map");
    if directives.iter().any(shape) {
        bare = directives;
        in_http.push(&bare);
    } else {
        for directive in &directives {
            if directive.name == "http" {
                in_http.push(directive.block());
            } else {
                into.notes.extend(judge(directive));
            }
        }
    }
    for http in in_http {
        servers::import(http, disk, options, into);
    }
}

/// What there is to say about a directive that is not part of the shape.
pub(super) fn judge(directive: &Directive) -> Option<Note> {
    match fate(&directive.name) {
        Disposition::ByItself(_) | Disposition::Setting(_) => None,
        Disposition::Written(_) => judge_written(directive),
        Disposition::Noted(kind, reason) => {
            match (directive.name.as_str(), directive.args.as_slice()) {
                // What is switched off is no loss.
                (_, [off]) if off == "off" => None,
                ("allow", [all]) if all == "all" => None,
                // The default.
                ("satisfy", [all]) if all == "all" => None,
                _ if hsts::is_about(directive) => {
                    let reason =
                        "holds for a whole hostname here: write it as tls.hsts of the route";
                    Some(note(NoteKind::ToDo, &directive.place, &directive.words(), reason))
                }
                (name, _) if !directives::is_known(name) => {
                    Some(note(kind, &directive.place, &unknown(directive), reason))
                }
                _ => Some(note(kind, &directive.place, &directive.words(), reason)),
            }
        }
    }
}

/// What is shown of a line that is no known directive: its name, if that looks like one. The file may be no configuration at all, but
/// one of passwords that was included by mistake.
fn unknown(directive: &Directive) -> String {
    let Directive { name, args, .. } = directive;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    match (name.bytes().all(plain) && (1..=40).contains(&name.len()), args.is_empty()) {
        (true, true) => name.clone(),
        (true, false) => format!("{name} …"),
        (false, _) => "a line that begins with no directive's name".to_owned(),
    }
}

/// What is written elsewhere, unless it stands where it means something else.
fn judge_written(directive: &Directive) -> Option<Note> {
    let noted = |kind, reason: &str| Some(note(kind, &directive.place, &directive.words(), reason));
    match directive.name.as_str() {
        "proxy_set_header" => headers::judge(directive),
        "if" => noted(condition_kind(directive), "Tidegate evaluates no conditions"),
        "return" => noted(
            NoteKind::NoCounterpart,
            "Tidegate answers nothing by itself but refusals and redirects to https",
        ),
        "rewrite" => noted(NoteKind::NoCounterpart, directives::REWRITE),
        "map" if model::is_connection_map(directive) => None,
        "map" => noted(NoteKind::NoCounterpart, "Tidegate has no variables"),
        _ => None,
    }
}

/// A condition under which requests are refused keeps somebody out.
fn condition_kind(condition: &Directive) -> NoteKind {
    let refuses = |inner: &Directive| match inner.name.as_str() {
        "return" => matches!(inner.arg(0).as_bytes(), [b'4', ..]),
        "deny" => true,
        _ => false,
    };
    if condition.block().iter().any(refuses) { NoteKind::Open } else { NoteKind::NoCounterpart }
}

/// The words after `name` at the nearest level that has the directive.
fn setting<'d>(scope: &Scope<'d>, name: &str) -> Option<&'d Directive> {
    scope.nearest(name).last().copied()
}
