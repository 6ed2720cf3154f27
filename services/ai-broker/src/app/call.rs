//! One call to a model: who asks, for what, on which route, and what it can cost at most.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use weir_proto::common::v1::{Amount, ErrorReason};
use weir_proto::quota::v1::Subject;
use weir_proto::usage::v1::{Outcome, UsageEvent};
use weir_rpc::{Error, Failure};
use weir_types::price::Metered;
use weir_types::{NanoUsd, OrganizationId, ReservationId, names, unit};

use super::Broker;
use super::deferred::Keeper;
use super::entitlements::{FEATURE, Plan};
use super::fleet::Offering;
use super::idempotency::Claim;
use super::load::Admitted;
use super::own_keys::{Keyring, OwnKey, cost};
use super::queue::Waiting;
use crate::domain::amounts::{self, WorstCase};
use crate::domain::api::Api;
use crate::domain::cache::{RequestHash, Wish};
use crate::domain::catalogue::{NoRoute, Route};
use crate::domain::exchange::Exchange;
use crate::domain::jobs::Who;
use crate::domain::load::Group;
use crate::domain::request::ModelRequest;
use crate::error::invalid_request;
use crate::provider::{ANYTHING, EVENT_STREAM, JSON, Provider};

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) organization: OrganizationId,
    pub(crate) subject: Subject,
}

impl Caller {
    /// As limits and plans know it.
    pub(crate) fn new(organization: OrganizationId, who: &Who) -> Self {
        let feature = Some(&who.feature).filter(|feature| !feature.is_empty());
        let subject = Subject {
            organization: names::organization(&organization),
            user: who.user.map(|user| names::user(&organization, &user)).unwrap_or_default(),
            api_key: who.api_key.map(|api_key| names::api_key(&organization, &api_key)).unwrap_or_default(),
            ip: who.ip.clone(),
            labels: feature.map(|feature| (FEATURE.to_owned(), feature.clone())).into_iter().collect(),
            ..Subject::default()
        };
        Self { organization, subject }
    }
}

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) caller: Caller,
    pub(crate) api: Api,
    pub(crate) body: Bytes,
    /// What the client told a provider of its own dialect beside the body.
    pub(crate) headers: HeaderMap,
    /// What stands behind the endpoint in a URL of ElevenLabs'.
    pub(crate) suffix: String,
    pub(crate) request_id: String,
    pub(crate) stream: bool,
    pub(crate) received: Instant,
    /// When the answer is of no more use.
    pub(crate) deadline: Option<Instant>,
    /// The caller does with a cheaper model where the route has one.
    pub(crate) spare: bool,
    /// How it waits for a provider without room; none: as the provider's configuration says.
    pub(crate) patience: Option<Patience>,
    pub(crate) reuse: Reuse,
    /// Of a job: what is known of its requests in providers' queues.
    pub(crate) keeper: Option<Arc<Keeper>>,
}

/// What a request says of answers that there are already.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reuse {
    /// Under which the call is made once.
    pub(crate) idempotency_key: Option<String>,
    /// The right to make it.
    pub(crate) claim: Option<Arc<Claim>>,
    pub(crate) wish: Wish,
    /// What it is known by if it comes again; none if it is to be read each time.
    pub(crate) known_by: Option<RequestHash>,
}

/// How a call waits that has more time than its client would.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    /// Since when it waits, for its place in line.
    pub(crate) since: Instant,
    /// When it is of no use any more.
    pub(crate) until: Instant,
    /// Is told where it stands.
    pub(crate) waiting: Arc<Waiting>,
}

