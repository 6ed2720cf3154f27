//! Explain: which limits decided about reservations, what stood in them at that moment, and who holds what now.

use std::time::Duration;

use futures::future::join_all;
use weir_types::{OrganizationId, ReservationId};

use super::Quota;
use crate::domain::{Amounts, Handle, LimitState, Millis, Subject, Value};
use crate::error::{Error, Result};
use crate::storage::endings::{self, Ending};
use crate::storage::refusals::{self, Refusal};
use crate::storage::settlements::ByUnit;
use crate::storage::store::Holder;

/// What is to be explained.
#[derive(Debug)]
pub struct Question {
    /// Whose; none if only the reservation is known.
    pub subject: Option<Subject>,
    /// Only this reservation.
    pub reservation: Option<ReservationId>,
    /// At most so many holders, and so many decisions.
    pub most: usize,
}

/// What is known.
#[derive(Debug)]
pub struct Explanation {
    /// Whose.
    pub organization: OrganizationId,
    /// The version of the limits; none if they are not known.
    pub version: Option<i64>,
    /// The limits now.
    pub limits: Vec<LimitState>,
    /// What is held, oldest first.
    pub holders: Vec<Decision>,
    /// Whether more is held.
    pub more_holders: bool,
    /// What was decided, newest first.
    pub decisions: Vec<Decision>,
    /// Whether there are older ones.
    pub more_decisions: bool,
    /// What could not be found out, and why.
    pub missing: Vec<String>,
}

/// One decision about a reservation.
#[derive(Debug)]
pub struct Decision {
    /// Which reservation.
    pub id: ReservationId,
    /// Whose.
    pub subject: Subject,
    /// When it was decided.
    pub at: Millis,
    /// What was asked for; none if nobody knows any more.
    pub amounts: Amounts,
    /// The limits that applied.
    pub limits: Vec<DecidedLimit>,
    /// Whether it was admitted while the fast store did not answer.
    pub without_store: bool,
    /// What became of it.
    pub state: State,
}

/// One limit at the moment of a decision.
#[derive(Debug)]
pub struct DecidedLimit {
    /// Its name.
    pub limit: String,
    /// What it counts.
    pub unit: String,
    /// By what it counts.
    pub scope: String,
    /// Whose counter; empty for the organisation's own.
    pub subject: String,
    /// How much was asked for.
    pub amount: i64,
    /// The cap that applied; none if it is not known.
    pub cap: Option<i64>,
    /// Committed and held, with this reservation if it was admitted; none if the store did not say.
    pub used: Option<i64>,
    /// Of that, held.
    pub held: Option<i64>,
    /// Of a refusal: when the limit was to reset, and when to try again.
    pub waits: (Option<Duration>, Option<Duration>),
    /// Whether it refused.
    pub refused: bool,
}

/// What became of a reservation.
#[derive(Debug)]
pub enum State {
    /// It is held; so much of its lease is left, in milliseconds, or less than nothing if it waits to be taken over.
    Held(Millis),
    /// It ended.
    Ended {
        /// When.
        at: Millis,
        /// What was committed; none if it was released.
        charged: Option<ByUnit>,
        /// Whether the amounts are assumed.
        estimated: bool,
        /// What had been assumed before.
        replaced: Option<ByUnit>,
        /// Whether its lease had ended.
        late: bool,
    },
    /// It was refused.
    Refused {
        /// The `ErrorReason`.
        reason: String,
        /// What the caller was told.
        message: String,
        /// Refusals of the organisation that were left out of the log before it.
        suppressed: i64,
    },
}

/// Rows of an organisation that are searched for a subject.
const AMONG: i64 = 20_000;
/// Leases that are searched for a subject.
const LEASES: usize = 5_000;
/// Tenants that are asked at once for a reservation whose organisation nobody named, and how often.
const TENANTS: usize = 256;
const PAGES: usize = 100;
/// Refusals of one reservation.
const REPEATED: i64 = 20;

