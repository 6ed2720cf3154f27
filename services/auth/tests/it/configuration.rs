use serde::Deserialize;
use weir_config::{Loader, Problem, Validate};

#[derive(Debug, Deserialize)]
struct File {
    auth: weir_auth::Config,
}

impl Validate for File {
    fn validate(&self, _: &str, problems: &mut Vec<Problem>) {
        self.auth.validate("auth", problems);
    }
}

fn load(variables: &[(&str, &str)]) -> Result<File, Vec<String>> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let loaded = Loader::new().section(weir_auth::DEFAULTS).variables("WEIR_", variables).load::<File>();
    loaded.map_err(|errors| errors.0.into_iter().map(|problem| problem.path).collect())
}

#[test]
fn the_defaults_are_complete_valid_and_owasps_first_choice() {
    let file = load(&[]).unwrap();
    let passwords = file.auth.passwords;
    assert_eq!((passwords.memory_kib, passwords.iterations, passwords.parallelism), (19_456, 2, 1));
}

#[test]
fn every_mistake_is_named_at_once() {
    let mistakes = load(&[
        ("WEIR_AUTH__TOKENS__LIFETIME", "2h"),
        ("WEIR_AUTH__PASSWORDS__ITERATIONS", "1"),
        ("WEIR_AUTH__PASSWORDS__CONCURRENCY", "0"),
        ("WEIR_AUTH__REVOCATIONS__BACKLOG", "0"),
        ("WEIR_AUTH__REVOCATIONS__POLL_EVERY", "often"),
    ]);
    let mut paths = mistakes.unwrap_err();
    paths.sort();
    assert_eq!(
        paths,
        [
            "auth.passwords.concurrency",
            "auth.passwords.memory_kib",
            "auth.revocations.backlog",
            "auth.revocations.poll_every",
            "auth.tokens.lifetime",
        ]
    );
}
