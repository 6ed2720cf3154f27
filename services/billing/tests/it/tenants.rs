use weir_proto::billing::v1::SetSubscriptionRequest;
use weir_proto::usage::v1::UsageEvent;
use weir_types::OrganizationId;

use crate::house::{House, name};
use crate::usage::event;

const TABLES: [&str; 6] =
    ["subscriptions", "rated_events", "unrated_events", "ledger_transactions", "ledger_entries", "price_mismatches"];

#[tokio::test]
async fn a_query_without_a_filter_sees_its_own_tenant_only() {
    let (house, replica) = House::with_replica().await;
    let organizations = [OrganizationId::new_v7(), OrganizationId::new_v7()];
    for organization in organizations {
        let request = SetSubscriptionRequest {
            organization: name(organization),
            plan: "plans/pro".to_owned(),
            ..SetSubscriptionRequest::default()
        };
        replica.operator().set_subscription(request).await.unwrap();
        house.usage.record(UsageEvent { cost_nano_usd: 1, ..event(organization, 10, 10) });
        house.usage.record(UsageEvent { model: "unheard-of".to_owned(), ..event(organization, 10, 10) });
    }
    replica.rated().await;
    let database = house.database().await;
    for table in TABLES {
        let owners = |table: &str| sqlx::AssertSqlSafe(format!("select distinct organization_id from billing.{table}"));
        let mut tx = database.begin_tenant(organizations[0]).await.unwrap();
        let seen: Vec<uuid::Uuid> = sqlx::query_scalar(owners(table)).fetch_all(&mut *tx).await.unwrap();
        assert_eq!(seen, [*organizations[0].as_uuid()], "{table}");
        drop(tx);
        let mut tx = database.begin_tenant(OrganizationId::new_v7()).await.unwrap();
        let seen: Vec<uuid::Uuid> = sqlx::query_scalar(owners(table)).fetch_all(&mut *tx).await.unwrap();
        assert!(seen.is_empty(), "{table}");
        let delete = sqlx::AssertSqlSafe(format!("delete from billing.{table}"));
        assert!(sqlx::query(delete).execute(&mut *tx).await.is_err(), "{table}: tenants only read");
        drop(tx);
        let mut tx = database.begin().await.unwrap();
        let all: Vec<uuid::Uuid> = sqlx::query_scalar(owners(table)).fetch_all(&mut *tx).await.unwrap();
        assert_eq!(all.len(), 2, "{table}: workers see all");
    }
}

#[tokio::test]
async fn every_table_with_an_organisation_is_under_row_level_security() {
    let house = House::new().await;
    let mut superuser = house.superuser().await;
    let unprotected: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id'
         where c.relnamespace = 'billing'::regnamespace and c.relkind = 'r' and not c.relrowsecurity",
    )
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    assert_eq!(unprotected, Vec::<String>::new());
}
