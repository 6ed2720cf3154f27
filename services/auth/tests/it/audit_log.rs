use std::time::Duration;

use weir_proto::auth::v1::{DisableUserRequest, RevokeApiKeyRequest, Role, RotateApiKeyRequest};

use crate::house::{House, PASSWORD, by, key_of, new_key, open, settings};

type Line = (Option<uuid::Uuid>, String, String, String, String);

async fn lines(house: &House) -> Vec<Line> {
    sqlx::query_as("select organization_id, actor, action, target, detail from auth.audit_log order by id")
        .fetch_all(house.database().await.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn who_did_what_is_written_down_and_no_secret_with_it() {
    let (house, auth) = House::with_replica().await;
    let organization = auth.organization().await;
    let user = auth.user(&organization, "ada@example.com", Role::Admin).await;
    let ada = crate::house::bearer(&auth.sign_in("ada@example.com", PASSWORD).await.unwrap());
    let mut client = auth.operator();
    let key = open(client.create_api_key(by(&ada, new_key(&organization, &["ai.invoke"]))).await).unwrap();
    let rotate = RotateApiKeyRequest {
        name: key_of(&key).name,
        overlap: Some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
    };
    let new = open(client.rotate_api_key(by(&ada, rotate)).await).unwrap();
    let revoke = RevokeApiKeyRequest { name: key_of(&new).name };
    open(client.revoke_api_key(by(&ada, revoke.clone())).await).unwrap();
    open(client.revoke_api_key(by(&ada, revoke)).await).unwrap();
    auth.sign_in("ada@example.com", "hunter2 hunter2").await.unwrap_err();
    auth.sign_in("hunter3@example.com", "hunter2 hunter2").await.unwrap_err();
    open(client.disable_user(DisableUserRequest { name: user.name.clone() }).await).unwrap();
    open(client.rotate_signing_key(()).await).unwrap();

    let lines = lines(&house).await;
    let ada = format!("user:{}", &user.name[57..]);
    let said: Vec<_> = lines.iter().map(|(_, actor, action, target, _)| (&**actor, &**action, &**target)).collect();
    assert_eq!(
        said,
        [
            ("service:operator", "organization.create", &*organization.name),
            ("service:operator", "user.create", &*user.name),
            (&*ada, "api_key.create", &*key_of(&key).name),
            (&*ada, "api_key.rotate", &*key_of(&key).name),
            (&*ada, "api_key.revoke", &*key_of(&new).name),
            ("", "sign_in.fail", &*user.name),
            ("", "sign_in.fail", ""),
            ("service:operator", "user.disable", &*user.name),
            ("service:operator", "signing_key.rotate", ""),
        ]
    );
    let text = format!("{lines:?}");
    for secret in [&key.secret[38..], &new.secret[38..], PASSWORD, "hunter2", "hunter3"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn old_lines_are_deleted() {
    let house = House::new().await;
    let mut settings = settings();
    settings.auth.housekeeping.every = Duration::from_millis(50);
    // Whose lines would be among them.
    settings.auth.signing.rotate_every = Duration::from_secs(1 << 40);
    let keep = settings.auth.housekeeping.audit_log;
    let auth = house.replica(settings).await;
    auth.organization().await;
    house.clock.advance(keep - Duration::from_secs(60));
    auth.organization().await;
    assert_eq!(lines(&house).await.len(), 2);
    house.clock.advance(Duration::from_secs(61));
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while lines(&house).await.len() != 1 {
        assert!(std::time::Instant::now() < deadline, "{:?}", lines(&house).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
