use weir_config::Validate as _;
use weir_database::{Config, DEFAULTS, service_url};

fn defaults() -> Config {
    #[derive(serde::Deserialize)]
    struct File {
        database: Config,
    }
    toml::from_str::<File>(DEFAULTS).expect("a table [database]").database
}

fn problems(config: &Config) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    config.validate("database", &mut problems);
    problems.into_iter().map(|problem| (problem.path, problem.message)).collect()
}

#[test]
fn the_defaults_are_complete_and_valid() {
    assert_eq!(problems(&defaults()), []);
}

#[test]
fn every_mistake_is_named() {
    let mut config = defaults();
    config.url = "redis://localhost".into();
    config.max_connections = 0;
    config.statement_timeout = std::time::Duration::ZERO;
    let paths: Vec<_> = problems(&config).into_iter().map(|(path, _)| path).collect();
    assert_eq!(
        paths,
        ["database.url", "database.max_connections", "database.min_connections", "database.statement_timeout"]
    );
}

#[test]
fn urls_are_checked_without_repeating_their_secrets() {
    for good in [
        "postgres://weir:hunter2@db.example:5432/weir?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql://weir@localhost/weir?sslmode=disable",
        "postgres:///weir?host=/run/postgresql&user=weir",
    ] {
        let config = Config { url: good.into(), ..defaults() };
        assert_eq!(problems(&config), [], "{good}");
    }
    for bad in
        ["", "localhost:5432", "postgres://weir:hunter2@localhost:port/weir", "postgres://h/weir?sslmode=hunter2"]
    {
        let found = problems(&Config { url: bad.into(), ..defaults() });
        assert_eq!(found.len(), 1, "{bad}");
        assert!(!found[0].1.contains("hunter2"), "{found:?}");
    }
}

#[test]
fn a_service_gets_its_own_login_on_the_same_server() {
    let master = crate::master();
    let password = master.derive_password("postgres/weir_quota");
    for (admin, own) in [
        (
            "postgres://root:secret@db:5433/weir?sslmode=require",
            format!("postgres://weir_quota:{password}@db:5433/weir?sslmode=require"),
        ),
        ("postgres://db/weir", format!("postgres://weir_quota:{password}@db/weir")),
        (
            "postgres:///weir?host=%2Frun%2Fpostgresql&user=root&password=secret",
            format!("postgres:///weir?host=%2Frun%2Fpostgresql&user=weir_quota&password={password}"),
        ),
    ] {
        assert_eq!(service_url(&admin.into(), &master, "quota").expose(), own);
    }
}
