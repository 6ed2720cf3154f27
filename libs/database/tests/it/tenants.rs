use sqlx::{Executor as _, Postgres, Transaction};
use weir_database::Error;
use weir_types::OrganizationId;

use crate::{alpha, migrated};

async fn names(transaction: &mut Transaction<'static, Postgres>) -> anyhow::Result<Vec<String>> {
    Ok(sqlx::query_scalar("select name from alpha.thing order by name").fetch_all(&mut **transaction).await?)
}

async fn insert(
    transaction: &mut Transaction<'static, Postgres>,
    organization: OrganizationId,
    name: &str,
) -> Result<(), Error> {
    sqlx::query("insert into alpha.thing (organization_id, name) values ($1, $2)")
        .bind(organization.as_uuid())
        .bind(name)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_query_without_a_filter_sees_only_the_tenants_own_rows() -> anyhow::Result<()> {
    let database = migrated().await?;
    let alpha = alpha(&database).await?;
    let (one, other) = (OrganizationId::new_v7(), OrganizationId::new_v7());
    for (organization, name) in [(one, "ones"), (other, "others")] {
        let mut transaction = alpha.begin_tenant(organization).await?;
        insert(&mut transaction, organization, name).await?;
        transaction.commit().await?;
    }

    let mut transaction = alpha.begin_tenant(one).await?;
    assert_eq!(names(&mut transaction).await?, ["ones"]);
    let changed = transaction.execute("update alpha.thing set amount = 1").await?.rows_affected();
    assert_eq!(changed, 1);
    let deleted = transaction.execute("delete from alpha.thing where name = 'others'").await?.rows_affected();
    assert_eq!(deleted, 0);
    transaction.commit().await?;

    assert_eq!(names(&mut alpha.begin_tenant(OrganizationId::new_v7()).await?).await?, [""; 0]);
    // The service itself sees all, on the same connections: nothing of a tenant's transaction outlives it.
    assert_eq!(names(&mut alpha.begin().await?).await?, ["ones", "others"]);
    Ok(())
}

#[tokio::test]
async fn a_tenant_can_not_write_rows_of_another() -> anyhow::Result<()> {
    let database = migrated().await?;
    let alpha = alpha(&database).await?;
    let mut transaction = alpha.begin_tenant(OrganizationId::new_v7()).await?;
    let written = insert(&mut transaction, OrganizationId::new_v7(), "theirs").await;
    assert!(matches!(&written, Err(Error::Internal(text)) if text.contains("row-level security")), "{written:?}");
    Ok(())
}

#[tokio::test]
async fn without_the_setting_a_tenants_role_sees_nothing() -> anyhow::Result<()> {
    let database = migrated().await?;
    let alpha = alpha(&database).await?;
    let organization = OrganizationId::new_v7();
    let mut transaction = alpha.begin_tenant(organization).await?;
    insert(&mut transaction, organization, "ones").await?;
    transaction.commit().await?;

    let mut transaction = alpha.begin().await?;
    transaction.execute("set local role weir_alpha_tenant").await?;
    assert_eq!(names(&mut transaction).await?, [""; 0]);
    // Once set in a session, the setting remains as an empty string: no tenant either.
    transaction.execute("set local weir.organization = ''").await?;
    assert_eq!(names(&mut transaction).await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_is_dropped_leaves_its_connection_clean() -> anyhow::Result<()> {
    let database = migrated().await?;
    let mut config =
        crate::config(weir_database::service_url(&database.url.as_str().into(), &crate::master(), "alpha"));
    config.max_connections = 1;
    let alpha = weir_database::Database::connect(&config, "alpha").await?;
    let organization = OrganizationId::new_v7();
    let mut transaction = alpha.begin_tenant(organization).await?;
    insert(&mut transaction, organization, "lost").await?;
    drop(transaction);
    let state: (String, String, Option<String>) = sqlx::query_as(
        "select current_user::text, current_setting('statement_timeout'),
                nullif(current_setting('weir.organization', true), '')",
    )
    .fetch_one(alpha.pool())
    .await?;
    assert_eq!(state, ("weir_alpha".to_owned(), "1min".to_owned(), None));
    assert_eq!(names(&mut alpha.begin().await?).await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_missing_tenant_role_does_not_spoil_the_pool() -> anyhow::Result<()> {
    let database = migrated().await?;
    let mut config =
        crate::config(weir_database::service_url(&database.url.as_str().into(), &crate::master(), "alpha"));
    config.max_connections = 1;
    let strange = weir_database::Database::connect(&config, "nobody").await?;
    for _ in 0..3 {
        let refused = strange.begin_tenant(OrganizationId::new_v7()).await;
        assert!(matches!(refused, Err(Error::Internal(_))), "{refused:?}");
        strange.begin().await?.commit().await?;
    }
    Ok(())
}
