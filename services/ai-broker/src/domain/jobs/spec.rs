//! What a job is: its steps and who asked for it. Stored as JSON.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use weir_types::{ApiKeyId, UserId};

use super::reference;

/// The most steps of a job.
pub(crate) const MAX_STEPS: usize = 16;
/// The longest body of one step, and of all steps together.
const MAX_BODY: usize = 1 << 20;
const MAX_BODIES: usize = 2 << 20;
const MAX_URL: usize = 2048;
const MAX_ATTEMPTS: u16 = 20;
/// In milliseconds.
const MAX_TIMEOUT: u64 = 3_600_000;
const MAX_BACKOFF: u64 = 3_600_000;

/// A job as it was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) steps: Vec<Step>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) webhook_url: String,
    pub(crate) who: Who,
}

/// Who asked for it: its calls count against their limits, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Who {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_key: Option<ApiKeyId>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) ip: String,
    /// What of the product it is for; empty: nothing that plans or limits know.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) feature: String,
}

/// One step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) key: String,
    pub(crate) action: Action,
    pub(crate) max_attempts: u16,
    /// In milliseconds, between the first try and the second.
    pub(crate) backoff: u64,
    /// In milliseconds, of one try without its time in line.
    pub(crate) timeout: u64,
}

/// What a step does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Calls a model.
    Invoke {
        /// The number of `weir.broker.v1.Operation`.
        operation: i32,
        /// With references.
        body: Box<RawValue>,
    },
    /// Sends a webhook.
    Webhook {
        url: String,
        /// With references.
        body: Box<RawValue>,
    },
    /// Puts what an earlier step made into object storage.
    Store {
        /// The step's key.
        from: String,
        public: bool,
    },
}

/// Which field of a job is wrong, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub(crate) struct InvalidJob {
    pub(crate) field: String,
    pub(crate) message: String,
}

impl InvalidJob {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl Spec {
    /// Refuses what can't be carried out.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub(crate) fn check(&self) -> Result<(), InvalidJob> {
        if self.steps.is_empty() || self.steps.len() > MAX_STEPS {
            return Err(InvalidJob::new("job.steps", format!("a job has 1 to {MAX_STEPS} steps")));
        }
        let mut earlier: Vec<&str> = Vec::with_capacity(self.steps.len());
        let mut bytes = 0;
        for (index, step) in self.steps.iter().enumerate() {
            let at = |field: &str| format!("job.steps[{index}].{field}");
            step.check(&earlier).map_err(|InvalidJob { field, message }| InvalidJob::new(at(&field), message))?;
            bytes += step.action.body().get().len();
            earlier.push(&step.key);
        }
        if bytes > MAX_BODIES {
            return Err(InvalidJob::new("job.steps", format!("all bodies together have at most {MAX_BODIES} bytes")));
        }
        if self.webhook_url.is_empty() { Ok(()) } else { check_url("job.webhook_url", &self.webhook_url) }
    }
}

impl Step {
    fn check(&self, earlier: &[&str]) -> Result<(), InvalidJob> {
        if !is_key(&self.key) {
            return Err(InvalidJob::new("key", "must match [a-z][a-z0-9_-]{0,62}"));
        }
        if earlier.contains(&self.key.as_str()) {
            return Err(InvalidJob::new("key", "another step has it"));
        }
        if !(1..=MAX_ATTEMPTS).contains(&self.max_attempts) {
            return Err(InvalidJob::new("max_attempts", format!("must be from 1 to {MAX_ATTEMPTS}")));
        }
        if self.backoff > MAX_BACKOFF {
            return Err(InvalidJob::new("backoff", "must be at most 1 h"));
        }
        if !(1..=MAX_TIMEOUT).contains(&self.timeout) {
            return Err(InvalidJob::new("timeout", "must be from 1 ms to 1 h"));
        }
        let body = self.action.body();
        if body.get().len() > MAX_BODY {
            return Err(InvalidJob::new("body", format!("must have at most {MAX_BODY} bytes")));
        }
        reference::check(body, earlier).map_err(|message| InvalidJob::new("body", message))?;
        match &self.action {
            Action::Webhook { url, .. } => check_url("webhook.url", url),
            Action::Store { from, .. } if !earlier.contains(&from.as_str()) => {
                Err(InvalidJob::new("store.from", "is no earlier step"))
            }
            Action::Invoke { .. } | Action::Store { .. } => Ok(()),
        }
    }
}

