//! Short histories that once went wrong.

use weir_proto::billing::v1::CalendarUnit;
use weir_quota::domain::Millis;

use super::bench::Bench;
use super::history::{Call, History, SUBJECTS, Step, Used};
use super::reference::{Amounts, Limit, Scope, Window};

/// 10 s before midnight in Paris, on the day before its clocks change.
const BEGINS: Millis = 1_774_738_790_000;
const DAY: Millis = 86_400_000;

const fn limit(name: &'static str, scope: Scope, unit: &'static str, window: Window) -> (Limit, i64) {
    (Limit { name, scope, unit, window }, 100)
}

fn reserve(slot: usize, amounts: &[(&'static str, i64)]) -> Step {
    let amounts: Amounts = amounts.iter().copied().collect();
    call(Call::Reserve { slot, who: SUBJECTS[0], amounts, lease: 30_000 })
}

const fn commit(slot: usize, used: Used, estimated: bool, bare: bool) -> Step {
    call(Call::Commit { slot, used, estimated, bare })
}

const fn call(call: Call) -> Step {
    Step::Call { call, engine: 0, trouble: None }
}

async fn play(limits: Vec<(Limit, i64)>, skew: [Millis; 2], steps: Vec<Step>) {
    let history = History { limits, begins: BEGINS, skew, steps };
    Bench::new().await.play(&history).await.unwrap();
}

const DAILY: Window = Window::Calendar(CalendarUnit::Day, "Europe/Paris");

#[tokio::test]
async fn what_only_rates_apply_to_counts_again_when_it_is_announced() {
    let limits = vec![limit("rate", Scope::Organization, "request", Window::Rolling(60_000))];
    let steps = vec![reserve(0, &[("request", 40)]), Step::Lose { announce: true }, reserve(1, &[("request", 60)])];
    play(limits, [0, 0], steps).await;
}

#[tokio::test]
async fn what_was_lost_is_announced_even_if_its_limits_have_left_the_plan() {
    let limits = vec![
        limit("day", Scope::User, "nano_usd", DAILY),
        limit("month", Scope::Organization, "nano_usd", Window::Calendar(CalendarUnit::Month, "UTC")),
    ];
    let steps = vec![
        reserve(0, &[("nano_usd", 40)]),
        Step::Cap { limit: 0, cap: None },
        Step::Lose { announce: true },
        commit(0, Used::Half, false, false),
    ];
    play(limits, [0, 0], steps).await;
}

#[tokio::test]
async fn an_estimate_that_is_replaced_without_a_handle_changes_its_counters() {
    let limits = vec![limit("day", Scope::Organization, "nano_usd", DAILY)];
    let steps = vec![
        reserve(0, &[("nano_usd", 40)]),
        commit(0, Used::All, true, false),
        commit(0, Used::Half, false, true),
        reserve(1, &[("nano_usd", 80)]),
    ];
    play(limits, [0, 0], steps).await;
}

#[tokio::test]
async fn an_engine_with_a_fast_clock_loads_counters_into_the_period_that_it_is() {
    let limits = vec![
        limit("day", Scope::Organization, "nano_usd", DAILY),
        limit("ever", Scope::Organization, "nano_usd", Window::Lifetime),
    ];
    let steps = vec![reserve(0, &[("nano_usd", 40)]), Step::Clock(11_000), reserve(1, &[("nano_usd", 70)])];
    play(limits, [40 * DAY, 0], steps).await;
}

#[tokio::test]
async fn a_period_stays_begun_when_data_is_lost_while_the_clock_is_behind() {
    let limits = vec![limit("day", Scope::Organization, "nano_usd", DAILY)];
    let steps = vec![
        reserve(0, &[("nano_usd", 40)]),
        commit(0, Used::All, false, false),
        Step::Clock(-DAY),
        Step::Lose { announce: false },
        reserve(1, &[("nano_usd", 10)]),
        Step::Clock(DAY),
        reserve(2, &[("nano_usd", 60)]),
    ];
    play(limits, [0, 0], steps).await;
}

#[tokio::test]
async fn a_tenant_that_an_engine_with_a_slow_clock_has_registered_is_not_forgotten() {
    let limits = vec![limit("rate", Scope::Organization, "request", Window::Rolling(1))];
    let steps = vec![
        reserve(0, &[]),
        commit(0, Used::All, false, false),
        Step::Call { call: Call::TakeOver { lease: 1_000 }, engine: 1, trouble: None },
        reserve(1, &[]),
        Step::Clock(60_000),
        call(Call::TakeOver { lease: 1_000 }),
    ];
    play(limits, [-40 * DAY, 0], steps).await;
}
