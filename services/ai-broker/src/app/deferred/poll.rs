//! Asking a provider's queue how far a request is, until it has ended or nobody wants it any more.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;

use super::Submitted;
use crate::app::Broker;
use crate::app::background::Presence;
use crate::app::call::ModelCall;
use crate::domain::dialects::fal::{Progress, progress};
use crate::provider::{CallFailure, JSON, ProviderCall, read};

/// Between two looks: a tenth of what it has taken so far, within these.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
const TIMEOUT: Duration = Duration::from_secs(10);
/// A request that is not known so often in a row is lost.
const LOST: u32 = 3;
const MAX_STATUS: usize = 1 << 20;
/// How long is looked what came of a request that was cancelled.
const LAST_LOOKS: Duration = Duration::from_secs(5);

/// What came of a request.
pub(super) enum Fetched {
    /// Its result.
    Done(Response<Incoming>),
    /// It failed.
    Failed(Response<Incoming>),
    /// It was cancelled before anything was made.
    Cancelled,
    /// Nobody knows.
    Unknown,
    /// The provider does not know it. It may have been made all the same.
    Lost,
    /// It goes on without this broker.
    Left,
}

impl Broker {
    /// Looks until the request has ended. It is cancelled when its time is over, or when nobody waits for it any more.
    pub(super) async fn poll(&self, call: &ModelCall, client: &Presence, submitted: &mut Submitted) -> Fetched {
        let mut unknown = 0;
        while submitted.sent.elapsed() < call.first_byte_timeout() {
            if !submitted.kept {
                submitted.kept = call.keep_submission(submitted).await;
            }
            match self.look(call, submitted).await {
                Some(Fetched::Lost) if unknown < LOST => unknown += 1,
                Some(fetched) => return fetched,
                None => unknown = 0,
            }
            if client.is_gone() {
                match &call.keeper {
                    Some(keeper) if !keeper.is_abandoned() => return Fetched::Left,
                    _ => break,
                }
            }
            tokio::time::sleep((submitted.sent.elapsed() / 10).clamp(PAUSES.0, PAUSES.1)).await;
        }
        self.cancel(call, submitted).await
    }

    /// Asks once; none if it has not ended, or if that can't be told now.
    async fn look(&self, call: &ModelCall, submitted: &Submitted) -> Option<Fetched> {
        let status = self.ask(call, submitted, Method::GET, "/status").await.ok()?;
        match status.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => return Some(Fetched::Lost),
            code if !code.is_success() => return None,
            _ => {}
        }
        let body = read(status.into_body(), MAX_STATUS, TIMEOUT).await.ok()?;
        let progress = progress(&body).filter(|progress| *progress != Progress::UnderWay)?;
        let result = self.ask(call, submitted, Method::GET, "").await.ok()?;
        match (result.status(), progress) {
            (code, Progress::Done) if code.is_success() => Some(Fetched::Done(result)),
            // The queue says that there is a result: it is asked again.
            (code, Progress::Done) if code.is_server_error() || code == StatusCode::TOO_MANY_REQUESTS => None,
            // What a success says of a failure can't be told apart from a picture.
            (code, _) if code.is_success() => Some(Fetched::Unknown),
            _ => Some(Fetched::Failed(result)),
        }
    }

    /// Cancels the request, and looks what came of it: it may have been done just then.
    async fn cancel(&self, call: &ModelCall, submitted: &Submitted) -> Fetched {
        tracing::debug!(provider = call.provider.name, request = submitted.ticket.request_id, "cancelling a request");
        let asked = self.ask(call, submitted, Method::PUT, "/cancel").await;
        let taken =
            asked.is_ok_and(|answer| answer.status().is_success() || answer.status() == StatusCode::BAD_REQUEST);
        let began = Instant::now();
        while taken && began.elapsed() < LAST_LOOKS {
            match self.look(call, submitted).await {
                Some(Fetched::Failed(_)) => return Fetched::Cancelled,
                Some(Fetched::Lost) => return Fetched::Unknown,
                Some(fetched) => return fetched,
                None => tokio::time::sleep(PAUSES.0).await,
            }
        }
        Fetched::Unknown
    }

    async fn ask(
        &self,
        call: &ModelCall,
        submitted: &Submitted,
        method: Method,
        what: &str,
    ) -> Result<Response<Incoming>, CallFailure> {
        let path = format!("{}{what}", submitted.ticket.path());
        let id = HeaderValue::try_from(submitted.held.id.to_string()).unwrap_or(HeaderValue::from_static(""));
        let request = ProviderCall {
            method,
            url: call.provider.endpoint(&path).unwrap_or_default(),
            headers: call.provider.headers_with(submitted.credential.clone(), None),
            id,
            body: Bytes::new(),
            accept: JSON,
            timeout: TIMEOUT,
        };
        call.provider.client.send(request).await
    }
}
