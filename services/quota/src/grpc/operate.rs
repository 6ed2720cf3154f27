//! The stream of operations: read while there is room, carried out side by side, answered as they are ready.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{FuturesUnordered, Stream, StreamExt as _, poll_fn as poll_fn_stream};
use tokio::sync::mpsc;
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout_at};
use tonic::{Status, Streaming};
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::{self as proto, operation, operation_outcome};
use weir_rpc::Caller;
use weir_types::ReservationId;

use super::service::at_most;
use super::{parse, render};
use crate::app::{Done, Operation, Quota};

/// The most outcomes of one message.
const ANSWER: usize = 256;
/// Messages that wait for the client to read them. While they wait, the operations under way go on and nothing is read.
pub(super) const ANSWERS: usize = 4;

/// One stream.
pub(super) struct Operations {
    pub(super) quota: Arc<Quota>,
    pub(super) caller: Arc<Caller>,
    pub(super) answers: mpsc::Sender<Answer>,
}

/// A message of outcomes, or the stream's end: without a word nothing ends.
pub(super) enum Answer {
    Outcomes(proto::OperateResponse),
    End(Result<(), Status>),
}

/// The answers as they are given.
pub(super) fn answers(
    mut answers: mpsc::Receiver<Answer>,
) -> impl Stream<Item = Result<proto::OperateResponse, Status>> + Send {
    let mut ended = false;
    poll_fn_stream(move |cx| {
        if ended {
            return Poll::Ready(None);
        }
        let answer = ready!(answers.poll_recv(cx));
        ended = !matches!(answer, Some(Answer::Outcomes(_)));
        Poll::Ready(match answer {
            Some(Answer::Outcomes(outcomes)) => Some(Ok(outcomes)),
            Some(Answer::End(Ok(()))) => None,
            Some(Answer::End(Err(status))) => Some(Err(status)),
            // What it has read is not answered: that is no orderly end.
            None => Some(Err(weir_rpc::Error::defect("a stream of operations broke off").into())),
        })
    })
}

/// An operation that was read.
struct Todo {
    id: ReservationId,
    name: Name,
    operation: Operation,
    until: Instant,
}

/// How its outcome is told from others.
struct Name {
    reservation_id: String,
    kind: proto::OperationKind,
    tag: u64,
}

/// What was read and is not under way yet.
#[derive(Default)]
struct Waiting {
    next: VecDeque<Todo>,
    /// By reservations that have an operation under way: the later ones, which take effect after it.
    behind: HashMap<ReservationId, VecDeque<Todo>>,
    count: usize,
}

impl Waiting {
    fn push(&mut self, todo: Todo) {
        self.count += 1;
        self.next.push_back(todo);
    }

    /// The next one of a reservation that has none under way.
    fn pop(&mut self) -> Option<Todo> {
        while let Some(todo) = self.next.pop_front() {
            if let Some(behind) = self.behind.get_mut(&todo.id) {
                behind.push_back(todo);
            } else {
                self.behind.insert(todo.id, VecDeque::new());
                self.count -= 1;
                return Some(todo);
            }
        }
        None
    }

    /// A reservation's operation has ended; the one behind it is next.
    fn ended(&mut self, id: &ReservationId) {
        if let Some(behind) = self.behind.remove(id)
            && !behind.is_empty()
        {
            behind.into_iter().rev().for_each(|todo| self.next.push_front(todo));
        }
    }
}

impl Operations {
    /// Reads and answers until the client has sent everything, `stop` says why it must end, or nobody listens any more. The
    /// operations under way are polled whether or not their answers are read: others may wait for what they hold.
    pub(super) async fn run(self, mut input: Streaming<proto::OperateRequest>, stop: impl Future<Output = Status>) {
        let most = self.quota.bounds().per_stream;
        let mut stop = std::pin::pin!(stop);
        let mut running = FuturesUnordered::new();
        let mut waiting = Waiting::default();
        let mut ready = Vec::new();
        let mut reading = true;
        let mut last = Ok(());
        loop {
            while running.len() < most
                && let Some(todo) = waiting.pop()
            {
                running.push(carry_out(&self.quota, todo));
            }
            let held = running.len() + waiting.count + ready.len();
            tokio::select! {
                biased;
                Ok(place) = self.answers.reserve(), if !ready.is_empty() => {
                    let rest = ready.split_off(ready.len().min(ANSWER));
                    let outcomes = std::mem::replace(&mut ready, rest);
                    place.send(Answer::Outcomes(proto::OperateResponse { outcomes }));
                }
                // Unconstrained: out of budget, each operation would be polled for nothing until the task's next turn.
                () = unconstrained(poll_fn(|cx| gather(&mut running, &mut waiting, &mut ready, cx))),
                    if !running.is_empty() => {}
                status = &mut stop, if reading => (reading, last) = (false, Err(status)),
                message = input.message(), if reading && held < most => match message {
                    Ok(Some(message)) => {
                        if let Err(error) = self.read(message, &mut waiting, &mut ready) {
                            (reading, last) = (false, Err(error.into()));
                        }
                    }
                    Ok(None) => reading = false,
                    Err(status) => (reading, last) = (false, Err(status)),
                },
                () = self.answers.closed() => return,
                else => break,
            }
            if !reading && running.is_empty() && ready.is_empty() && waiting.count == 0 {
                break;
            }
        }
        // Whoever has left needs no reason.
        let _ = self.answers.send(Answer::End(last)).await;
    }

