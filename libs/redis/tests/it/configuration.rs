use weir_config::Validate as _;
use weir_redis::{Config, DEFAULTS, Error, Redis};

fn parse(text: &str) -> Config {
    #[derive(serde::Deserialize)]
    struct File {
        redis: Config,
    }
    toml::from_str::<File>(text).expect("a table [redis]").redis
}

fn problems(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    config.validate("redis", &mut problems);
    problems.into_iter().map(|problem| problem.path).collect()
}

#[test]
fn the_defaults_are_complete_and_valid() {
    let config = parse(DEFAULTS);
    assert_eq!(config.deadline.as_millis(), 50);
    assert_eq!(problems(&config), [""; 0]);
}

#[test]
fn every_mistake_is_named() {
    let mut config = parse(DEFAULTS);
    config.url = "postgres://somewhere".into();
    config.deadline = std::time::Duration::ZERO;
    config.connections = 0;
    assert_eq!(problems(&config), ["redis.url", "redis.deadline", "redis.connections"]);
}

#[test]
fn a_cluster_may_be_given_by_several_nodes_and_a_single_server_may_not() {
    let mut config = parse(DEFAULTS);
    config.url = "redis://one:7000, redis://two:7000".into();
    assert_eq!(problems(&config), ["redis.url"]);
    config.cluster = true;
    assert_eq!(problems(&config), [""; 0]);
}

#[tokio::test]
async fn a_malformed_url_is_refused_at_once_and_not_repeated() {
    let mut config = parse(DEFAULTS);
    config.url = "redis://user:hunter2@[broken".into();
    let error = Redis::connect(&config).await.expect_err("not a URL");
    assert!(matches!(&error, Error::Internal(text) if !text.contains("hunter2")), "{error:?}");
}
