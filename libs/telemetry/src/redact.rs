use std::borrow::Cow;
use std::io::{self, Write};
use std::ops::Range;

use tracing_subscriber::fmt::MakeWriter;

const REDACTED: &str = "[redacted]";

/// Names whose value is a secret, in `name=value`, `"name":"value"` and the like. Compared without regard to case.
const SECRET_NAMES: [&str; 14] = [
    "password",
    "passwd",
    "secret",
    "api_key",
    "api-key",
    "apikey",
    "access_token",
    "refresh_token",
    "id_token",
    "authorization",
    "cookie",
    "master_key",
    "private_key",
    "credential",
];

/// Removes what looks like a secret: API keys of ours (`weir_…`) and of providers (`sk-…`), `Bearer` and `Basic` credentials,
/// JSON web tokens, passwords in URLs, and values that stand beside a name such as `password`.
///
/// This is the last line of defence. Secrets have a type that does not print them; this catches what comes in from elsewhere,
/// such as a driver's error text.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut found = Vec::new();
    keys(text, "weir_", |key| key.len() >= 20 && key.bytes().any(|byte| byte.is_ascii_digit()), &mut found);
    keys(text, "sk-", |key| key.len() >= 16, &mut found);
    json_web_tokens(text, &mut found);
    authorizations(text, &mut found);
    url_passwords(text, &mut found);
    named_values(text, &mut found);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_by_key(|range| (range.start, range.end));
    let mut clean = String::with_capacity(text.len());
    let mut done = 0;
    for range in found {
        if range.start >= done {
            clean.push_str(&text[done..range.start]);
            clean.push_str(REDACTED);
        }
        done = done.max(range.end);
    }
    clean.push_str(&text[done..]);
    Cow::Owned(clean)
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// The end of the run of bytes from `start` on that `belongs` accepts. Always a character boundary for ASCII predicates.
fn run(text: &str, start: usize, belongs: impl Fn(u8) -> bool) -> usize {
    text.as_bytes()[start..].iter().position(|byte| !belongs(*byte)).map_or(text.len(), |length| start + length)
}

fn begins_a_word(text: &str, at: usize) -> bool {
    at == 0 || !is_key_byte(text.as_bytes()[at - 1])
}

fn keys(text: &str, prefix: &str, is_secret: impl Fn(&str) -> bool, found: &mut Vec<Range<usize>>) {
    for (at, _) in text.match_indices(prefix).filter(|(at, _)| begins_a_word(text, *at)) {
        let start = at + prefix.len();
        let end = run(text, start, is_key_byte);
        if is_secret(&text[start..end]) {
            found.push(start..end);
        }
    }
}

fn json_web_tokens(text: &str, found: &mut Vec<Range<usize>>) {
    for (at, _) in text.match_indices("eyJ").filter(|(at, _)| begins_a_word(text, *at)) {
        let end = run(text, at, |byte| is_key_byte(byte) || byte == b'.');
        if text[at..end].bytes().filter(|byte| *byte == b'.').count() >= 2 {
            found.push(at..end);
        }
    }
}

fn authorizations(text: &str, found: &mut Vec<Range<usize>>) {
    for scheme in ["bearer ", "basic "] {
        for at in indices_ignoring_case(text, scheme) {
            let start = at + scheme.len();
            let end = run(text, start, |byte| byte.is_ascii_graphic() && !b"\"'\\,;".contains(&byte));
            if end - start >= 8 && begins_a_word(text, at) {
                found.push(start..end);
            }
        }
    }
}

fn url_passwords(text: &str, found: &mut Vec<Range<usize>>) {
    for (at, separator) in text.match_indices("://") {
        let start = at + separator.len();
        let end = run(text, start, |byte| byte.is_ascii_graphic() && !b"/?#\"'<>\\".contains(&byte));
        let authority = &text[start..end];
        let Some(host) = authority.rfind('@') else { continue };
        if let Some(colon) = authority[..host].find(':').filter(|colon| colon + 1 < host) {
            found.push(start + colon + 1..start + host);
        }
    }
}

