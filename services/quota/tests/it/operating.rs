//! The stream of operations.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use tokio::sync::mpsc;
use tonic::Streaming;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::operation_outcome::Outcome;
use weir_proto::quota::v1::*;
use weir_rpc::Failure;

use crate::billing::{lifetime, limit};
use crate::house::{Client, Engine, House, balance, commit, extension, open, release, reserve};

fn operation(operation: operation::Operation) -> Operation {
    Operation { operation: Some(operation), ..Operation::default() }
}

fn reserving(request: &ReserveRequest) -> Operation {
    operation(operation::Operation::Reserve(request.clone()))
}

fn message(operations: impl IntoIterator<Item = Operation>) -> OperateRequest {
    OperateRequest { operations: operations.into_iter().collect() }
}

/// Sends messages and half-closes; answers all outcomes, and how the stream ended.
async fn operate(
    client: &mut Client,
    messages: impl Stream<Item = OperateRequest> + Send + 'static,
) -> (Vec<OperationOutcome>, Result<(), Failure>) {
    let answers = client.operate(messages).await.unwrap().into_inner();
    collect(answers).await
}

async fn collect(mut answers: Streaming<OperateResponse>) -> (Vec<OperationOutcome>, Result<(), Failure>) {
    let mut outcomes = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => outcomes.extend(answer.outcomes),
            Ok(None) => return (outcomes, Ok(())),
            Err(status) => return (outcomes, Err(status.into())),
        }
    }
}

/// A stream whose messages are sent by hand.
async fn by_hand(client: &mut Client) -> (mpsc::Sender<OperateRequest>, Streaming<OperateResponse>) {
    let (sender, mut receiver) = mpsc::channel(64);
    let messages = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (sender, client.operate(messages).await.unwrap().into_inner())
}

async fn house(cap: i64) -> (House, Engine, weir_types::OrganizationId) {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", cap, lifetime())]);
    (house, engine, tenant)
}

