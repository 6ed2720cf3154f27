//! Where a credential stands in a request, and what it looks like.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use crate::refusal::Refusal;

/// What every API key begins with.
const KEY_START: &str = "weir_";
/// Longer than any API key is.
const MAX_KEY: usize = 256;

/// Where SDKs put a key that is no bearer: Anthropic's and others', and ElevenLabs'.
const KEY_HEADERS: [&str; 2] = ["x-api-key", "xi-api-key"];

/// The credential: `authorization: Bearer …`, else `x-api-key` or `xi-api-key`.
pub(super) fn credential(headers: &HeaderMap) -> Result<&str, Refusal> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let text = value.to_str().map_err(|_| malformed())?;
        let (scheme, credential) = text.split_once(' ').ok_or_else(malformed)?;
        let credential = credential.trim();
        return if scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty() {
            Ok(credential)
        } else {
            Err(malformed())
        };
    }
    match KEY_HEADERS.iter().find_map(|name| headers.get(*name)).map(|value| value.to_str()) {
        Some(Ok(key)) if !key.is_empty() => Ok(key),
        Some(_) => Err(malformed()),
        None => Err(refused("No API key was sent. Send it as a header: `Authorization: Bearer weir_…`.")),
    }
}

/// Spares auth what can't be a key, for instance a key of a provider.
pub(super) fn check_key(credential: &str) -> Result<(), Refusal> {
    if credential.starts_with(KEY_START) && credential.len() <= MAX_KEY {
        return Ok(());
    }
    Err(refused("This is not an API key of this service: its keys begin with `weir_`."))
}

/// Whether a credential is a token (a compact JWT) rather than an API key.
pub(super) fn is_token(credential: &str) -> bool {
    credential.starts_with("eyJ") && credential.bytes().filter(|&b| b == b'.').count() == 2
}

pub(super) fn malformed() -> Refusal {
    refused("The credential is malformed. Send a header `Authorization: Bearer weir_…`.")
}

fn refused(message: &'static str) -> Refusal {
    Error::new(ErrorReason::Unauthenticated, message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(name: &'static str, value: &str) -> Result<String, ErrorReason> {
        let headers = HeaderMap::from_iter([(name.parse().expect("a name"), value.parse().expect("a value"))]);
        credential(&headers).map(str::to_owned).map_err(|refusal| refusal.reason())
    }

    #[test]
    fn a_credential_comes_as_a_bearer_or_as_an_api_key() {
        assert_eq!(sent("authorization", "Bearer weir_1"), Ok("weir_1".into()));
        assert_eq!(sent("authorization", "bearer  weir_1"), Ok("weir_1".into()));
        assert_eq!(sent("x-api-key", "weir_1"), Ok("weir_1".into()));
        assert_eq!(sent("xi-api-key", "weir_1"), Ok("weir_1".into()));
    }

    #[test]
    fn anything_else_is_unauthenticated() {
        for (name, value) in [
            ("authorization", "Basic abc"),
            ("authorization", "weir_1"),
            ("authorization", "Bearer "),
            ("cookie", "a=b"),
        ] {
            assert_eq!(sent(name, value), Err(ErrorReason::Unauthenticated), "{name}: {value}");
        }
    }

    #[test]
    fn a_token_is_told_from_a_key_and_a_key_from_others() {
        assert!(is_token("eyJh.eyJz.c2ln") && !is_token("weir_0192_abc") && !is_token("eyJh.eyJz"));
        assert!(check_key("weir_0192_abc").is_ok());
        assert!(check_key("sk-proj-abc").is_err() && check_key(&format!("weir_{}", "a".repeat(300))).is_err());
    }
}
