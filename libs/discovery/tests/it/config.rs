use serde::Deserialize;
use weir_config::{Loader, Problem, Validate};
use weir_discovery::{Config, DEFAULTS, Kind};

#[derive(Debug, Deserialize)]
struct Root {
    discovery: Config,
}

impl Validate for Root {
    fn validate(&self, _: &str, problems: &mut Vec<Problem>) {
        self.discovery.validate("discovery", problems);
    }
}

fn load(variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let variables = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let loaded = Loader::new().section(DEFAULTS).variables("WEIR_", variables).load::<Root>();
    loaded.map(|root| root.discovery).map_err(|errors| errors.0.into_iter().map(|problem| problem.path).collect())
}

#[test]
fn the_defaults_are_well_formed_and_name_every_sibling() {
    let config = load(&[]).unwrap();
    assert_eq!(config.kind, Kind::Static);
    let endpoints = config.endpoints();
    for service in ["auth", "quota", "ai-broker", "usage", "billing"] {
        assert_eq!(endpoints[service].len(), 1, "{service}");
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    let problems = load(&[
        ("WEIR_DISCOVERY__SERVICES__QUOTA", r#"["https://quota:9102", "quota"]"#),
        ("WEIR_DISCOVERY__KIND", "consul"),
        ("WEIR_DISCOVERY__CONSUL__ADDRESS", "consul:8500"),
        ("WEIR_DISCOVERY__CONSUL__TTL", "10ms"),
        ("WEIR_DISCOVERY__DNS__INTERVAL", "0s"),
    ])
    .unwrap_err();
    assert_eq!(
        problems,
        [
            "discovery.services.quota[0]",
            "discovery.services.quota[1]",
            "discovery.dns.interval",
            "discovery.consul.address",
            "discovery.consul.ttl",
        ]
    );
}