#[tokio::test]
async fn every_operation_is_answered_by_its_name_before_the_stream_ends() {
    let (_house, engine, tenant) = house(1_000).await;
    let mut client = engine.client();
    let (kept, ended) = (reserve(tenant, &[("nano_usd", 100)]), reserve(tenant, &[("nano_usd", 100)]));
    let (mut sender, mut answers) = {
        let (sender, answers) = by_hand(&mut client).await;
        (Some(sender), answers)
    };
    let send = sender.as_ref().unwrap();
    let too_much = reserve(tenant, &[("nano_usd", 5_000)]);
    let nobody = Operation { tag: 9, ..Operation::default() };
    send.try_send(message([reserving(&kept), reserving(&ended), reserving(&too_much), nobody])).unwrap();
    let mut handles = HashMap::new();
    let mut seen = HashSet::new();
    while seen.len() < 4 {
        for outcome in answers.message().await.unwrap().unwrap().outcomes {
            assert!(seen.insert((outcome.reservation_id.clone(), outcome.tag)));
            match outcome.outcome.unwrap() {
                Outcome::Reserved(reserved) => {
                    assert_eq!(outcome.operation, i32::from(OperationKind::Reserve));
                    handles.insert(outcome.reservation_id, reserved);
                }
                Outcome::Refused(refusal) => {
                    assert_eq!(outcome.reservation_id, too_much.reservation_id);
                    assert_eq!(
                        (refusal.reason(), refusal.refused_by),
                        (ErrorReason::BudgetExhausted, vec!["budget".into()])
                    );
                }
                Outcome::Error(error) => {
                    assert_eq!((outcome.tag, error.reason()), (9, ErrorReason::InvalidArgument));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let (kept_handle, ended_handle) = (&handles[&kept.reservation_id], &handles[&ended.reservation_id]);
    let rest = [
        operation(operation::Operation::Extend(extension(&kept, kept_handle, 60))),
        operation(operation::Operation::Commit(commit(&kept, kept_handle, &[("nano_usd", 30)]))),
        operation(operation::Operation::Release(release(&ended, ended_handle))),
    ];
    send.try_send(message(rest)).unwrap();
    drop(sender.take());
    let (outcomes, end) = collect(answers).await;
    assert_eq!(end, Ok(()));
    let of = |kind: OperationKind| {
        let mut found = outcomes.iter().filter(|outcome| outcome.operation == i32::from(kind));
        (found.next().unwrap().outcome.clone().unwrap(), found.count())
    };
    let (Outcome::Extended(extended), 0) = of(OperationKind::Extend) else { panic!("{outcomes:?}") };
    assert_eq!((extended.outcome(), extended.epoch), (LeaseOutcome::Extended, kept_handle.epoch));
    let (Outcome::Committed(committed), 0) = of(OperationKind::Commit) else { panic!("{outcomes:?}") };
    assert_eq!((committed.amounts[0].value, committed.duplicate), (30, false));
    let (Outcome::Released(released), 0) = of(OperationKind::Release) else { panic!("{outcomes:?}") };
    assert!(!released.duplicate);
    assert_eq!(balance(&mut client, tenant, "budget").await.used, 30);
    engine.assert_balanced().await;
}

#[tokio::test]
async fn operations_of_one_reservation_take_effect_in_their_order() {
    let (_house, engine, tenant) = house(1_000_000).await;
    let mut client = engine.client();
    let requests: Vec<_> = (0..200).map(|_| reserve(tenant, &[("nano_usd", 1)])).collect();
    // Sent at once, without a handle: each would be refused, or commit nothing, if it came before its reserve. The second reserve
    // comes after the end.
    let operations = requests.iter().flat_map(|request| {
        let reserved = ReserveResponse::default();
        [
            reserving(request),
            operation(operation::Operation::Commit(commit(request, &reserved, &[("nano_usd", 1)]))),
            reserving(request),
        ]
    });
    let operations: Vec<_> = operations.collect();
    let messages: Vec<_> = operations.chunks(450).map(|some| message(some.to_vec())).collect();
    let (outcomes, end) = operate(&mut client, stream::iter(messages)).await;
    assert_eq!((outcomes.len(), end), (600, Ok(())));
    let mut by_id: HashMap<String, Vec<Outcome>> = HashMap::new();
    for outcome in outcomes {
        by_id.entry(outcome.reservation_id).or_default().push(outcome.outcome.unwrap());
    }
    for outcomes in by_id.values() {
        let [Outcome::Reserved(_), Outcome::Committed(committed), Outcome::Error(error)] = &outcomes[..] else {
            panic!("{outcomes:?}")
        };
        assert_eq!((committed.amounts[0].value, error.reason()), (1, ErrorReason::IdReused));
    }
    assert_eq!(balance(&mut client, tenant, "budget").await.used, 200);
    engine.assert_balanced().await;
}

#[tokio::test]
async fn a_repeated_operation_on_another_stream_changes_nothing() {
    let (_house, engine, tenant) = house(1_000).await;
    let mut client = engine.client();
    let requests: Vec<_> = (0..20).map(|_| reserve(tenant, &[("nano_usd", 100)])).collect();
    let all = || stream::iter([message(requests.iter().map(reserving))]);
    let (first, _) = operate(&mut client, all()).await;
    let (second, _) = operate(&mut client, all()).await;
    let handles = |outcomes: &[OperationOutcome]| -> HashMap<String, bytes::Bytes> {
        let handle = |one: &OperationOutcome| match &one.outcome {
            Some(Outcome::Reserved(reserved)) => Some((one.reservation_id.clone(), reserved.handle.clone())),
            _ => None,
        };
        outcomes.iter().filter_map(handle).collect()
    };
    assert_eq!(handles(&first).len(), 10);
    assert_eq!(handles(&first), handles(&second));
    assert_eq!(balance(&mut client, tenant, "budget").await.held, 1_000);
}

#[tokio::test]
async fn no_more_is_read_than_a_stream_may_have_under_way() {
    let house = House::with_private_redis().await;
    let mut settings = crate::house::settings();
    settings.quota.operations.per_stream = 8;
    settings.redis.deadline = Duration::from_secs(20);
    let engine = house.engine_with(settings).await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 1_000_000, lifetime())]);
    let mut client = engine.client();
    client.reserve(reserve(tenant, &[("nano_usd", 1)])).await.unwrap();
    // Nothing is answered for a while.
    house.redis.pause(Duration::from_millis(1_500)).await.unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    // As large as they may be: the transport holds few of them.
    let messages = stream::iter(0..400).map(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        message([reserving(&ReserveRequest { context: vec![7; 4_096].into(), ..reserve(tenant, &[("nano_usd", 1)]) })])
    });
    let answers = client.operate(messages).await.unwrap().into_inner();
    let collected = tokio::spawn(collect(answers));
    while taken.load(Ordering::Relaxed) < 8 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = taken.load(Ordering::Relaxed);
    assert!(before < 40, "{before} messages were read while 8 operations were under way");
    let (outcomes, end) = collected.await.unwrap();
    assert_eq!((outcomes.len(), end), (400, Ok(())));
    assert!(outcomes.iter().all(|one| matches!(one.outcome, Some(Outcome::Reserved(_)))));
}

