use std::time::{Duration, Instant};

use weir_proto::auth::v1::{RevokeApiKeyRequest, WatchRevocationsRequest, revocation::Subject};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Failure;
use weir_testing::PostgresServer;
use weir_types::Clock as _;

use crate::house::{House, key_of, open, settings};

/// Tries until it is available, for at most ten seconds.
async fn eventually<T>(mut attempt: impl AsyncFnMut() -> Result<T, Failure>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(failure) => {
                assert_eq!(failure.reason(), ErrorReason::Unavailable, "{failure}");
                assert!(Instant::now() < deadline, "{failure}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_killed_database_is_unavailable_and_comes_back_without_a_restart_of_auth() {
    let server = PostgresServer::start().await.unwrap();
    let house = House::at(&server).await;
    let auth = house.replica(settings()).await;
    let organization = auth.organization().await;
    let created = auth.key(&organization, &["ai.invoke"]).await;
    auth.exchange(&created.secret).await.unwrap();
    let keys = open(auth.service("quota").get_signing_keys(()).await).unwrap();
    let mut stream =
        eventually(async || open(auth.service("quota").watch_revocations(WatchRevocationsRequest {}).await)).await;

    server.kill9().await;
    let failure = auth.exchange(&created.secret).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::Unavailable, "{failure}");
    assert!(failure.retry_after().is_some());
    assert!(!format!("{failure:?}").contains("127.0.0.1"), "{failure:?}");
    // Verifiers go on.
    assert_eq!(open(auth.service("quota").get_signing_keys(()).await).unwrap(), keys);
    // And learn that nobody can tell them of revocations since.
    let before = house.clock.now();
    house.clock.advance(Duration::from_secs(600));
    for _ in 0..3 {
        let message = stream.message().await.unwrap().unwrap();
        assert_eq!(message.subject, Some(Subject::Heartbeat(())));
        assert!(message.revoke_time.unwrap().seconds <= before.timestamp());
    }

    server.restart().await.unwrap();
    eventually(async || auth.exchange(&created.secret).await).await;
    let name = key_of(&created).name;
    let revoke = RevokeApiKeyRequest { name: name.clone() };
    eventually(async || open(auth.operator().revoke_api_key(revoke.clone()).await)).await;
    let announced = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            match stream.message().await.unwrap().unwrap().subject {
                Some(Subject::Heartbeat(())) => {}
                subject => return subject,
            }
        }
    });
    assert_eq!(announced.await.unwrap(), Some(Subject::ApiKey(name)));
}

#[tokio::test]
async fn auth_starts_without_its_database_and_works_when_it_is_there() {
    let server = PostgresServer::start().await.unwrap();
    let house = House::at(&server).await;
    server.kill9().await;
    let database = house.database().await;
    let service = weir_auth::start(settings().auth, database, &house.context()).await.unwrap();
    assert_eq!(service.name(), "auth");

    let auth = house.replica(settings()).await;
    let failure = open(auth.service("quota").get_signing_keys(()).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::Unavailable);
    server.restart().await.unwrap();
    let keys = eventually(async || open(auth.service("quota").get_signing_keys(()).await)).await;
    assert_eq!(keys.keys.len(), 2);
}
