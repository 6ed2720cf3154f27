//! Requests that no client of ours would send, through the real service: nothing panics, nothing is answered as a defect of ours,
//! and what is refused changes no counter.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use prost::Message;
use tonic::Code;
use weir_proto::common::v1::{Amount, ErrorReason};
use weir_proto::quota::v1::*;
use weir_rpc::Failure;
use weir_types::{MAX_AMOUNT, OrganizationId, UserId, names};

use crate::billing::{calendar, concurrent, lifetime, limit, rolling};
use crate::house::{Engine, House, amounts, commit, extension, open, release, reserve, subject};

const CASES: u32 = 400;

/// What happens to the bytes of a request.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(usize, u8),
    Set(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Double(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = || any::<prop::sample::Index>().prop_map(|at| at.index(4_096));
    prop_oneof![
        4 => (at(), 0_u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => at().prop_map(Mutation::Cut),
        2 => (at(), vec(any::<u8>(), 0..12)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (at(), 1_usize..40).prop_map(|(at, length)| Mutation::Double(at, length)),
    ]
}

fn mutate(mut bytes: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        let length = bytes.len().max(1);
        match mutation {
            Mutation::Flip(at, bit) => bytes.get_mut(at % length).into_iter().for_each(|byte| *byte ^= 1 << bit),
            Mutation::Set(at, new) => bytes.get_mut(at % length).into_iter().for_each(|byte| *byte = *new),
            Mutation::Cut(at) => bytes.truncate(at % length),
            Mutation::Insert(at, new) => {
                let at = at % (bytes.len() + 1);
                bytes.splice(at..at, new.iter().copied());
            }
            Mutation::Double(at, span) => {
                let from = at % length;
                let copy = bytes[from.min(bytes.len())..(from + span).min(bytes.len())].to_vec();
                bytes.splice(from.min(bytes.len())..from.min(bytes.len()), copy);
            }
        }
    }
    bytes
}

/// A mistake in one field, or none.
#[derive(Debug, Clone)]
enum Odd {
    Nothing,
    Amount(i64),
    Unit(String),
    ManyUnits,
    Twice,
    Id(String),
    Lease(Option<(i64, i32)>),
    Organization(String),
    Label(String, String),
    Ip(String),
    Context(usize),
}

fn odd() -> impl Strategy<Value = Odd> {
    let numbers = vec![i64::MIN, -1, 0, 1, MAX_AMOUNT - 1, MAX_AMOUNT, MAX_AMOUNT + 1, i64::MAX, -MAX_AMOUNT, 1 << 62];
    let texts = prop_oneof![
        Just(String::new()),
        Just("\0".to_owned()),
        Just("a\0b".to_owned()),
        Just("organization".to_owned()),
        Just("x".repeat(129)),
        "\\PC{0,40}",
    ];
    prop_oneof![
        2 => Just(Odd::Nothing),
        4 => prop::sample::select(numbers).prop_map(Odd::Amount),
        1 => texts.clone().prop_map(Odd::Unit),
        1 => Just(Odd::ManyUnits),
        1 => Just(Odd::Twice),
        1 => texts.clone().prop_map(Odd::Id),
        2 => prop::option::of((any::<i64>(), any::<i32>())).prop_map(Odd::Lease),
        1 => texts.clone().prop_map(Odd::Organization),
        3 => (texts.clone(), texts.clone()).prop_map(|(name, value)| Odd::Label(name, value)),
        2 => texts.clone().prop_map(|value| Odd::Label("feature".to_owned(), value)),
        1 => texts.prop_map(Odd::Ip),
        1 => (4_000_usize..4_200).prop_map(Odd::Context),
    ]
}

/// The request that lets a reservation hold more.
const GROWTH: usize = 8;
/// The longest there is, in seconds: a lease that ends between two looks at the counters changes them.
const LEASE: i64 = 3_600;

/// One request: of which kind, with what wrong, and what is done to its bytes.
#[derive(Debug, Clone)]
struct Asked {
    rpc: usize,
    odd: Odd,
    mutations: Vec<Mutation>,
    /// What is done to the handle alone.
    handle: Vec<Mutation>,
}

impl Asked {
    /// With the handle as it was given: only siblings can send another, and quota takes it at its word.
    fn with_its_handle(mut self) -> Self {
        if (3..=6).contains(&self.rpc) || self.rpc == GROWTH {
            self.mutations.clear();
            self.handle.clear();
        }
        self
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let mutations = || prop_oneof![2 => Just(Vec::new()), 1 => vec(mutation(), 1..4)];
    (0..=GROWTH, odd(), mutations(), mutations()).prop_map(|(rpc, odd, mutations, handle)| Asked {
        rpc,
        odd,
        mutations,
        handle,
    })
}

struct Target {
    engine: Engine,
    tenant: OrganizationId,
    user: UserId,
    held: (ReserveRequest, ReserveResponse),
}

impl Target {
    fn subject(&self) -> Subject {
        let labels = [("feature".to_owned(), "interview".to_owned())].into_iter().collect();
        Subject { user: names::user(&self.tenant, &self.user), labels, ..subject(self.tenant) }
    }

    /// Every counter.
    async fn counters(&self) -> Vec<(String, i64, i64)> {
        let request = GetBalanceRequest { subject: Some(self.subject()) };
        let answer = open(self.engine.client().get_balance(request).await).unwrap();
        answer.limits.into_iter().map(|state| (state.limit, state.used, state.held)).collect()
    }

    /// A reservation that is held; none once a request has used all of the budget, as it may.
    async fn another(&self) -> Option<(ReserveRequest, ReserveResponse)> {
        let request = self.reserve(&Odd::Nothing);
        match open(self.engine.client().reserve(request.clone()).await) {
            Ok(answer) => Some((request, answer)),
            Err(failure) => {
                let is_used_up = failure.reason() == ErrorReason::BudgetExhausted;
                assert!(is_used_up || failure.is_transient(), "{failure:?}");
                None
            }
        }
    }

    fn reserve(&self, odd: &Odd) -> ReserveRequest {
        let mut request = reserve(self.tenant, &[("nano_usd", 1), ("request", 1), ("token", 1), ("concurrent", 1)]);
        let mut subject = self.subject();
        request.lease = Some(prost_types::Duration { seconds: LEASE, nanos: 0 });
        spoil(&mut request.amounts, odd);
        match odd {
            Odd::Id(id) => request.reservation_id.clone_from(id),
            Odd::Lease(lease) => {
                request.lease = lease.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos });
            }
            Odd::Organization(name) => subject.organization.clone_from(name),
            Odd::Label(name, value) => drop(subject.labels.insert(name.clone(), value.clone())),
            Odd::Ip(ip) => subject.ip.clone_from(ip),
            Odd::Context(length) => request.context = vec![7; *length].into(),
            _ => {}
        }
        request.subject = Some(subject);
        request
    }

    /// Asks; answers the failure if there is one. Bytes that are no message of that kind are nobody's request.
    async fn ask(&self, asked: &Asked, held: (ReserveRequest, ReserveResponse)) -> Option<Failure> {
        let Asked { rpc, odd, mutations, handle } = asked;
        let mut client = self.engine.client();
        let (request, mut known) = held;
        known.handle = mutate(known.handle.to_vec(), handle).into();
        let mut settle = commit(&request, &known, &[("nano_usd", 1), ("token", 1)]);
        spoil(&mut settle.actuals, odd);
        match odd {
            Odd::Id(id) => settle.reservation_id.clone_from(id),
            Odd::Organization(name) => settle.organization.clone_from(name),
            _ => {}
        }
        macro_rules! send {
            ($method:ident, $message:expr) => {{
                let Ok(message) = Message::decode(&*mutate($message.encode_to_vec(), mutations)) else { return None };
                open(client.$method(tonic::Request::<_>::new(message)).await).err()
            }};
        }
        let reserve = self.reserve(odd);
        match *rpc {
            0 => {
                let Ok(message) = ReserveRequest::decode(&*mutate(reserve.encode_to_vec(), mutations)) else {
                    return None;
                };
                let answer = match open(client.reserve(message.clone()).await) {
                    Ok(answer) => answer,
                    Err(failure) => return Some(failure),
                };
                // Its lease may have become a short one.
                open(client.release(release(&message, &answer)).await).err()
            }
            1 => send!(check, CheckRequest { subject: reserve.subject, amounts: reserve.amounts }),
            2 => send!(get_balance, GetBalanceRequest { subject: reserve.subject }),
            3 => send!(commit, settle),
            4 => send!(release, release(&request, &known)),
            5 => {
                let mut lease = extension(&request, &known, LEASE);
                if let Odd::Lease(odd) = odd {
                    lease.lease = odd.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos });
                }
                send!(extend, ExtendRequest { leases: vec![lease] })
            }
            6 => {
                let action = Some(settle::Action::Commit(settle));
                let settles = vec![Settle { action: None }, Settle { action }];
                send!(batch_settle, BatchSettleRequest { settles })
            }
            GROWTH => {
                let mut lease = LeaseExtension {
                    amounts: amounts(&[("nano_usd", 7), ("token", 6), ("request", 1), ("task", 3)]),
                    ..extension(&request, &known, LEASE)
                };
                spoil(&mut lease.amounts, odd);
                match odd {
                    Odd::Id(id) => lease.reservation_id.clone_from(id),
                    Odd::Lease(odd) => {
                        lease.lease = odd.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos });
                    }
                    _ => {}
                }
                send!(extend, ExtendRequest { leases: vec![lease] })
            }
            _ => {
                let max = if let Odd::Amount(max) = odd { i32::try_from(*max).unwrap_or(-1) } else { 10 };
                send!(take_over, TakeOverRequest { max, lease: reserve.lease })
            }
        }
    }
}

