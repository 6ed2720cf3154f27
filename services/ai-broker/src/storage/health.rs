//! What all brokers know of the providers' keys.

use std::sync::Arc;
use std::time::Duration;

use weir_redis::{Error, Redis, Script, Value};

use crate::domain::keys::Kind;

/// The shared knowledge; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct SharedHealth {
    redis: Redis,
    script: Arc<Script>,
    /// This broker.
    owner: String,
}

/// A key, whatever the model (empty) or with one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub(crate) key: String,
    pub(crate) model: String,
}

/// How a key rests: for so long from now (zero: it is to be tried), or no more.
pub(crate) type Resting = (Subject, Option<(Duration, Kind)>);

/// What is known now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) version: Vec<u8>,
    /// None: nothing is new.
    pub(crate) rests: Option<Vec<Resting>>,
}

impl SharedHealth {
    pub(crate) fn new(redis: Redis, owner: String) -> Self {
        Self { redis, script: Arc::new(Script::new(include_str!("health.lua"))), owner }
    }

    /// Tells what this broker has found out, and hears what is known if that is not `version`.
    pub(crate) async fn exchange(&self, provider: &str, version: &[u8], found: &[Resting]) -> Result<Known, Error> {
        let mut args: Vec<Vec<u8>> = vec![b"tell".to_vec(), version.to_vec()];
        for (subject, rest) in found {
            let span = rest.map_or(-1, |(span, _)| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
            args.push(field(subject));
            args.push(span.to_string().into_bytes());
            args.push(rest.map_or(b"well".to_vec(), |(_, kind)| word(kind).into()));
        }
        let answer: Vec<Value> = self.redis.run(&self.script, &[prefix(provider)], &args).await?;
        read(&answer).ok_or_else(|| Error::Internal("unexpected answer of health.lua".to_owned()))
    }

    /// Whether this broker may try a key that has rested with this model: one at a time may, for so long.
    pub(crate) async fn may_try(&self, provider: &str, key: &str, model: &str, span: Duration) -> Result<bool, Error> {
        let args = ["try", key, model, &self.owner, &span.as_millis().max(1).to_string()];
        let answer: i64 = self.redis.run(&self.script, &[prefix(provider)], &args).await?;
        Ok(answer == 1)
    }
}

fn prefix(provider: &str) -> String {
    format!("wb1:{{h:{provider}}}:")
}

fn field(Subject { key, model }: &Subject) -> Vec<u8> {
    format!("{key}\n{model}").into_bytes()
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::RateLimited => "limited",
        Kind::Refused => "refused",
        Kind::Failed => "failed",
    }
}

fn read(answer: &[Value]) -> Option<Known> {
    let bytes = |value: &Value| match value {
        Value::BulkString(bytes) => Some(bytes.clone()),
        _ => None,
    };
    let version = bytes(answer.first()?)?;
    let Some((now, fields)) = answer[1..].split_first() else { return Some(Known { version, rests: None }) };
    let Value::Int(now) = now else { return None };
    let rests = fields.chunks_exact(2).filter_map(|pair| {
        let (field, text) = (String::from_utf8(bytes(&pair[0])?).ok()?, String::from_utf8(bytes(&pair[1])?).ok()?);
        let (key, model) = field.split_once('\n')?;
        let (until, why) = text.split_once(' ')?;
        let until: i64 = until.parse().ok()?;
        let kind = match why {
            "limited" => Kind::RateLimited,
            "refused" => Kind::Refused,
            _ => Kind::Failed,
        };
        let left = Duration::from_millis(u64::try_from(until - now).unwrap_or(0));
        let subject = Subject { key: key.to_owned(), model: model.to_owned() };
        Some((subject, (until > 0).then_some((left, kind))))
    });
    Some(Known { version, rests: Some(rests.collect()) })
}
