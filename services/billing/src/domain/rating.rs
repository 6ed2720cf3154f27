//! Rating: what a chunk of usage's feed means for the books.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;
use weir_types::price::NoCost;
use weir_types::{NanoUsd, OrganizationId};

use super::ledger::Posting;
use super::price_book::PriceBook;
use super::usage::{Change, Usage};

/// The most that one event may cost: more is a mistake that a person has to see first. It also keeps the sum of a chunk
/// ([`MAX_CHUNK`] events) within 63 bits.
pub(crate) const MAX_EVENT_AMOUNT: NanoUsd = NanoUsd(1_000_000 * 1_000_000_000);
/// The most events that are rated at once.
pub(crate) const MAX_CHUNK: usize = 5_000;

/// A rated event, as it now stands in the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RatedEvent {
    /// The event.
    pub(crate) usage: Usage,
    /// Of the event, that was rated.
    pub(crate) revision: i32,
    /// Of that revision in the feed.
    pub(crate) position: i64,
    /// By the price book.
    pub(crate) amount: NanoUsd,
}

/// What the books say about an event before a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// Who owes it.
    pub(crate) organization: OrganizationId,
    /// That was rated.
    pub(crate) revision: i32,
    /// What was rated.
    pub(crate) amount: NanoUsd,
}

/// A change that can't be priced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unrated {
    /// As the feed spells it.
    pub(crate) event_id: String,
    /// Of the event.
    pub(crate) revision: i32,
    /// In the feed.
    pub(crate) position: i64,
    /// Why.
    pub(crate) reason: String,
    /// The event, if it can be read: then it is tried again later.
    pub(crate) usage: Option<Usage>,
}

/// What a chunk means for the books.
#[derive(Debug, Default)]
pub(crate) struct Rated {
    /// New and changed events, one row per id.
    pub(crate) events: Vec<RatedEvent>,
    /// The ids among them that were in the books already.
    pub(crate) superseded: Vec<Uuid>,
    /// What can't be priced.
    pub(crate) unrated: Vec<Unrated>,
    /// By how much more each organisation owes; never zero.
    pub(crate) amounts: BTreeMap<OrganizationId, NanoUsd>,
    /// The first and the last position of the chunk.
    pub(crate) positions: (i64, i64),
}

impl Rated {
    /// Of the events, those whose own price differs from the price book's.
    pub(crate) fn mismatches(&self) -> impl Iterator<Item = &RatedEvent> {
        self.events.iter().filter(|event| event.usage.claimed != event.amount)
    }

    /// The ledger transactions, one per organisation. `occasion` tells apart what reads the same positions.
    #[must_use]
    pub(crate) fn postings(&self, occasion: &str) -> Vec<Posting> {
        let (first, last) = self.positions;
        self.amounts
            .iter()
            .map(|(organization, amount)| Posting {
                transaction_id: Uuid::now_v7(),
                organization: *organization,
                idempotency_key: format!("{occasion}/{organization}/{first}-{last}"),
                description: format!("usage at feed positions {first} to {last}"),
                amount: *amount,
            })
            .collect()
    }
}

/// Finds price books by version, each looked up once.
pub(crate) struct Prices<F> {
    look_up: F,
    found: HashMap<String, Option<Arc<PriceBook>>>,
}

impl<F: Fn(&str) -> Option<PriceBook>> Prices<F> {
    /// Asks `look_up` for what it does not know yet.
    pub(crate) fn new(look_up: F) -> Self {
        Self { look_up, found: HashMap::new() }
    }

