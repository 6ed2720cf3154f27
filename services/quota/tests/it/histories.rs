//! Random histories against a plain model: whatever is repeated, reordered or lost, the books say what the model says.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use weir_proto::billing::v1::CalendarUnit;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;

use crate::billing::{calendar, concurrent, lifetime, limit, rolling};
use crate::house::{House, balance, commit, open, release, reserve};

#[derive(Debug, Clone)]
enum Step {
    Reserve {
        slot: usize,
        money: i64,
        tokens: i64,
    },
    Commit {
        slot: usize,
        money: i64,
        tokens: i64,
        estimated: bool,
    },
    Release {
        slot: usize,
    },
    /// The store loses everything; live reservations are announced again.
    Lose,
}

const SLOTS: usize = 12;

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..SLOTS;
    prop_oneof![
        6 => (slot.clone(), 0_i64..400, 0_i64..300).prop_map(|(slot, money, tokens)| Step::Reserve { slot, money, tokens }),
        6 => (slot.clone(), 0_i64..500, 0_i64..300, any::<bool>())
            .prop_map(|(slot, money, tokens, estimated)| Step::Commit { slot, money, tokens, estimated }),
        2 => slot.prop_map(|slot| Step::Release { slot }),
        1 => Just(Step::Lose),
    ]
}

/// What became of a reservation, by the model.
#[derive(Debug, Clone, PartialEq)]
enum Fate {
    Held,
    Committed { money: i64, tokens: i64, estimated: bool },
    Released,
}

struct Slot {
    request: ReserveRequest,
    handle: ReserveResponse,
    asked: (i64, i64),
    fate: Fate,
}

const BUDGET: i64 = 2_000;
const TOKENS: i64 = 1_500;
const AT_ONCE: i64 = 5;

#[derive(Default)]
struct Model {
    slots: BTreeMap<usize, Slot>,
    /// Settled and forgotten by the test.
    spent: (i64, i64),
}

impl Model {
    fn held(&self) -> (i64, i64, i64) {
        let held = self.slots.values().filter(|slot| slot.fate == Fate::Held);
        held.fold((0, 0, 0), |sum, slot| (sum.0 + slot.asked.0, sum.1 + slot.asked.1, sum.2 + 1))
    }

    fn committed(&self) -> (i64, i64) {
        self.slots.values().fold(self.spent, |sum, slot| match slot.fate {
            Fate::Committed { money, tokens, .. } => (sum.0 + money, sum.1 + tokens),
            _ => sum,
        })
    }

    fn fits(&self, money: i64, tokens: i64) -> bool {
        let (held, spent) = (self.held(), self.committed());
        let fits = |asked: i64, used: i64, cap: i64| asked == 0 || used + asked <= cap;
        fits(money, held.0 + spent.0, BUDGET) && fits(tokens, held.1 + spent.1, TOKENS) && held.2 < AT_ONCE
    }
}

#[tokio::test]
async fn any_history_ends_as_the_model_says() {
    let house = House::new().await;
    let mut settings = crate::house::settings();
    settings.quota.rebuild.window = std::time::Duration::from_millis(100);
    let engine = house.engine_with(settings).await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..25 {
        let steps = prop::collection::vec(step(), 10..60).new_tree(&mut runner).unwrap().current();
        let tenant = house.tenant(vec![
            limit("budget", "organization", "nano_usd", BUDGET, calendar(CalendarUnit::Month)),
            limit("ever", "organization", "nano_usd", BUDGET * 2, lifetime()),
            limit("tokens", "organization", "token", TOKENS, rolling(86_400_000)),
            limit("at-once", "organization", "concurrent", AT_ONCE, concurrent()),
        ]);
        let mut client = engine.client();
        let mut model = Model::default();
        for (number, step) in steps.iter().enumerate() {
            run(&house, &mut client, tenant, &mut model, step).await;
            let so_far = &steps[..=number];
            let (held, spent) = (model.held(), model.committed());
            let budget = balance(&mut client, tenant, "budget").await;
            assert_eq!((budget.used, budget.held), (spent.0 + held.0, held.0), "{so_far:?}");
            let ever = balance(&mut client, tenant, "ever").await;
            assert_eq!((ever.used, ever.held), (spent.0 + held.0, held.0), "{so_far:?}");
            let tokens = balance(&mut client, tenant, "tokens").await;
            assert_eq!((tokens.used, tokens.held), (spent.1 + held.1, held.1), "{so_far:?}");
            assert_eq!(balance(&mut client, tenant, "at-once").await.used, held.2, "{so_far:?}");
        }
    }
    assert_eq!(engine.status().await.drifts, []);
}

