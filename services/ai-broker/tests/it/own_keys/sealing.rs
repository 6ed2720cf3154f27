//! What lies in the database opens for its tenant alone, under whichever master key it is wrapped.

use std::borrow::Cow;

use sqlx::Executor as _;
use sqlx::migrate::Migrator;
use weir_ai_broker::MIGRATION;
use weir_database::{Database, Migration, migrate};
use weir_proto::broker::v1::ProviderKeyLimits;
use weir_proto::common::v1::ErrorReason;
use weir_types::{Scope, UserId};

use super::{MASTER_1, MASTER_2, broker, first_master, secret, served, settings, simulator};
use crate::database::{connect, database, master};
use crate::scene::chat;

async fn texts(database: &Database, query: &'static str) -> Vec<Vec<u8>> {
    sqlx::query_scalar(query).fetch_all(database.pool()).await.unwrap()
}

#[tokio::test]
async fn nothing_in_the_database_shows_a_secret() {
    let (sim, admin) = (simulator().await, database().await);
    let scene = broker(&sim, connect(&admin.url).await, &first_master()).await;
    let user = UserId::new_v7();
    let key =
        scene.store(&scene.member(user), Some(user), &secret("mine"), ProviderKeyLimits::default()).await.unwrap();
    let rows = "select convert_to(k::text || d::text, 'UTF8') || k.sealed || d.wrapped
                from broker.provider_keys k join broker.data_keys d using (organization_id)";
    let rows = texts(&scene.database, rows).await;
    assert_eq!(rows.len(), 1);
    for part in [b"plugh".as_slice(), b"0123456789"] {
        assert!(!rows[0].windows(part.len()).any(|window| window == part));
    }
    scene.delete(&scene.member(user), &key.name).await.unwrap();
    let sealed = texts(&scene.database, "select sealed from broker.provider_keys").await;
    assert_eq!(sealed, [Vec::<u8>::new()], "a deleted key's secret is gone, sealed or not");
}

#[tokio::test]
async fn a_row_that_is_copied_to_another_tenant_or_user_does_not_open_and_nothing_is_used_in_its_place() {
    let (sim, admin) = (simulator().await, database().await);
    let mut scene = broker(&sim, connect(&admin.url).await, &first_master()).await;
    let (user, thief) = (UserId::new_v7(), UserId::new_v7());
    scene.store(&scene.member(user), Some(user), &secret("mine"), ProviderKeyLimits::default()).await.unwrap();
    let copy = "
        with tick as (update broker.provider_key_clock set revision = revision + 1 returning revision)
        insert into broker.provider_keys (organization_id, key_id, user_id, provider, label, last_four, sealed, revision)
        select $1, key_id, $2, provider, label, last_four, sealed, tick.revision from broker.provider_keys, tick
        where organization_id <> $1 or user_id <> $2 limit 1";
    // To another tenant, together with the data key.
    scene
        .database
        .pool()
        .execute(
            sqlx::query(
                "insert into broker.data_keys (organization_id, wrapped, master_version, revision)
                 select $1, wrapped, master_version, 2 from broker.data_keys",
            )
            .bind(scene.strange.as_uuid()),
        )
        .await
        .unwrap();
    let pool = scene.database.pool().clone();
    pool.execute(sqlx::query(copy).bind(scene.strange.as_uuid()).bind(thief.as_uuid())).await.unwrap();
    scene.bearer = scene.principal(scene.strange, Some(thief), None, &[Scope::AiInvoke]);
    scene
        .eventually("the copy is known, and does not open", async |scene| {
            let failure = scene.invoke(&chat(1, "")).await;
            failure.is_err_and(|failure| failure.reason() == ErrorReason::Unavailable)
        })
        .await;
    // To another user of the same tenant, under the same id or a new one.
    let moved = "with tick as (update broker.provider_key_clock set revision = revision + 1 returning revision)
        update broker.provider_keys set user_id = $2, revision = tick.revision from tick where organization_id = $1";
    let before = served(&sim).len();
    pool.execute(sqlx::query(moved).bind(scene.organization.as_uuid()).bind(thief.as_uuid())).await.unwrap();
    scene.bearer = scene.member(thief);
    scene
        .eventually("the moved one is known, and does not open", async |scene| {
            let failure = scene.invoke(&chat(1, "")).await;
            failure.is_err_and(|failure| failure.reason() == ErrorReason::Unavailable)
        })
        .await;
    assert!(served(&sim)[..before].iter().chain(&served(&sim)).all(|ending| ending != "mine"));
}

