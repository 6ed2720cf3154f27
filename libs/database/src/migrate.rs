//! Brings a database to the state that the services expect: roles, schemas, tables.

use std::{borrow::Cow, time::Duration};

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, migrate::Migrator};
use tokio::time::{Instant, sleep};
use tracing::info;
use weir_config::{MasterKey, Secret};

use crate::{Error, connect_options, role, roles, url};

/// Names the advisory lock: "weir mig" in ASCII.
const LOCK: i64 = 0x7765_6972_206d_6967;
const LOCK_WAIT: Duration = Duration::from_secs(300);
const CONNECT_WAIT: Duration = Duration::from_secs(15);

/// One service's migrations.
#[derive(Clone, Copy)]
pub struct Migration {
    /// The service, and so the schema and the roles.
    pub service: &'static str,
    /// What `sqlx::migrate!()` found.
    pub migrator: &'static Migrator,
}

/// Creates what is missing and runs what is new, for each service under its own role. Safe to run again and from several
/// processes at once: one works, the others wait.
///
/// The role in `admin_url` needs `CREATEROLE` and `CREATE` on the database, no more. The connection must be a session of its own
/// (not PgBouncer in transaction mode).
pub async fn migrate(admin_url: &Secret, master: &MasterKey, migrations: &[Migration]) -> Result<(), Error> {
    let options = connect_options(admin_url.expose(), "migrate")?;
    let connecting = tokio::time::timeout(CONNECT_WAIT, options.connect());
    let mut connection =
        connecting.await.map_err(|_| Error::unavailable("connecting to migrate timed out".to_owned()))??;
    lock(&mut connection).await?;
    let result = migrate_all(&mut connection, master, migrations).await;
    // Closing ends the session, and with it the lock and any role that was taken, whatever went wrong before.
    let closed = connection.close().await;
    result?;
    Ok(closed?)
}

async fn migrate_all(connection: &mut PgConnection, master: &MasterKey, migrations: &[Migration]) -> Result<(), Error> {
    for migration in migrations {
        roles::ensure(connection, migration.service, &url::password(master, migration.service)).await?;
        as_role(connection, migration).await?;
        info!(service = migration.service, "database is up to date");
    }
    Ok(())
}

/// Runs a service's migrations as its role, so that it owns what they create, and can do no more than it may.
async fn as_role(connection: &mut PgConnection, migration: &Migration) -> Result<(), Error> {
    connection.execute(AssertSqlSafe(format!("set role {}", role(migration.service)))).await?;
    // A copy that shares the migrations: where the bookkeeping lies is this library's decision, not the service's.
    let migrator = Migrator {
        migrations: Cow::Borrowed(migration.migrator.migrations.as_ref()),
        ignore_missing: migration.migrator.ignore_missing,
        no_tx: migration.migrator.no_tx,
        // One lock is held over all services and the roles.
        locking: false,
        table_name: Cow::Owned(format!("{}._migrations", migration.service)),
        create_schemas: Cow::Borrowed(&[]),
    };
    let result = migrator.run_direct(None, connection, false).await;
    // Also after a failure: the session goes on to nobody, but the next service must not run as this one.
    let reset = connection.execute("reset role").await;
    result?;
    reset?;
    Ok(())
}

/// Asks again and again instead of waiting in the server: a waiting statement holds a snapshot, for which
/// `create index concurrently` of the process that works would wait in turn.
async fn lock(connection: &mut PgConnection) -> Result<(), Error> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let got: bool =
            sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut *connection).await?;
        if got {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::unavailable("another process is migrating for minutes".to_owned()));
        }
        sleep(Duration::from_millis(50)).await;
    }
}
