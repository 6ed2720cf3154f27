//! The parts of a form with files (RFC 7578), by where they stand in the body, so that one can be replaced.

use std::ops::Range;

use memchr::memmem;

/// More parts than any request has.
const MOST_PARTS: usize = 64;

/// One field of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// Where its value stands in the body.
    pub(crate) at: Range<usize>,
}

/// The parts of a body of this content type; nothing if it is not such a form.
pub(crate) fn parts(body: &[u8], content_type: &str) -> Option<Vec<Part>> {
    let delimiter = format!("--{}", boundary(content_type)?);
    let mut parts = Vec::new();
    let mut at = body.starts_with(delimiter.as_bytes()).then_some(0)? + delimiter.len();
    let end = format!("\r\n{delimiter}");
    while !body[at..].starts_with(b"--") {
        if parts.len() == MOST_PARTS {
            return None;
        }
        let head = at + body[at..].starts_with(b"\r\n").then_some(2)?;
        let value = head + memmem::find(&body[head..], b"\r\n\r\n")? + 4;
        let length = memmem::find(&body[value..], end.as_bytes())?;
        let name = name(std::str::from_utf8(&body[head..value]).ok()?)?;
        parts.push(Part { name, at: value..value + length });
        at = value + length + end.len();
    }
    Some(parts)
}

/// What divides the parts of a form of this content type; none if it is not such a form.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    })?;
    (!value.is_empty() && value.len() <= 70).then_some(value)
}

/// The name that `content-disposition` gives.
fn name(head: &str) -> Option<String> {
    let line = head.split("\r\n").find(|line| {
        line.split_once(':').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
    })?;
    // A file's name may hold what looks like another parameter.
    let mut quoted = false;
    let parameters = line.split(|c: char| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    parameters
        .filter_map(|parameter| parameter.split_once('='))
        .find_map(|(name, value)| (name.trim() == "name").then(|| value.trim().trim_matches('"').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &[u8] = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\ncontent-disposition: form-data; filename=\"a;name=x.wav\"; name=\"file\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n\r\n--\0\r\n--b--\r\n";

    #[test]
    fn parts_are_found_by_their_name_whatever_they_hold() {
        let parts = parts(FORM, "multipart/form-data; boundary=\"b\"").expect("a form");
        let read: Vec<(&str, &[u8])> = parts.iter().map(|part| (&*part.name, &FORM[part.at.clone()])).collect();
        assert_eq!(read, [("model", &b"whisper-1"[..]), ("file", &b"RIFF\r\n\r\n--\0"[..])]);
    }

    #[test]
    fn what_is_no_form_is_none() {
        for (body, kind) in [
            (FORM, "application/json"),
            (FORM, "multipart/form-data"),
            (FORM, "multipart/form-data; boundary=other"),
            (&FORM[..FORM.len() - 9], "multipart/form-data; boundary=b"),
            (b"--b", "multipart/form-data; boundary=b"),
            (b"", "multipart/form-data; boundary=b"),
        ] {
            assert_eq!(parts(body, kind), None, "{kind}");
        }
        let endless = [&FORM[..FORM.len() - 7].repeat(70)[..], b"\r\n--b--"].concat();
        assert_eq!(parts(&endless, "multipart/form-data; boundary=b"), None);
    }
}
