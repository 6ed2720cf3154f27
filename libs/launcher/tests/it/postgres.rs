use std::path::Path;
use std::process::Command;

use weir_launcher::{Postgres, PostgresOptions};

/// Runs a statement by `psql` and answers its output, or its error.
fn ask(url: &str, statement: &str) -> Result<String, String> {
    let output = Command::new("psql").args([url, "-Atc", statement]).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

#[tokio::test]
async fn a_throw_away_server_leaves_nothing_behind() {
    let server = Postgres::start(PostgresOptions::default()).await.unwrap();
    assert_eq!(ask(server.admin_url(), "select 1 + 1").unwrap(), "2");
    let dir = ask(server.admin_url(), "show data_directory").unwrap();
    assert!(Path::new(&dir).exists());
    server.stop().await.unwrap();
    assert!(!Path::new(&dir).exists());
}

#[tokio::test]
async fn committed_rows_survive_kill_9_and_restart_on_the_same_port() {
    let mut server = Postgres::start(PostgresOptions { durable: true, ..PostgresOptions::default() }).await.unwrap();
    let url = server.admin_url().to_owned();
    ask(&url, "create table kept as select 42 as answer").unwrap();
    server.kill9();
    assert!(server.pid().is_none());
    assert!(ask(&url, "select 1").is_err());
    server.restart().await.unwrap();
    assert_eq!(server.admin_url(), url);
    assert_eq!(ask(&url, "select answer from kept").unwrap(), "42");
}

#[tokio::test]
async fn a_kept_directory_keeps_its_data_and_asks_for_its_password() {
    let dir = std::env::temp_dir().join(format!("weir-launcher-kept-{}", std::process::id()));
    let options = PostgresOptions { dir: Some(dir.clone()), durable: true, ..PostgresOptions::default() };
    let server = Postgres::start(options.clone()).await.unwrap();
    ask(server.admin_url(), "create table kept as select 42 as answer").unwrap();
    let (user, host) = server.admin_url().split_once('@').unwrap();
    let stranger = format!("{}:wrong@{host}", user.rsplit_once(':').unwrap().0);
    assert!(ask(&stranger, "select 1").unwrap_err().contains("password authentication failed"));
    server.stop().await.unwrap();

    let server = Postgres::start(options).await.unwrap();
    assert_eq!(ask(server.admin_url(), "select answer from kept").unwrap(), "42");
    server.stop().await.unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}
