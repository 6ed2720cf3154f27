//! What a request is known by that comes again.

use ring::digest::{Context, SHA256};
use weir_proto::broker::v1::{CacheDirectives, InvokeRequest};
use weir_rpc::Principal;

use super::PASSED_ON;
use crate::domain::cache::RequestHash;

/// The hash of all that a request's answer can depend on: who asks, and each word of the request, each with its length before it.
/// None if the request says something of answers that there are: then it is read each time.
pub(super) fn known_by(who: &Principal, spare: bool, stream: bool, asked: &InvokeRequest) -> Option<RequestHash> {
    let wishes = asked.cache.as_ref().is_some_and(|cache| *cache != CacheDirectives::default());
    if !asked.idempotency_key.is_empty() || wishes {
        return None;
    }
    let mut said = Vec::with_capacity(256);
    let mut say = |part: &[u8]| {
        said.extend_from_slice(&part.len().to_be_bytes());
        said.extend_from_slice(part);
    };
    say(who.organization.as_uuid().as_bytes());
    say(who.user.as_ref().map_or(&[], |user| user.as_uuid().as_bytes().as_slice()));
    say(who.api_key.as_ref().map_or(&[], |key| key.as_uuid().as_bytes().as_slice()));
    say(&[u8::from(spare), u8::from(stream)]);
    say(&asked.operation.to_be_bytes());
    for name in PASSED_ON {
        let value = asked.headers.get(name);
        say(&[u8::from(value.is_some())]);
        say(value.map_or(&[], |value| value.as_bytes()));
    }
    for part in [&asked.voice, &asked.query, &asked.feature] {
        say(part.as_bytes());
    }
    let mut context = Context::new(&SHA256);
    context.update(&said);
    context.update(&asked.body);
    let mut hash = RequestHash::default();
    hash.copy_from_slice(context.finish().as_ref());
    Some(hash)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use weir_types::{ApiKeyId, OrganizationId, ScopeSet, UserId};

    use super::*;

    fn principal() -> Principal {
        Principal {
            organization: OrganizationId::new_v7(),
            user: None,
            api_key: Some(ApiKeyId::new_v7()),
            scopes: ScopeSet::default(),
            token_expires: DateTime::UNIX_EPOCH,
        }
    }

    fn asked() -> InvokeRequest {
        let headers = [("anthropic-beta".to_owned(), "a".to_owned())].into();
        InvokeRequest { operation: 1, body: "body".into(), headers, ..InvokeRequest::default() }
    }

    #[test]
    fn whatever_an_answer_depends_on_makes_another_request() {
        let who = principal();
        let of = |change: fn(&mut InvokeRequest)| {
            let mut asked = asked();
            change(&mut asked);
            known_by(&who, false, false, &asked)
        };
        let same = of(|_| {});
        assert!(same.is_some());
        assert_eq!(of(|asked| asked.request_id = "another".into()), same);
        assert_eq!(of(|asked| asked.client_ip = "10.0.0.1".into()), same);
        let changes: [fn(&mut InvokeRequest); 8] = [
            |asked| asked.operation = 2,
            |asked| asked.body = "body2".into(),
            |asked| asked.voice = "v".into(),
            |asked| asked.query = "v".into(),
            |asked| asked.feature = "v".into(),
            |asked| asked.headers.clear(),
            |asked| asked.headers = [("anthropic-beta".to_owned(), "b".to_owned())].into(),
            |asked| asked.headers = [("anthropic-version".to_owned(), "a".to_owned())].into(),
        ];
        let mut seen = vec![same];
        for change in changes {
            let hash = of(change);
            assert!(!seen.contains(&hash));
            seen.push(hash);
        }
        let moved = |body: &'static str, feature: &str| {
            let asked = InvokeRequest { body: body.into(), feature: feature.into(), ..asked() };
            known_by(&who, false, false, &asked)
        };
        assert_ne!(moved("ab", ""), moved("b", "a"), "where one part ends and the next begins");
        assert_eq!(of(|asked| asked.idempotency_key = "k".into()), None);
        assert_eq!(of(|asked| asked.cache = Some(CacheDirectives::default())), same);
        assert_eq!(of(|asked| asked.cache = Some(CacheDirectives { no_cache: true, ..Default::default() })), None);
    }

    #[test]
    fn whoever_asks_and_however_makes_another_request() {
        let who = principal();
        let mut seen = vec![known_by(&who, false, false, &asked())];
        let another = Principal { organization: OrganizationId::new_v7(), ..who.clone() };
        let user = Principal { user: Some(UserId::new_v7()), ..who.clone() };
        let as_user =
            Principal { user: who.api_key.map(|key| UserId::from(*key.as_uuid())), api_key: None, ..who.clone() };
        for (who, spare, stream) in [
            (&another, false, false),
            (&user, false, false),
            (&as_user, false, false),
            (&who, true, false),
            (&who, false, true),
        ] {
            let hash = known_by(who, spare, stream, &asked());
            assert!(!seen.contains(&hash));
            seen.push(hash);
        }
    }
}