#[tokio::test]
async fn another_tenant_sees_and_changes_nothing() {
    let (sim, admin) = (simulator().await, database().await);
    let scene = broker(&sim, connect(&admin.url).await, &first_master()).await;
    let user = UserId::new_v7();
    let key =
        scene.store(&scene.member(user), Some(user), &secret("mine"), ProviderKeyLimits::default()).await.unwrap();
    let stranger = &scene.stranger;
    for refused in [
        scene.rotate(stranger, &key.name, &secret("evil")).await.map(drop),
        scene.delete(stranger, &key.name).await,
        scene.store(stranger, None, &secret("evil"), ProviderKeyLimits::default()).await.map(drop),
        scene.list(stranger, 0).await.map(drop),
    ] {
        assert_eq!(refused.unwrap_err().reason(), ErrorReason::NotFound);
    }
    let mut tx = scene.database.begin_tenant(scene.strange).await.unwrap();
    for table in ["provider_keys", "data_keys"] {
        let seen: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from broker.{table}")))
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        assert_eq!(seen, 0, "{table}: the query forgot its filter");
    }
}

#[tokio::test]
async fn the_master_key_is_rotated_under_load_and_the_old_one_taken_away() {
    let (sim, admin) = (simulator().await, database().await);
    let one = format!("own_keys.master_keys.1 = \"{MASTER_1}\"\n");
    let both = format!("{one}own_keys.master_keys.2 = \"{MASTER_2}\"\n");
    let mut old = broker(&sim, connect(&admin.url).await, &settings(&one, 1)).await;
    let user = UserId::new_v7();
    old.bearer = old.member(user);
    old.store(&old.bearer, Some(user), &secret("mine"), ProviderKeyLimits::default()).await.unwrap();
    let sealed = texts(&old.database, "select sealed from broker.provider_keys").await;
    // Another broker wraps with the next one. This one does not know it, and goes on.
    let new = broker(&sim, connect(&admin.url).await, &settings(&both, 2)).await;
    old.eventually("the data key is wrapped anew", async |scene| {
        scene.invoke(&chat(1, "")).await.unwrap();
        let versions: Vec<i32> = sqlx::query_scalar("select master_version from broker.data_keys")
            .fetch_all(scene.database.pool())
            .await
            .unwrap();
        versions == [2]
    })
    .await;
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        old.invoke(&chat(1, "")).await.unwrap();
    }
    assert_eq!(texts(&old.database, "select sealed from broker.provider_keys").await, sealed, "the secrets stay");
    drop(new);
    // One that has another first master key, and only the second one in common.
    let other = format!("own_keys.master_keys.1 = \"{MASTER_2}\"\nown_keys.master_keys.2 = \"{MASTER_2}\"\n");
    let mut late = broker(&sim, connect(&admin.url).await, &settings(&other, 2)).await;
    late.adopt(&old);
    late.bearer = late.member(user);
    late.invoke(&chat(1, "")).await.unwrap();
    assert!(served(&sim).iter().all(|ending| ending == "mine"));
    // One without it takes nobody's call who has brought a key, until it is configured.
    let mut lost = broker(&sim, connect(&admin.url).await, &settings(&one, 1)).await;
    lost.adopt(&old);
    lost.bearer = lost.member(user);
    assert_eq!(lost.invoke(&chat(1, "")).await.unwrap_err().reason(), ErrorReason::Unavailable);
    lost.reconfigure(&lost.own_keys_config(&settings(&both, 2)));
    lost.eventually("the second master key is taken over", async |scene| scene.invoke(&chat(1, "")).await.is_ok())
        .await;
    assert!(served(&sim).iter().all(|ending| ending == "mine"));
}

#[tokio::test]
async fn a_database_from_before_there_were_own_keys_is_brought_up_to_date() {
    let older: Vec<_> = MIGRATION.migrator.migrations.iter().filter(|one| one.version != 2).cloned().collect();
    let older: &'static Migrator = Box::leak(Box::new(Migrator { migrations: Cow::Owned(older), ..Migrator::DEFAULT }));
    let before = Migration { service: MIGRATION.service, migrator: older };
    let admin = weir_testing::database("broker_before", async |url: String| {
        Ok(migrate(&url.into(), &master(), &[before]).await?)
    });
    let admin = admin.await.unwrap();
    migrate(&admin.url.clone().into(), &master(), &[MIGRATION]).await.unwrap();
    let database = connect(&admin.url).await;
    assert_eq!(texts(&database, "select sealed from broker.provider_keys").await, Vec::<Vec<u8>>::new());
    migrate(&admin.url.clone().into(), &master(), &[MIGRATION]).await.unwrap();
}
