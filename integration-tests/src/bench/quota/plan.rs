//! Six limits in three scopes, as an API key of a paying user meets them, none of which refuses.

/// Name, scope and unit of each.
pub(super) const LIMITS: [(&str, &str, &str); 6] = [
    ("requests-per-minute", "organization", "request"),
    ("tokens-per-minute", "organization", "token"),
    ("budget", "organization", "nano_usd"),
    ("user-requests-per-minute", "user", "request"),
    ("user-budget", "user", "nano_usd"),
    ("key-budget", "api_key", "nano_usd"),
];

/// The plan's name.
pub(super) const PLAN: &str = "plans/bench";

/// The file of plans.
pub(super) fn file() -> String {
    let limit = |(name, scope, unit): (&str, &str, &str)| {
        let (amount, window) = match unit {
            "nano_usd" => ("\"9000000.00\"", "{ calendar = \"month\" }"),
            _ => ("1_000_000_000_000", "{ rolling = \"60s\" }"),
        };
        format!(
            "  {{ name = \"{name}\", scope = \"{scope}\", unit = \"{unit}\", amount = {amount}, window = {window}, on_failure = \"closed\" }},\n"
        )
    };
    let limits: String = LIMITS.map(limit).concat();
    let plan = PLAN.trim_start_matches("plans/");
    format!(
        "version = \"2026-11-01\"\n[[plan]]\nname = \"{plan}\"\ndisplay_name = \"Bench\"\nprice = \"0\"\nmodels = [\"*\"]\npriority = 0\nlimits = [\n{limits}]\n"
    )
}