impl Quota {
    /// Explains what was decided, for a subject or about a reservation. What one store does not answer is missing from it.
    ///
    /// # Errors
    /// When nothing is known of the reservation, or nothing could be found out.
    pub async fn explain(&self, question: Question) -> Result<Explanation> {
        match question.reservation {
            Some(id) => self.explain_reservation(id, question.subject).await,
            None => {
                let subject = question.subject.ok_or_else(|| Error::Invalid("subject", "is missing".to_owned()))?;
                self.explain_subject(subject, question.most).await
            }
        }
    }

    async fn explain_subject(&self, subject: Subject, most: usize) -> Result<Explanation> {
        let mut explanation = Explanation::of(subject.organization);
        let (holders, decisions) = tokio::join!(self.holders_of(&subject, most), self.decisions_of(&subject, most));
        let unknown = (holders.as_ref().err().cloned(), decisions.as_ref().err().cloned());
        if let (Some(_), Some(error)) = unknown {
            return Err(error);
        }
        match holders {
            Ok((holders, more)) => (explanation.holders, explanation.more_holders) = (holders, more),
            Err(error) => explanation.lacks("who holds what", &error),
        }
        match decisions {
            Ok((decisions, more)) => (explanation.decisions, explanation.more_decisions) = (decisions, more),
            Err(error) => explanation.lacks("the last decisions", &error),
        }
        self.add_limits(&mut explanation, &subject).await;
        Ok(explanation)
    }

    async fn explain_reservation(&self, id: ReservationId, subject: Option<Subject>) -> Result<Explanation> {
        let organization = subject.map(|subject| subject.organization);
        let (written, held) =
            tokio::join!(self.written(organization.as_ref(), &id), self.held_somewhere(organization.as_ref(), &id));
        if let (Err(error), Err(_)) = (&written, &held) {
            return Err(error.clone());
        }
        let mut missing = Vec::new();
        let mut holders = match held {
            Ok(held) => held,
            Err(error) => {
                missing.push(("whether it is held", error));
                Vec::new()
            }
        };
        let decisions = match written {
            Ok(decisions) => decisions,
            Err(error) => {
                missing.push(("how it ended", error));
                Vec::new()
            }
        };
        // A settlement that the fast store has not heard of yet.
        if decisions.iter().any(|decision| matches!(decision.state, State::Ended { .. })) {
            holders.clear();
        }
        let known = holders.first().or(decisions.first());
        let Some(subject) = known.map(|decision| decision.subject.clone()) else {
            return Err(match missing.pop() {
                Some((_, error)) => error,
                None => Error::NothingKnown(id),
            });
        };
        let mut explanation = Explanation { holders, decisions, ..Explanation::of(subject.organization) };
        missing.iter().for_each(|(what, error)| explanation.lacks(what, error));
        self.add_limits(&mut explanation, &subject).await;
        Ok(explanation)
    }

    async fn add_limits(&self, explanation: &mut Explanation, subject: &Subject) {
        match self.plan_of(subject).await {
            Ok(plan) => explanation.version = Some(plan.version),
            Err(error) => return explanation.lacks("the limits", &error),
        }
        match self.balance(subject).await {
            Ok(balance) => explanation.limits = balance.limits,
            Err(error) => explanation.lacks("what is left of the limits", &error),
        }
    }

    /// What a subject holds, oldest first, and whether there is more.
    async fn holders_of(&self, subject: &Subject, most: usize) -> Result<(Vec<Decision>, bool)> {
        let held = self.store.holders(&subject.organization, LEASES).await?;
        let mut more = usize::try_from(held.all).unwrap_or(usize::MAX) > LEASES;
        let mut holders = Vec::new();
        for holder in held.list {
            if let Some(decision) = self.holds(holder).await?
                && decision.is_of(subject)
            {
                holders.push(decision);
            }
        }
        holders.sort_by_key(|decision| decision.at);
        more |= holders.len() > most;
        holders.truncate(most);
        Ok((holders, more))
    }

