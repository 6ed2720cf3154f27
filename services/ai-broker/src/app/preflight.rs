//! Whether a call would be let in now, why not, and what it can cost: asked beforehand, and nothing comes of it.

use weir_proto::broker::v1::PreflightResponse;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::{CheckRequest, CheckResponse, Refusal};
use weir_rpc::{Error, Failure};
use weir_types::unit;

use super::Broker;
use super::call::{Incoming, ModelCall, fit, way};
use crate::domain::amounts;
use crate::domain::request::ModelRequest;
use crate::error::invalid_request;

impl Broker {
    /// What a call that is made now would meet with.
    ///
    /// # Errors
    /// The request itself is wrong, or who decides does not answer.
    pub(crate) async fn preflight(&self, mut incoming: Incoming) -> Result<PreflightResponse, Error> {
        let request = ModelRequest::read(incoming.api, &incoming.body, &incoming.headers).map_err(invalid_request)?;
        incoming.stream = request.stream;
        let foreseen = self.foresee(&request, &incoming)?;
        match self.prepare(incoming).await {
            Ok(call) => {
                let refusal = self.ask_limits(&call).await?;
                Ok(of_limits(of_call(&call), refusal))
            }
            Err(error) if is_answer(error.reason()) => Ok(refused(foreseen, error)),
            Err(error) => Err(error),
        }
    }

    /// Where the platform's keys would lead it, and at what price, whether or not it is let in.
    fn foresee(&self, request: &ModelRequest, incoming: &Incoming) -> Result<PreflightResponse, Error> {
        let offering = self.offering.load_full();
        let offering = offering.ok_or_else(|| Error::unavailable("billing", "the price book has not been read yet"))?;
        let way = way(&offering, &request.model, incoming.spare)?;
        let worst = fit(request, &incoming.body, &way[0], &offering)?.worst;
        Ok(PreflightResponse {
            provider: way[0].provider.clone(),
            model: way[0].model.clone(),
            cost_nano_usd: money(&amounts::reserved(request.api.operation(), &worst)),
            ..PreflightResponse::default()
        })
    }

    /// Asks the caller's limits, and once more when what ended calls did not use has come back.
    async fn ask_limits(&self, call: &ModelCall) -> Result<Option<Refusal>, Error> {
        let checked = self.check(call).await?;
        if checked.allowed || !self.settler.settle_now(call.caller.organization).await {
            return Ok(checked.refusal);
        }
        Ok(self.check(call).await?.refusal)
    }

    async fn check(&self, call: &ModelCall) -> Result<CheckResponse, Error> {
        let mut subject = call.caller.subject.clone();
        if let Some(own) = &call.own {
            own.mark(&mut subject);
        }
        let mut request = tonic::Request::new(CheckRequest { subject: Some(subject), amounts: call.amounts() });
        request.set_timeout(self.reservations.options.deadline);
        let answer = self.reservations.quota.clone().check(request).await;
        Ok(answer.map_err(|status| Failure::from(&status))?.into_inner())
    }
}

/// What is no mistake in the request and no failure: whether it is let in.
const fn is_answer(reason: ErrorReason) -> bool {
    use ErrorReason as R;
    matches!(
        reason,
        R::ModelNotAllowed
            | R::FeatureNotAllowed
            | R::OwnKeyRequired
            | R::OwnKeyRefused
            | R::OwnKeyLimited
            | R::Overloaded
    )
}

fn of_call(call: &ModelCall) -> PreflightResponse {
    PreflightResponse {
        provider: call.route.provider.clone(),
        model: call.route.model.clone(),
        cost_nano_usd: money(&call.amounts()),
        ..PreflightResponse::default()
    }
}

fn money(amounts: &[weir_proto::common::v1::Amount]) -> i64 {
    amounts.iter().find(|amount| amount.unit == unit::NANO_USD).map_or(0, |amount| amount.value)
}

fn of_limits(foreseen: PreflightResponse, refusal: Option<Refusal>) -> PreflightResponse {
    match refusal {
        None => PreflightResponse { allowed: true, ..foreseen },
        Some(Refusal { refused_by, retry_after, reason, message, .. }) => {
            PreflightResponse { reason, message, retry_after, refused_by, ..foreseen }
        }
    }
}

fn refused(foreseen: PreflightResponse, error: Error) -> PreflightResponse {
    let failure = Failure::from(tonic::Status::from(error));
    PreflightResponse {
        reason: failure.reason().into(),
        message: failure.message().to_owned(),
        retry_after: failure.retry_after().and_then(|wait| wait.try_into().ok()),
        ..foreseen
    }
}
