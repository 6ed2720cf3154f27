use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ED25519, UnparsedPublicKey};
use sqlx::Row as _;
use weir_proto::auth::v1::{GetOrganizationRequest, PrincipalToken, SigningKey, SigningKeys};
use weir_proto::common::v1::ErrorReason;

use crate::house::{House, Replica, bearer, by, open, settings};

async fn keys(auth: &Replica) -> Vec<SigningKey> {
    open(auth.service("quota").get_signing_keys(()).await).unwrap().keys
}

fn current(keys: &[SigningKey]) -> &SigningKey {
    let mut current = keys.iter().filter(|key| key.current);
    let one = current.next().unwrap();
    assert!(current.next().is_none());
    one
}

fn key_id(token: &PrincipalToken) -> String {
    let header = token.token.split('.').next().unwrap();
    let header: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(header["alg"], "EdDSA");
    header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_verifies_by_the_published_key_that_it_names() {
    let (_house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let token = auth.exchange(&auth.key(&organization, &["ai.invoke"]).await.secret).await.unwrap();
    let keys = keys(&auth).await;
    assert_eq!(keys.len(), 2, "the next one is published already");
    assert_eq!(key_id(&token), current(&keys).key_id);
    let (message, signature) = token.token.rsplit_once('.').unwrap();
    UnparsedPublicKey::new(&ED25519, &current(&keys).public_key)
        .verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
}

#[tokio::test]
async fn replicas_that_start_together_on_an_empty_database_agree() {
    let house = House::new().await;
    let replicas = futures::future::join_all((0..4).map(|_| house.replica(settings()))).await;
    let sets: Vec<_> = futures::future::join_all(replicas.iter().map(keys)).await;
    assert_eq!(sets[0].len(), 2);
    assert!(sets.iter().all(|set| *set == sets[0]));
}

#[tokio::test]
async fn a_rotation_takes_the_key_that_was_published_and_old_tokens_stay_good() {
    let house = House::new().await;
    let mut fast = settings();
    fast.auth.signing.reload_every = Duration::from_millis(100);
    let auth = house.replica(fast).await;
    let other = house.replica(settings()).await;
    let organization = auth.organization().await;
    let secret = auth.key(&organization, &["ai.invoke"]).await.secret;
    let old_token = auth.exchange(&secret).await.unwrap();
    let before = keys(&auth).await;
    let next = before.iter().find(|key| !key.current).unwrap();

    let SigningKeys { keys: after } = open(other.operator().rotate_signing_key(()).await).unwrap();
    assert_eq!(current(&after).key_id, next.key_id);
    assert_eq!(after.len(), 3, "current, the new next one, and the retired one");
    assert_eq!(keys(&auth).await, after, "the other replica publishes the same at once");

    // The other replica hears of it by itself, and signs with it.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while key_id(&auth.exchange(&secret).await.unwrap()) != next.key_id {
        assert!(std::time::Instant::now() < deadline, "the other replica goes on with the retired key");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let request = GetOrganizationRequest { name: organization.name.clone() };
    assert!(auth.operator().get_organization(by(&bearer(&old_token), request)).await.is_ok());
}

#[tokio::test]
async fn keys_rotate_by_age_once_for_all_replicas_and_retired_ones_go_when_their_last_token_has_ended() {
    let house = House::new().await;
    let fast = || {
        let mut settings = settings();
        settings.auth.signing.reload_every = Duration::from_millis(100);
        settings.auth.housekeeping.every = Duration::from_millis(100);
        settings
    };
    let auth = house.replica(fast()).await;
    let _others = futures::future::join_all((0..3).map(|_| house.replica(fast()))).await;
    let before = keys(&auth).await;
    let next = before.iter().find(|key| !key.current).unwrap().key_id.clone();

    house.clock.advance(fast().auth.signing.rotate_every);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while current(&keys(&auth).await).key_id != next {
        assert!(std::time::Instant::now() < deadline, "nobody rotates");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = keys(&auth).await;
    assert_eq!((after.len(), &current(&after).key_id), (3, &next), "rotated once, not once per replica");

    house.clock.advance(Duration::from_secs(3_600));
    assert_eq!(keys(&auth).await.len(), 2);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let database = house.database().await;
    loop {
        let count: i64 =
            sqlx::query_scalar("select count(*) from auth.signing_keys").fetch_one(database.pool()).await.unwrap();
        if count == 2 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "retired keys are never deleted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_key_that_was_tampered_with_signs_nothing() {
    let house = House::new().await;
    let auth = house.replica(settings()).await;
    let organization = auth.organization().await;
    let secret = auth.key(&organization, &["ai.invoke"]).await.secret;
    assert!(auth.exchange(&secret).await.is_ok());
    auth.stop().await;

    // Somebody with access to the database, but not to the master key, puts in a key of their own.
    let database = house.database().await;
    let rows = sqlx::query("select id, sealed_seed from auth.signing_keys where state = 'next'")
        .fetch_all(database.pool())
        .await
        .unwrap();
    let sealed: Vec<u8> = rows[0].get("sealed_seed");
    sqlx::query("update auth.signing_keys set sealed_seed = $1 where state = 'current'")
        .bind(sealed)
        .execute(database.pool())
        .await
        .unwrap();
    let restarted = house.replica(settings()).await;
    let failure = restarted.exchange(&secret).await.unwrap_err();
    assert_eq!((failure.reason(), failure.message()), (ErrorReason::Internal, "internal error"));
}
