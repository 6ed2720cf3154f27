//! The table `[auth]`; `config.defaults.toml` explains every key.

use std::time::Duration;

use serde::Deserialize;
use weir_config::{Problem, Validate};

/// The commented defaults of the table `[auth]`.
pub const DEFAULTS: &str = include_str!("../config.defaults.toml");

/// The table `[auth]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Principal tokens.
    pub tokens: Tokens,
    /// The keys that sign them.
    pub signing: Signing,
    /// Passwords.
    pub passwords: Passwords,
    /// The push of revocations.
    pub revocations: Revocations,
    /// What is deleted when.
    pub housekeeping: Housekeeping,
}

/// The table `[auth.tokens]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// How long a principal token lives.
    #[serde(with = "weir_config::duration")]
    pub lifetime: Duration,
}

/// The table `[auth.signing]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signing {
    /// How old the current key gets.
    #[serde(with = "weir_config::duration")]
    pub rotate_every: Duration,
    /// How often a replica looks for a rotation.
    #[serde(with = "weir_config::duration")]
    pub reload_every: Duration,
}

impl Signing {
    /// For how long a key that was read signs tokens although the database can't confirm it.
    #[must_use]
    pub fn good_for(&self) -> Duration {
        self.reload_every * 6
    }
}

/// The table `[auth.passwords]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passwords {
    /// argon2's m, in KiB.
    pub memory_kib: u32,
    /// argon2's t.
    pub iterations: u32,
    /// argon2's p.
    pub parallelism: u32,
    /// How many are hashed at once.
    pub concurrency: u32,
    /// How long one waits for its turn.
    #[serde(with = "weir_config::duration")]
    pub queue_timeout: Duration,
}

/// The table `[auth.revocations]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocations {
    /// Whether to hear by LISTEN.
    pub listen: bool,
    /// How often to look anyway.
    #[serde(with = "weir_config::duration")]
    pub poll_every: Duration,
    /// How often an idle stream says that it is alive.
    #[serde(with = "weir_config::duration")]
    pub heartbeat_every: Duration,
    /// How many revocations a slow receiver may lag behind.
    pub backlog: u32,
}

/// The table `[auth.housekeeping]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Housekeeping {
    /// How often.
    #[serde(with = "weir_config::duration")]
    pub every: Duration,
    /// How long the audit log is kept.
    #[serde(with = "weir_config::duration")]
    pub audit_log: Duration,
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        let day = Duration::from_secs(86_400);
        let bounds = [
            ("tokens.lifetime", self.tokens.lifetime, Duration::from_secs(10), Duration::from_secs(1_800)),
            ("signing.rotate_every", self.signing.rotate_every, Duration::from_secs(3_600), day * 366),
            ("signing.reload_every", self.signing.reload_every, Duration::from_millis(100), Duration::from_secs(60)),
            ("passwords.queue_timeout", self.passwords.queue_timeout, Duration::ZERO, Duration::from_secs(30)),
            ("revocations.poll_every", self.revocations.poll_every, Duration::from_millis(10), Duration::from_secs(10)),
            (
                "revocations.heartbeat_every",
                self.revocations.heartbeat_every,
                Duration::from_millis(100),
                Duration::from_secs(30),
            ),
            ("housekeeping.every", self.housekeeping.every, Duration::from_secs(1), day),
            ("housekeeping.audit_log", self.housekeeping.audit_log, day, day * 3_660),
        ];
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                let format = weir_config::duration::format;
                let problem = Problem::new(at, key, format!("{} is out of bounds", format(value)));
                problems.push(problem.hint(format!("from {} to {}", format(least), format(most))));
            }
        }
        self.passwords.validate(at, problems);
        if !(1..=1 << 20).contains(&self.revocations.backlog) {
            problems.push(Problem::new(at, "revocations.backlog", "is out of bounds").hint("from 1 to 1048576"));
        }
    }
}

impl Passwords {
    /// The weakest of the five settings that OWASP's Password Storage Cheat Sheet holds equivalent: m = 7 MiB, t = 5.
    const LEAST_WORK: u64 = 7_168 * 5;

    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        let work = u64::from(self.memory_kib) * u64::from(self.iterations);
        if self.memory_kib < 7_168 || work < Self::LEAST_WORK {
            let message = format!("{} KiB and {} iterations are too weak", self.memory_kib, self.iterations);
            let hint = "at least 7168 KiB, and at least 35840 when multiplied with the iterations";
            problems.push(Problem::new(at, "passwords.memory_kib", message).hint(hint));
        }
        if self.memory_kib > 1 << 20 || self.iterations > 64 {
            let message = "a sign-in would take seconds";
            problems.push(Problem::new(at, "passwords.memory_kib", message).hint("at most 1048576 KiB, 64 iterations"));
        }
        if !(1..=64).contains(&self.parallelism) {
            problems.push(Problem::new(at, "passwords.parallelism", "is out of bounds").hint("from 1 to 64"));
        }
        if !(1..=1_024).contains(&self.concurrency) {
            problems.push(Problem::new(at, "passwords.concurrency", "is out of bounds").hint("from 1 to 1024"));
        }
    }
}