/// A call on one target of its route, that may be made as soon as its worst case is reserved.
pub(crate) struct ModelCall {
    pub(crate) caller: Caller,
    pub(crate) request: Arc<ModelRequest>,
    /// The body as it came.
    asked: Bytes,
    pub(crate) route: Arc<Route>,
    pub(crate) provider: Arc<Provider>,
    /// The caller's own key for this target; none: it goes by the platform's.
    pub(crate) own: Option<Arc<OwnKey>>,
    keyring: Keyring,
    /// Where it can go if this target fails.
    next: Vec<Arc<Route>>,
    pub(crate) offering: Arc<Offering>,
    pub(crate) worst: WorstCase,
    /// What the provider is sent, and how its answer is read.
    pub(crate) exchange: Exchange,
    /// For a provider of the client's own dialect.
    pub(crate) headers: HeaderMap,
    pub(crate) request_id: String,
    pub(crate) received: Instant,
    pub(crate) deadline: Option<Instant>,
    /// The caller's.
    pub(crate) plan: Arc<Plan>,
    /// As long as it is under way; none of a job's, which are bounded elsewhere.
    pub(crate) admitted: Option<Arc<Admitted>>,
    /// Where it stands while it waits; none before it does.
    pub(crate) waiting: Arc<Waiting>,
    patience: Option<Patience>,
    /// The right to make a call that must be made once.
    claim: Option<Arc<Claim>>,
    pub(crate) keeper: Option<Arc<Keeper>>,
}

impl Broker {
    /// Reads the request and finds its route: everything that can be refused before a reservation.
    pub(crate) async fn prepare(&self, incoming: Incoming) -> Result<Box<ModelCall>, Error> {
        let mut request =
            ModelRequest::read(incoming.api, &incoming.body, &incoming.headers).map_err(invalid_request)?;
        request.suffix.clone_from(&incoming.suffix);
        if request.stream != incoming.stream {
            return Err(Error::invalid("stream", "`stream` must be true for StreamInvoke and only for it"));
        }
        let offering = self.offering.load_full();
        let offering = offering.ok_or_else(|| Error::unavailable("billing", "the price book has not been read yet"))?;
        let plan = self.entitlements.of(incoming.caller.organization).await?;
        plan.check(&request.model, &incoming.caller.subject)?;
        let keyring = self.own_keys.of(&incoming.caller)?;
        let mut admitted = self.admit(&incoming, &request.model, plan.priority)?;
        let cheaper = admitted.as_ref().is_some_and(|admitted| admitted.cheaper);
        let way = keyring.way(way(&offering, &request.model, incoming.spare || cheaper)?, plan.own_keys_only)?;
        // What keys there are can lead elsewhere, too.
        if let Some(admitted) = admitted.as_mut().filter(|_| cheaper && !incoming.spare && way[0].id != request.model) {
            admitted.downgrade();
        }
        ModelCall::first(incoming, request, offering, (way, keyring), plan, admitted)
    }

    /// Whether the load lets it in. A job's calls are let in with their job.
    fn admit(&self, incoming: &Incoming, model: &str, priority: i32) -> Result<Option<Admitted>, Error> {
        if incoming.patience.is_some() {
            return Ok(None);
        }
        let group = Group { class: priority, tenant: incoming.caller.organization };
        self.load.admit(incoming.api.operation(), model, group).map(Some)
    }
}

/// Where a call for `model` goes.
pub(super) fn way(offering: &Offering, model: &str, spare: bool) -> Result<Vec<Arc<Route>>, Error> {
    offering.catalogue.way(model, spare).map_err(|no_route| match no_route {
        NoRoute::Unknown => Error::new(
            ErrorReason::ModelNotFound,
            format!("The model `{model}` does not exist here. GET /v1/models lists those that do."),
        ),
        NoRoute::NotPriced => Error::new(
            ErrorReason::ModelNotPriced,
            format!("The model `{model}` has no price, so it can't be used: add it to the price book."),
        ),
    })
}

/// What one target makes of a request: whom it goes to, what it costs at most, and what is sent.
pub(super) struct Fitted {
    provider: Arc<Provider>,
    pub(super) worst: WorstCase,
    exchange: Exchange,
}

/// Fits a request to a target.
pub(super) fn fit(request: &ModelRequest, asked: &Bytes, route: &Route, offering: &Offering) -> Result<Fitted, Error> {
    let provider = offering.fleet.providers.get(&route.provider).map(Arc::clone);
    let provider = provider.ok_or_else(|| Error::defect(format!("route `{}` names no provider", route.id)))?;
    let manner = &provider.manner;
    let worst = amounts::worst_case(request, asked, route, manner).map_err(invalid_request)?;
    let exchange = Exchange::new(request, asked, route, manner, &worst).map_err(invalid_request)?;
    Ok(Fitted { provider, worst, exchange })
}

