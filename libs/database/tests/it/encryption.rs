//! TLS, by both drivers. The certificates are made for this test alone: an authority of its own, and a server `localhost`.

use sqlx::{Connection as _, PgConnection};
use weir_database::{Database, Error, copy};

use crate::config;

const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/ca.pem");

/// Writes a file into the server's directory, readable by nobody else.
async fn write(connection: &mut PgConnection, name: &str, text: &str) -> anyhow::Result<()> {
    let rows: Vec<String> = text.lines().map(|line| format!("('{line}')")).collect();
    let copy = format!("copy (values {}) to program 'umask 077; cat > {name}'", rows.join(", "));
    sqlx::raw_sql(sqlx::AssertSqlSafe(copy)).execute(connection).await?;
    Ok(())
}

async fn is_encrypted(url: &str) -> [Result<bool, Error>; 2] {
    let config = config(url.into());
    let ask = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let by_sqlx = async {
        let database = Database::connect(&config, "alpha").await?;
        // A refused certificate is an outage for whoever has to wait for it.
        let mut transaction = database.begin().await?;
        Ok(sqlx::query_scalar(ask).fetch_one(&mut *transaction).await?)
    };
    let by_deadpool = async {
        let connection = copy::deadpool(&config, "alpha")?.get().await?;
        Ok(connection.query_one(ask, &[]).await?.get(0))
    };
    [by_sqlx.await, by_deadpool.await]
}

#[tokio::test]
async fn both_pools_encrypt_and_verify_as_the_url_says() -> anyhow::Result<()> {
    let server = weir_testing::PostgresServer::start().await?;
    let plain = server.url();
    assert_eq!(is_encrypted(plain).await, [Ok(false), Ok(false)]);
    for refused in is_encrypted(&format!("{plain}?sslmode=require")).await {
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }

    let mut admin = PgConnection::connect(plain).await?;
    write(&mut admin, "server.crt", include_str!("tls/server.pem")).await?;
    write(&mut admin, "server.key", include_str!("tls/server.key")).await?;
    sqlx::raw_sql("alter system set ssl = on").execute(&mut admin).await?;
    server.restart().await?;

    let named = plain.replace("127.0.0.1", "localhost");
    assert_eq!(is_encrypted(&format!("{named}?sslmode=disable")).await, [Ok(false), Ok(false)]);
    for mode in ["", "?sslmode=prefer", "?sslmode=require"] {
        assert_eq!(is_encrypted(&format!("{named}{mode}")).await, [Ok(true), Ok(true)], "{mode}");
    }
    assert_eq!(
        is_encrypted(&format!("{named}?sslmode=verify-full&sslrootcert={AUTHORITY}")).await,
        [Ok(true), Ok(true)]
    );
    // No public authority knows this server.
    for refused in is_encrypted(&format!("{named}?sslmode=verify-full")).await {
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    Ok(())
}
