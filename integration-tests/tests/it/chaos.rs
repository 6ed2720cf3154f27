//! A kill in the middle of work; `make chaos` does it to everything.

use weir_integration_tests::chaos;
use weir_integration_tests::trace::Trace;

async fn survive(victim: &str) {
    let rows = Trace::excerpt().unwrap().rows;
    let run = chaos::kill(victim, &rows, 32).await.unwrap();
    assert!(run.clean(), "{run:?}\n{}", run.verdict());
    assert!(run.complete > 0, "{run:?}");
}

#[tokio::test]
async fn a_killed_broker_leaves_no_call_unaccounted() {
    survive("ai-broker").await;
}

#[tokio::test]
async fn redis_that_lost_its_data_lets_no_budget_be_overspent() {
    survive("redis").await;
}