fn named_values(text: &str, found: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    for name in SECRET_NAMES {
        for at in indices_ignoring_case(text, name) {
            // `"password": "…"`, escaped or not; `password=…`; `password: Some("…")`.
            let mut position = run(text, at + name.len(), |byte| byte == b'"' || byte == b'\\');
            position = run(text, position, |byte| byte == b' ');
            if !matches!(bytes.get(position), Some(b'=' | b':')) {
                continue;
            }
            position = run(text, position + 1, |byte| byte == b' ');
            if text[position..].starts_with("Some(") {
                position += "Some(".len();
            }
            let quoted = run(text, position, |byte| byte == b'"' || byte == b'\\');
            let end = if quoted > position {
                run(text, quoted, |byte| byte != b'"' && byte != b'\\')
            } else {
                run(text, quoted, |byte| !b" \t\n,;&})]".contains(&byte))
            };
            let value = &text[quoted..end];
            if !value.is_empty()
                && !value.starts_with("[redacted")
                && !matches!(value, "true" | "false" | "null" | "None")
            {
                found.push(quoted..end);
            }
        }
    }
}

/// Where the ASCII text `needle` stands, whatever its case.
fn indices_ignoring_case<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.as_bytes()
        .windows(needle.len())
        .enumerate()
        .filter(|(_, window)| window.eq_ignore_ascii_case(needle.as_bytes()))
        .map(|(at, _)| at)
}

/// Passes every log line through [`redact`] on its way to `W`.
pub(crate) struct Redacting<W>(pub(crate) W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Redacting<W> {
    type Writer = RedactingWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        RedactingWriter(self.0.make_writer())
    }
}

/// The formatting layer hands over one whole line per write.
pub(crate) struct RedactingWriter<W>(W);

impl<W: Write> Write for RedactingWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(redact(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::redact;

    const SECRET: &str = "Zk3u9-Qw8e_RtY7uIoP1aSdFgHjKlXc0";

    #[test]
    fn secrets_are_removed_wherever_they_stand() {
        let jwt = "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJ3ZWlyIn0.c2lnbmF0dXJl";
        for line in [
            format!("key weir_{SECRET} refused"),
            format!("key=weir_{SECRET}"),
            format!("provider said: Incorrect API key provided: sk-proj-{SECRET}."),
            format!("authorization: Bearer {SECRET}"),
            format!(r#"{{"headers":{{"Authorization":"bearer {SECRET}"}}}}"#),
            format!("connecting to postgres://weir_quota:{SECRET}@db:5432/weir?sslmode=require"),
            format!("redis://:{SECRET}@localhost"),
            format!(r#"{{"password":"{SECRET}","user":"a"}}"#),
            format!(r#"{{"message":"body {{\"api_key\": \"{SECRET}\"}}"}}"#),
            format!("Login {{ db_password: Some(\"{SECRET}\"), user: \"a\" }}"),
            format!("x-api-key={SECRET}&next=1"),
            format!("Set-Cookie: session={SECRET}"),
            format!("client_secret={SECRET}, other"),
        ] {
            let clean = redact(&line);
            assert!(!clean.contains(SECRET), "{line} became {clean}");
            assert!(clean.contains("[redacted]"), "{clean}");
        }
        assert!(!redact(&format!("token {jwt} expired")).contains("c2lnbmF0dXJl"));
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for line in [
            "weir_quota_tenant may select",
            "weir_http_request_duration_seconds_bucket",
            "task-like sk-short",
            "http://localhost:8080/v1/models",
            "postgres://weir_quota@db:5432/weir",
            "input_tokens=44 max_tokens: 100",
            "password_hash took 17 ms",
            "secret: false",
            "the bearer of bad news",
            "user a@b.example wrote to http://x/y@z",
        ] {
            assert_eq!(redact(line), line);
        }
    }

    #[test]
    fn the_rest_of_the_line_survives() {
        assert_eq!(
            redact("GET postgres://u:hunter2hunter2@db/x password=abc user=é done"),
            "GET postgres://u:[redacted]@db/x password=[redacted] user=é done"
        );
        assert_eq!(redact("password=é"), "password=[redacted]");
    }
}