impl Action {
    /// The body, with its references.
    pub(crate) fn body(&self) -> &RawValue {
        match self {
            Self::Invoke { body, .. } | Self::Webhook { body, .. } => body,
            Self::Store { .. } => RawValue::NULL,
        }
    }
}

fn is_key(key: &str) -> bool {
    let rest = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'-';
    key.len() <= 63 && key.bytes().next().is_some_and(|c| c.is_ascii_lowercase()) && key.bytes().all(rest)
}

/// What can be wrong with a URL before its host is looked up.
fn check_url(field: &str, url: &str) -> Result<(), InvalidJob> {
    let parsed = url.parse::<http::Uri>().ok().filter(|_| url.len() <= MAX_URL);
    let is_http = parsed.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    if !is_http || url.contains('@') {
        return Err(InvalidJob::new(field, "must be a URL that begins with https:// and has no password in it"));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn step(key: &str, body: &str) -> Step {
        let body = RawValue::from_string(body.into()).expect("JSON");
        let action = Action::Invoke { operation: 1, body };
        Step { key: key.into(), action, max_attempts: 3, backoff: 2000, timeout: 1000 }
    }

    fn spec(steps: Vec<Step>) -> Spec {
        Spec { steps, webhook_url: String::new(), who: Who::default() }
    }

    fn field(spec: &Spec) -> String {
        spec.check().expect_err("it is wrong").field
    }

    #[test]
    fn what_can_not_be_carried_out_is_refused_by_its_field() {
        assert_eq!(spec(vec![step("one", "{}"), step("two", r#"{"a":{"$from":"one#/x"}}"#)]).check(), Ok(()));
        assert_eq!(field(&spec(vec![])), "job.steps");
        assert_eq!(field(&spec((0..17).map(|n| step(&format!("s{n}"), "{}")).collect())), "job.steps");
        assert_eq!(field(&spec(vec![step("One", "{}")])), "job.steps[0].key");
        assert_eq!(field(&spec(vec![step("one", "{}"), step("one", "{}")])), "job.steps[1].key");
        assert_eq!(field(&spec(vec![step("one", r#"{"$from":"two#"}"#), step("two", "{}")])), "job.steps[0].body");
        let url = |url: &str| Spec { webhook_url: url.into(), ..spec(vec![step("one", "{}")]) };
        assert_eq!(url("https://example.com/hook").check(), Ok(()));
        for wrong in ["example.com", "ftp://example.com", "https://user:secret@example.com", "https://"] {
            assert_eq!(field(&url(wrong)), "job.webhook_url", "{wrong}");
        }
        let store =
            |from: &str| Step { action: Action::Store { from: from.into(), public: false }, ..step("keep", "{}") };
        assert_eq!(spec(vec![step("one", "{}"), store("one")]).check(), Ok(()));
        assert_eq!(field(&spec(vec![store("one"), step("one", "{}")])), "job.steps[0].store.from");
        for (attempts, backoff, timeout, wrong) in
            [(0, 0, 1, "max_attempts"), (21, 0, 1, "max_attempts"), (1, 3_600_001, 1, "backoff"), (1, 0, 0, "timeout")]
        {
            let step = Step { max_attempts: attempts, backoff, timeout, ..step("one", "{}") };
            assert_eq!(field(&spec(vec![step])), format!("job.steps[0].{wrong}"));
        }
    }

    #[test]
    fn a_body_is_stored_as_it_came() {
        let body = r#"{"z":1.0,  "a":12345678901234567890}"#;
        let stored = serde_json::to_string(&spec(vec![step("one", body)])).expect("JSON");
        let read: Spec = serde_json::from_str(&stored).expect("a spec");
        assert_eq!(read.steps[0].action.body().get(), body);
    }
}
