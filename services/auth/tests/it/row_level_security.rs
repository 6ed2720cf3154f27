use sqlx::Executor as _;
use weir_proto::auth::v1::{DisableUserRequest, Organization, RevokeApiKeyRequest, Role};

use crate::house::{House, Replica, id_of, key_of, open};

/// Rows in every table of the tenant.
async fn inhabit(auth: &Replica, email: &str) -> Organization {
    let organization = auth.organization().await;
    let user = auth.user(&organization, email, Role::Member).await;
    let key = key_of(&auth.key(&organization, &["ai.invoke"]).await);
    open(auth.operator().revoke_api_key(RevokeApiKeyRequest { name: key.name }).await).unwrap();
    open(auth.operator().disable_user(DisableUserRequest { name: user.name }).await).unwrap();
    organization
}

const TENANT_TABLES: [&str; 5] = ["organizations", "users", "api_keys", "revocations", "audit_log"];

#[tokio::test]
async fn a_query_without_a_filter_sees_one_organisation() {
    let (house, auth) = House::with_replica().await;
    let mine = id_of(&inhabit(&auth, "ada@example.com").await);
    inhabit(&auth, "bob@example.com").await;
    let database = house.database().await;
    for table in TENANT_TABLES {
        let column = if table == "organizations" { "id" } else { "organization_id" };
        let query = format!("select count(*), count(*) filter (where {column} = $1) from auth.{table}");
        let count = async |tx: &mut sqlx::PgConnection| -> (i64, i64) {
            let query = sqlx::query_as(sqlx::AssertSqlSafe(query.clone())).bind(mine.as_uuid());
            query.fetch_one(tx).await.unwrap()
        };
        let (all, own) = count(&mut database.begin().await.unwrap()).await;
        assert!(all > own && own > 0, "{table}: {all} rows, {own} of them ours");
        assert_eq!(count(&mut database.begin_tenant(mine).await.unwrap()).await, (own, own), "{table}");
    }
}

#[tokio::test]
async fn a_tenant_changes_no_row_of_another_and_plants_none() {
    let (house, auth) = House::with_replica().await;
    let mine = id_of(&inhabit(&auth, "ada@example.com").await);
    let theirs = id_of(&inhabit(&auth, "bob@example.com").await);
    let database = house.database().await;
    let mut tx = database.begin_tenant(mine).await.unwrap();
    let changed = tx.execute("update auth.api_keys set revoked_at = null").await.unwrap().rows_affected();
    assert_eq!(changed, 1);
    let planted = sqlx::query(
        "insert into auth.audit_log (organization_id, at, actor, action, target, detail) values ($1, now(), '', '', '', '')",
    )
    .bind(theirs.as_uuid())
    .execute(&mut *tx)
    .await;
    assert!(planted.unwrap_err().to_string().contains("row-level security"));
}

#[tokio::test]
async fn no_tenant_reads_a_hash_or_a_signing_key_even_of_its_own() {
    let (house, auth) = House::with_replica().await;
    let mine = id_of(&inhabit(&auth, "ada@example.com").await);
    let database = house.database().await;
    for query in [
        "select password_hash from auth.users",
        "select * from auth.users",
        "select secret_hash from auth.api_keys",
        "select id from auth.signing_keys",
        "update auth.users set role = 'admin'",
        "delete from auth.audit_log",
        "delete from auth.revocations",
    ] {
        let mut tx = database.begin_tenant(mine).await.unwrap();
        let refused = tx.execute(query).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{query}: {refused}");
    }
}

/// So that a table that somebody adds later can't be forgotten.
#[tokio::test]
async fn every_table_that_names_an_organisation_has_row_level_security_and_a_policy() {
    let house = House::new().await;
    let tables: Vec<(String, bool, i64)> = sqlx::query_as(
        "select c.relname::text, c.relrowsecurity,
                (select count(*) from pg_policy p where p.polrelid = c.oid)
         from pg_class c
         where c.relnamespace = 'auth'::regnamespace and c.relkind = 'r' and c.relname <> '_migrations'
         order by 1",
    )
    .fetch_all(house.database().await.pool())
    .await
    .unwrap();
    assert_eq!(tables.len(), TENANT_TABLES.len() + 1);
    for (table, secured, policies) in tables {
        assert!(secured, "{table}");
        assert_eq!(policies, i64::from(TENANT_TABLES.contains(&table.as_str())), "{table}");
    }
}
