use std::time::Duration;

use weir_config::Validate as _;

use crate::fixture::config;

#[test]
fn the_defaults_are_valid() {
    let config = config();
    assert_eq!(config.late_by, Duration::from_secs(400 * 24 * 3600));
    let mut problems = Vec::new();
    config.validate("usage", &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let mut config = config();
    config.ahead_by = Duration::from_secs(100 * 365 * 24 * 3600);
    config.feed_poll = Duration::ZERO;
    config.recording.max_batch = 100;
    config.recording.queue = 10;
    config.recording.linger = Duration::from_secs(60);
    config.recording.commit_timeout = Duration::ZERO;
    let mut problems = Vec::new();
    config.validate("usage", &mut problems);
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "usage.ahead_by",
            "usage.feed_poll",
            "usage.recording.max_batch",
            "usage.recording.queue",
            "usage.recording.linger",
            "usage.recording.commit_timeout"
        ]
    );
}
