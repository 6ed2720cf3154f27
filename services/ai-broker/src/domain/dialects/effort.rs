//! How hard a model shall think: a word at OpenAI, a number of tokens or a word at Anthropic.

/// How a model of Anthropic is told to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThinkingStyle {
    /// By tokens that it may think for (`thinking.budget_tokens`): every model that thinks.
    #[default]
    Budget,
    /// By a word (`output_config.effort`), with as many tokens as it likes: newer models.
    Effort,
}

/// Words from least to most, with the most tokens that they stand for.
const BUDGETS: [(&str, u64); 5] =
    [("low", 1_024), ("medium", 4_096), ("high", 16_384), ("xhigh", 32_768), ("max", 65_536)];
/// The least that Anthropic accepts.
pub(super) const LEAST_BUDGET: u64 = 1_024;

/// The word that Anthropic has for one of OpenAI's; nothing if it is none.
pub(super) fn word(effort: &str) -> Option<&'static str> {
    let effort = if effort == "minimal" { "low" } else { effort };
    BUDGETS.iter().find(|(word, _)| *word == effort).map(|(word, _)| *word)
}

/// The tokens that a word stands for.
pub(super) fn budget(word: &str) -> Option<u64> {
    BUDGETS.iter().find(|(known, _)| *known == word).map(|&(_, budget)| budget)
}

/// The word whose budget is nearest, by factors.
pub(super) fn of_budget(tokens: u64) -> &'static str {
    let nearest = BUDGETS.windows(2).find(|pair| tokens <= (pair[0].1 + pair[1].1) / 2);
    nearest.map_or("max", |pair| pair[0].0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_budget_leads_back_to_its_word() {
        for (word, budget) in BUDGETS {
            assert_eq!(of_budget(budget), word);
        }
        assert_eq!((of_budget(2_000), of_budget(10_000), of_budget(1_000_000)), ("low", "medium", "max"));
        assert_eq!((word("minimal"), word("none")), (Some("low"), None));
    }
}