async fn run(
    house: &House,
    client: &mut crate::house::Client,
    tenant: weir_types::OrganizationId,
    model: &mut Model,
    step: &Step,
) {
    match *step {
        Step::Reserve { slot, money, tokens } => {
            if let Some(old) = model.slots.get(&slot) {
                if old.fate == Fate::Held {
                    // A repeated request.
                    let again = client.reserve(old.request.clone()).await.unwrap().into_inner();
                    assert_eq!(again.handle, old.handle.handle);
                    return;
                }
                if let Fate::Committed { money, tokens, .. } = model.slots.remove(&slot).unwrap().fate {
                    model.spent = (model.spent.0 + money, model.spent.1 + tokens);
                }
            }
            let request = reserve(tenant, &[("nano_usd", money), ("token", tokens), ("concurrent", 1)]);
            match open(client.reserve(request.clone()).await) {
                Ok(handle) => {
                    assert!(model.fits(money, tokens), "{step:?} was admitted");
                    model.slots.insert(slot, Slot { request, handle, asked: (money, tokens), fate: Fate::Held });
                }
                Err(failure) => assert!(!model.fits(money, tokens), "{step:?}: {failure}"),
            }
        }
        Step::Commit { slot, money, tokens, estimated } => {
            let Some(slot) = model.slots.get_mut(&slot) else { return };
            let mut message = commit(&slot.request, &slot.handle, &[("nano_usd", money), ("token", tokens)]);
            message.estimated = estimated;
            let answer = open(client.commit(message).await);
            let new = Fate::Committed { money, tokens, estimated };
            match &slot.fate {
                Fate::Held => {
                    assert!(!answer.unwrap().duplicate);
                    slot.fate = new;
                }
                Fate::Committed { estimated: true, .. } if !estimated => {
                    assert!(!answer.unwrap().duplicate);
                    slot.fate = new;
                }
                Fate::Committed { .. } => assert!(answer.unwrap().duplicate),
                Fate::Released => assert_eq!(answer.unwrap_err().reason(), ErrorReason::ReservationReleased),
            }
        }
        Step::Release { slot } => {
            let Some(slot) = model.slots.get_mut(&slot) else { return };
            let answer = open(client.release(release(&slot.request, &slot.handle)).await);
            match slot.fate {
                Fate::Held => {
                    assert!(!answer.unwrap().duplicate);
                    slot.fate = Fate::Released;
                }
                Fate::Released => assert!(answer.unwrap().duplicate),
                Fate::Committed { .. } => assert_eq!(answer.unwrap_err().reason(), ErrorReason::AlreadyExists),
            }
        }
        Step::Lose => {
            house.lose().await;
            let live = model.slots.values().filter(|slot| slot.fate == Fate::Held);
            let leases: Vec<_> = live.map(|slot| crate::house::extension(&slot.request, &slot.handle, 30)).collect();
            let count = leases.len();
            let answer = client.extend(ExtendRequest { leases }).await.unwrap().into_inner();
            assert_eq!(answer.outcomes, vec![i32::from(LeaseOutcome::Announced); count]);
            // Closed for a moment.
            let subject = Some(crate::house::subject(tenant));
            let check = CheckRequest { subject, amounts: crate::house::amounts(&[("nano_usd", 0)]) };
            while let Err(failure) = open(client.check(check.clone()).await) {
                assert_eq!(failure.reason(), ErrorReason::Rebuilding);
                tokio::time::sleep(failure.retry_after().unwrap()).await;
            }
        }
    }
}
