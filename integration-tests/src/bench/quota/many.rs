//! Reservations on a stream and in batches, and what ends them.

use std::cell::RefCell;

use anyhow::{Context, bail};
use futures::future::try_join_all;
use futures::stream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weir_proto::quota::v1::{
    BatchReserveRequest, BatchSettleRequest, OperateRequest, Operation, ReleaseRequest, ReserveRequest, Settle,
    operation, operation_outcome, reserve_outcome, settle, settle_outcome,
};

use super::load::{Client, Held, Sent, organization};

/// Operations of one message.
const MESSAGE: usize = 64;
/// Messages whose outcomes are not all there yet.
const MESSAGES: usize = 16;
/// Reservations of one batch, and batches at once.
const BATCH: usize = 500;
const BATCHES: usize = 4;

/// Sends requests on one stream, up to 1,024 of them under way.
///
/// # Errors
/// One was refused.
pub(super) async fn streamed(client: &Client, requests: Vec<ReserveRequest>) -> anyhow::Result<Sent> {
    let count = requests.len();
    let names: Vec<_> = requests.iter().map(|one| (one.reservation_id.clone(), organization(one))).collect();
    let mut operations = requests.into_iter().zip(0..).map(|(request, tag)| Operation {
        operation: Some(operation::Operation::Reserve(request)),
        tag,
        ..Operation::default()
    });
    let mut messages: Vec<OperateRequest> = Vec::with_capacity(count / MESSAGE + 1);
    loop {
        let operations: Vec<Operation> = operations.by_ref().take(MESSAGE).collect();
        if operations.is_empty() {
            break;
        }
        messages.push(OperateRequest { operations });
    }
    let (sender, mut receiver) = mpsc::channel(MESSAGES);
    let mut client = client.clone().max_decoding_message_size(32 << 20);
    let start = Instant::now();
    let mut answers = client.operate(stream::poll_fn(move |cx| receiver.poll_recv(cx))).await?.into_inner();
    let mut sender = Some(sender);
    let (mut sent_at, mut times) = (vec![start; count], Vec::with_capacity(count));
    let (mut sent, mut held) = (0, Vec::with_capacity(count));
    let mut messages = messages.into_iter();
    while times.len() < count {
        while sent < times.len() + MESSAGES * MESSAGE
            && let Some(to) = &sender
        {
            let Some(message) = messages.next() else {
                sender = None;
                break;
            };
            let length = message.operations.len();
            sent_at[sent..sent + length].fill(Instant::now());
            sent += length;
            to.send(message).await?;
        }
        let answer = answers.message().await?.context("the stream has ended early")?;
        for outcome in answer.outcomes {
            let number = usize::try_from(outcome.tag)?;
            let Some(operation_outcome::Outcome::Reserved(reserved)) = outcome.outcome else {
                bail!("a reservation was not made: {outcome:?}");
            };
            times.push(sent_at[number].elapsed());
            held.push(Held {
                id: outcome.reservation_id,
                organization: names[number].1.clone(),
                handle: reserved.handle,
            });
        }
    }
    Ok(Sent { took: start.elapsed(), times, held })
}

/// Sends requests in batches of 500, four at once.
///
/// # Errors
/// One was refused.
pub(super) async fn batched(client: &Client, requests: Vec<ReserveRequest>) -> anyhow::Result<Sent> {
    let queue = RefCell::new(requests);
    let (times, held) = (RefCell::default(), RefCell::new(Vec::new()));
    let start = Instant::now();
    let caller = async || {
        let mut client = client.clone();
        loop {
            let reservations = last(&mut queue.borrow_mut(), BATCH);
            if reservations.is_empty() {
                return anyhow::Ok(());
            }
            let organizations: Vec<_> = reservations.iter().map(organization).collect();
            let sent = Instant::now();
            let answer = client.batch_reserve(BatchReserveRequest { reservations }).await?.into_inner();
            Vec::push(&mut times.borrow_mut(), sent.elapsed());
            for (outcome, organization) in answer.outcomes.into_iter().zip(organizations) {
                let Some(reserve_outcome::Outcome::Reserved(reserved)) = outcome.outcome else {
                    bail!("a reservation was not made: {outcome:?}");
                };
                held.borrow_mut().push(Held { id: outcome.reservation_id, organization, handle: reserved.handle });
            }
        }
    };
    try_join_all((0..BATCHES).map(|_| caller())).await?;
    Ok(Sent { took: start.elapsed(), times: times.into_inner(), held: held.into_inner() })
}

/// Gives reservations back, in batches of 500, four at once.
///
/// # Errors
/// One could not be.
pub(super) async fn release(client: &Client, held: Vec<Held>) -> anyhow::Result<Sent> {
    let queue = RefCell::new(held);
    let times = RefCell::default();
    let start = Instant::now();
    let caller = async || {
        let mut client = client.clone();
        loop {
            let held = last(&mut queue.borrow_mut(), BATCH);
            if held.is_empty() {
                return anyhow::Ok(());
            }
            let settles = held.into_iter().map(|one| Settle {
                action: Some(settle::Action::Release(ReleaseRequest {
                    reservation_id: one.id,
                    organization: one.organization,
                    handle: one.handle,
                    reason: String::new(),
                })),
            });
            let sent = Instant::now();
            let answer = client.batch_settle(BatchSettleRequest { settles: settles.collect() }).await?.into_inner();
            Vec::push(&mut times.borrow_mut(), sent.elapsed());
            let failed = |one: &_| !matches!(one, Some(settle_outcome::Outcome::Release(_)));
            if let Some(failed) = answer.outcomes.iter().find(|one| failed(&one.outcome)) {
                bail!("a reservation was not given back: {failed:?}");
            }
        }
    };
    try_join_all((0..BATCHES).map(|_| caller())).await?;
    Ok(Sent { took: start.elapsed(), times: times.into_inner(), held: Vec::new() })
}

fn last<T>(all: &mut Vec<T>, most: usize) -> Vec<T> {
    let rest = all.len().saturating_sub(most);
    all.split_off(rest)
}
