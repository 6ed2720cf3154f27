//! Short histories that once went wrong.

use weir_proto::billing::v1::CalendarUnit;
use weir_quota::domain::Millis;

use super::bench::Bench;
use super::history::{Call, History, SUBJECTS, Step, Used, With};
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

fn grow(slot: usize, more: &[(&'static str, i64)]) -> Step {
    call(Call::Grow { slot, more: more.iter().copied().collect(), less: false, lease: 30_000 })
}

const fn commit(slot: usize, used: Used, estimated: bool, with: With) -> Step {
    call(Call::Commit { slot, used, estimated, with })
}

const fn call(call: Call) -> Step {
    Step::Call { call, engine: 0, trouble: None }
}

async fn play(limits: Vec<(Limit, i64)>, skew: [Millis; 2], steps: Vec<Step>) {
    let history = History { limits, begins: BEGINS, skew, steps };
    let both = async {
        for bench in [Bench::new().await, Bench::in_memory().await] {
            bench.play(&history).await.unwrap();
        }
    };
    Box::pin(both).await;
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
        commit(0, Used::Half, false, With::Handle),
    ];
    play(limits, [0, 0], steps).await;
}

#[tokio::test]
async fn an_estimate_that_is_replaced_without_a_handle_changes_its_counters() {
    let limits = vec![limit("day", Scope::Organization, "nano_usd", DAILY)];
    let steps = vec![
        reserve(0, &[("nano_usd", 40)]),
        commit(0, Used::All, true, With::Handle),
        commit(0, Used::Half, false, With::Nothing),
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
        commit(0, Used::All, false, With::Handle),
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
        commit(0, Used::All, false, With::Handle),
        Step::Call { call: Call::TakeOver { lease: 1_000 }, engine: 1, trouble: None },
        reserve(1, &[]),
        Step::Clock(60_000),
        call(Call::TakeOver { lease: 1_000 }),
    ];
    play(limits, [-40 * DAY, 0], steps).await;
}

const HOURLY: Window = Window::Calendar(CalendarUnit::Hour, "Europe/Paris");

/// Whichever handle settles it, and whatever is replaced by what: what grew in a later period is charged there.
#[tokio::test]
async fn what_has_grown_in_another_period_is_charged_there_also_with_the_handle_of_before() {
    let limits = || {
        vec![
            limit("day", Scope::Organization, "nano_usd", DAILY),
            limit("hour", Scope::User, "nano_usd", HOURLY),
            limit("a-day", Scope::Organization, "nano_usd", Window::Rolling(DAY)),
            limit("rate", Scope::Organization, "nano_usd", Window::Rolling(60_000)),
        ]
    };
    let settlements = [
        vec![commit(0, Used::Half, false, With::Former)],
        vec![commit(0, Used::Half, true, With::Former), commit(0, Used::All, false, With::Former)],
        vec![commit(0, Used::Half, true, With::Handle), commit(0, Used::All, false, With::Former)],
        vec![commit(0, Used::Half, true, With::Former), commit(0, Used::All, false, With::Handle)],
    ];
    for settlement in settlements {
        let mut steps = vec![reserve(0, &[("nano_usd", 10)]), Step::Clock(11_000), grow(0, &[("nano_usd", 30)])];
        steps.extend(settlement);
        // What Postgres has counts in the next generation.
        steps.extend([reserve(1, &[("nano_usd", 20)]), Step::Lose { announce: true }, reserve(2, &[("nano_usd", 10)])]);
        play(limits(), [0, 0], steps).await;
    }
}

/// It is another record there, and has grown all the same.
#[tokio::test]
async fn what_has_grown_and_was_announced_again_ends_as_a_whole_with_the_handle_of_before() {
    let limits = vec![
        limit("day", Scope::Organization, "nano_usd", DAILY),
        limit("a-day", Scope::Organization, "nano_usd", Window::Rolling(DAY)),
    ];
    let steps = vec![
        reserve(0, &[("nano_usd", 10)]),
        Step::Clock(11_000),
        grow(0, &[("nano_usd", 30)]),
        Step::Lose { announce: true },
        commit(0, Used::Half, false, With::Former),
        reserve(1, &[("nano_usd", 80)]),
    ];
    play(limits, [0, 0], steps).await;
}

/// It left the window before the clock went back, and took with it what is given back now: the bucket after it is others'.
#[tokio::test]
async fn what_has_left_a_rolling_window_gives_nothing_back_when_the_clock_goes_back() {
    let rate = || vec![limit("rate", Scope::Organization, "request", Window::Rolling(60_000))];
    let before = [
        reserve(0, &[("request", 40)]),
        Step::Clock(1_000),
        reserve(1, &[("request", 30)]),
        Step::Clock(30_000),
        reserve(2, &[("request", 20)]),
        Step::Clock(31_000),
        reserve(3, &[("request", 10)]),
        Step::Clock(-16_000),
    ];
    let endings = [
        vec![commit(0, Used::Half, false, With::Handle), commit(1, Used::Half, false, With::Handle)],
        vec![grow(0, &[("request", 1)]), commit(0, Used::Half, false, With::Handle)],
    ];
    for ending in endings {
        play(rate(), [0, 0], [before.to_vec(), ending].concat()).await;
    }
}

/// What a long rolling window must know is announced before it ends, and then as a whole.
#[tokio::test]
async fn what_is_settled_before_it_is_announced_counts_in_its_rates_too() {
    let limits = vec![
        limit("rate", Scope::Organization, "request", Window::Rolling(60_000)),
        limit("money", Scope::Organization, "nano_usd", Window::Rolling(DAY)),
    ];
    let steps = vec![
        reserve(0, &[("request", 40), ("nano_usd", 0)]),
        Step::Lose { announce: false },
        commit(0, Used::Half, false, With::Handle),
        reserve(1, &[("request", 81)]),
        reserve(2, &[("request", 80)]),
    ];
    play(limits, [0, 0], steps).await;
}

/// It was the last of its scope, but no limit of the reservation's own.
#[tokio::test]
async fn a_limit_that_has_left_the_plan_does_not_limit_what_grows() {
    let limits = vec![
        limit("feature", Scope::Feature, "request", Window::Rolling(60_000)),
        limit("rate", Scope::Organization, "request", Window::Rolling(60_000)),
    ];
    let steps = vec![
        reserve(0, &[("request", 40)]),
        Step::Cap { limit: 1, cap: Some(200) },
        Step::Cap { limit: 0, cap: None },
        Step::Clock(1_000),
        grow(0, &[("request", 90)]),
        commit(0, Used::Half, false, With::Handle),
    ];
    play(limits, [0, 0], steps).await;
}
