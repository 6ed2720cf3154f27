//! A figure and what it is held against.

use std::fmt;

use serde::Serialize;

/// A figure and its bound.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Goal {
    what: String,
    measured: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
    reached: bool,
}

impl Goal {
    pub(super) fn at_most(what: impl Into<String>, measured: f64, bound: f64) -> Self {
        Self { what: what.into(), measured, at_most: Some(bound), at_least: None, reached: measured <= bound }
    }

    pub(super) fn at_least(what: impl Into<String>, measured: f64, bound: f64) -> Self {
        Self { what: what.into(), measured, at_most: None, at_least: Some(bound), reached: measured >= bound }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.reached { "reached" } else { "MISSED" };
        write!(f, "{mark:<8} {}: {}", self.what, Figure(self.measured))?;
        match (self.at_most, self.at_least) {
            (Some(bound), _) => write!(f, ", at most {}", Figure(bound)),
            (None, Some(bound)) => write!(f, ", at least {}", Figure(bound)),
            (None, None) => Ok(()),
        }
    }
}

/// Large ones without decimals.
struct Figure(f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1_000.0 { write!(f, "{:.0}", self.0) } else { write!(f, "{:.2}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_at_its_bound_has_reached_it() {
        assert_eq!(Goal::at_most("a", 1.0, 1.0).to_string(), "reached  a: 1.00, at most 1.00");
        assert_eq!(Goal::at_least("b", 59_999.0, 60_000.0).to_string(), "MISSED   b: 59999, at least 60000");
        assert!(Goal::at_least("c", 2.0, 2.0).reached && !Goal::at_most("d", 2.1, 2.0).reached);
    }
}
