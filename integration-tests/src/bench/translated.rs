//! Calls that are translated, beside those to the same provider that are passed on: both get the same answer, in as many parts.

use std::fmt::Write;

use serde::Serialize;

use super::goal::Goal;
use super::measure::{Api, Load, Measured, Offer, measure};
use super::target::Target;
use crate::latency::median;
use crate::report::say;

const CONNECTIONS: usize = 64;
/// Models of the two simulated providers.
const OPENAI: &str = "gpt-4o-mini";
const ANTHROPIC: &str = "claude-haiku-4-5";

/// What is compared: a call's name, its load, the model that both ask for, the words that are translated, and those that are not.
const PAIRS: [(&str, Load, &str, Api, Api); 4] = [
    ("chat", Load::Plain, ANTHROPIC, Api::Chat, Api::Messages),
    ("streamed chat", Load::Streamed, ANTHROPIC, Api::Chat, Api::Messages),
    ("message", Load::Plain, OPENAI, Api::Messages, Api::Chat),
    ("streamed message", Load::Streamed, OPENAI, Api::Messages, Api::Chat),
];

/// Medians of the rounds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Translated {
    rows: Vec<Row>,
    goals: Vec<Goal>,
}

/// CPU seconds per 1,000 calls, of everything that Weir runs and of its own process.
#[derive(Debug, Clone, Serialize)]
struct Row {
    what: &'static str,
    passed_on: f64,
    passed_on_own: f64,
    translated: f64,
    translated_own: f64,
}

/// Measures both of each pair in turn.
///
/// # Errors
/// A request fails.
pub(super) async fn measure_translated(weir: &Target, rounds: usize, requests: usize) -> anyhow::Result<Translated> {
    say("translated calls beside those that are passed on")?;
    let mut rows = Vec::new();
    for (what, load, model, translating, passing) in PAIRS {
        let requests = if load == Load::Plain { requests } else { requests / 4 };
        let offer = |api| Offer { load, api, connections: CONNECTIONS, requests, rate: None, model };
        let (mut passed_on, mut translated) = (Vec::new(), Vec::new());
        for round in 0..=rounds {
            let pair = [measure(weir, offer(passing)).await?, measure(weir, offer(translating)).await?];
            // The first warms up.
            if round > 0 {
                passed_on.push(pair[0]);
                translated.push(pair[1]);
            }
        }
        let of = |rounds: &[Measured], figure: fn(&Measured) -> f64| median(rounds.iter().map(figure));
        rows.push(Row {
            what,
            passed_on: of(&passed_on, |one| one.all_cpu),
            passed_on_own: of(&passed_on, |one| one.own_cpu),
            translated: of(&translated, |one| one.all_cpu),
            translated_own: of(&translated, |one| one.own_cpu),
        });
    }
    let goal = |row: &Row| {
        let what = format!("CPU of a translated {}, all that runs, times one that is passed on", row.what);
        Goal::at_most(what, row.translated / row.passed_on, 1.3)
    };
    Ok(Translated { goals: rows.iter().map(goal).collect(), rows })
}

impl Translated {
    pub(super) fn text(&self) -> String {
        let mut out = String::from("\nCPU s per 1,000 (own)      passed on        translated\n");
        for Row { what, passed_on, passed_on_own, translated, translated_own } in &self.rows {
            let _ =
                writeln!(out, "{what:<22} {passed_on:.4} ({passed_on_own:.4})   {translated:.4} ({translated_own:.4})");
        }
        for goal in &self.goals {
            let _ = writeln!(out, "{goal}");
        }
        out
    }
}