    fn amount(&mut self, usage: &Usage) -> Result<NanoUsd, String> {
        // The provider charges whoever brought the key.
        if usage.own_key {
            return Ok(NanoUsd::ZERO);
        }
        if !self.found.contains_key(&usage.price_version) {
            let book = (self.look_up)(&usage.price_version).map(Arc::new);
            self.found.insert(usage.price_version.clone(), book);
        }
        let Some(Some(book)) = self.found.get(&usage.price_version) else {
            return Err(format!("there is no price book `{}`", usage.price_version));
        };
        let Some(price) = book.find(&usage.provider, &usage.model) else {
            return Err(format!(
                "price book `{}` has no price for model `{}` of `{}`",
                usage.price_version, usage.model, usage.provider
            ));
        };
        match price.price.cost(&usage.metered()) {
            Ok(amount) if amount <= MAX_EVENT_AMOUNT => Ok(amount),
            Ok(amount) => Err(format!("{amount} is more than one event can cost")),
            Err(NoCost::OutOfRange) => Err("the counts are out of range".to_owned()),
            Err(NoCost::NoPrice(unit)) => Err(format!(
                "price book `{}` has no price per `{unit}` for model `{}` of `{}`",
                usage.price_version, usage.model, usage.provider
            )),
        }
    }
}

/// Rates `changes`, in their order, given what the books say about their events. What the books know in the same or a later
/// revision is left as it is, so that reading a part of the feed again changes nothing.
pub(crate) fn rate<F: Fn(&str) -> Option<PriceBook>>(
    changes: Vec<Change>,
    mut known: HashMap<Uuid, Known>,
    prices: &mut Prices<F>,
) -> Rated {
    let mut rated = Rated::default();
    let (Some(first), Some(last)) = (changes.first(), changes.last()) else { return rated };
    rated.positions = (first.position, last.position);
    let mut rows: HashMap<Uuid, usize> = HashMap::with_capacity(changes.len());
    let mut unrated: BTreeMap<String, Unrated> = BTreeMap::new();
    for change in changes {
        let (usage, outcome) = match change.usage {
            Ok(usage) => {
                let outcome = prices.amount(&usage);
                (Some(usage), outcome)
            }
            Err(reason) => (None, Err(reason)),
        };
        let before = usage.as_ref().and_then(|usage| known.get(&usage.event_id).copied());
        if before.is_some_and(|before| before.revision >= change.revision) {
            continue;
        }
        let (usage, amount) = match (usage, outcome) {
            (Some(usage), Ok(amount)) => (usage, amount),
            (usage, outcome) => {
                let reason = outcome.err().unwrap_or_default();
                let Change { event_id, revision, position, .. } = change;
                unrated.insert(event_id.clone(), Unrated { event_id, revision, position, reason, usage });
                continue;
            }
        };
        unrated.remove(&change.event_id);
        let (id, organization) = (usage.event_id, usage.organization);
        if let Some(before) = before {
            add(&mut rated.amounts, before.organization, -before.amount.0);
        }
        add(&mut rated.amounts, organization, amount.0);
        known.insert(id, Known { organization, revision: change.revision, amount });
        let event = RatedEvent { usage, revision: change.revision, position: change.position, amount };
        match rows.get(&id) {
            Some(&row) => rated.events[row] = event,
            None => {
                if before.is_some() {
                    rated.superseded.push(id);
                }
                rows.insert(id, rated.events.len());
                rated.events.push(event);
            }
        }
    }
    rated.unrated = unrated.into_values().collect();
    rated.amounts.retain(|_, amount| *amount != NanoUsd::ZERO);
    rated
}

/// Can't overflow: see [`MAX_EVENT_AMOUNT`].
fn add(amounts: &mut BTreeMap<OrganizationId, NanoUsd>, organization: OrganizationId, amount: i64) {
    let sum = amounts.entry(organization).or_default();
    sum.0 = sum.0.saturating_add(amount);
}

