//! Which model names are offered, and where each leads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weir_types::price::Price;

use super::cache::RoutePolicy;

/// A model of the price book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PricedModel {
    /// The list it is on: `openai`, `anthropic`, …
    pub(crate) list: String,
    pub(crate) model: String,
    pub(crate) price: Price,
    pub(crate) max_output_tokens: i64,
    pub(crate) context_tokens: i64,
}

/// A provider as far as routes depend on it.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) provider: String,
    /// The price list whose models it serves under their own names.
    pub(crate) price_list: String,
    pub(crate) input_bytes_per_token: i64,
    pub(crate) media_part_tokens: i64,
}

/// A name that leads to models under others.
#[derive(Debug, Clone)]
pub(crate) struct Alias {
    pub(crate) id: String,
    /// At least one.
    pub(crate) targets: Vec<Target>,
    /// Other names, in the order in which they are tried when no target answers.
    pub(crate) fallback: Vec<String>,
    /// Another name, for calls that are marked as not critical.
    pub(crate) non_critical: Option<String>,
    pub(crate) default_output_tokens: Option<i64>,
    pub(crate) input_bytes_per_token: Option<i64>,
    pub(crate) patience: Patience,
    pub(crate) reuse: RoutePolicy,
}

/// One model that an alias leads to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) provider: String,
    pub(crate) model: String,
    /// Its part of the calls; 0: only when the others fail.
    pub(crate) weight: u32,
}

/// How long a route's calls wait; what is unset is the provider's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Patience {
    /// For the first byte.
    pub(crate) first_byte: Option<Duration>,
    /// For the next bytes of a stream.
    pub(crate) idle: Option<Duration>,
    /// For a provider that has no room.
    pub(crate) max_wait: Option<Duration>,
}

/// One target of a name: where it leads, and what it costs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// What `model` in a request says.
    pub(crate) id: String,
    pub(crate) provider: String,
    /// The model's name at the provider.
    pub(crate) model: String,
    pub(crate) price: Price,
    pub(crate) price_version: Arc<str>,
    pub(crate) max_output_tokens: i64,
    pub(crate) context_tokens: i64,
    pub(crate) default_output_tokens: Option<i64>,
    pub(crate) input_bytes_per_token: i64,
    pub(crate) media_part_tokens: i64,
    pub(crate) patience: Patience,
    /// Whether its answers may be given again.
    pub(crate) reuse: RoutePolicy,
}

/// Everything that a name leads to.
#[derive(Debug)]
pub(crate) struct Entry {
    /// With their weights; at least one.
    targets: Vec<(u32, Arc<Route>)>,
    fallback: Vec<String>,
    non_critical: Option<String>,
    /// Calls so far.
    turns: AtomicU64,
}

/// The most targets that one call is sent to.
const MOST_HOPS: usize = 16;

/// Why a name leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoute {
    Unknown,
    NotPriced,
}

/// All names, as of one version of the price book.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    entries: HashMap<String, Entry>,
    not_priced: BTreeSet<String>,
}

impl Catalogue {
    /// Builds the routes: each provider's price list under its own names, then the aliases.
    pub(crate) fn new(version: &str, models: &[PricedModel], offers: &[Offer], aliases: &[Alias]) -> Self {
        let version: Arc<str> = version.into();
        let priced: BTreeMap<(&str, &str), &PricedModel> =
            models.iter().map(|m| ((m.list.as_str(), m.model.as_str()), m)).collect();
        let mut catalogue = Self::default();
        for (offer, priced) in
            offers.iter().flat_map(|o| models.iter().filter(|m| m.list == o.price_list).map(move |m| (o, m)))
        {
            catalogue
                .entries
                .entry(priced.model.clone())
                .or_insert_with(|| Entry::plain(Route::to(&priced.model, offer, priced, &version)));
        }
        for alias in aliases {
            let targets = alias.targets.iter().filter_map(|target| {
                let offer = offers.iter().find(|offer| offer.provider == target.provider)?;
                let priced = priced.get(&(offer.price_list.as_str(), target.model.as_str()))?;
                let own = Route::to(&alias.id, offer, priced, &version);
                let route = Route {
                    default_output_tokens: alias.default_output_tokens,
                    input_bytes_per_token: alias.input_bytes_per_token.unwrap_or(own.input_bytes_per_token),
                    patience: alias.patience,
                    reuse: alias.reuse,
                    ..own
                };
                Some((target.weight, Arc::new(route)))
            });
            let targets: Vec<_> = targets.collect();
            if targets.is_empty() {
                catalogue.entries.remove(&alias.id);
                catalogue.not_priced.insert(alias.id.clone());
                continue;
            }
            let (fallback, non_critical) = (alias.fallback.clone(), alias.non_critical.clone());
            let entry = Entry { targets, fallback, non_critical, turns: AtomicU64::new(0) };
            catalogue.entries.insert(alias.id.clone(), entry);
        }
        catalogue
    }

