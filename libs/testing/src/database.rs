//! A database per test, copied from a template in milliseconds.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls, error::SqlState};
use uuid::Uuid;

use crate::postgres;

/// Databases that a killed test left behind are dropped after this.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3600);
const TEST_PREFIX: &str = "weir_test_";

/// A database of the test's own; dropped with it.
pub struct TestDatabase {
    /// The superuser's URL of this database.
    pub url: String,
    /// Its name.
    pub name: String,
    admin_url: String,
}

/// Creates a database as a copy of a template, which `build` fills the first time anybody asks for it (it gets the superuser's
/// URL of the empty database). All tests of one test program share the template, in parallel processes too; a program that
/// was built anew builds its templates anew.
pub async fn database(
    template: &str,
    build: impl AsyncFnOnce(String) -> anyhow::Result<()>,
) -> anyhow::Result<TestDatabase> {
    ensure!(
        template.len() <= 16 && template.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
        "a template's name has at most 16 of a-z, 0-9 and _: {template:?}"
    );
    let admin_url = postgres().await?.url();
    let admin = connect(admin_url).await?;
    let template = ensure_template(&admin, admin_url, template, build).await?;
    let name = format!("{TEST_PREFIX}{}", Uuid::now_v7().simple());
    admin.batch_execute(&format!("create database {name} template {template}")).await?;
    Ok(TestDatabase { url: with_database(admin_url, &name)?, name, admin_url: admin_url.to_owned() })
}

async fn ensure_template(
    admin: &Client,
    admin_url: &str,
    template: &str,
    build: impl AsyncFnOnce(String) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let (program, version) = fingerprint()?;
    let family = format!("weir_template_{template}_{program:08x}_");
    let name = format!("{family}{version:08x}");
    let exists = async || admin.query_opt("select from pg_database where datname = $1", &[&name]).await;
    if exists().await?.is_some() {
        return Ok(name);
    }
    // One process builds, the others wait; the lock goes with the session, whatever becomes of the process.
    admin.execute("select pg_advisory_lock(hashtextextended($1, 0))", &[&family]).await?;
    if exists().await?.is_none() {
        sweep(admin, &family).await?;
        let draft = format!("{name}_draft");
        admin.batch_execute(&format!("drop database if exists {draft} with (force)")).await?;
        admin.batch_execute(&format!("create database {draft}")).await?;
        build(with_database(admin_url, &draft)?).await.with_context(|| format!("building the template {template}"))?;
        publish(admin, &draft, &name).await?;
    }
    admin.execute("select pg_advisory_unlock(hashtextextended($1, 0))", &[&family]).await?;
    Ok(name)
}

/// Only a whole template gets the name that others look for.
async fn publish(admin: &Client, draft: &str, name: &str) -> anyhow::Result<()> {
    for _ in 0..1_500 {
        // A pool of the builder may still be closing its connections.
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", &[&draft]).await?;
        match admin.batch_execute(&format!("alter database {draft} rename to {name}")).await {
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => sleep(Duration::from_millis(20)).await,
            result => return Ok(result?),
        }
    }
    anyhow::bail!("the template's builder keeps connections to it open")
}

/// Drops the templates of this program's older builds, and what killed tests left behind.
async fn sweep(admin: &Client, family: &str) -> anyhow::Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // The first 48 bits of a UUIDv7 are milliseconds, so names sort by time.
    let oldest = format!("{TEST_PREFIX}{:012x}", now.saturating_sub(LEFT_BEHIND).as_millis());
    let rows = admin
        .query(
            "select datname::text from pg_database
             where starts_with(datname, $1) or (starts_with(datname, $2) and datname::text collate \"C\" < $3)",
            &[&family, &TEST_PREFIX, &oldest],
        )
        .await?;
    for row in rows {
        let name: String = row.get(0);
        // Somebody else may be dropping the same.
        let _ = admin.batch_execute(&format!("drop database if exists {name} with (force)")).await;
    }
    Ok(())
}

/// The running test program, and its build.
fn fingerprint() -> anyhow::Result<(u32, u32)> {
    let path = std::env::current_exe()?;
    let metadata = path.metadata()?;
    let hash = |feed: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        feed(&mut hasher);
        u32::try_from(hasher.finish() >> 32).unwrap_or_default()
    };
    let modified = metadata.modified()?;
    Ok((hash(&|hasher| path.hash(hasher)), hash(&|hasher| (metadata.len(), modified).hash(hasher))))
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (url, name) = (self.admin_url.clone(), self.name.clone());
        // A thread of its own: the test's runtime can't be waited for from within, and may be shutting down.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let admin = connect(&url).await?;
                admin.batch_execute(&format!("drop database if exists {name} with (force)")).await?;
                anyhow::Ok(())
            })
        });
        if let Ok(Err(error)) = dropping.join() {
            // The test itself has ended; a database that stays is swept up later.
            eprintln!("test database {} stays behind: {error:#}", self.name);
        }
    }
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let connecting = tokio_postgres::connect(url, NoTls);
    let (client, connection) = tokio::time::timeout(Duration::from_secs(10), connecting)
        .await
        .context("the test Postgres does not answer")?
        .context("connecting to the test Postgres")?;
    // It ends when the client is dropped.
    tokio::spawn(connection);
    Ok(client)
}

fn with_database(admin_url: &str, name: &str) -> anyhow::Result<String> {
    let mut url = url::Url::parse(admin_url).context("the test Postgres's URL")?;
    url.set_path(name);
    Ok(url.into())
}

pub(crate) fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
