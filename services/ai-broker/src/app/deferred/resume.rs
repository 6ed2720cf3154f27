//! Going on with a request that an earlier try of a job's step has submitted.

use std::time::Instant;

use http::HeaderValue;
use prost::Message as _;
use weir_proto::usage::v1::UsageEvent;
use weir_rpc::Error;
use weir_types::ReservationId;

use super::{Submission, Submitted};
use crate::app::Broker;
use crate::app::attempts::{Round, Setback};
use crate::app::background::Presence;
use crate::app::call::ModelCall;
use crate::app::key_use::KeyUse;
use crate::app::open::{Answered, Opened, Tries, Unopened};
use crate::app::reservations::Held;
use crate::domain::api::Api;
use crate::domain::dialects::fal::Ticket;

/// What an earlier try has left.
pub(crate) enum Resumed {
    /// Nothing: the call begins.
    Nothing(Box<ModelCall>),
    /// Its answer.
    Answered(Box<Opened>),
}

/// An earlier request, and the call on its target, if that is not the first one.
type Adopted = (Option<Box<ModelCall>>, Submitted);

impl Broker {
    /// Waits for the request of an earlier try, if there is one, instead of making another.
    ///
    /// # Errors
    /// It is not known whether there is one, or it came to nothing.
    pub(crate) async fn resume(&self, call: Box<ModelCall>, client: &Presence) -> Result<Resumed, Error> {
        let Some(keeper) = call.keeper.clone().filter(|_| call.may_be_deferred()) else {
            return Ok(Resumed::Nothing(call));
        };
        let found = keeper.find().await;
        let found = found.map_err(|_| Error::unavailable("postgres", "earlier requests can't be looked up"))?;
        let Some(found) = found else { return Ok(Resumed::Nothing(call)) };
        let Some((on, submitted)) = self.adopt(&call, &found)? else {
            // Its provider or key is gone: its reservation is taken over, and charged as it was made.
            call.forget_submission(found.reservation_id.into()).await;
            return Ok(Resumed::Nothing(call));
        };
        let call = on.unwrap_or(call);
        tracing::info!(provider = call.provider.name, request = found.request_id, "going on with an earlier request");
        match self.fetch(&call, client, submitted, &mut Round::default()).await {
            Ok(answered) => Ok(Resumed::Answered(Box::new(Answered::of(answered, call, &Tries::first())))),
            Err(Setback::Failed(error) | Setback::BadKey(error) | Setback::NoRoom { error, .. }) => Err(error),
            Err(Setback::End(
                Unopened::Failed(error)
                | Unopened::Final(error)
                | Unopened::Denied(error)
                | Unopened::NoRoom { error, .. },
            )) => Err(error),
        }
    }

    /// Takes a request and its reservation over; with the call on its target, if that is not the first one.
    fn adopt(&self, call: &ModelCall, found: &Submission) -> Result<Option<Adopted>, Error> {
        let fits = |call: &ModelCall| call.route.provider == found.provider && call.route.model == found.model;
        let on = if fits(call) { None } else { call.onward_to(&fits) };
        let Some(target) = on.as_deref().or(Some(call)).filter(|target| fits(target)) else { return Ok(None) };
        let key = self.key_of(target, &found.provider_key)?;
        let ticket = Ticket::of(found.request_id.clone(), &found.model);
        let draft = UsageEvent::decode(&*found.draft).ok();
        let (Some((key, credential)), Some(ticket), Some(draft)) = (key, ticket, draft) else { return Ok(None) };
        let id = ReservationId::from(found.reservation_id);
        let held: Held = self.adopt_reservation(target, id, found.handle.clone().into(), draft)?;
        Ok(Some((on, Submitted { ticket, held, key, credential, sent: Instant::now(), kept: true })))
    }

    /// The key that a request was submitted with, if the call goes by it still.
    fn key_of(&self, target: &ModelCall, submitted: &str) -> Result<Option<(KeyUse, HeaderValue)>, Error> {
        let provider = &target.provider;
        if let Some(own) = &target.own {
            let same = own.name() == submitted;
            let credential = same.then(|| self.own_credential(provider, own)).transpose()?;
            return Ok(credential.map(|credential| (KeyUse::own(provider, &self.health), credential)));
        }
        let index = (0..provider.keys.len()).find(|index| **provider.keys.id(*index) == *submitted);
        let with = |index| (KeyUse::resumed(target, index, self.health.clone()), provider.credential(index));
        Ok(index.map(with))
    }
}

impl ModelCall {
    /// One of its targets has a queue.
    fn may_be_deferred(&self) -> bool {
        let deferred = |call: &Self| call.exchange.api == Api::FalQueue;
        deferred(self) || self.onward_to(&deferred).is_some()
    }

    /// The same call on the first later target that `fits`.
    fn onward_to(&self, fits: &dyn Fn(&Self) -> bool) -> Option<Box<Self>> {
        let mut next = self.onward()?;
        while !fits(&next) {
            next = next.onward()?;
        }
        Some(next)
    }
}