fn spoil(list: &mut Vec<Amount>, odd: &Odd) {
    match odd {
        Odd::Amount(value) => list[0].value = *value,
        Odd::Unit(unit) => list[0].unit.clone_from(unit),
        Odd::ManyUnits => list.extend((0..20).map(|n| Amount { unit: format!("unit_{n}"), value: 1 })),
        Odd::Twice => list.push(list[0].clone()),
        _ => {}
    }
}

async fn target() -> (House, Target) {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![
        limit("budget", "organization", "nano_usd", MAX_AMOUNT, lifetime()),
        limit("month", "user", "nano_usd", MAX_AMOUNT, calendar(weir_proto::billing::v1::CalendarUnit::Month)),
        limit("rate", "organization", "request", 1_000_000, rolling(3_600_000)),
        limit("tokens", "feature", "token", 1_000_000, rolling(86_400_000)),
        limit("at-once", "user", "concurrent", 1_000_000, concurrent()),
    ]);
    let user = UserId::new_v7();
    let mut request = reserve(tenant, &[("nano_usd", 5), ("request", 1), ("token", 5), ("concurrent", 1)]);
    request.lease = Some(prost_types::Duration { seconds: LEASE, nanos: 0 });
    let labels = [("feature".to_owned(), "interview".to_owned())].into_iter().collect();
    request.subject = Some(Subject { user: names::user(&tenant, &user), labels, ..subject(tenant) });
    let answer = engine.client().reserve(request.clone()).await.unwrap().into_inner();
    (house, Target { engine, tenant, user, held: (request, answer) })
}

