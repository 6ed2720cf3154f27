//! Calls that are repeated until they have an answer, at whichever process answers.

use std::cell::Cell;
use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};
use tonic::Request;
use weir_proto::common::v1::Amount;
use weir_proto::quota::v1::{
    BatchSettleRequest, CommitRequest, LeaseExtension, ReleaseRequest, ReserveRequest, ReserveResponse, Settle,
    Subject, settle::Action, settle_outcome::Outcome,
};
use weir_rpc::Failure;
use weir_types::{OrganizationId, ReservationId, names};

use super::fleet::Client;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long attempts go on.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(25);

/// What became of a request.
#[derive(Debug, Clone)]
pub enum Decision {
    /// It is held.
    Admitted(ReserveResponse),
    /// A limit refuses.
    Refused(Failure),
}

/// Clients of several processes, used in turns.
pub struct Calls {
    clients: Vec<Client>,
    next: Cell<usize>,
    attempt: Duration,
    /// Attempts that had no definite answer.
    pub repeated: Cell<usize>,
}

impl Calls {
    /// Of these processes.
    #[must_use]
    pub fn new(clients: Vec<Client>) -> Self {
        Self { clients, next: Cell::new(0), attempt: ATTEMPT, repeated: Cell::new(0) }
    }

    /// For calls that look at everything.
    #[must_use]
    pub const fn patient(mut self) -> Self {
        self.attempt = PATIENCE;
        self
    }

    fn client(&self) -> Client {
        let next = self.next.get();
        self.next.set(next + 1);
        self.clients[next % self.clients.len()].clone()
    }

    /// Calls until there is an answer that is not "later".
    ///
    /// # Errors
    /// Nobody answered in time.
    pub async fn until_answered<M: Clone, T>(
        &self,
        message: &M,
        call: impl AsyncFn(Client, Request<M>) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> anyhow::Result<(Result<T, Failure>, bool)> {
        let until = Instant::now() + PATIENCE;
        let mut repeated = false;
        loop {
            let mut request = Request::new(message.clone());
            request.set_timeout(self.attempt);
            match call(self.client(), request).await.map_err(Failure::from) {
                Ok(answer) => return Ok((Ok(answer.into_inner()), repeated)),
                Err(failure) if !failure.is_transient() => return Ok((Err(failure), repeated)),
                Err(failure) if Instant::now() > until => {
                    bail!("no answer to {} within {PATIENCE:?}: {failure}", std::any::type_name::<M>())
                }
                Err(_) => {
                    repeated = true;
                    self.repeated.set(self.repeated.get() + 1);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Reserves; repeats with the same id what was not answered. A refusal that comes after an attempt without an answer is
    /// made final by a release: the lost attempt may be on its way still.
    ///
    /// # Errors
    /// Nobody answered in time.
    pub async fn reserve(&self, request: &ReserveRequest) -> anyhow::Result<Decision> {
        let (answer, repeated) =
            self.until_answered(request, async |mut to, message| to.reserve(message).await).await?;
        match answer {
            Ok(reserved) => Ok(Decision::Admitted(reserved)),
            Err(failure) => {
                if repeated {
                    let (released, _) = self
                        .until_answered(&release(request, &ReserveResponse::default()), async |mut to, message| {
                            to.release(message).await
                        })
                        .await?;
                    if let Err(failure) = released {
                        bail!("a refused request can't be released: {failure}");
                    }
                }
                Ok(Decision::Refused(failure))
            }
        }
    }

    /// Settles many.
    ///
    /// # Errors
    /// Nobody answered in time, or one was refused.
    pub async fn settle(&self, actions: Vec<Action>) -> anyhow::Result<()> {
        for actions in actions.chunks(500) {
            let mut left: Vec<Settle> = actions.iter().map(|action| Settle { action: Some(action.clone()) }).collect();
            let until = Instant::now() + PATIENCE;
            while !left.is_empty() {
                let message = BatchSettleRequest { settles: left.clone() };
                let (answer, _) =
                    self.until_answered(&message, async |mut to, message| to.batch_settle(message).await).await?;
                let outcomes = match answer {
                    Ok(answer) => answer.outcomes,
                    Err(failure) => bail!("settlements are refused: {failure}"),
                };
                let mut again = Vec::new();
                for (settle, outcome) in left.into_iter().zip(outcomes) {
                    match outcome.outcome {
                        Some(Outcome::Commit(_) | Outcome::Release(_)) => {}
                        // Whether it would help is not said in a form that is worth telling apart here.
                        other if Instant::now() > until => bail!("a settlement is refused: {other:?}"),
                        _ => again.push(settle),
                    }
                }
                left = again;
                if !left.is_empty() {
                    sleep(PAUSE).await;
                }
            }
        }
        Ok(())
    }
}

/// A new request of an organisation.
#[must_use]
pub fn request(organization: &OrganizationId, amounts: &[Amount], lease: Duration) -> ReserveRequest {
    ReserveRequest {
        reservation_id: ReservationId::new_v7().to_string(),
        subject: Some(Subject { organization: names::organization(organization), ..Default::default() }),
        amounts: amounts.to_vec(),
        lease: prost_types::Duration::try_from(lease).ok(),
        context: b"proof".to_vec().into(),
        limits: Vec::new(),
    }
}

fn organization(request: &ReserveRequest) -> String {
    request.subject.as_ref().map(|subject| subject.organization.clone()).unwrap_or_default()
}

/// Commits all of what was reserved.
#[must_use]
pub fn commit(request: &ReserveRequest, reserved: &ReserveResponse) -> CommitRequest {
    CommitRequest {
        reservation_id: request.reservation_id.clone(),
        organization: organization(request),
        handle: reserved.handle.clone(),
        actuals: request.amounts.clone(),
        estimated: false,
    }
}

/// Gives it back.
#[must_use]
pub fn release(request: &ReserveRequest, reserved: &ReserveResponse) -> ReleaseRequest {
    ReleaseRequest {
        reservation_id: request.reservation_id.clone(),
        organization: organization(request),
        handle: reserved.handle.clone(),
        reason: "nothing was used".to_owned(),
    }
}

/// Keeps it alive, or announces it again.
#[must_use]
pub fn extension(request: &ReserveRequest, reserved: &ReserveResponse) -> LeaseExtension {
    LeaseExtension {
        reservation_id: request.reservation_id.clone(),
        handle: reserved.handle.clone(),
        lease: request.lease,
        context: request.context.clone(),
        amounts: Vec::new(),
    }
}
