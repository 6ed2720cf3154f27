use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_types::{OrganizationId, Scope, names};

use crate::billing::{alerting, lifetime, limit};
use crate::house::{House, commit, open, release, reserve, subject};

#[tokio::test]
async fn a_query_without_a_filter_sees_one_tenant_only() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let tenants: Vec<OrganizationId> = (0..3)
        .map(|_| house.tenant(vec![alerting(limit("budget", "organization", "nano_usd", 100, lifetime()), &[1])]))
        .collect();
    for tenant in &tenants {
        let request = reserve(*tenant, &[("nano_usd", 1)]);
        let handle = client.reserve(request.clone()).await.unwrap().into_inner();
        client.commit(commit(&request, &handle, &[("nano_usd", 1)])).await.unwrap();
        client.reserve(reserve(*tenant, &[("nano_usd", 101)])).await.unwrap_err();
        crate::alerts::fired(&engine, *tenant, 1).await;
        crate::explaining::explain_with(&engine, crate::explaining::of(*tenant), 2).await;
    }
    let database = house.database().await;
    for table in ["entitlements", "settlements", "counters", "alerts", "refusals"] {
        let query = format!("select array_agg(organization_id) from quota.{table}");
        let seen = async |mut transaction: sqlx::Transaction<'_, sqlx::Postgres>| -> Vec<uuid::Uuid> {
            let query = sqlx::query_scalar::<_, Option<Vec<uuid::Uuid>>>(sqlx::AssertSqlSafe(query.clone()));
            query.fetch_one(&mut *transaction).await.unwrap().unwrap_or_default()
        };
        assert_eq!(seen(database.begin_tenant(tenants[0]).await.unwrap()).await, [*tenants[0].as_uuid()], "{table}");
        assert!(seen(database.begin_tenant(OrganizationId::new_v7()).await.unwrap()).await.is_empty(), "{table}");
        assert_eq!(seen(database.begin().await.unwrap()).await.len(), 3, "{table}: workers see all");
    }
}

#[tokio::test]
async fn every_tenant_table_has_row_level_security() {
    let house = House::new().await;
    let open_tables: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
         join pg_attribute a on a.attrelid = c.oid and a.attname = 'organization_id'
         where n.nspname = 'quota' and c.relkind = 'r' and not c.relrowsecurity",
    )
    .fetch_all(house.database().await.pool())
    .await
    .unwrap();
    assert_eq!(open_tables, Vec::<String>::new());
}

#[tokio::test]
async fn a_principal_sees_its_own_limits_and_nobody_elses() {
    let house = House::new().await;
    let engine = house.engine().await;
    let ours = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
    let theirs = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
    let mut client = engine.as_service("facade");
    let reader = engine.deployment.principal(ours, None, None, [Scope::QuotaRead]);
    let balance = |tenant| GetBalanceRequest { subject: Some(subject(tenant)) };
    client.get_balance(reader.request(balance(ours))).await.unwrap();
    let failure = open(client.get_balance(reader.request(balance(theirs))).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::NotFound);
    let check = CheckRequest { subject: Some(subject(theirs)), amounts: Vec::new() };
    assert_eq!(open(client.check(reader.request(check)).await).unwrap_err().reason(), ErrorReason::NotFound);
    let list = |tenant| ListAlertsRequest { parent: names::organization(&tenant), ..Default::default() };
    client.list_alerts(reader.request(list(ours))).await.unwrap();
    let failure = open(client.list_alerts(reader.request(list(theirs))).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::NotFound);
    let other = engine.deployment.principal(ours, None, None, [Scope::AiInvoke]);
    let failure = open(client.list_alerts(other.request(list(ours))).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::PermissionDenied);
    let failure = open(client.get_balance(other.request(balance(ours))).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::PermissionDenied);
}

#[tokio::test]
async fn only_those_who_must_can_change_anything() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 100, lifetime())]);
    let request = reserve(tenant, &[("nano_usd", 1)]);
    let handle = ReserveResponse::default();
    let all = engine.deployment.principal(tenant, None, None, Scope::ALL.iter().copied());
    let mut client = engine.client();
    let denied = |reason| assert_eq!(reason, ErrorReason::PermissionDenied);
    denied(open(client.reserve(all.request(request.clone())).await).unwrap_err().reason());
    denied(open(client.commit(all.request(commit(&request, &handle, &[]))).await).unwrap_err().reason());
    denied(open(client.release(all.request(release(&request, &handle))).await).unwrap_err().reason());
    denied(open(client.get_status(all.request(GetStatusRequest {})).await).unwrap_err().reason());
    let watch = all.request(WatchAlertsRequest::default());
    denied(client.watch_alerts(watch).await.map_err(weir_rpc::Failure::from).map(drop).unwrap_err().reason());
    let mut stranger = engine.as_service("usage");
    denied(open(stranger.reserve(request).await).unwrap_err().reason());
    let list = ListSettlementsRequest { organization: names::organization(&tenant), after: String::new() };
    denied(stranger.list_settlements(list).await.map_err(weir_rpc::Failure::from).map(drop).unwrap_err().reason());
}