    /// Where a call for `model` goes: to the first target, and if that fails to the others in order. `spare` a call that is not
    /// critical, where the route has something cheaper for those.
    pub(crate) fn way(&self, model: &str, spare: bool) -> Result<Vec<Arc<Route>>, NoRoute> {
        let asked = self
            .entries
            .get(model)
            .ok_or_else(|| if self.not_priced.contains(model) { NoRoute::NotPriced } else { NoRoute::Unknown })?;
        let cheaper = asked.non_critical.as_deref().filter(|_| spare).and_then(|name| self.entries.get(name));
        // What is cheaper fails over to what was asked for.
        let first = cheaper.into_iter().chain([asked]);
        let fallback = asked.fallback.iter().filter_map(|name| self.entries.get(name));
        let mut way: Vec<Arc<Route>> = Vec::with_capacity(asked.targets.len());
        for route in first.chain(fallback).flat_map(Entry::in_turn) {
            if !way.iter().any(|known| known.provider == route.provider && known.model == route.model) {
                way.push(Arc::clone(route));
            }
        }
        way.truncate(MOST_HOPS);
        Ok(way)
    }

    /// All names in order, each with its first target.
    pub(crate) fn offered(&self) -> Vec<&Arc<Route>> {
        let mut routes: Vec<_> = self.entries.values().filter_map(|entry| entry.targets.first()).collect();
        routes.sort_unstable_by(|(_, a), (_, b)| a.id.cmp(&b.id));
        routes.into_iter().map(|(_, route)| route).collect()
    }

    /// Names that routes lead on to and that are not offered.
    pub(crate) fn missing(&self) -> BTreeSet<&str> {
        let named = self.entries.values().flat_map(|entry| entry.fallback.iter().chain(&entry.non_critical));
        named.filter(|name| !self.entries.contains_key(*name)).map(String::as_str).collect()
    }
}

impl Entry {
    fn plain(route: Route) -> Self {
        let targets = vec![(1, Arc::new(route))];
        Self { targets, fallback: Vec::new(), non_critical: None, turns: AtomicU64::new(0) }
    }

    /// The target whose turn it is, then the others. Multiples of the golden ratio fall evenly over the unit interval, so each
    /// target gets its part of any few calls in a row, not only of many.
    fn in_turn(&self) -> impl Iterator<Item = &Arc<Route>> {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let sum: u64 = self.targets.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let first = if self.targets.len() < 2 || sum == 0 {
            0
        } else {
            let turn = self.turns.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN);
            let mut point = u64::try_from((u128::from(turn) * u128::from(sum)) >> 64).unwrap_or(0);
            let at = self.targets.iter().position(|(weight, _)| match point.checked_sub((*weight).into()) {
                Some(rest) => {
                    point = rest;
                    false
                }
                None => true,
            });
            at.unwrap_or(0)
        };
        let (before, from) = self.targets.split_at(first);
        from.iter().chain(before).map(|(_, route)| route)
    }
}

impl Route {
    fn to(id: &str, offer: &Offer, priced: &PricedModel, version: &Arc<str>) -> Self {
        Self {
            id: id.to_owned(),
            provider: offer.provider.clone(),
            model: priced.model.clone(),
            price: priced.price.clone(),
            price_version: Arc::clone(version),
            max_output_tokens: priced.max_output_tokens,
            context_tokens: priced.context_tokens,
            default_output_tokens: None,
            input_bytes_per_token: offer.input_bytes_per_token,
            media_part_tokens: offer.media_part_tokens,
            patience: Patience::default(),
            reuse: RoutePolicy::default(),
        }
    }
}

