//! The provider's log and the recorded events, request by request.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;
use weir_simulator::Served;

use crate::books::Recorded;
use crate::prices::Prices;
use crate::totals::Totals;

/// Of what is wrong, so many are listed.
const LISTED: usize = 5;

/// What the comparison found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdict {
    /// What the provider really served.
    pub served: Totals,
    /// What was recorded.
    pub recorded: Totals,
    /// Recorded events that equal what the provider served.
    pub exact: usize,
    /// Recorded as estimated although the provider served them, with the tokens on both sides.
    pub estimated: usize,
    /// Output tokens that the estimated ones were really served.
    pub estimated_really: i64,
    /// Output tokens that were recorded for them.
    pub estimated_recorded: i64,
    /// Recorded as estimated, and never served: the broker died between the reservation and the answer.
    pub estimated_never_served: usize,
    /// Served and not recorded: the provider was paid and nobody else. Must be none.
    pub unaccounted: Vec<String>,
    /// Served more than once under one id. Must be none.
    pub doubled: Vec<String>,
    /// Recorded as known with other amounts, or without having been served. Must be none.
    pub wrong: Vec<String>,
    /// The small budget, and what was spent of it by the books and by the provider's count.
    pub budget_nano_usd: i64,
    /// By the books.
    pub spent_nano_usd: i64,
    /// By the provider's count.
    pub really_spent_nano_usd: i64,
}

impl Verdict {
    /// Compares everything that the provider charged with everything that was recorded.
    ///
    /// # Errors
    /// A model has no price.
    pub fn of(
        served: &[Served],
        recorded: &BTreeMap<String, Recorded>,
        prices: &Prices,
        bounded: &str,
        budget: i64,
    ) -> anyhow::Result<Self> {
        let mut verdict = Self { budget_nano_usd: budget, ..Self::default() };
        let mut by_id: HashMap<&str, Totals> = HashMap::new();
        for one in served.iter().filter(|one| one.charged) {
            let totals =
                prices.request(&one.model, i64::try_from(one.input_tokens)?, i64::try_from(one.output_tokens)?)?;
            verdict.served += totals;
            let id = one.client_request_id.as_str();
            if by_id.insert(id, totals).is_some() {
                verdict.doubled.push(id.to_owned());
            }
            match recorded.get(id) {
                None => verdict.unaccounted.push(id.to_owned()),
                Some(event) if event.organization == bounded => verdict.really_spent_nano_usd += totals.cost_nano_usd,
                Some(_) => {}
            }
        }
        for (id, event) in recorded {
            verdict.recorded += event.totals;
            if event.organization == bounded {
                verdict.spent_nano_usd += event.totals.cost_nano_usd;
            }
            verdict.compare(id, event, by_id.get(id.as_str()));
        }
        Ok(verdict)
    }

    fn compare(&mut self, id: &str, event: &Recorded, served: Option<&Totals>) {
        match served {
            Some(served) if *served == event.totals => self.exact += 1,
            Some(served) if event.estimated => {
                self.estimated += 1;
                self.estimated_really += served.output_tokens;
                self.estimated_recorded += event.totals.output_tokens;
            }
            None if event.estimated => self.estimated_never_served += 1,
            served => self.wrong.push(format!("{id}: recorded {:?}, served {served:?}", event.totals)),
        }
    }

    /// Nothing is missing, doubled, wrong or overspent.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.unaccounted.is_empty() && self.doubled.is_empty() && self.wrong.is_empty() && self.within_budget()
    }

    fn within_budget(&self) -> bool {
        self.spent_nano_usd <= self.budget_nano_usd && self.really_spent_nano_usd <= self.budget_nano_usd
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  the provider served {} requests, {} are recorded: {} exactly, {} estimated ({} output tokens for {} that were \
             served), {} estimated that were never served",
            self.served.requests,
            self.recorded.requests,
            self.exact,
            self.estimated,
            self.estimated_recorded,
            self.estimated_really,
            self.estimated_never_served
        )?;
        let overspent = if self.within_budget() { "" } else { "  OVERSPENT" };
        writeln!(
            f,
            "  of a budget of {} nano-USD, {} are spent by the books and {} by the provider's count{overspent}",
            self.budget_nano_usd, self.spent_nano_usd, self.really_spent_nano_usd
        )?;
        for (what, ids) in [("UNACCOUNTED", &self.unaccounted), ("DOUBLED", &self.doubled), ("WRONG", &self.wrong)] {
            if !ids.is_empty() {
                writeln!(f, "  {what}: {}, such as", ids.len())?;
            }
            for id in ids.iter().take(LISTED) {
                writeln!(f, "    {id}")?;
            }
        }
        Ok(())
    }
}
