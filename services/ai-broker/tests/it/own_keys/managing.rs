//! Who may do what with which key.

use prost_types::FieldMask;
use weir_proto::broker::v1 as proto;
use weir_proto::broker::v1::ProviderKeyLimits;
use weir_proto::common::v1::ErrorReason;
use weir_types::{ApiKeyId, Scope, UserId, names};

use super::{broker, first_master, opened, secret, simulator};
use crate::database::{connect, database};

fn none() -> ProviderKeyLimits {
    ProviderKeyLimits::default()
}

#[tokio::test]
async fn members_keep_their_own_keys_and_administrators_those_of_the_organisation() {
    let (sim, admin) = (simulator().await, database().await);
    let scene = broker(&sim, connect(&admin.url).await, &first_master()).await;
    let (one, other) = (UserId::new_v7(), UserId::new_v7());
    let (member, colleague, chief) = (scene.member(one), scene.member(other), scene.admin(UserId::new_v7()));
    let mine = scene.store(&member, Some(one), &secret("mine"), none()).await.unwrap();
    let ours = scene.store(&chief, None, &secret("ours"), none()).await.unwrap();
    let denied = |refused: weir_rpc::Failure| assert_eq!(refused.reason(), ErrorReason::PermissionDenied, "{refused}");
    denied(scene.store(&member, None, &secret("next"), none()).await.unwrap_err());
    denied(scene.store(&colleague, Some(one), &secret("next"), none()).await.unwrap_err());
    denied(scene.store(&chief, Some(one), &secret("next"), none()).await.unwrap_err());
    denied(scene.rotate(&member, &ours.name, &secret("next")).await.unwrap_err());
    denied(scene.delete(&member, &ours.name).await.unwrap_err());
    // What somebody else has is nobody's business, but that of those who manage keys: they end it, and can't take it over.
    assert_eq!(scene.delete(&colleague, &mine.name).await.unwrap_err().reason(), ErrorReason::NotFound);
    denied(scene.rotate(&chief, &mine.name, &secret("next")).await.unwrap_err());
    let seen = async |bearer| {
        let keys = scene.list(bearer, 0).await.unwrap().provider_keys;
        keys.into_iter().map(|key| key.last_four).collect::<Vec<_>>()
    };
    assert_eq!(seen(&member).await, ["ours", "mine"]);
    assert_eq!(seen(&colleague).await, ["ours"]);
    assert_eq!(seen(&chief).await, ["ours", "mine"]);
    let page = scene.list(&chief, 1).await.unwrap();
    assert_eq!(page.provider_keys.len(), 1);
    let request = proto::ListProviderKeysRequest {
        parent: names::organization(&scene.organization),
        page_size: 1,
        page_token: page.next_page_token,
    };
    let page = opened(scene.keys.clone().list_provider_keys(chief.request(request)).await).unwrap();
    assert_eq!((page.provider_keys[0].last_four.as_str(), page.next_page_token.as_str()), ("mine", ""));
    scene.delete(&chief, &mine.name).await.unwrap();
    assert_eq!(scene.delete(&chief, &mine.name).await.unwrap_err().reason(), ErrorReason::NotFound);
    assert_eq!(seen(&member).await, ["ours"]);
}

#[tokio::test]
async fn a_credential_that_may_only_call_models_sends_nobodys_calls_elsewhere() {
    let (sim, admin) = (simulator().await, database().await);
    let scene = broker(&sim, connect(&admin.url).await, &first_master()).await;
    let user = UserId::new_v7();
    let program = scene.principal(scene.organization, Some(user), Some(ApiKeyId::new_v7()), &[Scope::AiInvoke]);
    let refused = scene.store(&program, Some(user), &secret("evil"), none()).await.unwrap_err();
    assert_eq!((refused.reason(), refused.metadata("scope")), (ErrorReason::PermissionDenied, Some("keys.manage")));
    let key = scene.store(&scene.member(user), Some(user), &secret("mine"), none()).await.unwrap();
    for refused in
        [scene.rotate(&program, &key.name, &secret("evil")).await.map(drop), scene.delete(&program, &key.name).await]
    {
        assert_eq!(refused.unwrap_err().reason(), ErrorReason::PermissionDenied);
    }
}

