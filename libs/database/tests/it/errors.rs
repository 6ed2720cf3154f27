use std::time::{Duration, Instant};

use sqlx::Executor as _;
use weir_database::{Database, Error};
use weir_types::OrganizationId;

use crate::{alpha, config, migrated};

async fn fails(database: &Database, sql: &'static str) -> anyhow::Result<Error> {
    let mut transaction = database.begin().await?;
    match transaction.execute(sql).await {
        Ok(_) => anyhow::bail!("{sql} works"),
        Err(error) => Ok(error.into()),
    }
}

#[tokio::test]
async fn constraints_are_named() -> anyhow::Result<()> {
    let database = migrated().await?;
    let alpha = alpha(&database).await?;
    let twice = "insert into alpha.thing (organization_id, name)
                 select '01890000-0000-7000-8000-000000000000', 'same' from generate_series(1, 2)";
    let error = fails(&alpha, twice).await?;
    assert_eq!(error, Error::Conflict { constraint: "thing_name_key".to_owned() });
    assert!(error.is_conflict("thing_name_key") && !error.is_conflict("thing_pkey"));
    let negative = "insert into alpha.thing (organization_id, name, amount) values (gen_random_uuid(), 'debt', -1)";
    assert!(fails(&alpha, negative).await?.is_conflict("thing_amount_check"));
    let nameless = "insert into alpha.thing (organization_id) values (gen_random_uuid())";
    assert!(matches!(fails(&alpha, nameless).await?, Error::Internal(_)));
    Ok(())
}

#[tokio::test]
async fn a_slow_statement_is_ended_and_counts_as_unavailable() -> anyhow::Result<()> {
    let database = migrated().await?;
    let alpha = alpha(&database).await?;
    assert!(matches!(fails(&alpha, "select pg_sleep(600)").await?, Error::Unavailable(_)));
    // In a tenant's transaction, too.
    let mut transaction = alpha.begin_tenant(OrganizationId::new_v7()).await?;
    let slow = transaction.execute("select pg_sleep(600)").await.map_err(Error::from);
    assert!(matches!(slow, Err(Error::Unavailable(_))), "{slow:?}");
    Ok(())
}

#[tokio::test]
async fn an_exhausted_pool_is_unavailable_in_time() -> anyhow::Result<()> {
    let database = migrated().await?;
    let mut config = config(weir_database::service_url(&database.url.as_str().into(), &crate::master(), "alpha"));
    config.max_connections = 1;
    config.acquire_timeout = Duration::from_millis(200);
    let alpha = Database::connect(&config, "alpha").await?;
    let held = alpha.begin().await?;
    let started = Instant::now();
    assert!(matches!(alpha.begin().await, Err(Error::Unavailable(_))));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    drop(held);
    alpha.begin().await?;
    Ok(())
}

#[tokio::test]
async fn races_are_told_apart() -> anyhow::Result<()> {
    let database = migrated().await?;
    let alpha = alpha(&database).await?;
    let insert = "insert into alpha.thing (organization_id, name) values (gen_random_uuid(), 'one')";
    let mut setup = alpha.begin().await?;
    setup.execute(insert).await?;
    setup.commit().await?;

    let mut first = alpha.begin().await?;
    let mut second = alpha.begin().await?;
    for transaction in [&mut first, &mut second] {
        transaction.execute("set transaction isolation level repeatable read").await?;
        transaction.execute("select * from alpha.thing").await?;
    }
    first.execute("update alpha.thing set amount = amount + 1").await?;
    first.commit().await?;
    let lost = second.execute("update alpha.thing set amount = amount + 1").await.map_err(Error::from);
    assert_eq!(lost.err(), Some(Error::Serialization));
    Ok(())
}

#[tokio::test]
async fn a_deadlock_is_a_lost_race() -> anyhow::Result<()> {
    let database = migrated().await?;
    let mut config = config(weir_database::service_url(&database.url.as_str().into(), &crate::master(), "alpha"));
    // The server looks for deadlocks after a second.
    config.statement_timeout = Duration::from_secs(20);
    let alpha = Database::connect(&config, "alpha").await?;
    let mut first = alpha.begin().await?;
    let mut second = alpha.begin().await?;
    first.execute("select pg_advisory_xact_lock(1)").await?;
    second.execute("select pg_advisory_xact_lock(2)").await?;
    let (one, other) = futures::join!(
        first.execute("select pg_advisory_xact_lock(2)"),
        second.execute("select pg_advisory_xact_lock(1)")
    );
    // Whichever the server picked; the other one got its lock when the first rolled back, or waits no longer.
    let errors: Vec<Error> = [one.err(), other.err()].into_iter().flatten().map(Error::from).collect();
    assert_eq!(errors, [Error::Serialization]);
    Ok(())
}

#[tokio::test]
async fn a_missing_row_and_bad_sql_are_told_apart() -> anyhow::Result<()> {
    let database = migrated().await?;
    let alpha = alpha(&database).await?;
    let none = sqlx::query_scalar::<_, String>("select name from alpha.thing").fetch_one(alpha.pool()).await;
    assert_eq!(none.map_err(Error::from), Err(Error::NotFound));
    assert!(matches!(fails(&alpha, "selec 1").await?, Error::Internal(_)));
    // What a client may see says nothing about the database.
    assert_eq!(fails(&alpha, "select secret from nowhere").await?.to_string(), "database error");
    Ok(())
}

/// As behind a pooler: what one client prepared on the server's connection, another one finds there.
#[tokio::test]
async fn a_transaction_does_not_mind_what_another_client_prepared() -> anyhow::Result<()> {
    let database = migrated().await?;
    let mut config = config(weir_database::service_url(&database.url.as_str().into(), &crate::master(), "alpha"));
    config.statement_cache_capacity = 0;
    config.max_connections = 1;
    let alpha = Database::connect(&config, "alpha").await?;
    for number in 0..3_i64 {
        let mut transaction = alpha.begin().await?;
        let inherited: i64 =
            sqlx::query_scalar("select count(*) from pg_prepared_statements where statement not like '%pg_prepared%'")
                .fetch_one(&mut *transaction)
                .await?;
        assert_eq!(inherited, 0);
        for next in number..number + 3 {
            transaction.execute(sqlx::AssertSqlSafe(format!("prepare sqlx_s_{} as select 1", 100 + next))).await?;
            let got: i64 = sqlx::query_scalar("select $1").bind(next).fetch_one(&mut *transaction).await?;
            assert_eq!(got, next);
        }
        transaction.commit().await?;
    }
    Ok(())
}
