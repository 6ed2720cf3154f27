use weir_types::OrganizationId;

use crate::fixture::{Usage, database, estimate_of, event};

#[tokio::test]
async fn a_query_without_a_filter_sees_its_own_tenant_only() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let (one, two) = (OrganizationId::new_v7(), OrganizationId::new_v7());
    for organization in [one, two, two] {
        let actual = event(organization);
        usage.record(&[estimate_of(&actual)]).await;
        usage.record(&[actual]).await;
    }
    for table in ["events", "event_originals", "rollups_hourly"] {
        let count = format!("select count(*) from usage.{table} where coalesce(cost_nano_usd, 0) >= 0");
        for (organization, expected) in [(one, 1), (two, 2), (OrganizationId::new_v7(), 0)] {
            let unit = usage.store.begin_tenant(organization).await.unwrap();
            let rows: i64 = unit.query_one(&count, &[]).await.unwrap().get(0);
            unit.commit().await.unwrap();
            assert_eq!(rows, expected, "{table}");
        }
        let unit = usage.store.begin().await.unwrap();
        unit.batch_execute("set local role weir_usage_tenant").await.unwrap();
        let rows: i64 = unit.query_one(&count, &[]).await.unwrap().get(0);
        assert_eq!(rows, 0, "{table} without a tenant");
        unit.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn every_table_of_tenants_has_row_level_security_and_tenants_write_nothing() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let open = "count(*) from pg_class c where relnamespace = 'usage'::regnamespace and relkind in ('r', 'p')
         and not relrowsecurity and exists (select from pg_attribute a
           where a.attrelid = c.oid and attname = 'organization_id')";
    assert_eq!(usage.count(open).await, 0);
    let writable = "count(*) from information_schema.role_table_grants
         where grantee = 'weir_usage_tenant' and privilege_type <> 'SELECT'";
    assert_eq!(usage.count(writable).await, 0);
    assert!(usage.store.ping().await.is_ok());
}
