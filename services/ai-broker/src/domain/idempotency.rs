//! Idempotency keys: which calls are the same call.

use http::HeaderMap;

use super::api::Api;
use super::said;
use super::sealing::{Name, Seal, TenantKeys};

/// What the keys of calls with an idempotency key are derived for.
pub(crate) const PURPOSE: &str = "idempotent-calls";
/// The longest idempotency key.
const MAX_KEY: usize = 255;

/// Whether this can be an idempotency key.
pub(crate) fn is_key(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// Everything of a request that makes it another one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) api: Api,
    pub(crate) body: &'a [u8],
    pub(crate) headers: &'a HeaderMap,
    pub(crate) suffix: &'a str,
    pub(crate) spare: bool,
}

/// A call with an idempotency key.
pub(crate) struct Keyed {
    /// Of the principal and the key.
    pub(crate) name: Name,
    /// Of what is asked.
    pub(crate) request: Name,
    /// Encrypts what comes of it. Takes the key itself, which is stored nowhere: only who asks again can have it opened.
    pub(crate) seal: Seal,
}

impl Keyed {
    /// The call that `principal` asks for under `key`.
    pub(crate) fn new(keys: &TenantKeys, principal: &str, key: &str, request: &Request<'_>) -> Self {
        let who = [principal.as_bytes(), key.as_bytes()];
        Self { name: keys.name(who), request: request.name(keys), seal: keys.seal(who) }
    }
}

impl Request<'_> {
    fn name(&self, keys: &TenantKeys) -> Name {
        let operation = format!("{:?}", self.api);
        let spare = [u8::from(self.spare)];
        let mut parts: Vec<&[u8]> = vec![operation.as_bytes(), self.suffix.as_bytes(), &spare];
        said::add_headers(&mut parts, self.headers);
        match said::form(self.headers) {
            None => parts.push(self.body),
            Some(boundary) => said::add_form(&mut parts, self.body, boundary),
        }
        keys.name(parts)
    }
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;
    use weir_config::MasterKey;
    use weir_types::OrganizationId;

    use super::*;

    fn name(api: Api, body: &str, content_type: &str, spare: bool) -> Name {
        let master = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("a key");
        let organization: OrganizationId = "0198d1f0-0000-7000-8000-000000000000".parse().expect("an id");
        let keys = TenantKeys::of_tenant(&master, PURPOSE, organization);
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(CONTENT_TYPE, content_type.parse().expect("a header's value"));
        }
        Request { api, body: body.as_bytes(), headers: &headers, suffix: "", spare }.name(&keys)
    }

    #[test]
    fn whatever_changes_the_answer_makes_another_request() {
        let first = name(Api::Chat, "{}", "", false);
        assert_eq!(first, name(Api::Chat, "{}", "", false));
        let others = [
            name(Api::Messages, "{}", "", false),
            name(Api::Chat, "{ }", "", false),
            name(Api::Chat, "{}", "text/plain", false),
            name(Api::Chat, "{}", "", true),
        ];
        assert!(!others.contains(&first));
    }

    #[test]
    fn a_form_is_the_same_whatever_divides_its_parts() {
        let form = |boundary: &str, value: &str| {
            let body =
                format!("--{boundary}\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n{value}\r\n--{boundary}--");
            name(Api::Transcriptions, &body, &format!("multipart/form-data; boundary={boundary}"), false)
        };
        assert_eq!(form("abc", "1"), form("xyz", "1"));
        assert_ne!(form("abc", "1"), form("abc", "2"));
    }

    #[test]
    fn keys_are_visible_and_short() {
        assert!(is_key("8e03978e-40d5-43dd-bc93-6894a57f9324") && is_key("a b"));
        assert!(!is_key("") && !is_key("ä") && !is_key("a\n") && !is_key(&"x".repeat(256)));
    }
}
