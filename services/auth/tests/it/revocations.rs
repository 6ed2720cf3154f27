use std::time::{Duration, Instant};

use tonic::Streaming;
use weir_proto::auth::v1::{
    DisableUserRequest, GetOrganizationRequest, Revocation, RevokeApiKeyRequest, Role, RotateApiKeyRequest,
    WatchRevocationsRequest, revocation::Subject,
};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Failure;
use weir_types::Clock as _;

use crate::house::{House, Replica, key_of, open, settings};

/// Watches, as soon as the replica has read what there is.
async fn watch(auth: &Replica) -> Streaming<Revocation> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match auth.service("quota").watch_revocations(WatchRevocationsRequest {}).await {
            Ok(stream) => return stream.into_inner(),
            Err(status) => {
                assert_eq!(Failure::from(status).reason(), ErrorReason::Unavailable);
                assert!(Instant::now() < deadline, "never ready");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// What comes next that is no heartbeat.
async fn next(stream: &mut Streaming<Revocation>) -> Subject {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(60), stream.message()).await.unwrap().unwrap().unwrap();
        match message.subject.unwrap() {
            Subject::Heartbeat(()) => {}
            subject => return subject,
        }
    }
}

async fn revoke(auth: &Replica, name: &str) {
    open(auth.operator().revoke_api_key(RevokeApiKeyRequest { name: name.into() }).await).unwrap();
}

#[tokio::test]
async fn a_revocation_reaches_the_watchers_of_every_replica_without_polling() {
    let (house, auth) = House::with_replica().await;
    let mut only_listening = settings();
    let only_listening_polls = Duration::from_secs(10);
    only_listening.auth.revocations.poll_every = only_listening_polls;
    let other = house.replica(only_listening).await;
    let organization = auth.organization().await;
    let user = auth.user(&organization, "ada@example.com", Role::Member).await;
    let (mut here, mut there) = (watch(&auth).await, watch(&other).await);
    // Listening begins beside reading: the first one may be found by polling, and then the next poll is far away.
    let mut fastest = Duration::MAX;
    for nth in 0..5 {
        let name = key_of(&auth.key(&organization, &["ai.invoke"]).await).name;
        revoke(&auth, &name).await;
        let acknowledged = Instant::now();
        assert_eq!(next(&mut there).await, Subject::ApiKey(name.clone()));
        if nth > 0 {
            fastest = fastest.min(acknowledged.elapsed());
        }
        assert_eq!(next(&mut here).await, Subject::ApiKey(name));
    }
    assert!(fastest < only_listening_polls / 2, "{fastest:?}");

    open(auth.operator().disable_user(DisableUserRequest { name: user.name.clone() }).await).unwrap();
    assert_eq!(next(&mut there).await, Subject::User(user.name));
}

#[tokio::test]
async fn without_notifications_polling_bounds_the_lag() {
    let (house, auth) = House::with_replica().await;
    let mut deaf = settings();
    deaf.auth.revocations.listen = false;
    let other = house.replica(deaf).await;
    let organization = auth.organization().await;
    let mut there = watch(&other).await;
    let name = key_of(&auth.key(&organization, &["ai.invoke"]).await).name;
    revoke(&auth, &name).await;
    assert_eq!(next(&mut there).await, Subject::ApiKey(name));
}