#[tokio::test]
async fn an_operation_has_a_deadline_of_its_own() {
    let house = House::with_private_redis().await;
    let mut settings = crate::house::settings();
    settings.redis.deadline = Duration::from_secs(20);
    let engine = house.engine_with(settings).await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 1_000, lifetime())]);
    let mut client = engine.client();
    client.reserve(reserve(tenant, &[("nano_usd", 1)])).await.unwrap();
    house.redis.pause(Duration::from_millis(1_500)).await.unwrap();
    let (hasty, patient) = (reserve(tenant, &[("nano_usd", 1)]), reserve(tenant, &[("nano_usd", 1)]));
    let timeout = Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 });
    let operations = [Operation { timeout, ..reserving(&hasty) }, reserving(&patient)];
    let (outcomes, end) = operate(&mut client, stream::iter([message(operations)])).await;
    assert_eq!(end, Ok(()));
    let [first, second] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(first.reservation_id, hasty.reservation_id);
    assert!(matches!(&first.outcome, Some(Outcome::Error(error)) if error.reason() == ErrorReason::DeadlineExceeded));
    assert_eq!(second.reservation_id, patient.reservation_id);
    assert!(matches!(second.outcome, Some(Outcome::Reserved(_))));
}

#[tokio::test]
async fn a_process_that_stops_answers_what_it_has_read_and_says_to_connect_again() {
    let house = House::with_private_redis().await;
    let mut settings = crate::house::settings();
    settings.redis.deadline = Duration::from_secs(20);
    let engine = house.engine_with(settings).await;
    let tenant = house.tenant(vec![limit("budget", "organization", "nano_usd", 1_000, lifetime())]);
    let mut client = engine.client();
    let (sender, mut answers) = by_hand(&mut client).await;
    sender.try_send(message([reserving(&reserve(tenant, &[("nano_usd", 1)]))])).unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().outcomes.len(), 1);

    house.redis.pause(Duration::from_millis(800)).await.unwrap();
    let mine: Vec<_> = (0..20).map(|_| reserve(tenant, &[("nano_usd", 1)])).collect();
    sender.try_send(message(mine.iter().map(reserving))).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    engine.end_watches();
    let (outcomes, end) = collect(answers).await;
    let failure = end.unwrap_err();
    assert_eq!((failure.reason(), failure.metadata("peer")), (ErrorReason::Unavailable, Some("quota")));
    assert!(failure.message().contains("connect again"), "{failure}");
    assert_eq!(outcomes.len(), 20);
    assert!(outcomes.iter().all(|one| matches!(one.outcome, Some(Outcome::Reserved(_)))), "{outcomes:?}");
    engine.stop().await;
}

#[tokio::test]
async fn a_stream_ends_when_it_is_old() {
    let house = House::new().await;
    let mut settings = crate::house::settings();
    settings.quota.operations.stream_age = Duration::from_millis(300);
    let engine = house.engine_with(settings).await;
    let (_sender, answers) = by_hand(&mut engine.client()).await;
    let (outcomes, end) = collect(answers).await;
    assert!(outcomes.is_empty());
    assert!(end.unwrap_err().message().contains("connect again"));
}

#[tokio::test]
async fn a_client_that_leaves_or_does_not_read_holds_nobody_up() {
    let (_house, engine, tenant) = house(1_000_000).await;
    let mut client = engine.client();
    let requests = |count| -> Vec<_> { (0..count).map(|_| reserving(&reserve(tenant, &[("nano_usd", 1)]))).collect() };
    // One never reads; what it sent is reserved all the same.
    let (deaf, unread) = by_hand(&mut client).await;
    for _ in 0..5 {
        deaf.try_send(message(requests(200))).unwrap();
    }
    // One leaves at once.
    let (gone, answers) = by_hand(&mut client).await;
    gone.try_send(message(requests(100))).unwrap();
    drop((gone, answers));
    let (outcomes, end) = operate(&mut client, stream::iter([message(requests(500))])).await;
    assert_eq!((outcomes.len(), end), (500, Ok(())));
    while balance(&mut client, tenant, "budget").await.held < 1_500 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop((deaf, unread));
    // No stream is left running.
    engine.stop().await;
}

#[tokio::test]
async fn too_many_operations_in_one_message_end_the_stream_after_what_came_before() {
    let (_house, engine, tenant) = house(1_000).await;
    let first = message([reserving(&reserve(tenant, &[("nano_usd", 1)]))]);
    let second = message((0..1_001).map(|_| Operation::default()));
    let (outcomes, end) = operate(&mut engine.client(), stream::iter([first, second])).await;
    assert_eq!(outcomes.len(), 1);
    assert_eq!(end.unwrap_err().reason(), ErrorReason::InvalidArgument);
}

#[tokio::test]
async fn only_those_who_may_reserve_may_open_a_stream_or_send_a_batch() {
    let (_house, engine, _) = house(1).await;
    for name in ["facade", "usage", "billing", "auth"] {
        let failure = open(engine.as_service(name).operate(stream::empty()).await).unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::PermissionDenied, "{name}");
        let failure = open(engine.as_service(name).batch_reserve(BatchReserveRequest::default()).await).unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::PermissionDenied, "{name}");
    }
    let (outcomes, end) = operate(&mut engine.as_service("operator"), stream::empty()).await;
    assert_eq!((outcomes.len(), end), (0, Ok(())));
}
