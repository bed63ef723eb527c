//! A request as the backend gets it: all that is ours put on. Pure.

use http::{HeaderName, HeaderValue, Version, header, request};

use super::{
    cdn_loop::LoopMark,
    forwarded::{self, Sender},
    headers::{X_REQUEST_ID, set_upgrade},
};

/// What is put on a request.
#[derive(Clone, Copy, Debug)]
pub struct Marks<'a> {
    /// Names it through all logs.
    pub id: &'a HeaderValue,
    /// By which it is known should it come back.
    pub loop_mark: &'a LoopMark,
    /// Who sent it.
    pub sender: &'a Sender<'a>,
    /// Headers of a trusted peer that stay.
    pub kept: &'a [HeaderName],
}

/// Makes of a request, without its hop-by-hop headers and with its target [in origin form](super::target::Target::rewritten),
/// the one for the backend.
pub fn prepare(request: &mut request::Parts, marks: &Marks<'_>) {
    let headers = &mut request.headers;
    forwarded::tell_sender(headers, marks.sender, marks.kept);
    marks.loop_mark.put_on(headers);
    headers.insert(X_REQUEST_ID, marks.id.clone());
    request.version = Version::HTTP_11;
    request.extensions.clear();
}

/// The same for one that asks for an upgrade.
pub fn prepare_upgrade(request: &mut request::Parts, marks: &Marks<'_>) {
    prepare(request, marks);
    request.headers.remove(header::CONTENT_LENGTH);
    set_upgrade(&mut request.headers);
}