#[tokio::test]
async fn a_new_watcher_first_gets_what_still_matters_then_signs_of_life() {
    let (house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let old = key_of(&auth.key(&organization, &["ai.invoke"]).await).name;
    let recent = key_of(&auth.key(&organization, &["ai.invoke"]).await).name;
    revoke(&auth, &old).await;
    house.clock.advance(Duration::from_secs(300));
    revoke(&auth, &recent).await;
    // A token of the first could have lived until now, not longer.
    house.clock.advance(Duration::from_secs(61));

    // A replica that has just started knows as much.
    let restarted = house.replica(settings()).await;
    let mut stream = watch(&restarted).await;
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.subject, Some(Subject::ApiKey(recent)));
    for _ in 0..2 {
        let message = tokio::time::timeout(Duration::from_secs(60), stream.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(message.subject, Some(Subject::Heartbeat(())));
        assert_eq!(message.revoke_time.unwrap().seconds, house.clock.now().timestamp());
    }
}

#[tokio::test]
async fn tokens_of_a_rotated_key_end_with_an_overlap_that_is_shorter_than_they_live() {
    let (house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let mut stream = watch(&auth).await;
    let key = key_of(&auth.key(&organization, &["ai.invoke"]).await).name;
    let overlap = prost_types::Duration { seconds: 30, nanos: 0 };
    let request = RotateApiKeyRequest { name: key.clone(), overlap: Some(overlap) };
    open(auth.operator().rotate_api_key(request).await).unwrap();
    // A revocation of something else overtakes it: it is not in force yet.
    let other = key_of(&auth.key(&organization, &["ai.invoke"]).await).name;
    revoke(&auth, &other).await;
    assert_eq!(next(&mut stream).await, Subject::ApiKey(other));
    house.clock.advance(Duration::from_secs(30));
    assert_eq!(next(&mut stream).await, Subject::ApiKey(key));
}

#[tokio::test]
async fn a_watcher_that_does_not_keep_up_is_dropped_and_may_watch_again() {
    let house = House::new().await;
    let mut small = settings();
    small.auth.revocations.backlog = 2;
    let auth = house.replica(small).await;
    let organization = auth.organization().await;
    let mut slow = watch(&auth).await;
    let mut names = Vec::new();
    for _ in 0..6 {
        let name = key_of(&auth.key(&organization, &["ai.invoke"]).await).name;
        revoke(&auth, &name).await;
        names.push(name);
    }
    // Until the replica has published the last one.
    loop {
        let mut fresh = watch(&auth).await;
        let mut known = 0;
        while let Some(Subject::ApiKey(_)) = fresh.message().await.unwrap().unwrap().subject {
            known += 1;
        }
        if known == names.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Two that were kept for it at most, a heartbeat or two, then the end.
    let mut got = 0;
    let failure = loop {
        match slow.message().await {
            Ok(message) => {
                assert!(message.is_some() && got < 10, "{got} messages, and the stream goes on as if all was sent")
            }
            Err(status) => break Failure::from(status),
        }
        got += 1;
    };
    assert_eq!(failure.reason(), ErrorReason::Overloaded, "{failure}");
}

#[tokio::test]
async fn streams_end_when_the_service_stops() {
    let (_house, auth) = House::with_replica().await;
    let mut stream = watch(&auth).await;
    auth.stop().await;
    let ended = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            if let Err(status) = stream.message().await {
                return Failure::from(status);
            }
        }
    });
    assert_eq!(ended.await.unwrap().reason(), ErrorReason::Unavailable);
}

#[tokio::test]
async fn a_revocation_that_is_rolled_back_is_not_announced() {
    let (house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let mut stream = watch(&auth).await;
    let missing = format!("{}/apiKeys/{}", organization.name, weir_types::ApiKeyId::new_v7());
    let failure = open(auth.operator().revoke_api_key(RevokeApiKeyRequest { name: missing }).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::NotFound);
    let count: i64 = sqlx::query_scalar("select count(*) from auth.revocations")
        .fetch_one(house.database().await.pool())
        .await
        .unwrap();
    assert_eq!(count, 0);
    let name = key_of(&auth.key(&organization, &["ai.invoke"]).await).name;
    revoke(&auth, &name).await;
    assert_eq!(next(&mut stream).await, Subject::ApiKey(name));
}

#[tokio::test]
async fn a_verifier_that_follows_refuses_the_tokens_of_a_revoked_key() {
    let (house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let created = auth.key(&organization, &["ai.invoke"]).await;
    let token = crate::house::bearer(&auth.exchange(&created.secret).await.unwrap());
    let request = || token.request(GetOrganizationRequest { name: organization.name.clone() });
    assert!(auth.operator().get_organization(request()).await.is_ok());
    revoke(&auth, &key_of(&created).name).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match open(auth.operator().get_organization(request()).await) {
            Ok(_) => assert!(Instant::now() < deadline, "still accepted"),
            Err(failure) => {
                assert_eq!(failure.reason(), ErrorReason::CredentialRevoked);
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(house);
}