    /// What was decided for a subject, newest first, and whether there is more.
    async fn decisions_of(&self, subject: &Subject, most: usize) -> Result<(Vec<Decision>, bool)> {
        let id = &subject.organization;
        let fields: Vec<Vec<u8>> = subject.values.iter().map(Value::field).collect();
        let rows = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
        let read = async {
            let mut transaction = self.database.begin_tenant(*id).await?;
            let ended = endings::recent(&mut transaction, id, &fields, AMONG, rows).await?;
            let refused = refusals::recent(&mut transaction, id, &fields, AMONG, rows).await?;
            transaction.rollback().await?;
            Ok::<_, weir_database::Error>((ended, refused))
        };
        let (ended, refused) = self.database.bounded(read).await?;
        let mut decisions = Vec::with_capacity(ended.len() + refused.len());
        for ending in ended {
            decisions.push(self.ended(ending).await?);
        }
        decisions.extend(refused.into_iter().map(was_refused));
        decisions.retain(|decision| decision.is_of(subject));
        decisions.sort_by_key(|decision| std::cmp::Reverse(decision.at));
        let more = decisions.len() > most;
        decisions.truncate(most);
        Ok((decisions, more))
    }

    /// What Postgres has about a reservation, newest first.
    async fn written(&self, organization: Option<&OrganizationId>, id: &ReservationId) -> Result<Vec<Decision>> {
        let read = async {
            let mut transaction = match organization {
                Some(organization) => self.database.begin_tenant(*organization).await?,
                None => self.database.begin().await?,
            };
            let ending = endings::of(&mut transaction, organization, id).await?;
            let refused = refusals::of(&mut transaction, organization, id, REPEATED).await?;
            transaction.rollback().await?;
            Ok::<_, weir_database::Error>((ending, refused))
        };
        let (ending, refused) = self.database.bounded(read).await?;
        let mut decisions = Vec::new();
        if let Some(ending) = ending {
            decisions.push(self.ended(ending).await?);
        }
        decisions.extend(refused.into_iter().map(was_refused));
        decisions.sort_by_key(|decision| std::cmp::Reverse(decision.at));
        Ok(decisions)
    }

    /// The reservation, if it is held; among all tenants if none is named.
    async fn held_somewhere(&self, organization: Option<&OrganizationId>, id: &ReservationId) -> Result<Vec<Decision>> {
        if let Some(organization) = organization {
            return Ok(match self.store.holder(organization, id).await? {
                Some(holder) => self.holds(holder).await?.into_iter().collect(),
                None => Vec::new(),
            });
        }
        for page in 0..PAGES {
            let tenants = self.store.tenants(page * TENANTS, TENANTS).await?;
            let asked = tenants.iter().map(|tenant| self.store.holder(&tenant.id, id));
            for holder in join_all(asked).await {
                if let Some(holder) = holder? {
                    return Ok(self.holds(holder).await?.into_iter().collect());
                }
            }
            if tenants.len() < TENANTS {
                break;
            }
        }
        Ok(Vec::new())
    }

    async fn holds(&self, holder: Holder) -> Result<Option<Decision>> {
        let Ok(handle) = Handle::decode(&holder.record.handle()) else {
            tracing::error!(reservation = %holder.id, "a held reservation can't be read");
            return Ok(None);
        };
        Ok(Some(self.was_admitted(handle, State::Held(holder.lease_left)).await?))
    }

    async fn ended(&self, ending: Ending) -> Result<Decision> {
        let at = ending.at.timestamp_millis();
        let state = State::Ended {
            at,
            charged: (!ending.released).then_some(ending.amounts),
            estimated: ending.estimated,
            replaced: ending.replaced,
            late: ending.late,
        };
        match Handle::decode(&ending.handle) {
            Ok(handle) => self.was_admitted(handle, state).await,
            // Released before anybody knew what it held.
            Err(_) => Ok(Decision {
                id: ending.id,
                subject: Subject { organization: ending.organization, values: Vec::new() },
                at,
                amounts: Amounts::default(),
                limits: Vec::new(),
                without_store: false,
                state,
            }),
        }
    }

