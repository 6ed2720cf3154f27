use std::time::Duration;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use weir_proto::auth::v1::{
    CreateApiKeyResponse, GetApiKeyRequest, ListApiKeysRequest, RevokeApiKeyRequest, Role, RotateApiKeyRequest,
};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Failure;
use weir_types::{Clock as _, UserId};

use crate::house::{House, Replica, by, fields, key_of, new_key, open};

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}

async fn rotate(auth: &Replica, name: &str, overlap: Duration) -> Result<CreateApiKeyResponse, Failure> {
    let overlap = prost_types::Duration::try_from(overlap).ok();
    open(auth.operator().rotate_api_key(RotateApiKeyRequest { name: name.into(), overlap }).await)
}

#[tokio::test]
async fn a_key_is_exchanged_for_a_token_of_its_scopes() {
    let (house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let created = auth.key(&organization, &["models.read", "ai.invoke", "ai.invoke"]).await;
    let key = key_of(&created);
    assert_eq!(key.scopes, ["ai.invoke", "models.read"]);
    assert!(created.secret.starts_with(&key.prefix) && key.prefix.len() == 17, "{key:?}");

    let token = auth.exchange(&created.secret).await.unwrap();
    assert_eq!((&token.organization, &token.api_key), (&organization.name, &key.name));
    assert_eq!((token.user.as_str(), &token.scopes), ("", &key.scopes));
    let lifetime = token.expire_time.unwrap().seconds - house.clock.now().timestamp();
    assert!((299..=300).contains(&lifetime), "{lifetime}");

    // The token is one that every service accepts: the key reads itself.
    let request = GetApiKeyRequest { name: key.name.clone() };
    let read = open(auth.operator().get_api_key(by(&crate::house::bearer(&token), request)).await).unwrap();
    assert_eq!(read, key);
    assert!(!format!("{read:?}").contains(&created.secret[38..]), "the secret is shown once");
}

#[tokio::test]
async fn keys_that_are_not_good_are_refused_for_their_own_reasons() {
    let (house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let created = auth.key(&organization, &["ai.invoke"]).await;
    let secret = created.secret.clone();
    let unknown_id = format!("weir_{}{}", "0".repeat(32), &secret[37..]);
    let mut wrong_secret = secret.clone();
    let last = if wrong_secret.pop() == Some('A') { 'B' } else { 'A' };
    wrong_secret.push(last);
    let mut messages = Vec::new();
    for text in ["", "sk-123", &secret[..80], &unknown_id, &wrong_secret] {
        let failure = auth.exchange(text).await.unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::Unauthenticated, "{text}");
        messages.push(failure.message().to_owned());
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "nobody learns why: {messages:?}");

    let mut request = new_key(&organization, &["ai.invoke"]);
    request.expire_time = Some(timestamp(house.clock.now() + Duration::from_secs(90)));
    let short = open(auth.operator().create_api_key(request).await).unwrap();
    let token = auth.exchange(&short.secret).await.unwrap();
    assert!(token.expire_time.unwrap().seconds <= key_of(&short).expire_time.unwrap().seconds);
    house.clock.advance(Duration::from_secs(91));
    let failure = auth.exchange(&short.secret).await.unwrap_err();
    assert_eq!((failure.reason(), failure.message()), (ErrorReason::Unauthenticated, "the API key has expired"));

    let revoke = RevokeApiKeyRequest { name: key_of(&created).name };
    let revoked = open(auth.operator().revoke_api_key(revoke.clone()).await).unwrap();
    assert_eq!(auth.exchange(&secret).await.unwrap_err().reason(), ErrorReason::CredentialRevoked);
    house.clock.advance(Duration::from_secs(1));
    let again = open(auth.operator().revoke_api_key(revoke).await).unwrap();
    assert_eq!(again.revoke_time, revoked.revoke_time, "revoking twice changes nothing");
}

#[tokio::test]
async fn every_wrong_field_of_a_key_is_named() {
    let (house, auth) = House::with_replica().await;
    let (organization, other) = (auth.organization().await, auth.organization().await);
    let stranger = auth.user(&other, "bob@example.com", Role::Member).await;
    let member = auth.user(&organization, "ada@example.com", Role::Member).await;
    let mut request = new_key(&organization, &["ai.invoke", "root"]);
    request.display_name = "x".repeat(121);
    request.user = stranger.name;
    request.expire_time = Some(Timestamp { seconds: i64::MAX, nanos: 0 });
    let failure = open(auth.operator().create_api_key(request).await).unwrap_err();
    assert_eq!(fields(&failure), ["display_name", "user", "scopes", "expire_time"]);

    let failure = open(auth.operator().create_api_key(new_key(&organization, &[])).await).unwrap_err();
    assert_eq!(fields(&failure), ["scopes"]);
    let mut request = new_key(&organization, &["ai.invoke"]);
    request.expire_time = Some(timestamp(house.clock.now()));
    assert_eq!(fields(&open(auth.operator().create_api_key(request).await).unwrap_err()), ["expire_time"]);
    let mut request = new_key(&organization, &["keys.manage"]);
    request.user = member.name;
    let failure = open(auth.operator().create_api_key(request.clone()).await).unwrap_err();
    assert_eq!(fields(&failure), ["scopes"], "beyond the role of its user");
    request.user = format!("{}/users/{}", organization.name, UserId::new_v7());
    let failure = open(auth.operator().create_api_key(request).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::NotFound);
}

#[tokio::test]
async fn nobody_makes_or_rotates_a_key_that_may_do_more_than_they() {
    let (_house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let manager = auth.principal(&organization, &["keys.manage", "ai.invoke"]).await;
    let strong = key_of(&auth.key(&organization, &["billing.read"]).await);
    let lacking = |failure: Failure| {
        assert_eq!(
            (failure.reason(), failure.metadata("scope")),
            (ErrorReason::PermissionDenied, Some("billing.read"))
        );
    };
    let request = new_key(&organization, &["ai.invoke", "billing.read"]);
    lacking(open(auth.operator().create_api_key(by(&manager, request)).await).unwrap_err());
    let request = RotateApiKeyRequest { name: strong.name, overlap: None };
    lacking(open(auth.operator().rotate_api_key(by(&manager, request)).await).unwrap_err());
    let request = new_key(&organization, &["ai.invoke", "keys.manage"]);
    assert!(auth.operator().create_api_key(by(&manager, request)).await.is_ok());
}

#[tokio::test]
async fn a_rotated_key_goes_on_for_its_overlap_beside_its_successor() {
    let (house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let old = auth.key(&organization, &["ai.invoke", "quota.read"]).await;
    let day = Duration::from_secs(86_400);
    let new = rotate(&auth, &key_of(&old).name, day).await.unwrap();
    assert_eq!(key_of(&new).scopes, key_of(&old).scopes);
    assert_eq!(key_of(&new).display_name, key_of(&old).display_name);
    assert!(key_of(&new).expire_time.is_none());

    let list = ListApiKeysRequest { parent: organization.name.clone(), ..Default::default() };
    let listed = open(auth.operator().list_api_keys(list).await).unwrap().api_keys;
    assert_eq!(listed.iter().map(|key| &key.name).collect::<Vec<_>>(), [&key_of(&old).name, &key_of(&new).name]);
    assert_eq!(listed[0].rotated_to, key_of(&new).name);
    assert_eq!(listed[0].expire_time, Some(timestamp(weir_time(&house) + day)));

    house.clock.advance(day - Duration::from_secs(10));
    let last = auth.exchange(&old.secret).await.unwrap();
    assert!(last.expire_time.unwrap().seconds <= listed[0].expire_time.unwrap().seconds);
    house.clock.advance(Duration::from_secs(10));
    assert_eq!(auth.exchange(&old.secret).await.unwrap_err().reason(), ErrorReason::Unauthenticated);
    assert!(auth.exchange(&new.secret).await.is_ok());
}

/// As the database keeps it.
fn weir_time(house: &House) -> DateTime<Utc> {
    use chrono::SubsecRound as _;
    house.clock.now().trunc_subsecs(6)
}

#[tokio::test]
async fn a_rotation_without_overlap_revokes_at_once() {
    let (_house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let old = auth.key(&organization, &["ai.invoke"]).await;
    rotate(&auth, &key_of(&old).name, Duration::ZERO).await.unwrap();
    assert_eq!(auth.exchange(&old.secret).await.unwrap_err().reason(), ErrorReason::CredentialRevoked);

    let failure = rotate(&auth, &key_of(&old).name, Duration::from_secs(31 * 86_400)).await.unwrap_err();
    assert_eq!(fields(&failure), ["overlap"]);
    let ended = auth.key(&organization, &["ai.invoke"]).await;
    let name = key_of(&ended).name;
    open(auth.operator().revoke_api_key(RevokeApiKeyRequest { name: name.clone() }).await).unwrap();
    assert_eq!(fields(&rotate(&auth, &name, Duration::ZERO).await.unwrap_err()), ["name"]);
}

#[tokio::test]
async fn a_key_has_one_successor_however_often_and_however_concurrently_it_is_rotated() {
    let (house, auth) = House::with_replica().await;
    let other = house.replica(crate::house::settings()).await;
    let organization = auth.organization().await;
    let name = key_of(&auth.key(&organization, &["ai.invoke"]).await).name;
    let hour = Duration::from_secs(3_600);
    let attempts = (0..6).map(|i| rotate(if i % 2 == 0 { &auth } else { &other }, &name, hour));
    let (won, lost): (Vec<_>, Vec<_>) = futures::future::join_all(attempts).await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    let successor = key_of(won[0].as_ref().unwrap()).name;
    for failure in lost.into_iter().map(Result::unwrap_err) {
        assert_eq!(failure.reason(), ErrorReason::AlreadyExists);
        assert_eq!(failure.metadata("rotated_to"), Some(successor.as_str()));
    }
}

#[tokio::test]
async fn a_key_of_a_user_carries_the_user() {
    let (_house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let user = auth.user(&organization, "ada@example.com", Role::Member).await;
    let mut request = new_key(&organization, &["ai.invoke"]);
    request.user = user.name.clone();
    let created = open(auth.operator().create_api_key(request).await).unwrap();
    assert_eq!(key_of(&created).user, user.name);
    let token = auth.exchange(&created.secret).await.unwrap();
    assert_eq!((token.user, token.api_key), (user.name, key_of(&created).name));
}