impl ModelCall {
    /// On the first target of its way.
    fn first(
        incoming: Incoming,
        request: ModelRequest,
        offering: Arc<Offering>,
        (mut way, keyring): (Vec<Arc<Route>>, Keyring),
        plan: Arc<Plan>,
        admitted: Option<Admitted>,
    ) -> Result<Box<Self>, Error> {
        let route = way.remove(0);
        let Incoming { caller, body: asked, headers, request_id, received, deadline, patience, reuse, keeper, .. } =
            incoming;
        let Fitted { provider, worst, exchange } = fit(&request, &asked, &route, &offering)?;
        let waiting = patience.as_ref().map(|patience| Arc::clone(&patience.waiting)).unwrap_or_default();
        let own = keyring.key(&route.provider);
        let next = keyring.after(own.as_ref(), &way);
        let request = Arc::new(request);
        Ok(Box::new(Self {
            caller,
            request,
            asked,
            route,
            provider,
            own,
            keyring,
            next,
            offering,
            worst,
            exchange,
            headers,
            request_id,
            received,
            deadline,
            plan,
            admitted: admitted.map(Arc::new),
            waiting,
            patience,
            claim: reuse.claim,
            keeper,
        }))
    }

    /// The same call on the next target that can take it, priced anew.
    pub(crate) fn onward(&self) -> Option<Box<Self>> {
        self.next.iter().enumerate().find_map(|(at, route)| {
            let fitted = fit(&self.request, &self.asked, route, &self.offering);
            let Fitted { provider, worst, exchange } = match fitted {
                Ok(fitted) => fitted,
                Err(error) => {
                    tracing::debug!(route = route.id, %error, "a fallback can't take this request");
                    return None;
                }
            };
            let own = self.keyring.key(&route.provider);
            Some(Box::new(Self {
                caller: self.caller.clone(),
                request: Arc::clone(&self.request),
                asked: self.asked.clone(),
                route: Arc::clone(route),
                provider,
                next: self.keyring.after(own.as_ref(), &self.next[at + 1..]),
                own,
                keyring: self.keyring.clone(),
                offering: Arc::clone(&self.offering),
                worst,
                exchange,
                headers: self.headers.clone(),
                request_id: self.request_id.clone(),
                received: self.received,
                deadline: self.deadline,
                plan: Arc::clone(&self.plan),
                admitted: self.admitted.clone(),
                waiting: Arc::clone(&self.waiting),
                patience: self.patience.clone(),
                claim: self.claim.clone(),
                keeper: self.keeper.clone(),
            }))
        })
    }

    /// Whether others may wait for its answer: not for a job's, which waits longer than they would.
    pub(crate) fn may_be_shared(&self) -> bool {
        // Nobody's own key pays for somebody else's request.
        self.patience.is_none() && self.own.is_none()
    }

    /// A provider is about to be asked.
    ///
    /// # Errors
    /// The call is somebody else's to make.
    pub(crate) async fn claim(&self) -> Result<(), Error> {
        match &self.claim {
            Some(claim) => claim.ask().await,
            None => Ok(()),
        }
    }

    /// Something of it is charged, whatever comes of it.
    pub(crate) fn is_charged(&self) {
        if let Some(claim) = &self.claim {
            claim.charge();
        }
    }

    /// How many targets come after this one.
    pub(crate) fn hops_left(&self) -> usize {
        self.next.len()
    }

    /// The load that it was let in at; empty if that was normal.
    pub(crate) fn load_level(&self) -> String {
        self.admitted.as_ref().map(|admitted| admitted.level.clone()).unwrap_or_default()
    }

    /// Whether the load sends it to a cheaper model than it asked for.
    pub(crate) fn is_downgraded(&self) -> bool {
        self.admitted.as_ref().is_some_and(|admitted| admitted.downgraded)
    }

