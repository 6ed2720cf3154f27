//! Calls as clients make them: with an idempotency key once, otherwise as they come.

use std::sync::Arc;
use std::time::Duration;

use weir_proto::broker::v1::InvokeResponse;
use weir_rpc::Error;

use super::Broker;
use super::background::Finishing;
use super::call::Incoming;
use super::idempotency::{Claim, Kept, Turn};
use super::tape::{Parts, Played, Tape, Taped};

/// A client that left may come back for the answer, so a call with a key is brought to its end however long it waits. Its own
/// timeouts end it long before this.
const FINISH: Duration = Duration::from_secs(3600);

impl Broker {
    /// Calls the model and answers when it is done.
    pub(crate) async fn invoke_once(self: &Arc<Self>, mut incoming: Incoming) -> Result<InvokeResponse, Error> {
        let Some(key) = incoming.reuse.idempotency_key.take() else { return self.invoke(incoming).await };
        let claim = match Box::pin(self.once.turn(&incoming, &key)).await? {
            Turn::Made(kept) => return kept.replay(),
            Turn::Ours(claim) => claim,
        };
        incoming.reuse.claim = Some(Arc::clone(&claim));
        let broker = Arc::clone(self);
        let call = Finishing::new(&self.tasks, FINISH, |_| async move {
            let answer = broker.invoke(incoming).await;
            match &answer {
                Ok(answer) => {
                    let InvokeResponse { body, content_type, accounting } = answer.clone();
                    claim.made(Some(Kept::answer(body, content_type, accounting))).await;
                }
                Err(error) => claim.refused(error).await,
            }
            answer
        });
        call.await
    }

    /// Calls the model and passes its answer on as it comes.
    pub(crate) async fn stream_once(self: &Arc<Self>, mut incoming: Incoming) -> Result<Parts, Error> {
        let Some(key) = incoming.reuse.idempotency_key.take() else {
            return self.stream(incoming).await;
        };
        let claim = match Box::pin(self.once.turn(&incoming, &key)).await? {
            Turn::Made(kept) => return Ok(Parts::replayed(kept.replay_stream()?)),
            Turn::Ours(claim) => claim,
        };
        incoming.reuse.claim = Some(Arc::clone(&claim));
        let (broker, most) = (Arc::clone(self), self.once.max_answer_bytes());
        let opening = Finishing::new(&self.tasks, FINISH, |_| async move {
            match broker.stream(incoming).await {
                Ok(answer) => {
                    let keep = Box::new(|played| keep(claim, played));
                    Ok(Taped::new(answer, most, keep, &broker.tasks, broker.drain))
                }
                Err(error) => {
                    claim.refused(&error).await;
                    Err(error)
                }
            }
        });
        Ok(Parts::Taped(Box::new(opening.await?)))
    }
}

/// Keeps what a stream came to.
fn keep(claim: Arc<Claim>, played: Played) -> futures::future::BoxFuture<'static, ()> {
    Box::pin(async move {
        match played {
            Played::Whole(tape) => {
                let Tape { content_type, body, accounting } = *tape;
                claim.made(body.map(|body| Kept::answer(body, content_type, Some(accounting)))).await;
            }
            Played::Failed(error) => claim.refused(&error).await,
            Played::Cut => claim.made(None).await,
        }
    })
}
