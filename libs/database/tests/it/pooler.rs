//! Behind a real PgBouncer in transaction mode, one that knows nothing of prepared statements (before 1.21) or tracks none.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::future::try_join_all;
use weir_database::{Database, copy, service_url};
use weir_types::OrganizationId;

use crate::{config, master, migrated};

struct Pooler(Child);

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The pooler, and the URL of the database behind it.
async fn start(dir: &std::path::Path, database: &str) -> anyhow::Result<(Pooler, String)> {
    let mut url = url::Url::parse(database)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let host = url.host_str().context("a host")?;
    let users = dir.join("users.txt");
    std::fs::write(&users, "\"weir_alpha\" \"\"\n")?;
    let text = format!(
        "[databases]\n* = host={host} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = trust
auth_file = {}\npool_mode = transaction\ndefault_pool_size = 2\nunix_socket_dir =\n",
        url.port().unwrap_or(5432),
        users.display(),
    );
    let ini = dir.join("pgbouncer.ini");
    std::fs::write(&ini, text)?;
    let mut command = Command::new("pgbouncer");
    // It refuses to run as root; the option is of no effect for others.
    if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        command.args(["-u", "nobody"]);
        for path in [dir, &ini, &users] {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
    }
    let pooler = Pooler(command.arg(&ini).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("pgbouncer")?);
    url.set_port(Some(port)).ok();
    let until = Instant::now() + Duration::from_secs(60);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        anyhow::ensure!(Instant::now() < until, "pgbouncer does not listen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok((pooler, url.into()))
}

#[tokio::test]
#[ignore = "needs PgBouncer: apt-get install pgbouncer"]
async fn tenants_and_copies_work_behind_a_transaction_pooler() -> anyhow::Result<()> {
    let database = migrated().await?;
    let dir = tempfile::tempdir()?;
    let (_pooler, url) = start(dir.path(), &database.url).await?;
    let mut config = config(service_url(&url.into(), &master(), "alpha"));
    config.statement_cache_capacity = 0;
    // Several services' worth of pools, whose drivers number their statements alike, over two connections of the server.
    let mut pools = Vec::new();
    for _ in 0..3 {
        pools.push((Database::connect(&config, "alpha").await?, copy::deadpool(&config, "alpha")?));
    }
    let config = &config;
    let rounds = pools.iter().flat_map(|pools| std::iter::repeat_n(pools, 20)).enumerate();
    try_join_all(rounds.map(async |(number, (alpha, pool))| {
        let organization = OrganizationId::new_v7();
        let mut transaction = alpha.begin_tenant(organization).await?;
        for suffix in ["a", "b"] {
            sqlx::query("insert into alpha.thing (organization_id, name) values ($1, $2)")
                .bind(organization.as_uuid())
                .bind(format!("{number}{suffix}"))
                .execute(&mut *transaction)
                .await?;
        }
        let own: i64 = sqlx::query_scalar("select count(*) from alpha.thing").fetch_one(&mut *transaction).await?;
        assert_eq!(own, 2);
        transaction.commit().await?;

        let mut connection = pool.get().await?;
        let transaction = copy::begin(&mut connection, config).await?;
        let row = transaction
            .query_one("select count(*) from alpha.thing where organization_id = $1", &[organization.as_uuid()])
            .await?;
        assert_eq!(row.get::<_, i64>(0), 2);
        transaction.commit().await?;
        anyhow::Ok(())
    }))
    .await?;
    Ok(())
}