    /// The caller's own key that it goes by; empty: the platform's.
    pub(crate) fn own_key_name(&self) -> String {
        self.own.as_ref().map(|own| own.name()).unwrap_or_default()
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Until the answer begins.
    pub(crate) fn first_byte_timeout(&self) -> Duration {
        self.route.patience.first_byte.unwrap_or(self.provider.first_byte_timeout)
    }

    /// Between two parts of a stream.
    pub(crate) fn idle_timeout(&self) -> Duration {
        self.route.patience.idle.unwrap_or(self.provider.idle_timeout)
    }

    /// For a provider that has no room; zero for not at all.
    pub(crate) fn max_wait(&self) -> Duration {
        match &self.patience {
            // The line is for the platform's room.
            _ if self.own.is_some() => Duration::ZERO,
            Some(patience) => patience.until.saturating_duration_since(self.received),
            None => self.route.patience.max_wait.unwrap_or(self.provider.max_wait),
        }
    }

    /// Since when it waits, for its place in line.
    pub(crate) fn since(&self) -> Instant {
        self.patience.as_ref().map_or(self.received, |patience| patience.since)
    }

    /// What is reserved before each attempt.
    pub(crate) fn amounts(&self) -> Vec<Amount> {
        let amounts = amounts::reserved(self.request.api.operation(), &self.worst);
        if self.own.is_some() { cost::reserved(amounts) } else { amounts }
    }

    /// Quota's refusal, with what the caller can do about it: without a bound of its own, a request reserves room for the
    /// longest answer that its route gives.
    pub(crate) fn refused(&self, failure: Failure) -> Error {
        let depends_on_length =
            |unit: &str| matches!(unit, unit::TOKEN | unit::OUTPUT_TOKEN | unit::NANO_USD | unit::OWN_NANO_USD);
        let violations = failure.violations();
        let is_unbound = self.request.max_output.is_none()
            && violations.iter().any(|one| failure.figure(&one.subject, "unit").is_some_and(depends_on_length));
        let error = Error::from(failure);
        if !is_unbound {
            return error;
        }
        let output = self.worst.used.tokens.output;
        error
            .advice(&format!("Set max_tokens to reserve less: without it, room for {output} output tokens is reserved"))
    }

    /// What is recorded if nobody sees how the attempt ends: the worst case, marked as estimated.
    pub(crate) fn draft(&self, id: ReservationId, now: chrono::DateTime<chrono::Utc>) -> UsageEvent {
        let Subject { organization, user, api_key, .. } = self.caller.subject.clone();
        let draft = UsageEvent {
            event_id: id.to_string(),
            source: "ai-broker".into(),
            organization,
            user,
            api_key,
            provider: self.route.provider.clone(),
            model: self.route.model.clone(),
            operation: self.request.api.operation().into(),
            event_time: Some(prost_types::Timestamp {
                seconds: now.timestamp(),
                nanos: i32::try_from(now.timestamp_subsec_nanos()).unwrap_or(0),
            }),
            input_tokens: self.worst.used.tokens.input,
            cached_input_tokens: self.worst.used.tokens.cached_input,
            output_tokens: self.worst.used.tokens.output,
            quantities: self.worst.used.quantities().into_iter().collect(),
            cost_nano_usd: self.worst.cost.0,
            price_version: self.route.price_version.to_string(),
            estimated: true,
            outcome: Outcome::Unknown.into(),
            request_id: self.request_id.clone(),
            ..UsageEvent::default()
        };
        match &self.own {
            Some(own) => own.draft(draft),
            None => draft,
        }
    }

    /// What is expected back.
    pub(crate) fn accept(&self) -> HeaderValue {
        match self.exchange.api {
            Api::Speech | Api::TextToSpeech | Api::Transcriptions => ANYTHING,
            _ if self.request.stream => EVENT_STREAM,
            _ => JSON,
        }
    }

    /// What the provider is told beside the body: what the client said, if both speak the same dialect.
    pub(crate) fn own_headers(&self) -> Option<&HeaderMap> {
        (self.exchange.api == self.request.api).then_some(&self.headers)
    }

    /// What was used costs. What does not fit into a sum can't have been used: then the worst case counts.
    pub(crate) fn cost(&self, used: &Metered) -> NanoUsd {
        self.route.price.cost(used).unwrap_or(self.worst.cost)
    }
}