#[test]
fn no_request_is_a_defect_and_no_refusal_changes_a_counter() {
    fuzz(asked().prop_map(Asked::with_its_handle), true);
}

/// A forged handle may do harm to the counters it names, but to nothing else.
#[test]
fn no_forged_handle_is_a_defect() {
    fuzz(asked(), false);
}

fn fuzz(asked: impl Strategy<Value = Asked>, compares: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (_house, target) = runtime.block_on(target());
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&asked, |asked| {
        runtime.block_on(async {
            let held = if asked.rpc == GROWTH { target.another().await } else { Some(target.held.clone()) };
            let Some(held) = held else { return Ok(()) };
            let before = target.counters().await;
            let Some(failure) = target.ask(&asked, held).await else { return Ok(()) };
            let ours = [Code::Internal, Code::Unknown, Code::DataLoss, Code::Unimplemented];
            prop_assert!(!ours.contains(&failure.code()), "{failure:?}");
            // What was not answered in time may have been carried out.
            if compares && ![Code::Unavailable, Code::DeadlineExceeded].contains(&failure.code()) {
                prop_assert_eq!(before, target.counters().await, "{:?}", failure);
            }
            Ok(())
        })
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, asked)) => panic!("{reason}\n{asked:?}"),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn amounts_up_to_the_largest_exact_integer_are_counted_exactly_and_beyond_it_refused() {
    let (_house, target) = target().await;
    let mut client = target.engine.client();
    let tenant = target.tenant;
    for beyond in [MAX_AMOUNT + 1, i64::MAX, -1, i64::MIN] {
        let failure = open(client.reserve(reserve(tenant, &[("nano_usd", beyond)])).await).unwrap_err();
        assert_eq!(failure.code(), Code::InvalidArgument, "{failure:?}");
        let (request, known) = &target.held;
        let failure = open(client.commit(commit(request, known, &[("nano_usd", beyond)])).await).unwrap_err();
        assert_eq!(failure.code(), Code::InvalidArgument, "{failure:?}");
    }
    // 5 are held of 2^53 - 1.
    let all = reserve(tenant, &[("nano_usd", MAX_AMOUNT - 5)]);
    let handle = open(client.reserve(all.clone()).await).unwrap();
    let budget = |answer: &ReserveResponse| answer.limits.iter().find(|state| state.limit == "budget").unwrap().used;
    assert_eq!(budget(&handle), MAX_AMOUNT);
    assert!(client.reserve(reserve(tenant, &[("nano_usd", 1)])).await.is_err(), "not one more");
    let answer = open(client.commit(commit(&all, &handle, &[("nano_usd", MAX_AMOUNT - 6)])).await).unwrap();
    assert_eq!(answer.amounts, amounts(&[("nano_usd", MAX_AMOUNT - 6)]));
    let last = reserve(tenant, &[("nano_usd", 1)]);
    let handle = open(client.reserve(last.clone()).await).unwrap();
    assert_eq!(budget(&handle), MAX_AMOUNT, "the one that was returned");
    assert!(client.reserve(reserve(tenant, &[("nano_usd", 1)])).await.is_err());
    open(client.release(release(&last, &handle)).await).unwrap();
    assert_eq!(target.counters().await[0], ("budget".to_owned(), MAX_AMOUNT - 1, 5));
    // More than was reserved, twice: the books know how much, the fast store that it is too much.
    let most = reserve(tenant, &[("nano_usd", 1)]);
    let handle = open(client.reserve(most.clone()).await).unwrap();
    open(client.commit(commit(&most, &handle, &[("nano_usd", MAX_AMOUNT)])).await).unwrap();
    assert!(client.reserve(reserve(tenant, &[("nano_usd", 1)])).await.is_err());
    assert!(target.counters().await[0].1 >= MAX_AMOUNT);
}
