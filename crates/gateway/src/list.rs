//! Comma-separated lists in header fields (RFC 9110 §5.6.1), read as bytes: what is no text in one element decides nothing for
//! the others. Pure, and below all that knows what a header means.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The elements of a comma-separated header, over all its lines.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().flat_map(elements)
}

/// The elements of one line of a comma-separated header.
pub fn elements(line: &HeaderValue) -> impl DoubleEndedIterator<Item = &[u8]> {
    let elements = line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    elements.filter(|element| !element.is_empty())
}
