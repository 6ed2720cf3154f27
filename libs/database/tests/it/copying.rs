use std::{pin::pin, time::Duration};

use tokio_postgres::{binary_copy::BinaryCopyInWriter, types::Type};
use weir_database::{Error, copy, service_url};
use weir_types::OrganizationId;

use crate::{config, master, migrated};

#[tokio::test]
async fn rows_are_copied_and_conflicts_are_named() -> anyhow::Result<()> {
    let database = migrated().await?;
    let config = config(service_url(&database.url.as_str().into(), &master(), "alpha"));
    let pool = copy::deadpool(&config, "alpha")?;
    let organization = OrganizationId::new_v7();
    for expected in [Ok(100), Err(Error::Conflict { constraint: "thing_name_key".to_owned() })] {
        let mut connection = pool.get().await?;
        let transaction = copy::begin(&mut connection, &config).await?;
        let sink = transaction
            .copy_in("copy alpha.thing (organization_id, name) from stdin (format binary)")
            .await
            .map_err(Error::from)?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::UUID, Type::TEXT]));
        for number in 0..100 {
            writer.as_mut().write(&[organization.as_uuid(), &format!("thing {number}")]).await?;
        }
        let copied = writer.as_mut().finish().await.map_err(Error::from);
        assert_eq!(copied, expected);
        if copied.is_ok() {
            transaction.commit().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_slow_statement_and_an_exhausted_pool_are_unavailable() -> anyhow::Result<()> {
    let database = migrated().await?;
    let mut config = config(service_url(&database.url.as_str().into(), &master(), "alpha"));
    config.max_connections = 1;
    config.acquire_timeout = Duration::from_millis(300);
    let pool = copy::deadpool(&config, "alpha")?;
    let mut connection = pool.get().await?;
    let transaction = copy::begin(&mut connection, &config).await?;
    let slow = transaction.batch_execute("select pg_sleep(20)").await.map_err(Error::from);
    assert!(matches!(slow, Err(Error::Unavailable(_))), "{slow:?}");
    drop(transaction);
    let exhausted = pool.get().await.map(drop).map_err(Error::from);
    assert!(matches!(exhausted, Err(Error::Unavailable(_))), "{exhausted:?}");
    let none = connection.query_one("select 1 where false", &[]).await.map(drop).map_err(Error::from);
    assert_eq!(none, Err(Error::NotFound));
    Ok(())
}
