use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Revoked;
use weir_rpc::testing::Deployment;
use weir_types::{ApiKeyId, OrganizationId, Scope, UserId};

async fn reason(deployment: &Deployment, token: &str) -> Option<ErrorReason> {
    deployment.verifier().verify(token).await.err().map(|error| error.reason())
}

#[tokio::test]
async fn a_revoked_key_is_refused_though_its_token_is_remembered_and_others_are_not() {
    let deployment = Deployment::new().await;
    let (organization, key, other) = (OrganizationId::new_v7(), ApiKeyId::new_v7(), ApiKeyId::new_v7());
    let token = deployment.sign(&deployment.claims(organization, None, Some(key), [Scope::AiInvoke]));
    let spared = deployment.sign(&deployment.claims(organization, None, Some(other), [Scope::AiInvoke]));
    assert_eq!(reason(&deployment, &token).await, None);
    deployment.verifier().revoke(Revoked::ApiKey(organization, key));
    assert_eq!(reason(&deployment, &token).await, Some(ErrorReason::CredentialRevoked));
    // Also a token of it that was never seen.
    let unseen = deployment.sign(&deployment.claims(organization, None, Some(key), [Scope::AiInvoke]));
    assert_eq!(reason(&deployment, &unseen).await, Some(ErrorReason::CredentialRevoked));
    assert_eq!(reason(&deployment, &spared).await, None);
}

#[tokio::test]
async fn what_auth_revokes_is_refused_here_and_told_on_also_after_the_stream_broke() {
    let deployment = Deployment::new().await;
    let (organization, user) = (OrganizationId::new_v7(), UserId::new_v7());
    let token = deployment.sign(&deployment.claims(organization, Some(user), None, [Scope::AiInvoke]));
    assert_eq!(reason(&deployment, &token).await, None);

    deployment.set_auth_down(true);
    let mut news = deployment.verifier().revocations().subscribe();
    let shutdown = CancellationToken::new();
    let follower = tokio::spawn({
        let (verifier, shutdown) = (deployment.verifier().clone(), shutdown.clone());
        async move { verifier.follow_revocations(shutdown).await }
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(deployment.watchers(), 0);
    deployment.set_auth_down(false);
    for _ in 0..6_000 {
        if deployment.watchers() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    deployment.publish(Revoked::User(organization, user));
    let told = tokio::time::timeout(Duration::from_secs(60), news.recv()).await.unwrap().unwrap();
    assert_eq!(told, Revoked::User(organization, user));
    assert_eq!(reason(&deployment, &token).await, Some(ErrorReason::CredentialRevoked));
    assert!(deployment.verifier().lag().is_some_and(|lag| lag < Duration::from_secs(5)));

    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(60), follower).await.unwrap().unwrap();
}
