use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use weir_config::{Errors, Loader, Problem, Secret, Source, Validate};

const DATABASE: &str = r#"
[database]
url = ""
max_connections = 8
"#;

const QUOTA: &str = r#"
[quota]
listen = "127.0.0.1:7001"
lease = "60s"
ratio = 0.5
strict = true
regions = ["eu"]

[quota.providers]
"#;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    database: Database,
    quota: Quota,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Database {
    url: Secret,
    max_connections: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Quota {
    listen: SocketAddr,
    #[serde(with = "weir_config::duration")]
    lease: Duration,
    ratio: f64,
    strict: bool,
    regions: Vec<String>,
    providers: BTreeMap<String, Provider>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    keys: Vec<Secret>,
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        if self.database.max_connections == 0 {
            problems.push(Problem::new(at, "database.max_connections", "must be at least 1"));
        }
        if self.quota.lease < Duration::from_secs(1) {
            problems.push(Problem::new(at, "quota.lease", "must be at least 1s"));
        }
    }
}

fn load(file: &str, variables: &[(&str, &str)]) -> Result<Config, Errors> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weir.toml");
    std::fs::write(&path, file).unwrap();
    Loader::new()
        .section(DATABASE)
        .section(QUOTA)
        .open("quota.providers")
        .file(Some(path))
        .variables("WEIR_", variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
        .load()
}

fn problems(file: &str, variables: &[(&str, &str)]) -> Vec<Problem> {
    let errors = load(file, variables).unwrap_err();
    assert!(errors.to_string().contains("problem"));
    errors.0
}

fn problem(file: &str, variables: &[(&str, &str)]) -> Problem {
    let mut problems = problems(file, variables);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[test]
fn the_environment_overrides_the_file_which_overrides_the_defaults() {
    let config = load(
        "[quota]\nlease = \"30s\"\nratio = 1\n[quota.providers.openai]\nkeys = [\"a\"]\n[database]\nmax_connections = 4",
        &[("WEIR_QUOTA__LEASE", "5s"), ("WEIR_DATABASE_URL", "postgres://x"), ("WEIR_QUOTA__STRICT", "false")],
    )
    .unwrap();
    assert_eq!(config.quota.lease, Duration::from_secs(5));
    assert_eq!(config.quota.listen.port(), 7001);
    assert!((config.quota.ratio - 1.0).abs() < f64::EPSILON && !config.quota.strict);
    assert_eq!(config.quota.regions, ["eu"]);
    assert_eq!(config.quota.providers["openai"].keys[0].expose(), "a");
    assert_eq!(config.database.url.expose(), "postgres://x");
    assert_eq!(config.database.max_connections, 4);
}

#[test]
fn all_problems_are_reported_at_once_and_say_who_made_them() {
    let found = problems(
        "[quota]\nlisten = 7001\nleese = \"5s\"\nlease = \"soon\"\n[databse]\nurl = \"\"",
        &[("WEIR_QUOTA__STRICT", "perhaps"), ("WEIR_DATABASE__MAX_CONNECTIONS", "0"), ("WEIR_QUOTA__REGION", "eu")],
    );
    let paths: Vec<&str> = found.iter().map(|problem| problem.path.as_str()).collect();
    let mut sorted = paths.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "database.max_connections",
            "databse",
            "quota.lease",
            "quota.leese",
            "quota.listen",
            "quota.region",
            "quota.strict"
        ]
    );
    let by_path = |path: &str| found.iter().find(|problem| problem.path == path).unwrap();
    assert_eq!(by_path("quota.listen").message, "must be a string, not an integer");
    assert_eq!(by_path("quota.leese").hint.as_deref(), Some("did you mean `quota.lease`?"));
    assert_eq!(by_path("databse").hint.as_deref(), Some("did you mean `database`?"));
    assert_eq!(by_path("quota.region").hint.as_deref(), Some("did you mean `quota.regions`?"));
    assert!(by_path("quota.lease").message.starts_with("not a duration"));
    assert_eq!(by_path("quota.strict").source, Some(Source::Environment("WEIR_QUOTA__STRICT".into())));
    assert_eq!(
        by_path("database.max_connections").source,
        Some(Source::Environment("WEIR_DATABASE__MAX_CONNECTIONS".into()))
    );
}

#[test]
fn several_values_that_their_types_refuse_are_all_found() {
    let found = problems("[quota]\nlisten = \"nowhere\"\nlease = \"soon\"\n[database]\nmax_connections = -1", &[]);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|problem| matches!(problem.source, Some(Source::File(_)))));
}

#[test]
fn keys_of_an_open_table_are_free_but_their_content_is_checked() {
    let found = problem("[quota.providers.openai]\nkeys = []\ncolour = \"red\"", &[]);
    assert!(found.path.starts_with("quota.providers.openai"), "{found}");
    assert!(found.message.contains("colour"), "{found}");
    let found =
        problems("[quota.providers.a]\n[quota.providers.b]\nkeys = 5\n[quota.providers.c]\nkeys = []\nx = 1", &[]);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn one_underscore_between_levels_is_recognised() {
    let found = problem("", &[("WEIR_QUOTA_LISTEN", "127.0.0.1:1")]);
    assert_eq!(found.hint.as_deref(), Some("write WEIR_QUOTA__LISTEN"));
}

#[test]
fn variables_of_others_are_left_alone_and_empty_ones_count_as_unset() {
    let config = load(
        "",
        &[
            ("WEIR_URL", "http://x"),
            ("WEIR_API_KEY", "k"),
            ("WEIR_QUOTA_SERVICE_HOST", "10.0.0.1"),
            ("WEIR_QUOTA__LEASE", ""),
            ("WEIR_TEST_POSTGRES_URL", "postgres://x"),
        ],
    )
    .unwrap();
    assert_eq!(config.quota.lease, Duration::from_secs(60));
}

#[test]
fn what_the_program_sets_is_on_top() {
    let config: Config = Loader::new()
        .section(DATABASE)
        .section(QUOTA)
        .variables("WEIR_", [("WEIR_DATABASE_URL".to_owned(), "postgres://theirs".to_owned())])
        .set("weir dev", "[database]\nurl = \"postgres://ours\"".to_owned())
        .load()
        .unwrap();
    assert_eq!(config.database.url.expose(), "postgres://ours");
}

#[test]
fn a_broken_file_is_named_without_quoting_it() {
    let found = problem("[database]\nurl = \"hunter2", &[]);
    assert!(found.message.contains("line 2"), "{found}");
    assert!(!found.to_string().contains("hunter2"), "{found}");
    let missing = Loader::new()
        .section(DATABASE)
        .section(QUOTA)
        .file(Some("no/such/file.toml".into()))
        .load::<Config>()
        .unwrap_err();
    assert!(missing.to_string().contains("no/such/file.toml: cannot be read"), "{missing}");
}
