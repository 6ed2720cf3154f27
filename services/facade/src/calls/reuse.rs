//! What a request says of answers that there are already.

use std::str::FromStr as _;

use axum::http::HeaderMap;
use weir_proto::broker::v1::CacheDirectives;
use weir_rpc::Error;

/// Under which a request is carried out once (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>).
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// `no-store`, `no-cache`, `max-age=60`: directives of RFC 9111, for what Weir keeps.
const CACHE: &str = "weir-cache";
/// What makes requests the same, instead of their bodies.
const CACHE_KEY: &str = "weir-cache-key";

/// A request's headers about it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reuse {
    /// Empty: none.
    pub(crate) idempotency_key: String,
    pub(crate) cache: Option<CacheDirectives>,
}

impl Reuse {
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Error> {
        Ok(Self { idempotency_key: idempotency_key(headers)?, cache: cache(headers)? })
    }
}

/// The key of a request; empty if it has none. Quotes around it (the draft has a string of structured fields) are not part of it.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<String, Error> {
    let key = key(headers, IDEMPOTENCY_KEY, "Idempotency-Key")?;
    Ok(key.unwrap_or_default())
}

fn key(headers: &HeaderMap, name: &str, shown: &'static str) -> Result<Option<String>, Error> {
    let mut keys = headers.get_all(name).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let text = key.to_str().ok().filter(|_| keys.next().is_none());
    let text = text.map(|text| text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text));
    let text = text.filter(|text| !text.is_empty() && text.len() <= 255);
    let text = text.ok_or_else(|| Error::invalid(shown, "must be one text of 1 to 255 visible ASCII characters"))?;
    Ok(Some(text.to_owned()))
}

fn cache(headers: &HeaderMap) -> Result<Option<CacheDirectives>, Error> {
    let key = key(headers, CACHE_KEY, CACHE_KEY)?;
    let said = headers.get_all(CACHE);
    if key.is_none() && said.iter().next().is_none() {
        return Ok(None);
    }
    let mut directives = CacheDirectives { key: key.unwrap_or_default(), ..CacheDirectives::default() };
    let wrong = || Error::invalid(CACHE, "must be of `no-store`, `no-cache` and `max-age=` with seconds");
    for said in &said {
        for directive in said.to_str().map_err(|_| wrong())?.split(',') {
            match directive.trim().split_once('=') {
                None if directive.trim() == "no-store" => directives.no_store = true,
                None if directive.trim() == "no-cache" => directives.no_cache = true,
                Some(("max-age", seconds)) => {
                    let seconds = u32::from_str(seconds).map_err(|_| wrong())?;
                    // Nothing is that fresh.
                    directives.no_cache |= seconds == 0;
                    let span = prost_types::Duration { seconds: seconds.into(), nanos: 0 };
                    directives.max_age = Some(span).filter(|_| seconds > 0);
                }
                _ => return Err(wrong()),
            }
        }
    }
    Ok(Some(directives))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> Option<Reuse> {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Reuse::read(&headers.collect()).ok()
    }

    fn key(values: &[&'static str]) -> Option<String> {
        let headers: Vec<_> = values.iter().map(|value| (IDEMPOTENCY_KEY, *value)).collect();
        read(&headers).map(|read| read.idempotency_key)
    }

    #[test]
    fn a_key_is_the_same_with_quotes_and_without() {
        assert_eq!(key(&[]).as_deref(), Some(""));
        assert_eq!(key(&["a-1"]).as_deref(), Some("a-1"));
        assert_eq!(key(&["\"a-1\""]), key(&["a-1"]));
        assert_eq!([key(&[""]), key(&["\"\""]), key(&["a", "b"])], [None, None, None]);
    }

    #[test]
    fn directives_are_read_and_others_refused() {
        let of = |value| read(&[(CACHE, value)]).map(|read| read.cache);
        let default = CacheDirectives::default;
        assert_eq!(read(&[]), Some(Reuse::default()));
        assert_eq!(of("no-store"), Some(Some(CacheDirectives { no_store: true, ..default() })));
        let max_age = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        assert_eq!(of("no-cache, max-age=60"), Some(Some(CacheDirectives { no_cache: true, max_age, ..default() })));
        assert_eq!(of("max-age=0"), Some(Some(CacheDirectives { no_cache: true, ..default() })));
        let keyed = read(&[(CACHE_KEY, "session-7")]).and_then(|read| read.cache);
        assert_eq!(keyed, Some(CacheDirectives { key: "session-7".into(), ..default() }));
        for wrong in ["", "private", "max-age=-1", "max-age", "no-store=1"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
