//! What a request says beside what it means: its headers, and its body without what only divides it.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use memchr::memmem;

use super::multipart::boundary;

/// What divides the parts of the body, if it is a form. Clients make a new one each time.
pub(crate) fn form(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE).and_then(|kind| boundary(kind.to_str().ok()?))
}

/// Adds the headers in the order of their names, without what names a form's boundary.
pub(crate) fn add_headers<'a>(parts: &mut Vec<&'a [u8]>, headers: &'a HeaderMap) {
    let form = form(headers);
    let mut names: Vec<_> = headers.keys().filter(|name| form.is_none() || **name != CONTENT_TYPE).collect();
    names.sort_unstable_by_key(|name| name.as_str());
    for name in names {
        parts.push(name.as_str().as_bytes());
        parts.extend(headers.get_all(name).iter().map(http::HeaderValue::as_bytes));
    }
}

/// Adds a form, whatever divides its parts.
pub(crate) fn add_form<'a>(parts: &mut Vec<&'a [u8]>, body: &'a [u8], boundary: &str) {
    let mut from = 0;
    for at in memmem::find_iter(body, boundary) {
        parts.push(&body[from..at]);
        from = at + boundary.len();
    }
    parts.push(&body[from..]);
}
