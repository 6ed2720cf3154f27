//! The engine against a plain reference, over random histories of everything that can happen to it.
//!
//! Every answer of the engine and every counter after every step must be what the reference says; where an answer was lost the
//! engine must be in one of the states that it may have left behind. Time is the test's, also inside Redis, so days pass between
//! two calls. Other histories, and more: `WEIR_MODEL_SEED=2 PROPTEST_CASES=2000`.

mod asking;
mod bench;
mod client;
mod closing;
mod found;
mod gcra;
mod growing;
mod history;
mod reference;
pub(crate) mod timed;
mod two_phase;
mod wire;

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestError, TestRunner};

use bench::Bench;

/// What one run has time for.
const CASES: u32 = 30;
const STEPS: usize = 60;
/// The same histories each time, so that a failure is a change's.
const SEED: u64 = 1;

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES)
}

fn shrinks() -> u32 {
    std::env::var("WEIR_MODEL_SHRINKS").ok().and_then(|n| n.parse().ok()).unwrap_or(400)
}

#[test]
fn every_answer_and_every_counter_is_what_the_reference_says() {
    holds(Bench::new());
}

#[test]
fn every_answer_and_every_counter_in_memory_is_what_the_reference_says() {
    holds(Bench::in_memory());
}

fn holds(bench: impl Future<Output = Bench>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let bench = runtime.block_on(bench);
    let config = ProptestConfig {
        cases: cases(),
        max_shrink_iters: shrinks(),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let seed = std::env::var("WEIR_MODEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let mut runner = TestRunner::new_with_rng(config, rng(seed));
    let outcome = runner
        .run(&history::history(STEPS), |history| runtime.block_on(bench.play(&history)).map_err(TestCaseError::fail));
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, history)) => panic!("{reason}\n{history:?}"),
        Err(error) => panic!("{error}"),
    }
}

/// The same histories again.
fn rng(seed: u64) -> proptest::test_runner::TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &bytes)
}
