//! Attempts with a caller's own key: the same reservations and the same provider, no pool and no line, and never the platform's key
//! in its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Response};
use hyper::body::Incoming;
use weir_proto::common::v1::{ErrorReason, ProviderError};
use weir_rpc::Error;
use weir_types::ReservationId;

use super::OwnKey;
use crate::app::Broker;
use crate::app::attempts::{ERROR_BODY_TIMEOUT, MAX_ERROR_BODY, PAUSE, Round, Setback, judge};
use crate::app::background::Presence;
use crate::app::call::ModelCall;
use crate::app::key_use::KeyUse;
use crate::app::open::{Answered, Tries, Unopened};
use crate::app::reservations::{Held, Refused};
use crate::domain::api::Api;
use crate::domain::keys::KeyOutcome;
use crate::domain::retry_after::retry_after;
use crate::provider::{Provider, ProviderCall, read};

impl Broker {
    /// Makes attempts on one target with the caller's own key, until it is answered or failed too often.
    pub(crate) async fn try_own_key(
        &self,
        call: &ModelCall,
        own: &Arc<OwnKey>,
        client: &Presence,
        tries: &mut Tries,
    ) -> Result<Answered, Unopened> {
        let allowed = tries.allowed(call.hops_left());
        let mut failures = 0;
        loop {
            if call.is_late() {
                let late = Error::new(ErrorReason::DeadlineExceeded, "the deadline passed before a provider answered");
                return Err(Unopened::Final(late));
            }
            tries.made = tries.made.saturating_add(1);
            let error = match self.own_attempt(call, own, client).await {
                Ok(answered) => return Ok(answered),
                Err(Setback::Failed(error)) => error,
                Err(Setback::End(unopened)) => return Err(unopened),
                Err(Setback::BadKey(error)) => return Err(Unopened::Final(error)),
                Err(Setback::NoRoom { error, .. }) => return Err(Unopened::Failed(error)),
            };
            tries.failed();
            failures += 1;
            if failures >= allowed || client.is_gone() {
                return Err(Unopened::Failed(error));
            }
            tokio::time::sleep(PAUSE * failures).await;
            self.metrics.retries.increment(1);
        }
    }

    /// What the provider is told with the caller's own key.
    pub(in crate::app) fn own_credential(&self, provider: &Provider, own: &OwnKey) -> Result<HeaderValue, Error> {
        let secret = self.own_keys.open(own)?;
        provider.key_value(&secret).ok_or_else(|| Error::defect("a caller's own key is not a header"))
    }

    async fn own_attempt(&self, call: &ModelCall, own: &Arc<OwnKey>, client: &Presence) -> Result<Answered, Setback> {
        let provider = &call.provider;
        let credential = self.own_credential(provider, own).map_err(|error| Setback::End(Unopened::Final(error)))?;
        let id = ReservationId::new_v7();
        let held = self.reserve(call, id, None).await.map_err(unreserved)?;
        if let Err(error) = call.claim().await {
            self.settler.release(held, "the call is not this broker's to make".into());
            return Err(Setback::End(Unopened::Final(error)));
        }
        let sent = Instant::now();
        let answer = provider.client.send(ProviderCall {
            method: Method::POST,
            url: provider.url(call.exchange.api, &call.exchange.suffix),
            headers: provider.headers_with(credential.clone(), call.own_headers()),
            id: HeaderValue::try_from(id.to_string()).unwrap_or(HeaderValue::from_static("")),
            body: call.exchange.body.clone(),
            accept: call.accept(),
            timeout: call.first_byte_timeout(),
        });
        match answer.await {
            Ok(response) if response.status().is_success() => {
                let key = KeyUse::own(provider, &self.health);
                if call.exchange.api == Api::FalQueue {
                    let submitted = (held, key, credential, sent);
                    return self.deferred(call, client, submitted, response, &mut Round::default()).await;
                }
                Ok(Answered { response, held, key, sent, began: Instant::now() })
            }
            Ok(response) => Err(self.own_refused(call, own, held, response).await),
            Err(failure) => Err(self.failed(call, held, &failure)),
        }
    }

    /// The provider answered with an error: nothing was used.
    pub(in crate::app) async fn own_refused(
        &self,
        call: &ModelCall,
        own: &OwnKey,
        held: Held,
        response: Response<Incoming>,
    ) -> Setback {
        let status = response.status();
        let wait = retry_after(response.headers(), self.clock.now());
        let content_type = response.headers().get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let content_type = content_type.unwrap_or("application/octet-stream").to_owned();
        let body = read(response.into_body(), MAX_ERROR_BODY, ERROR_BODY_TIMEOUT).await.unwrap_or_default();
        let name = &call.provider.name;
        self.settler.release(held, format!("{name} answered {status}"));
        self.metrics.provider_error(name, status);
        let said = |reason, message: String| {
            Error::new(reason, message)
                .metadata("provider_key", own.name())
                .metadata("label", own.view.label.clone())
                .metadata("last_four", own.view.last_four.clone())
        };
        let spoken = own.spoken();
        match judge(status, wait, &body) {
            // What the provider says of a key may have some of it in it: it is not passed on.
            KeyOutcome::Refused | KeyOutcome::Denied => {
                self.own_keys.refused.increment(1);
                let message = format!("{name} does not accept your key {spoken}: it answered {status}");
                Setback::BadKey(said(ErrorReason::OwnKeyRefused, message))
            }
            KeyOutcome::RateLimited(wait) => {
                let wait = wait.unwrap_or(Duration::from_secs(1)).max(Duration::from_millis(1));
                let message = format!("your key {spoken} is at its rate limit with {name}");
                let error = said(ErrorReason::OwnKeyLimited, message).retry_after(wait);
                Setback::NoRoom { error, wait, whole: false }
            }
            outcome => {
                let body = call.exchange.error(body);
                let answer =
                    ProviderError { http_status: status.as_u16().into(), body, content_type, provider: name.clone() };
                let message = format!("{name} answered {status} to a call with your key {spoken}");
                let error = said(ErrorReason::ProviderRejected, message).provider(answer);
                if outcome == KeyOutcome::Failed {
                    Setback::Failed(error)
                } else if status.is_client_error() {
                    Setback::End(Unopened::Final(error))
                } else {
                    Setback::End(Unopened::Failed(error))
                }
            }
        }
    }
}

/// Quota did not let the attempt be made: what refuses is always a limit of the caller.
fn unreserved(refused: Refused) -> Setback {
    let Refused { error, denied, .. } = refused;
    Setback::End(if denied { Unopened::Denied(error) } else { Unopened::Final(error) })
}