    /// Takes in a message. What is malformed is answered for itself.
    fn read(
        &self,
        message: proto::OperateRequest,
        waiting: &mut Waiting,
        ready: &mut Vec<proto::OperationOutcome>,
    ) -> Result<(), weir_rpc::Error> {
        at_most("operations", message.operations.len())?;
        let now = Instant::now();
        let most = self.quota.bounds().timeout;
        for operation in message.operations {
            let wanted = operation.timeout.and_then(|timeout| Duration::try_from(timeout).ok());
            let until = now + wanted.map_or(most, |wanted| wanted.min(most));
            let mut name =
                Name { reservation_id: String::new(), kind: proto::OperationKind::Unspecified, tag: operation.tag };
            match self.parse(operation.operation, &mut name) {
                Ok((id, operation)) => waiting.push(Todo { id, name, operation, until }),
                Err(error) => ready.push(name.outcome(operation_outcome::Outcome::Error(error.into()))),
            }
        }
        Ok(())
    }

    fn parse(
        &self,
        operation: Option<operation::Operation>,
        name: &mut Name,
    ) -> Result<(ReservationId, Operation), weir_rpc::Error> {
        use proto::OperationKind as Kind;
        let operation = operation.ok_or_else(|| weir_rpc::Error::invalid("operations.operation", "is missing"))?;
        Ok(match operation {
            operation::Operation::Reserve(mut request) => {
                let parsed = parse::reserve(&self.caller, &request);
                (name.reservation_id, name.kind) = (std::mem::take(&mut request.reservation_id), Kind::Reserve);
                let parsed = parsed?;
                (parsed.id, Operation::Reserve(parsed))
            }
            operation::Operation::Extend(mut request) => {
                let parsed = parse::extension(&request);
                (name.reservation_id, name.kind) = (std::mem::take(&mut request.reservation_id), Kind::Extend);
                let parsed = parsed?;
                match request.amounts.is_empty() {
                    true => (parsed.id, Operation::Extend(parsed)),
                    false => (parsed.id, Operation::Grow(parsed, parse::amounts("leases.amounts", &request.amounts)?)),
                }
            }
            operation::Operation::Commit(mut request) => {
                let parsed = parse::commit(&self.caller, &request);
                (name.reservation_id, name.kind) = (std::mem::take(&mut request.reservation_id), Kind::Commit);
                let parsed = parsed?;
                (parsed.id, Operation::Settle(parsed))
            }
            operation::Operation::Release(mut request) => {
                let parsed = parse::release(&self.caller, &request);
                (name.reservation_id, name.kind) = (std::mem::take(&mut request.reservation_id), Kind::Release);
                let parsed = parsed?;
                (parsed.id, Operation::Settle(parsed))
            }
        })
    }
}

/// Why a stream ends before its client has sent everything.
pub(super) fn reconnect(why: &'static str) -> Status {
    weir_rpc::Error::new(ErrorReason::Unavailable, why).metadata("peer", "quota").retry_after(Duration::ZERO).into()
}

impl Name {
    fn outcome(self, outcome: operation_outcome::Outcome) -> proto::OperationOutcome {
        proto::OperationOutcome {
            reservation_id: self.reservation_id,
            operation: self.kind.into(),
            outcome: Some(outcome),
            tag: self.tag,
        }
    }
}

/// Everything that has ended, up to a message's worth.
fn gather<F: Future<Output = (ReservationId, proto::OperationOutcome)>>(
    running: &mut FuturesUnordered<F>,
    waiting: &mut Waiting,
    ready: &mut Vec<proto::OperationOutcome>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let before = ready.len();
    while ready.len() < before + ANSWER
        && let Poll::Ready(Some((id, outcome))) = running.poll_next_unpin(cx)
    {
        waiting.ended(&id);
        ready.push(outcome);
    }
    if ready.len() > before { Poll::Ready(()) } else { Poll::Pending }
}

fn carry_out(
    quota: &Arc<Quota>,
    todo: Todo,
) -> impl Future<Output = (ReservationId, proto::OperationOutcome)> + Send + use<> {
    use operation_outcome::Outcome;
    let quota = Arc::clone(quota);
    async move {
        let Todo { id, name, operation, until } = todo;
        let outcome = match timeout_at(until, quota.operate(operation)).await {
            Ok(Ok(Done::Reserved(reserved))) => Outcome::Reserved(render::reserved(reserved)),
            Ok(Ok(Done::Extended(outcome, epoch))) => {
                let outcome = render::lease_outcome(outcome).into();
                Outcome::Extended(proto::ExtendOutcome { outcome, epoch, grown: None })
            }
            Ok(Ok(Done::Grown(grown))) => {
                let proto::ExtendResponse { outcomes, epoch, grown } = render::grown(grown);
                let outcome = outcomes.first().copied().unwrap_or_default();
                Outcome::Extended(proto::ExtendOutcome { outcome, epoch, grown })
            }
            Ok(Ok(Done::Settled(outcome))) if name.kind == proto::OperationKind::Commit => {
                Outcome::Committed(render::committed(&outcome))
            }
            Ok(Ok(Done::Settled(outcome))) => Outcome::Released(render::released(&outcome)),
            Ok(Err(error)) => match render::refusal(error) {
                Ok(refusal) => Outcome::Refused(refusal),
                Err(error) => Outcome::Error(error),
            },
            Err(_) => {
                let late = weir_rpc::Error::new(ErrorReason::DeadlineExceeded, "the operation's time is over");
                Outcome::Error(late.into())
            }
        };
        (id, name.outcome(outcome))
    }
}