    async fn was_admitted(&self, handle: Handle, state: State) -> Result<Decision> {
        let whose = |value: usize| handle.values[value].text();
        let counters = handle.counters.iter().map(|one| (one.limit, whose(one.value), one.amount, one.cap));
        let concurrent = handle.concurrent.iter().map(|one| (one.limit, whose(one.value), 1, one.cap));
        // What stood in limits across tenants nobody wrote down: their slices are counted in each process.
        let across = handle.across();
        let across =
            across.map(|(_, one)| (one.account.limit, one.account.value.to_string(), one.amount, Some(one.cap)));
        let touched: Vec<_> = counters.chain(concurrent).chain(across).collect();
        let ids: Vec<_> = touched.iter().map(|(limit, ..)| *limit).collect();
        let keys = self.dictionary.keys(&ids).await?;
        let mut limits = Vec::with_capacity(touched.len());
        for (place, ((_, subject, amount, cap), key)) in touched.iter().zip(&keys).enumerate() {
            let decided = handle.decision.get(place);
            limits.push(DecidedLimit {
                limit: key.name.clone(),
                unit: key.unit.to_string(),
                scope: key.scope.as_str().to_owned(),
                subject: subject.clone(),
                amount: *amount,
                cap: *cap,
                used: decided.map(|decided| decided.used),
                held: decided.map(|decided| decided.held),
                waits: (None, None),
                refused: false,
            });
        }
        let has_caps = touched.iter().any(|(.., cap)| cap.is_some());
        Ok(Decision {
            id: handle.reservation,
            subject: Subject { organization: handle.organization, values: handle.values[1..].to_vec() },
            at: handle.reserved_at,
            limits,
            without_store: has_caps && handle.decision.is_empty(),
            amounts: handle.amounts,
            state,
        })
    }
}

fn was_refused(refusal: Refusal) -> Decision {
    let millis = |span: i64| Duration::from_millis(u64::try_from(span).unwrap_or(0));
    let limits = refusal.limits.into_iter().map(|limit| DecidedLimit {
        limit: limit.limit,
        unit: limit.unit,
        scope: limit.scope,
        subject: limit.subject,
        amount: limit.requested,
        cap: Some(limit.cap),
        used: Some(limit.used),
        held: Some(limit.held),
        waits: (limit.reset_ms.map(millis), limit.retry_ms.map(millis)),
        refused: limit.refused,
    });
    let amounts = Amounts::new(refusal.amounts.iter().map(|(unit, amount)| (unit.as_str(), *amount)));
    Decision {
        id: refusal.id,
        subject: Subject {
            organization: refusal.organization,
            values: refusal.subject.iter().filter_map(|field| Value::from_field(field)).collect(),
        },
        at: refusal.at.timestamp_millis(),
        amounts: amounts.unwrap_or_default(),
        limits: limits.collect(),
        without_store: false,
        state: State::Refused { reason: refusal.reason, message: refusal.message, suppressed: refusal.suppressed },
    }
}

impl Decision {
    /// Whether it is about everything that a subject names.
    fn is_of(&self, subject: &Subject) -> bool {
        subject.values.iter().all(|value| self.subject.values.contains(value))
    }
}

impl Explanation {
    const fn of(organization: OrganizationId) -> Self {
        Self {
            organization,
            version: None,
            limits: Vec::new(),
            holders: Vec::new(),
            more_holders: false,
            decisions: Vec::new(),
            more_decisions: false,
            missing: Vec::new(),
        }
    }

    fn lacks(&mut self, what: &str, error: &Error) {
        self.missing.push(format!("{what}: {}", weir_rpc::Error::from(error.clone()).message()));
    }
}
