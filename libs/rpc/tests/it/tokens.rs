use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use weir_config::MasterKey;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::testing::Deployment;
use weir_rpc::{Caller, Channel, LocalSlot, PrincipalClaims, ServiceIdentity};
use weir_types::{ManualClock, OrganizationId, Scope};

use crate::harness::{Broker, Client, body, failure, stacked, text};

type Bend = fn(&mut PrincipalClaims);

fn claims(deployment: &Deployment) -> PrincipalClaims {
    deployment.claims(OrganizationId::new_v7(), None, None, [Scope::AiInvoke])
}

async fn reason(deployment: &Deployment, token: &str) -> Option<ErrorReason> {
    deployment.verifier().verify(token).await.err().map(|error| error.reason())
}

#[tokio::test]
async fn a_token_is_good_from_its_beginning_to_its_end() {
    let clock = Arc::new(ManualClock::new(chrono::Utc::now()));
    let deployment = Deployment::at(clock.clone()).await;
    let token = deployment.sign(&claims(&deployment));
    assert_eq!(reason(&deployment, &token).await, None);
    clock.advance(Duration::from_secs(299));
    assert_eq!(reason(&deployment, &token).await, None);
    // It is remembered, and must end all the same.
    clock.advance(Duration::from_secs(1));
    assert_eq!(reason(&deployment, &token).await, Some(ErrorReason::Unauthenticated));
}

#[tokio::test]
async fn a_token_that_says_something_else_is_refused() {
    let deployment = Deployment::new().await;
    let bend: [(&str, Bend); 8] = [
        ("issuer", |claims| claims.iss = "weir-service".into()),
        ("audience", |claims| claims.aud = "other".into()),
        ("not yet", |claims| claims.nbf += 60),
        ("no longer", |claims| claims.exp -= 301),
        ("for too long", |claims| claims.exp += 7200),
        ("organisation", |claims| claims.org = "42".into()),
        ("user", |claims| claims.user = Some("42".into())),
        ("scope", |claims| claims.scope = "root".into()),
    ];
    for (what, bend) in bend {
        let mut claims = claims(&deployment);
        bend(&mut claims);
        let token = deployment.sign(&claims);
        assert_eq!(reason(&deployment, &token).await, Some(ErrorReason::Unauthenticated), "{what}");
    }
}

#[tokio::test]
async fn the_algorithm_is_never_taken_from_the_token() {
    let deployment = Deployment::new().await;
    let good = deployment.sign(&claims(&deployment));
    let kid = jsonwebtoken::decode_header(&good).unwrap().kid;
    // The classic: signed by HMAC with something public, under the id of a real key.
    let mut header = Header::new(Algorithm::HS256);
    header.kid = kid;
    let forged = jsonwebtoken::encode(&header, &claims(&deployment), &EncodingKey::from_secret(b"public key")).unwrap();
    assert_eq!(reason(&deployment, &forged).await, Some(ErrorReason::Unauthenticated));
    // A principal token that comes without a key id is tried as a service token, and is none.
    let forged = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims(&deployment),
        &EncodingKey::from_secret(&deployment.master().derive("service-tokens")),
    )
    .unwrap();
    assert_eq!(reason(&deployment, &forged).await, Some(ErrorReason::Unauthenticated));
}

#[tokio::test]
async fn a_token_with_one_character_changed_is_refused_though_the_good_one_is_remembered() {
    let deployment = Deployment::new().await;
    let token = deployment.sign(&claims(&deployment));
    assert_eq!(reason(&deployment, &token).await, None);
    let at = token.find('.').unwrap() + 10;
    let other = if &token[at..=at] == "A" { "B" } else { "A" };
    let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
    assert_eq!(reason(&deployment, &changed).await, Some(ErrorReason::Unauthenticated));
}

#[tokio::test]
async fn keys_are_fetched_when_a_new_one_appears_and_not_for_every_invention() {
    let deployment = Deployment::new().await;
    assert_eq!(reason(&deployment, &deployment.sign(&claims(&deployment))).await, None);
    assert_eq!(deployment.key_fetches(), 1);

    let started = std::time::Instant::now();
    for _ in 0..50 {
        let token = deployment.sign(&claims(&deployment));
        let (_, rest) = token.split_once('.').unwrap();
        // {"typ":"JWT","alg":"EdDSA","kid":"invented"}
        let invented = format!("eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSIsImtpZCI6ImludmVudGVkIn0.{rest}");
        assert_eq!(reason(&deployment, &invented).await, Some(ErrorReason::Unauthenticated));
    }
    // At most once a second.
    let fetches = deployment.key_fetches();
    assert!(fetches <= 2 + usize::try_from(started.elapsed().as_secs()).unwrap(), "{fetches}");

    deployment.rotate_signing_key();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(reason(&deployment, &deployment.sign(&claims(&deployment))).await, None);
    assert!(deployment.key_fetches() <= fetches + 1);
}

#[tokio::test]
async fn when_auth_is_down_known_keys_go_on_and_unknown_ones_are_told_to_come_back() {
    let deployment = Deployment::new().await;
    let known = deployment.sign(&claims(&deployment));
    assert_eq!(reason(&deployment, &known).await, None);
    deployment.set_auth_down(true);
    let new_token_of_a_known_key = deployment.sign(&claims(&deployment));
    deployment.rotate_signing_key();
    let unknown = deployment.sign(&claims(&deployment));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(reason(&deployment, &known).await, None);
    assert_eq!(reason(&deployment, &new_token_of_a_known_key).await, None);
    assert_eq!(reason(&deployment, &unknown).await, Some(ErrorReason::Unavailable));
    deployment.set_auth_down(false);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(reason(&deployment, &unknown).await, None);
}

#[tokio::test]
async fn a_service_of_another_deployment_is_refused() {
    let deployment = Deployment::new().await;
    let slot = LocalSlot::new("ai-broker");
    slot.fill(stacked(&deployment, Broker::default()).await);
    let stranger = ServiceIdentity::new("facade", &MasterKey::generate().unwrap());
    let mut client = Client::new(Channel::local(slot.clone(), stranger, deployment.config()));
    assert_eq!(failure(client.invoke(body("x")).await).reason(), ErrorReason::Unauthenticated);
    let own = ServiceIdentity::new("facade", deployment.master());
    assert!(!format!("{own:?}").contains("ey"), "no token in what is printed");
    let mut client = Client::new(Channel::local(slot, own, deployment.config()));
    assert_eq!(text(client.invoke(body("x")).await), "x");
}

#[tokio::test]
async fn a_verified_token_says_who_it_is() {
    let deployment = Deployment::new().await;
    let organization = OrganizationId::new_v7();
    let claims = deployment.claims(organization, None, None, [Scope::AiInvoke, Scope::UsageRead]);
    let caller = deployment.verifier().verify(&deployment.sign(&claims)).await.unwrap();
    let Caller::Principal(principal) = &*caller else { panic!("a principal") };
    assert_eq!(principal.organization, organization);
    assert_eq!(principal.token_expires.timestamp(), claims.exp);
    assert!(caller.has(Scope::UsageRead) && !caller.has(Scope::KeysManage));
}
