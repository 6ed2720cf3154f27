use std::time::{Duration, Instant};

use weir_proto::auth::v1::{CreateUserRequest, Role};
use weir_proto::common::v1::ErrorReason;

use crate::house::{House, PASSWORD, fields, open, settings};

#[tokio::test]
async fn who_knows_the_password_gets_a_token_of_their_role() {
    let (_house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let user = auth.user(&organization, "ada@example.com", Role::Admin).await;
    let token = auth.sign_in("ADA@example.com", PASSWORD).await.unwrap();
    assert_eq!((&token.user, token.api_key.as_str()), (&user.name, ""));
    assert_eq!(token.scopes.len(), 7);
}

#[tokio::test]
async fn a_wrong_password_an_unknown_address_and_a_user_without_password_look_alike() {
    let (_house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    auth.user(&organization, "ada@example.com", Role::Admin).await;
    let request =
        CreateUserRequest { parent: organization.name.clone(), email: "bot@example.com".into(), ..Default::default() };
    open(auth.operator().create_user(request).await).unwrap();
    let mut answers = Vec::new();
    for (email, password) in
        [("ada@example.com", "wrong"), ("eve@example.com", PASSWORD), ("bot@example.com", ""), ("bot@example.com", "x")]
    {
        let failure = auth.sign_in(email, password).await.unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::Unauthenticated);
        answers.push(failure.message().to_owned());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");

    let failure = auth.sign_in("nobody", &"x".repeat(1025)).await.unwrap_err();
    assert_eq!(fields(&failure), ["email", "password"]);
}

#[tokio::test]
async fn an_unknown_address_takes_as_long_as_a_wrong_password() {
    let house = House::new().await;
    let mut settings = settings();
    // Enough to stand out from the rest of a sign-in, in a build without optimisation.
    settings.auth.passwords.memory_kib = 4096;
    let auth = house.replica(settings).await;
    let organization = auth.organization().await;
    auth.user(&organization, "ada@example.com", Role::Admin).await;
    let mut shortest = [Duration::MAX; 2];
    for _ in 0..9 {
        // In turns, and the shortest of each: other tests are at work on the same cores.
        for (shortest, email) in shortest.iter_mut().zip(["ada@example.com", "eve@example.com"]) {
            let started = Instant::now();
            auth.sign_in(email, "a wrong password").await.unwrap_err();
            *shortest = started.elapsed().min(*shortest);
        }
    }
    let ratio = shortest[1].as_secs_f64() / shortest[0].as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "known {:?}, unknown {:?}", shortest[0], shortest[1]);
}