#[tokio::test]
async fn what_can_not_be_a_key_is_refused_by_name() {
    let (sim, admin) = (simulator().await, database().await);
    let scene = broker(&sim, connect(&admin.url).await, &first_master()).await;
    let user = UserId::new_v7();
    let member = scene.member(user);
    for bad in ["sk-short", "sk-plugh 0123456789 abcd", "sk-plugh-0123456789\r\nx: y"] {
        let refused = scene.store(&member, Some(user), bad, none()).await.unwrap_err();
        assert_eq!((refused.reason(), refused.fields()[0].subject.as_str()), (ErrorReason::InvalidArgument, "secret"));
        assert!(!format!("{refused:?}").contains("plugh"), "{refused:?}");
    }
    let negative = ProviderKeyLimits { tokens_per_minute: -1, ..none() };
    let refused = scene.store(&member, Some(user), &secret("mine"), negative).await.unwrap_err();
    assert_eq!(refused.fields()[0].subject, "provider_key.limits.tokens_per_minute");
    scene.store(&member, Some(user), &secret("mine"), none()).await.unwrap();
    let second = scene.store(&member, Some(user), &secret("next"), none()).await.unwrap_err();
    assert_eq!(second.reason(), ErrorReason::AlreadyExists);
    let (organization, mine) = (scene.organization, secret("mine"));
    let stored = scene.store_for("nobody", organization, &scene.bearer, None, &mine, none()).await;
    assert_eq!(stored.unwrap_err().fields()[0].subject, "provider_key.provider");
}

#[tokio::test]
async fn label_and_limits_change_one_by_one_and_are_in_force_at_once() {
    let (sim, admin) = (simulator().await, database().await);
    let mut scene = broker(&sim, connect(&admin.url).await, &first_master()).await;
    let user = UserId::new_v7();
    scene.bearer = scene.member(user);
    let limits = ProviderKeyLimits { requests_per_minute: 3, tokens_per_minute: 4, cost_nano_usd_per_month: 5 };
    let key = scene.store(&scene.bearer, Some(user), &secret("mine"), limits).await.unwrap();
    let update = async |changed: proto::ProviderKey, paths: &[&str]| {
        let paths = paths.iter().map(|&path| path.to_owned()).collect();
        let changed = proto::ProviderKey { name: key.name.clone(), ..changed };
        let request =
            proto::UpdateProviderKeyRequest { provider_key: Some(changed), update_mask: Some(FieldMask { paths }) };
        opened(scene.keys.clone().update_provider_key(scene.bearer.request(request)).await)
    };
    let renamed = proto::ProviderKey { label: "new".into(), ..Default::default() };
    let changed = update(renamed, &["label"]).await.unwrap();
    assert_eq!((changed.label.as_str(), changed.limits), ("new", Some(limits)));
    let changed = update(proto::ProviderKey::default(), &["limits.tokens_per_minute"]).await.unwrap();
    assert_eq!((changed.label.as_str(), changed.limits.unwrap().tokens_per_minute), ("new", 0));
    assert_eq!(changed.limits.unwrap().requests_per_minute, 3);
    assert!(update(proto::ProviderKey::default(), &["provider"]).await.is_err());
    scene.invoke(&crate::scene::chat(1, "")).await.unwrap();
    let reserved = scene.siblings.reserved.lock().values().next().cloned().unwrap();
    let caps: Vec<_> = reserved.limits.iter().map(|limit| limit.amount).collect();
    assert_eq!(caps, [3, weir_types::MAX_AMOUNT, 5]);
    // When it was used last is written down in a while.
    let request = proto::GetProviderKeyRequest { name: key.name.clone() };
    let now = opened(scene.keys.clone().get_provider_key(scene.bearer.request(request)).await).unwrap();
    assert!(now.update_time != key.update_time && now.create_time == key.create_time);
    scene.shut_down().await;
    let used: i64 = sqlx::query_scalar("select count(*) from broker.provider_keys where used_at is not null")
        .fetch_one(scene.database.pool())
        .await
        .unwrap();
    assert_eq!(used, 1);
}
