//! `multipart/form-data` (RFC 7578), as far as forms with files need it.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};

use crate::refusal::Refusal;

/// A field of a form.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// Only files have one.
    pub(crate) filename: Option<String>,
    pub(crate) data: Bytes,
}

/// The fields of a form in their order.
#[derive(Debug)]
pub(crate) struct Form(Vec<Part>);

impl Form {
    pub(crate) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Self, Refusal> {
        let wrong = || Refusal::invalid("Could not parse multipart form");
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let boundary = parameter(kind, "boundary").filter(|_| kind.starts_with("multipart/form-data"));
        let delimiter = format!("--{}", boundary.ok_or_else(wrong)?);
        let delimiter = delimiter.as_bytes();
        let mut at = find(body, delimiter, 0).ok_or_else(wrong)? + delimiter.len();
        let mut parts = Vec::new();
        while !body[at..].starts_with(b"--") {
            let end = find(body, delimiter, at).ok_or_else(wrong)?;
            let part = body.slice(at..end);
            let head_end = find(&part, b"\r\n\r\n", 0).ok_or_else(wrong)?;
            let head = std::str::from_utf8(&part[..head_end]).map_err(|_| wrong())?;
            let disposition = head
                .lines()
                .find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))
                .ok_or_else(wrong)?;
            let data_end = part.len().checked_sub(2).filter(|&end| end >= head_end + 4).ok_or_else(wrong)?;
            parts.push(Part {
                name: parameter(disposition, "name").ok_or_else(wrong)?.to_owned(),
                filename: parameter(disposition, "filename").map(str::to_owned),
                data: part.slice(head_end + 4..data_end),
            });
            at = end + delimiter.len();
        }
        Ok(Self(parts))
    }

    /// The text of a field.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|part| part.name == name).and_then(|part| std::str::from_utf8(&part.data).ok())
    }

    /// How many files have one of these names.
    pub(crate) fn files(&self, names: &[&str]) -> u64 {
        let is_one = |part: &&Part| names.contains(&&*part.name) && part.filename.is_some();
        self.0.iter().filter(is_one).count() as u64
    }

    /// A field that is a file.
    pub(crate) fn file(&self, name: &str) -> Option<&Part> {
        self.0.iter().find(|part| part.name == name && part.filename.is_some())
    }
}

fn find(body: &[u8], what: &[u8], from: usize) -> Option<usize> {
    memchr::memmem::find(&body[from..], what).map(|at| at + from)
}

/// A parameter of a header, quoted or not.
fn parameter<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.split(';').skip(1).find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use http::HeaderValue;

    use super::*;

    fn form(body: &'static str) -> Result<Form, Refusal> {
        let kind = HeaderValue::from_static("multipart/form-data; boundary=xyz");
        Form::read(&HeaderMap::from_iter([(CONTENT_TYPE, kind)]), &Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn fields_and_files_are_told_apart() {
        let form = form(
            "--xyz\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
             --xyz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\
             RIFF\r\n\r\n--xyz--\r\n",
        )
        .unwrap();
        assert_eq!(form.text("model"), Some("whisper-1"));
        assert_eq!(&form.file("file").unwrap().data[..], b"RIFF\r\n");
        assert!(form.file("model").is_none());
    }

    #[test]
    fn a_broken_form_is_refused() {
        for broken in ["", "--xyz", "--xyz\r\nno head", "--xyz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx"]
        {
            assert_eq!(form(broken).unwrap_err().status, 400, "{broken:?}");
        }
    }
}