/// Whether one of the patterns fits: `*` stands for any text at a pattern's end, else names are equal.
pub(crate) fn is_allowed(patterns: &[String], model: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => model.starts_with(prefix),
        None => pattern == model,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A route to try things on.
    pub(crate) fn route() -> Route {
        Route {
            id: "m".into(),
            provider: "p".into(),
            model: "m".into(),
            price: weir_types::price::TokenPrice::of_text(150_000_000, 75_000_000, 600_000_000).into(),
            price_version: "v1".into(),
            max_output_tokens: 16_384,
            context_tokens: 128_000,
            default_output_tokens: None,
            input_bytes_per_token: 1,
            media_part_tokens: 50_000,
            patience: Patience::default(),
            reuse: RoutePolicy::default(),
        }
    }

    fn catalogue() -> Catalogue {
        let model = |list: &str, model: &str| PricedModel {
            list: list.into(),
            model: model.into(),
            price: route().price,
            max_output_tokens: 10,
            context_tokens: 100,
        };
        let offer = |provider: &str, list: &str| Offer {
            provider: provider.into(),
            price_list: list.into(),
            input_bytes_per_token: 1,
            media_part_tokens: 5,
        };
        let alias = |id: &str, targets: &[(&str, &str, u32)], fallback: &[&str]| Alias {
            id: id.into(),
            targets: targets
                .iter()
                .map(|&(provider, model, weight)| Target { provider: provider.into(), model: model.into(), weight })
                .collect(),
            fallback: fallback.iter().map(|&name| name.into()).collect(),
            non_critical: (id == "chat").then(|| "fast".into()),
            default_output_tokens: Some(7),
            input_bytes_per_token: Some(3),
            patience: Patience::default(),
            reuse: RoutePolicy::default(),
        };
        Catalogue::new(
            "v1",
            &[model("openai", "gpt-4o"), model("openai", "gpt-mini"), model("anthropic", "claude")],
            &[offer("azure", "openai"), offer("main", "openai"), offer("backup", "anthropic")],
            &[
                alias("fast", &[("main", "gpt-mini", 1)], &[]),
                alias("lost", &[("main", "gpt-99", 1)], &[]),
                alias("elsewhere", &[("other", "gpt-4o", 1)], &[]),
                alias("partly", &[("other", "gpt-4o", 1), ("main", "gpt-4o", 1)], &["nowhere"]),
                alias("chat", &[("main", "gpt-4o", 3), ("azure", "gpt-4o", 1)], &["claude", "fast", "nowhere"]),
            ],
        )
    }

    fn way(catalogue: &Catalogue, model: &str, spare: bool) -> Vec<String> {
        let way = catalogue.way(model, spare).expect("offered");
        way.iter().map(|route| format!("{}/{}", route.provider, route.model)).collect()
    }

    #[test]
    fn a_providers_price_list_is_offered_under_its_own_names() {
        let catalogue = catalogue();
        assert_eq!(way(&catalogue, "gpt-4o", false), ["azure/gpt-4o"]);
        assert_eq!(catalogue.way("claude-9", false).err(), Some(NoRoute::Unknown));
        let offered: Vec<_> = catalogue.offered().iter().map(|route| route.id.as_str()).collect();
        assert_eq!(offered, ["chat", "claude", "fast", "gpt-4o", "gpt-mini", "partly"]);
    }

    #[test]
    fn an_alias_leads_to_its_model_with_its_own_bounds() {
        let catalogue = catalogue();
        let fast = &catalogue.way("fast", false).expect("offered")[0];
        assert_eq!(
            (fast.model.as_str(), fast.default_output_tokens, fast.input_bytes_per_token),
            ("gpt-mini", Some(7), 3)
        );
    }

    #[test]
    fn a_model_without_a_price_is_refused_and_never_free() {
        let catalogue = catalogue();
        assert_eq!(catalogue.way("lost", false).err(), Some(NoRoute::NotPriced));
        assert_eq!(catalogue.way("elsewhere", false).err(), Some(NoRoute::NotPriced));
        assert_eq!(way(&catalogue, "partly", false), ["main/gpt-4o"], "what has a price is offered");
        assert_eq!(catalogue.missing().into_iter().collect::<Vec<_>>(), ["nowhere"]);
    }

    #[test]
    fn targets_share_the_calls_by_weight_and_stand_in_for_each_other() {
        let catalogue = catalogue();
        let ways: Vec<_> = (0..100).map(|_| way(&catalogue, "chat", false)).collect();
        let first = |target: &str| ways.iter().filter(|way| way[0] == target).count();
        assert_eq!(first("main/gpt-4o") + first("azure/gpt-4o"), 100);
        assert!((74..=76).contains(&first("main/gpt-4o")));
        for few in ways.chunks(8) {
            let of_azure = few.iter().filter(|way| way[0] == "azure/gpt-4o").count();
            assert!((1..=3).contains(&of_azure), "evenly: {of_azure} of {}", few.len());
        }
        assert!(ways.iter().all(|way| way.len() == 4 && way[2..] == ["backup/claude", "main/gpt-mini"]));
    }

    #[test]
    fn what_is_not_critical_goes_to_the_cheaper_model_first() {
        let catalogue = catalogue();
        let spared = way(&catalogue, "chat", true);
        assert_eq!((spared[0].as_str(), spared.len()), ("main/gpt-mini", 4));
        assert_eq!(way(&catalogue, "gpt-4o", true), ["azure/gpt-4o"], "a route without one serves it as it is");
    }

    #[test]
    fn patterns_match_whole_names_or_beginnings() {
        let patterns = ["gpt-4o".to_owned(), "claude-*".to_owned()];
        assert!(is_allowed(&patterns, "gpt-4o") && is_allowed(&patterns, "claude-x"));
        assert!(!is_allowed(&patterns, "gpt-4o-mini") && !is_allowed(&[], "gpt-4o"));
        assert!(is_allowed(&["*".to_owned()], "anything"));
    }
}
