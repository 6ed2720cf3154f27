//! Settlements of many at once count as each for itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use weir_quota::domain::{Amounts, Plan, Value};
use weir_quota::storage::store::{Applied, Apply, ApplyCounter, ApplyKind, Contents, Ending};
use weir_types::{OrganizationId, ReservationId};

use super::{Bench, Outcome, Wish, now, plan, subject};

/// How one reservation ends: how much of tokens and money was used (none: released), and whether that is assumed.
type RandomEnd = (Option<(i64, i64)>, bool);

fn ends() -> impl Strategy<Value = (Vec<(i64, i64)>, Vec<RandomEnd>, Vec<usize>)> {
    let amounts = prop::collection::vec((1_i64..9, 1_i64..9), 8);
    let end = (prop::option::weighted(0.8, (0_i64..12, 0_i64..12)), any::<bool>());
    (amounts, prop::collection::vec(end, 8), Just((0..8).collect::<Vec<_>>()).prop_shuffle())
}

/// Holds tokens and money, and is settled.
struct Held {
    id: ReservationId,
    at: i64,
    reserved: (i64, i64),
}

impl Held {
    fn end(&self, plan: &Plan, end: &RandomEnd) -> Apply {
        let (tokens, money) = end.0.unwrap_or((0, 0));
        let limit = |id: u32| plan.scopes[0].windows.iter().find(|limit| limit.id == id).unwrap();
        let counter = |limit, kind, place, reserved, actual| ApplyCounter {
            value: Value::Organization,
            limit,
            kind,
            place,
            reserved,
            actual,
            before: 0,
        };
        Apply {
            id: self.id,
            ending: Ending::of(end.0.is_none(), end.1),
            written_in: None,
            reserved_at: Some(0),
            counters: vec![
                counter(1, ApplyKind::Sum, limit(1).period(now()).start, self.reserved.1, money),
                counter(2, ApplyKind::Rolling(3_600_000, false), self.at + 1, self.reserved.0, tokens),
            ],
            concurrent: vec![(3, Value::Organization)],
        }
    }
}

#[tokio::test]
async fn settlements_together_count_as_each_for_itself() {
    let bench = Bench::new(weir_testing::redis().await.unwrap()).await;
    let plan = plan(1);
    let mut runner = TestRunner::deterministic();
    for round in 0..25 {
        let (amounts, ends, order) = ends().new_tree(&mut runner).unwrap().current();
        let mut ended = Vec::new();
        for alone in [false, true] {
            let organization = OrganizationId::new_v7();
            let subject = subject(organization, None, None);
            bench.warm(&plan, &subject).await;
            let mut held = Vec::new();
            for (tokens, money) in &amounts {
                let list = [("token", *tokens), ("nano_usd", *money), ("concurrent", 1)];
                let wish = Wish {
                    id: ReservationId::new_v7(),
                    subject: subject.clone(),
                    amounts: Amounts::new(list).unwrap(),
                };
                if let Outcome::Admitted(_) = bench.reserve(&plan, &wish).await {
                    let at = bench.last.load(Ordering::Relaxed);
                    held.push(Held { id: wish.id, at, reserved: (*tokens, *money) });
                }
                // Each in a bucket of its own.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let order: Vec<usize> = order.iter().copied().filter(|place| *place < held.len()).collect();
            for part in order.chunks(1 + round % 8) {
                let mut applies: Vec<Apply> = part.iter().map(|place| held[*place].end(&plan, &ends[*place])).collect();
                if alone {
                    // One that the store has never seen: then it looks at each.
                    let id = ReservationId::new_v7();
                    applies.push(Apply {
                        id,
                        ending: Ending::Released,
                        written_in: None,
                        reserved_at: Some(0),
                        counters: vec![],
                        concurrent: vec![],
                    });
                }
                let applied = bench.store.settle(&bench.scripts, &organization, &applies).await.unwrap();
                assert_eq!(applied, vec![Applied::Done { late: false }; applies.len()]);
                // Again, it changes nothing.
                let before = counted(&bench.store.contents(&organization).await.unwrap());
                bench.store.settle(&bench.scripts, &organization, &applies).await.unwrap();
                assert_eq!(counted(&bench.store.contents(&organization).await.unwrap()), before);
            }
            let contents = bench.store.contents(&organization).await.unwrap();
            assert!(contents.held.is_empty());
            ended.push((held.len(), counted(&contents)));
        }
        assert_eq!(ended[0], ended[1], "{amounts:?} {ends:?} {order:?}");
    }
}

/// Spent, held and the sizes of the buckets of each counter.
fn counted(contents: &Contents) -> Vec<(u32, i64, i64, Vec<i64>)> {
    let entries = contents.subjects.iter().flat_map(|(_, state)| &state.entries);
    entries
        .map(|entry| {
            let sizes = entry.queue.iter().flatten().map(|(_, size)| *size).collect();
            (entry.limit, entry.spent, entry.held, sizes)
        })
        .collect()
}