/// A rated event as an audit sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditedEvent {
    /// The event.
    pub(crate) event_id: Uuid,
    /// Who owes it.
    pub(crate) organization: OrganizationId,
    /// That was rated.
    pub(crate) revision: i32,
    /// All input.
    pub(crate) input_tokens: i64,
    /// Of it, what was cached.
    pub(crate) cached_input_tokens: i64,
    /// All output.
    pub(crate) output_tokens: i64,
    /// What it costs.
    pub(crate) amount: NanoUsd,
    /// Nobody saw the provider's own count.
    pub(crate) estimated: bool,
    /// How many requests it stands for.
    pub(crate) requests: i64,
    /// When the call began.
    pub(crate) event_time: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use weir_types::price::TokenPrice;

    use super::*;
    use crate::domain::price_book::ModelPrice;

    const PRICE: TokenPrice = TokenPrice::of_text(1_000_000, 500_000, 2_000_000);

    fn look_up(version: &str) -> Option<PriceBook> {
        let price = ModelPrice {
            provider: "openai".to_owned(),
            model: "m".to_owned(),
            price: PRICE.into(),
            max_output_tokens: 1,
            context_tokens: 1,
        };
        (version == "1").then(|| PriceBook::new("1".to_owned(), [price]))
    }

    fn usage(organization: OrganizationId, output_tokens: i64) -> Usage {
        Usage {
            event_id: Uuid::now_v7(),
            organization,
            provider: "openai".to_owned(),
            model: "m".to_owned(),
            price_version: "1".to_owned(),
            event_time: DateTime::UNIX_EPOCH,
            input_tokens: 10,
            cached_input_tokens: 0,
            output_tokens,
            quantities: BTreeMap::new(),
            claimed: NanoUsd(10 + 2 * output_tokens),
            estimated: false,
            own_key: false,
            requests: 1,
        }
    }

    fn change(position: i64, revision: i32, usage: Usage) -> Change {
        Change { position, revision, event_id: usage.event_id.to_string(), usage: Ok(usage) }
    }

    fn run(changes: Vec<Change>, known: HashMap<Uuid, Known>) -> Rated {
        rate(changes, known, &mut Prices::new(look_up))
    }

    #[test]
    fn a_chunk_is_rated_by_the_price_book_and_posted_per_organisation() {
        let (a, b) = (OrganizationId::new_v7(), OrganizationId::new_v7());
        let rated =
            run(vec![change(4, 1, usage(a, 1)), change(5, 1, usage(b, 2)), change(9, 1, usage(a, 3))], HashMap::new());
        assert_eq!(rated.amounts, BTreeMap::from([(a, NanoUsd(12 + 16)), (b, NanoUsd(14))]));
        assert_eq!((rated.events.len(), rated.unrated.len(), rated.mismatches().count()), (3, 0, 0));
        let postings = rated.postings("rating");
        assert_eq!(postings[0].idempotency_key, format!("rating/{a}/4-9"));
        assert!(postings.iter().all(|posting| posting.sides().iter().map(|(_, amount)| amount).sum::<i64>() == 0));
    }

    #[test]
    fn what_an_own_key_was_used_for_costs_nothing_here_whatever_the_list_says() {
        let a = OrganizationId::new_v7();
        let own = Usage { own_key: true, claimed: NanoUsd::ZERO, ..usage(a, 5) };
        let unpriced = Usage { event_id: Uuid::now_v7(), model: "unheard-of".to_owned(), ..own.clone() };
        let rated = run(vec![change(1, 1, own), change(2, 1, unpriced), change(3, 1, usage(a, 1))], HashMap::new());
        let amounts: Vec<_> = rated.events.iter().map(|event| event.amount.0).collect();
        assert_eq!((amounts, rated.unrated.len(), rated.mismatches().count()), (vec![0, 0, 12], 0, 0));
        assert_eq!(rated.amounts, BTreeMap::from([(a, NanoUsd(12))]));
    }

    #[test]
    fn a_superseding_event_posts_the_difference() {
        let a = OrganizationId::new_v7();
        let first = usage(a, 1);
        let later = Usage { output_tokens: 5, ..first.clone() };
        let known = Known { organization: a, revision: 1, amount: NanoUsd(12) };
        let rated = run(vec![change(7, 2, later.clone())], HashMap::from([(first.event_id, known)]));
        assert_eq!(rated.amounts[&a], NanoUsd(20 - 12));
        assert_eq!(rated.superseded, [first.event_id]);
        assert_eq!(rated.mismatches().count(), 1, "it still claims the first price");
        let rated = run(vec![change(6, 1, first), change(7, 2, later)], HashMap::new());
        assert_eq!((rated.amounts[&a], rated.events.len(), rated.superseded.len()), (NanoUsd(20), 1, 0));
    }

    #[test]
    fn reading_the_feed_again_changes_nothing() {
        let a = OrganizationId::new_v7();
        let event = usage(a, 1);
        let known = HashMap::from([(event.event_id, Known { organization: a, revision: 2, amount: NanoUsd(99) })]);
        for revision in [1, 2] {
            let rated = run(vec![change(1, revision, event.clone())], known.clone());
            assert!(rated.events.is_empty() && rated.amounts.is_empty() && rated.unrated.is_empty());
        }
    }

    #[test]
    fn what_has_no_price_is_kept_aside_with_the_reason_and_blocks_nothing() {
        let a = OrganizationId::new_v7();
        let model = Usage { model: "unheard-of".to_owned(), ..usage(a, 1) };
        let version = Usage { price_version: "0".to_owned(), ..usage(a, 1) };
        let audio = Usage { quantities: BTreeMap::from([("audio_second".to_owned(), 61)]), ..usage(a, 1) };
        let absurd = Usage { input_tokens: 1_000_000_000_000_001, ..usage(a, 1) };
        let negative = Usage { input_tokens: -1, ..usage(a, 1) };
        let unreadable = Change { position: 6, revision: 1, event_id: "?".to_owned(), usage: Err("no id".to_owned()) };
        let mut changes: Vec<Change> = [model, version, audio, absurd, negative]
            .into_iter()
            .zip(1..)
            .map(|(usage, position)| change(position, 1, usage))
            .collect();
        changes.push(unreadable);
        changes.push(change(7, 1, usage(a, 1)));
        let mut rated = run(changes, HashMap::new());
        rated.unrated.sort_by_key(|unrated| unrated.position);
        let reasons: Vec<_> = rated.unrated.iter().map(|unrated| unrated.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "price book `1` has no price for model `unheard-of` of `openai`",
                "there is no price book `0`",
                "price book `1` has no price per `audio_second` for model `m` of `openai`",
                "$1000000.000000003 is more than one event can cost",
                "the counts are out of range",
                "no id",
            ]
        );
        assert_eq!(rated.amounts[&a], NanoUsd(12));
    }

    #[test]
    fn a_later_revision_with_a_price_settles_one_without() {
        let a = OrganizationId::new_v7();
        let first = Usage { model: "unheard-of".to_owned(), ..usage(a, 1) };
        let later = Usage { model: "m".to_owned(), ..first.clone() };
        let rated = run(vec![change(1, 1, first.clone()), change(2, 2, later.clone())], HashMap::new());
        assert_eq!((rated.events.len(), rated.unrated.len()), (1, 0));
        let rated = run(vec![change(1, 1, later), change(2, 2, first)], HashMap::new());
        assert_eq!((rated.events[0].revision, rated.unrated[0].revision), (1, 2), "the first price holds until then");
    }

    #[test]
    fn an_event_that_changes_hands_is_owed_by_the_last() {
        let (a, b) = (OrganizationId::new_v7(), OrganizationId::new_v7());
        let first = usage(a, 1);
        let known = HashMap::from([(first.event_id, Known { organization: a, revision: 1, amount: NanoUsd(12) })]);
        let rated = run(vec![change(2, 2, Usage { organization: b, ..first })], known);
        assert_eq!(rated.amounts, BTreeMap::from([(a, NanoUsd(-12)), (b, NanoUsd(12))]));
    }
}
