//! Faults that hold for an API key or for everybody, and the count of failures per directive.

use std::collections::HashMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::directive::Directive;

/// The directives with `fail_times` that are remembered; more than any test has, less than any leak.
const COUNTED_DIRECTIVES: usize = 100_000;

/// Something that goes wrong for an API key or for everybody until it is cleared.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The whole secret of the key that it holds for; everybody's if unset.
    #[serde(default)]
    pub api_key: Option<String>,
    /// What to do. A request's own directive goes before it.
    pub simulate: Directive,
    /// How many requests it still holds for; all if unset.
    #[serde(default)]
    pub times: Option<u64>,
    /// Of 100 requests that it could hold for, it holds for so many, evenly spread; all if unset.
    #[serde(default)]
    pub percent: Option<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    in_force: Mutex<Vec<(Fault, u64)>>,
    failures: Mutex<HashMap<String, u32>>,
}

impl Faults {
    pub(crate) fn add(&self, fault: Fault) {
        self.in_force.lock().insert(0, (fault, 0));
    }

    pub(crate) fn list(&self) -> Vec<Fault> {
        self.in_force.lock().iter().map(|(fault, _)| fault.clone()).collect()
    }

    pub(crate) fn clear(&self) {
        self.in_force.lock().clear();
        self.failures.lock().clear();
    }

    /// The first fault that holds for this request; it is used up by one.
    pub(crate) fn next(&self, secret: &str) -> Option<Directive> {
        let mut in_force = self.in_force.lock();
        if in_force.is_empty() {
            return None;
        }
        let mut hit = None;
        for (index, (fault, seen)) in in_force.iter_mut().enumerate() {
            if fault.api_key.as_deref().is_some_and(|key| key != secret) || fault.times == Some(0) {
                continue;
            }
            *seen += 1;
            if !due(fault.percent, *seen) {
                continue;
            }
            if let Some(times) = &mut fault.times {
                *times -= 1;
            }
            hit = Some((index, fault.simulate.clone(), fault.times == Some(0)));
            break;
        }
        let (index, directive, used_up) = hit?;
        if used_up {
            in_force.remove(index);
        }
        Some(directive)
    }

    /// Whether a request with this directive still fails; it counts as one that did.
    pub(crate) fn still_fails(&self, directive: &str, times: u32) -> bool {
        let mut failures = self.failures.lock();
        if failures.len() >= COUNTED_DIRECTIVES {
            failures.clear();
        }
        let count = failures.entry(directive.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count <= times
    }
}

/// Spreads `percent` of 100 evenly: the n-th request is due when the whole part of n * percent / 100 has grown.
fn due(percent: Option<u8>, nth: u64) -> bool {
    percent.is_none_or(|percent| nth * u64::from(percent) / 100 > (nth - 1) * u64::from(percent) / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_spread_evenly() {
        let hits: Vec<u64> = (1..=20).filter(|&nth| due(Some(25), nth)).collect();
        assert_eq!(hits, [4, 8, 12, 16, 20]);
        assert!((1..=10).all(|nth| due(None, nth)));
        assert!(!(1..=10).any(|nth| due(Some(0), nth)));
    }

    #[test]
    fn a_fault_holds_for_its_key_and_as_often_as_it_says() {
        let faults = Faults::default();
        let simulate = Directive { hang: true, ..Directive::default() };
        faults.add(Fault { api_key: Some("a".to_owned()), simulate, times: Some(2), percent: None });
        assert!(faults.next("b").is_none());
        assert!(faults.next("a").is_some());
        assert!(faults.next("a").is_some());
        assert!(faults.next("a").is_none());
        assert!(faults.list().is_empty());
    }
}
