//! The published sequences of the generic cell rate algorithm, and what the exact window answers to them.

use serde::Deserialize;
use weir_proto::common::v1::ErrorReason;
use weir_quota::domain::Millis;

use super::bench::Bench;
use crate::billing::{limit, rolling};
use crate::house::{open, reserve};

#[derive(Debug, Deserialize)]
struct Vectors {
    sequence: Vec<Sequence>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sequence {
    source: String,
    burst: i64,
    emission_ms: Millis,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    at: Millis,
    ask: i64,
    refused: bool,
    left: Option<i64>,
    reset: Option<Millis>,
    retry: Option<Millis>,
    window_refused: bool,
    window_retry: Option<Millis>,
}

fn vectors() -> Vec<Sequence> {
    toml::from_str::<Vectors>(include_str!("../../data/gcra.toml")).unwrap().sequence
}

/// Virtual scheduling as ITU-T I.371 defines it: a theoretical arrival time that each admission moves ahead.
struct Gcra {
    burst: i64,
    emission: Millis,
    arrival: Millis,
}

impl Gcra {
    /// Whether it refuses; how much is left and when all is; when to ask again.
    fn ask(&mut self, at: Millis, amount: i64) -> (bool, i64, Millis, Option<Millis>) {
        let tolerance = self.burst * self.emission;
        let next = self.arrival.max(at) + amount * self.emission;
        let early = next - tolerance - at;
        if early <= 0 {
            self.arrival = next;
        }
        let reset = (self.arrival - at).max(0);
        let left = (tolerance - reset) / self.emission;
        let retry = (early > 0 && amount <= self.burst).then_some(early);
        (early > 0, left, reset, retry)
    }
}

#[test]
fn the_published_sequences_are_what_the_algorithm_says() {
    for Sequence { source, burst, emission_ms, steps } in vectors() {
        let mut gcra = Gcra { burst, emission: emission_ms, arrival: 0 };
        for step in steps {
            let (refused, left, reset, retry) = gcra.ask(step.at, step.ask);
            assert_eq!((refused, retry), (step.refused, step.retry), "{source}: {step:?}");
            assert!(step.left.is_none_or(|said| said == left), "{source}: {step:?}, {left} left");
            assert!(step.reset.is_none_or(|said| said == reset), "{source}: {step:?}, all left in {reset}");
        }
    }
}

/// The most that was admitted in a span that ends with an admission.
fn most(admitted: &[(Millis, i64)], span: Millis) -> i64 {
    let until = |end: usize| {
        let inside = admitted[..=end].iter().filter(move |(at, _)| admitted[end].0 - at < span);
        inside.map(|(_, amount)| amount).sum::<i64>()
    };
    (0..admitted.len()).map(until).max().unwrap_or(0)
}

#[tokio::test]
async fn the_exact_window_answers_the_published_sequences_as_it_must() {
    let bench = Bench::new().await;
    let begins = 1_790_000_000_000;
    let mut fewer = 0;
    for Sequence { source, burst, emission_ms, steps } in vectors() {
        let span = burst * emission_ms;
        let tenant = bench.house.tenant(vec![limit("rate", "organization", "request", burst, rolling(span))]);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for step in &steps {
            bench.set_clock(begins + step.at, [0, 0]).await;
            let answer = open(bench.client(0).await.reserve(reserve(tenant, &[("request", step.ask)])).await);
            match &answer {
                Ok(_) => ours.push((step.at, step.ask)),
                Err(failure) => assert_eq!(failure.reason(), ErrorReason::QuotaExceeded, "{source}: {failure}"),
            }
            let retry = answer.as_ref().err().and_then(|failure| failure.retry_after());
            let retry = retry.map(|wait| Millis::try_from(wait.as_millis()).unwrap());
            assert_eq!((answer.is_err(), retry), (step.window_refused, step.window_retry), "{source}: {step:?}");
            if !step.refused {
                theirs.push((step.at, step.ask));
            }
        }
        assert!(most(&ours, span) <= burst, "{source}: never more than the burst in any span");
        assert!(most(&theirs, span) < 2 * burst, "{source}: the algorithm's bound");
        fewer += i32::from(most(&theirs, span) > burst);
        // What the window admits the algorithm would admit, too: between two instants a window lets at most a burst for each span
        // through that has begun, the algorithm a burst and one for each emission interval.
        let mut gcra = Gcra { burst, emission: emission_ms, arrival: 0 };
        for (at, amount) in ours {
            assert!(!gcra.ask(at, amount).0, "{source}: {amount} at {at}");
        }
    }
    assert!(fewer > 0, "none of the sequences shows the difference");
}
